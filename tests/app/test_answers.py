"""The answer at every depth is that of the model which is cut there, for every kind of answer."""

import copy
import threading
from dataclasses import replace

import pytest
import torch
from transformers import AutoTokenizer

from acn_hf import ConfidenceExit, ExitCalibration, PatienceExit, predict_early_exit, truncate
from acn_hf.app import Question, answer_at_every_depth, load_checkpoint
from acn_hf.app.answers import MOST_CHARACTERS, RefusedQuestionError
from acn_hf.app.times import Stopwatch
from tests.support.asked import KINDS, TEXT, picture, question, write

SQUASHED = {
    "classes": lambda logits: logits.softmax(dim=-1),
    "labels": torch.sigmoid,
    "numbers": lambda logits: logits,
}


@pytest.fixture
def load(build, tmp_path):
    """Return a function that writes a checkpoint and loads it as the app does.

    A file of weights is mapped into memory where no tensor would lie, and matrix products round otherwise there than in
    a copy of the model, such as the one that is cut. So this is a copy too.
    """

    def load_copy(name):
        checkpoint = load_checkpoint(write(name, tmp_path / "model", build))
        return replace(checkpoint, model=copy.deepcopy(checkpoint.model))

    return load_copy


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind in SQUASHED])
def test_each_depth_is_the_model_that_is_cut_there(load, name):
    checkpoint = load(name)
    answer = answer_at_every_depth(checkpoint, question(name))
    assert answer.kind == checkpoint.kind == KINDS[name]
    assert [one.depth for one in answer.at] == list(checkpoint.depths)
    assert checkpoint.depths[0] == (1 if name == "modernbert" else 0)
    for one in answer.at:
        with torch.no_grad():
            logits = truncate(checkpoint.model, one.depth)(**answer.inputs).logits[0]
        scores = SQUASHED[answer.kind](logits)
        assert torch.equal(torch.tensor(one.scores), scores)
        if answer.kind == "classes":
            assert one.said == checkpoint.model.config.id2label[int(logits.argmax())]
            assert one.sure == float(scores.max())
        if answer.kind == "labels":
            said = [checkpoint.names[place] for place in torch.nonzero(scores > 0.5).flatten().tolist()]
            assert one.said == (", ".join(said) or "none")
            assert one.sure == float(torch.maximum(scores, 1 - scores).min())
        if answer.kind == "numbers":
            assert (one.said, one.sure) == (f"{float(logits):.4g}", None)


def test_tags_are_those_of_the_first_token_of_each_word(load):
    checkpoint = load("tags")
    answer = answer_at_every_depth(checkpoint, Question("good  bad\nfilm"))
    assert answer.words == ("good", "bad", "film")
    for one in answer.at:
        with torch.no_grad():
            logits = truncate(checkpoint.model, one.depth)(**answer.inputs).logits[0, 1:4]
        assert one.tags == tuple(checkpoint.names[number] for number in logits.argmax(dim=-1).tolist())
        assert one.sure == float(logits.softmax(dim=-1).amax(dim=-1).min())
        assert one.said == f"{sum(tag != 'O' for tag in one.tags)} of 3 words tagged"


def test_embeddings_say_how_like_each_other_two_texts_are(load):
    checkpoint = load("sentences")
    answer = answer_at_every_depth(checkpoint, question("sentences"))
    assert answer.kind == "similarity"
    for one in answer.at:
        vectors = truncate(checkpoint.model, one.depth).encode([TEXT, "bad film"], convert_to_tensor=True)
        assert one.scores[0] == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-6)  # encode sorts and pads anew
    with pytest.raises(RefusedQuestionError, match="type the second too"):
        answer_at_every_depth(checkpoint, Question(TEXT))


def test_the_inputs_are_those_that_upstream_makes(load, tmp_path):
    texts = load("bert")
    for asked, given in ((Question(TEXT), [TEXT]), (Question(TEXT, "bad"), [TEXT, "bad"])):
        made = answer_at_every_depth(texts, asked).inputs
        expected = AutoTokenizer.from_pretrained(tmp_path / "model")(*given, return_tensors="pt")
        assert made.keys() == expected.keys()
        assert all(torch.equal(made[name], expected[name]) for name in expected)


def test_a_picture_is_read_as_its_processor_reads_it(load):
    checkpoint = load("vit")
    given = picture(30, 20).convert("RGBA")
    answer = answer_at_every_depth(checkpoint, Question(picture=given))
    expected = checkpoint.processor.processor([given.convert("RGB")], return_tensors="pt")["pixel_values"]
    assert torch.equal(answer.inputs["pixel_values"], expected)
    assert answer.read == "a picture of 30 × 20 pixels, read as 16 × 16"


def test_a_long_text_is_cut_and_the_answer_says_so(load):
    checkpoint = load("bert")
    answer = answer_at_every_depth(checkpoint, Question("film " * 50))
    assert answer.remarks == ("The text is longer than the model reads: the first 16 tokens were read.",)
    assert answer.inputs["input_ids"].shape == (1, 16)
    assert answer_at_every_depth(checkpoint, Question("film " * 14)).remarks == ()


def test_from_where_on_the_answer_stays(load):
    answer = answer_at_every_depth(load("acn text"), question("acn text"))
    said = [one.said for one in answer.at]
    assert answer.stable_from == next(
        one.depth for place, one in enumerate(answer.at) if set(said[place:]) == {said[-1]}
    )


@pytest.mark.parametrize(
    ("name", "asked", "sentence"),
    [
        ("bert", Question(" \n"), "There is no text yet"),
        ("bert", Question("a" * 1_048_576), f"{MOST_CHARACTERS:,} characters at most, and this one has 1,048,576"),
        ("bert", Question("good", "a" * 1_048_576), "this one has 1,048,576"),
        ("bert", Question("good \ud800"), "half a character"),
        ("bert", Question(picture=picture()), "There is no text yet"),
        ("acn picture", Question("good"), "There is no picture yet"),
    ],
)
def test_what_is_not_answered(load, name, asked, sentence):
    with pytest.raises(RefusedQuestionError, match=sentence):
        answer_at_every_depth(load(name), asked)


# --- early exit


@pytest.mark.parametrize("name", ["acn text", "bert", "tags", "vit"])
@pytest.mark.parametrize("policy", [ConfidenceExit(0.5), PatienceExit(1)], ids=lambda policy: type(policy).__name__)
def test_an_example_leaves_where_the_policy_says(build, tmp_path, name, policy):
    folder = write(name, tmp_path / "model", build)
    ExitCalibration(policy, 0.01, 0.9, 0.9, 1.0, 3).save(folder / "exits.json")
    checkpoint = load_checkpoint(folder)
    answer = answer_at_every_depth(checkpoint, question(name))
    inputs = dict(answer.inputs)
    if name == "tags":  # its first and its last token are no words
        inputs["labels"] = torch.tensor([[-100, *[0] * len(answer.words), -100]])
    expected = predict_early_exit(checkpoint.model, inputs, policy).exit_depths
    assert [answer.exit_depth] == expected.tolist()


def test_without_a_policy_nothing_leaves(load):
    assert answer_at_every_depth(load("bert"), question("bert")).exit_depth is None


# --- several at a time


@pytest.mark.parametrize("name", ["bert", "acn text", "vit", "tags", "sentences"])
def test_several_threads_are_answered_as_one_is(load, name):
    checkpoint = replace(load(name), policy=None if name == "sentences" else PatienceExit(1))
    before = {key: value.clone() for key, value in checkpoint.model.state_dict().items()}
    asked = [question(name, "good " * (1 + number % 5)) for number in range(8)]
    alone = [answer_at_every_depth(checkpoint, one) for one in asked]
    answers, start = [None] * len(asked), threading.Barrier(len(asked))

    def ask(place):
        start.wait()
        answers[place] = answer_at_every_depth(checkpoint, asked[place])

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == alone
    assert not checkpoint.model.training
    assert all(torch.equal(value, before[key]) for key, value in checkpoint.model.state_dict().items())


# --- times


@pytest.mark.parametrize("name", ["acn text", "modernbert", "sentences"])
def test_the_time_of_every_depth_is_measured_once_for_a_shape(load, name):
    checkpoint = load(name)
    watch = Stopwatch([checkpoint, checkpoint])
    inputs = answer_at_every_depth(checkpoint, question(name)).inputs
    times = watch([inputs, inputs])
    assert len(times) == 2
    for one in times:
        assert tuple(one.milliseconds) == checkpoint.depths
        assert all(value > 0 for value in one.milliseconds.values())
    assert watch([dict(inputs), dict(inputs)]) is times
    shorter = {name: value[:, :2] if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    assert watch([shorter, inputs]) is not times
