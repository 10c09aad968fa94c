"""Residuals of predicted numbers."""

import numpy as np
import pytest

from acn_hf.report.residuals import QUANTILES, Residuals, residuals_of
from tests.support.reported import CLASSES, NUMBERS, answers


def test_they_are_those_of_numpy():
    known = answers(NUMBERS, number=400)
    found = residuals_of(known)
    for depth, one in known.at.items():
        sample = (one.answers - known.references).astype(float)
        here = found.at[depth]
        assert here.mean == pytest.approx(sample.mean(), abs=1e-6)
        assert here.mean_size == pytest.approx(np.abs(sample).mean(), abs=1e-6)
        assert here.quantiles == pytest.approx(np.quantile(sample, QUANTILES), abs=1e-6)
        inside = np.histogram(sample, found.edges)[0]
        assert sum(here.counts) == 400
        assert here.counts[1:-1] == tuple(inside[1:-1])
    assert found.full == found.at[4]


def test_one_that_is_always_right_has_a_histogram_too():
    known = answers(NUMBERS)
    exact = type(known.full)(known.references, None)
    found = residuals_of(type(known)(known.metric, known.references, exact, {0: exact}, known.head, known.config))
    assert sum(found.full.counts) == 60
    assert found.full.mean_size == 0


def test_there_are_none_of_classes():
    assert residuals_of(answers(CLASSES)) is None


def test_they_save_and_load_and_a_bar_too_few_is_refused():
    found = residuals_of(answers(NUMBERS))
    assert Residuals.from_dict(found.to_dict()) == found
    fields = found.to_dict()
    fields["edges"] = fields["edges"][1:]
    with pytest.raises(ValueError, match="must have 29 bars"):
        Residuals.from_dict(fields)
