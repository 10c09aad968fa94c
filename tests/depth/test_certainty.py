"""How sure an answer is, from the logits."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from acn_hf.depth.certainty import certainty_of

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])


def certainty(logits, problem_type=None):
    return certainty_of(logits, SimpleNamespace(problem_type=problem_type))


def test_it_is_the_probability_of_the_answer():
    exponents = np.exp(LOGITS.numpy())
    expected = exponents.max(axis=1) / exponents.sum(axis=1)
    assert certainty(LOGITS) == pytest.approx(expected)
    assert certainty(LOGITS.bfloat16()) == pytest.approx(expected)


def test_of_several_labels_it_is_that_of_the_least_sure():
    assert certainty(LOGITS, "multi_label_classification") == pytest.approx([0.5, 0.5])
    sure = certainty(torch.tensor([[3.0, -1.0]]), "multi_label_classification")
    assert sure == pytest.approx([1 / (1 + np.exp(-1.0))])


@pytest.mark.parametrize(
    ("shape", "problem_type"), [((2, 1), None), ((2, 3), "regression"), ((2, 5, 3), None), ((2, 5, 3), "x")]
)
def test_other_heads_have_none(shape, problem_type):
    assert certainty(torch.zeros(shape), problem_type) is None
