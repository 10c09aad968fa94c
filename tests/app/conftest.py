"""Apps of gradio leave nothing behind, and time few passes: what is tested with them is another thing."""

import pytest

from tests.support.asked import closed_loops


@pytest.fixture(autouse=True)
def _closed_loops():
    with closed_loops():
        yield


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    monkeypatch.setattr("acn_hf.app.times.MOST_ROUNDS", 2)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    """Let gradio keep the pictures of a test in the folder of the test."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
