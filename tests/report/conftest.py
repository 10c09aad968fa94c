"""Few resamples of metrics that take long: what is tested with them is another thing than their number."""

import pytest

from acn_hf.report import band


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(band, "FEWER_RESAMPLES", 20)
