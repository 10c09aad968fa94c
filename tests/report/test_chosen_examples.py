"""Which examples are shown: few, the surest first, however large the data are."""

import numpy as np
import pytest

from acn_hf.depth.squad import exact_matches, f1_scores
from acn_hf.report.chosen_examples import MOST_EXAMPLES, ChosenExamples, choose_examples
from tests.support.reported import CHOICES, CLASSES, LABELS, LANGUAGE, NUMBERS, QUESTIONS, TAGS, answers


def nothing(row):
    return {}


def right(known, one):
    return (one.answers == known.references).reshape(known.num_examples, -1).all(axis=1)


@pytest.mark.parametrize("task", [CLASSES, LABELS, CHOICES], ids=lambda task: "-".join(task))
def test_those_that_change_the_surest_first(task):
    known = answers(task, number=300)
    chosen = choose_examples(known, nothing, in_a_list=1000)
    assert chosen.by == "certainty"
    full = right(known, known.full)
    for depth, one in known.at.items():
        here = right(known, one)
        expected = (("lost", full & ~here, one), ("gained", ~full & here, known.full))
        for name, changed, wrong in expected:
            shown = [chosen.examples[place].row for place in getattr(chosen, name)[depth].shown]
            assert getattr(chosen, name)[depth].count == changed.sum()
            assert set(shown) <= set(np.flatnonzero(changed))
            assert list(wrong.certainty[shown]) == sorted(wrong.certainty[changed], reverse=True)[: len(shown)]
            assert len(shown) == min(changed.sum(), chosen.in_a_list)


def test_of_numbers_those_whose_error_grows_most():
    known = answers(NUMBERS, number=200)
    chosen = choose_examples(known, nothing)
    errors = {depth: np.abs(one.answers - known.references) for depth, one in known.at.items()}
    grown = errors[1] - errors[4]
    assert chosen.by == "error"
    assert [chosen.examples[place].row for place in chosen.lost[1].shown] == list(np.argsort(-grown)[:10])
    assert [chosen.examples[place].row for place in chosen.gained[1].shown] == list(np.argsort(grown)[:10])
    assert chosen.lost[4].count == chosen.gained[4].count == 0


def test_what_is_said_of_one():
    known = answers(number=30)
    chosen = choose_examples(known, lambda row: {"text": f"text {row}"})
    example = chosen.examples[chosen.lost[0].shown[0]]
    assert example.text == f"text {example.row}"
    assert example.label == example.full == known.names[int(known.references[example.row])]
    answer, certainty = example.at[0]
    assert answer == known.names[int(known.at[0].answers[example.row])] != example.label
    assert certainty == pytest.approx(known.at[0].certainty[example.row], abs=1e-4)


def test_several_labels_are_named_together_and_none_is_said():
    known = answers(LABELS, number=200)
    said = {example.label for example in choose_examples(known, nothing).examples}
    assert {"none", "negative, neutral, positive"} <= said


@pytest.mark.parametrize("depths", [4, 48, 300])
def test_there_are_few_however_many_depths_and_rows(depths):
    known = answers(number=5000, depths=depths)
    chosen = choose_examples(known, nothing)
    assert 0 < len(chosen.examples) <= max(MOST_EXAMPLES, 2 * (depths + 1))


def test_of_tags_those_with_the_most_wrong_ones():
    known = answers(TAGS, number=400, names=("O", "B-PER"))
    chosen = choose_examples(known, lambda row: {"text": "a b c d e", "words": list("abcde")})
    assert chosen.by == "tags"
    shown = [chosen.examples[place] for place in chosen.lost[2].shown]
    wrong = []
    for example in shown:
        right, full, here = (
            array[example.row] for array in (known.references, known.full.answers, known.at[2].answers)
        )
        assert right == full != here
        wrong.append(sum(a != b for a, b in zip(right, here, strict=True)))
        said = [f"{word} {tag}" for word, tag in zip("abcde", here, strict=True) if tag != "O"]
        assert example.at[2] == (", ".join(said) or "none", None)
    assert wrong == sorted(wrong, reverse=True)
    assert len(shown) > 1


def test_of_answers_those_that_share_the_fewest_words():
    known = answers(QUESTIONS, number=80, names=("", "red", "red wine"))
    chosen = choose_examples(known, nothing, in_a_list=1000)
    assert chosen.by == "words"
    lost = [chosen.examples[place] for place in chosen.lost[1].shown]
    rows = [example.row for example in lost]
    assert exact_matches(known.full.answers[rows], known.references[rows]).all()
    scores = f1_scores(known.at[1].answers[rows], known.references[rows])
    assert list(scores) == sorted(scores)
    assert {0.0} < set(scores)
    assert {example.at[1][0] for example in lost} <= {"no answer", "red", "red wine"}
    assert {example.label for example in lost} <= {"no answer / the ", "red / the red", "red wine / the red wine"}


def test_a_choice_has_its_number():
    example = choose_examples(answers(CHOICES), nothing).examples[0]
    assert example.label in ("choice 0", "choice 1", "choice 2")


def test_there_are_none_of_language_or_where_none_is_asked_for():
    assert not answers(LANGUAGE).is_by_example
    assert choose_examples(answers(LANGUAGE), nothing) is None
    assert choose_examples(answers(), nothing, in_a_list=0) is None


def test_they_save_and_load():
    chosen = choose_examples(answers(), lambda row: {"text": "a text"})
    assert ChosenExamples.from_dict(chosen.to_dict()) == chosen


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields["lost"]["0"].update(shown=[999]), "must name some of the .* examples; got 999"),
        (lambda fields: fields["examples"][0].update(picture="https://a.b/c.png"), "must be one that the record holds"),
    ],
)
def test_what_is_damaged_is_refused(change, message):
    fields = choose_examples(answers(), nothing).to_dict()
    change(fields)
    with pytest.raises(ValueError, match=message):
        ChosenExamples.from_dict(fields)
