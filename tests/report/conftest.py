"""Few resamples of metrics that take long, whose number is not what is tested with them; and a browser for pages."""

import pytest

from acn_hf.report import band
from tests.support.browser import Watched, browser

__all__ = ["browser"]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(band, "FEWER_RESAMPLES", 20)


@pytest.fixture
def opened(browser, files):
    """Return a function that opens one of the `files`; what they fetch and complain about is looked at in the end."""
    pages = []

    def open_page(name, **options):
        pages.append(Watched(browser, files / f"{name}.html", **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()
        assert [url for url in page.fetched if not url.startswith(("file://", "data:"))] == []
        assert len([url for url in page.fetched if url.startswith("file://")]) == 1
        assert page.errors == []
        assert page.dialogs == []
