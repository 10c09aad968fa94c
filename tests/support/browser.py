"""A real browser: Chromium by playwright, where both are there. `ACN_HF_REQUIRE_BROWSER=1` makes it an error if not."""

import os
import shutil
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
"""What the program is called."""
WIDE = (
    "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, svg, .skip, .hidden') && "
    "getComputedStyle(e).visibility !== 'hidden' && e.getBoundingClientRect().width > 1 && "
    "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 120))"
)
"""Returns what is wider than the window, but for what scrolls by itself and what only screen readers meet."""


def program():
    """Return the path of the browser, or `None` if there is none; `ACN_HF_BROWSER` may name another one."""
    return os.environ.get("ACN_HF_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium():
    """Give a browser, or skip the test and say what is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    path = program()
    if sync_playwright is None or path is None:
        missing = "playwright" if sync_playwright is None else " or ".join(NAMES)
        told = f"no browser: {missing} is not installed"
        if os.environ.get("ACN_HF_REQUIRE_BROWSER") == "1":
            pytest.fail(told)
        pytest.skip(told)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])  # root has no sandbox
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


class Watched:
    """A page that is open, and all that it has asked for or complained about.

    Args:
        browser: Where it is opened.
        place (`Path` or `str`): The file, or the address.
        width (`int`): Of the window, in pixels.
        scheme (`str`): `light` or `dark`.
        ready (`str`): Selects what is there once the page is.
    """

    def __init__(self, browser, place, width=1440, scheme="light", ready="html[data-shown]"):
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.fetched, self.errors, self.dialogs = [], [], []
        self.page.on("request", lambda request: self.fetched.append(request.url))
        self.page.on("console", lambda message: self.errors.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        self.page.goto(place if isinstance(place, str) else place.as_uri())
        self.page.wait_for_selector(ready)

    def text(self, selector):
        """Return the text of what a selector finds first."""
        return self.page.locator(selector).first.inner_text()

    def texts(self, selector):
        """Return the text of each thing that a selector finds."""
        return self.page.locator(selector).all_inner_texts()

    def check_width(self):
        """Check that nothing is wider than the window."""
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.page.viewport_size["width"]
        assert self.page.evaluate(WIDE) == []

    def wait(self, depth):
        """Wait until all charts show a depth."""
        self.page.wait_for_selector(f'html[data-shown="{depth}"]')

    def close(self):
        self.context.close()
