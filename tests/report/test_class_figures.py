"""Precision, recall and confusions of every class, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from acn_hf.report.class_figures import MOST_CLASSES, ClassFigures, class_figures
from tests.support.reported import CLASSES, LABELS, LANGUAGE, NUMBERS, TAGS, answers


def as_ids(known, array):
    """Return answers as scikit-learn takes them."""
    numbers = {name: number for number, name in known.names.items()}
    return np.array([numbers[tag] for text in array for tag in text]) if array.dtype == object else array


@pytest.mark.parametrize("task", [CLASSES, LABELS, TAGS], ids=lambda task: task[1])
def test_they_are_those_of_scikit_learn(task):
    known = answers(task, number=200)
    figures = class_figures(known)
    order = [list(known.names.values()).index(name) for name in figures.names]
    references = as_ids(known, known.references)
    for depth, counts in figures.at.items():
        predicted = as_ids(known, known.at[depth].answers)
        precision, recall, _, support = precision_recall_fscore_support(references, predicted, zero_division=0)
        right = np.array(counts.right)
        assert np.allclose(right / np.maximum(counts.predicted, 1), precision[order])
        assert np.allclose(right / np.array(figures.support), recall[order])
        assert figures.support == tuple(support[order])


@pytest.mark.parametrize("task", [NUMBERS, LANGUAGE], ids=lambda task: task[1])
def test_there_are_none_without_classes(task):
    assert class_figures(answers(task)) is None


def test_the_most_frequent_come_first():
    support = class_figures(answers(number=200)).support
    assert list(support) == sorted(support, reverse=True)


def test_confusions_are_those_that_grew():
    known = answers(number=300)
    figures, labels = class_figures(known), range(3)
    full = confusion_matrix(known.references, known.full.answers, labels=labels)
    numbers = {name: number for number, name in known.names.items()}
    for depth, pairs in figures.confusions.items():
        table = confusion_matrix(known.references, known.at[depth].answers, labels=labels)
        grown = (table - full) * (1 - np.eye(3, dtype=int))
        assert [pair.count - pair.count_full for pair in pairs] == sorted(grown[grown > 0], reverse=True)
        for pair in pairs:
            assert pair.count == table[numbers[pair.label], numbers[pair.answer]]
    assert figures.confusions[4] == ()


def test_of_very_many_classes_the_most_frequent_are_kept():
    figures = class_figures(answers(number=5000, names=tuple(f"class {number}" for number in range(1000))))
    assert len(figures.names) == MOST_CLASSES
    assert figures.num_classes == 1000
    assert min(figures.support) >= 5


def test_a_class_that_the_config_does_not_name_has_its_number():
    known = answers(names=NAMES_OF_TWO)
    known.config.id2label.pop(1)
    assert set(class_figures(known).names) == {"no", "1"}


NAMES_OF_TWO = ("no", "yes")


def test_they_save_and_load():
    figures = class_figures(answers())
    assert ClassFigures.from_dict(figures.to_dict()) == figures


def test_counts_of_another_number_are_refused():
    fields = class_figures(answers()).to_dict()
    fields["at"]["2"]["right"] = [1]
    with pytest.raises(ValueError, match=r"as many as the 3 names; got \[3, .*1"):
        ClassFigures.from_dict(fields)
