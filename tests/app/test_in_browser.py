"""The app in a real browser: it answers texts and pictures, two people at once, and fetches nothing from elsewhere."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from acn_hf import ConfidenceExit, EarlyExitReport
from acn_hf.report import ReportRecord
from tests.conftest import build
from tests.support.asked import EVIL, TEXT, picture, write
from tests.support.browser import Watched, browser
from tests.support.families import NUM_LAYERS
from tests.support.reported import result, rows

__all__ = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.slow]
pytest.importorskip("gradio")
SERVER = str(Path(__file__).parents[1] / "support" / "app_server.py")
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
READY = ".acn.waiting"
ANSWERED, TIMED = ".acn .depths", ".acn .clock"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoints with all that may lie beside them, and one whose labels want to do something."""
    folder, make = tmp_path_factory.mktemp("checkpoints"), build.__wrapped__({})
    for name in ("bert", "labels", "vit", "acn picture"):
        write(name, folder / name.replace(" ", "-"), make)
    EarlyExitReport(ConfidenceExit(0.4), 0.9, (1, 1, 1, 0)).save(folder / "bert" / "exits.json")
    ReportRecord.of(result(), rows=rows(), name="Reviews").save(folder / "bert" / "report.json")
    pictures = [{"image": picture()}] * 60
    ReportRecord.of(result(), rows=pictures, name="Pictures").save(folder / "vit" / "report.json")
    config = write("bert", folder / "evil", make) / "config.json"
    evil = {str(number): f"{EVIL} {number}" for number in range(3)}
    named = {"id2label": evil, "label2id": {name: int(number) for number, name in evil.items()}}
    config.write_text(json.dumps(json.loads(config.read_text()) | named))
    return folder


@pytest.fixture(scope="module")
def addresses(folders, tmp_path_factory):
    """Where the apps listen."""
    apps = {"text": ["bert", "labels"], "picture": ["vit", "acn-picture"], "evil": ["evil"]}
    asked = json.dumps({name: [str(folders / one) for one in sources] for name, sources in apps.items()})
    environment = os.environ | {"GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("cache"))}
    with subprocess.Popen([sys.executable, SERVER, asked], env=environment, text=True, **PIPES) as process:
        yield json.loads(process.stdout.readline())
        process.stdin.close()


@pytest.fixture
def opened(browser, addresses):
    """Return a function that opens an app; what each page has fetched and complained about is looked at at the end."""
    pages = []

    def open_page(name="text", **options):
        pages.append((Watched(browser, addresses[name], ready=READY, **options), addresses[name]))
        return pages[-1][0]

    yield open_page
    for page, address in pages:
        page.close()
        assert [url for url in page.fetched if not url.startswith((address, "data:", f"blob:{address}"))] == []
        assert [error for error in page.errors if not error.startswith("warning: ")] == []
        assert page.dialogs == []


def ask(watched, text=TEXT):
    watched.page.fill("#text textarea", text)
    watched.page.click("button.primary")


def drop(watched, path):
    watched.page.set_input_files("#picture input[type=file]", path)


def rows_of(watched, card):
    """Return the depths of a card with what they answer."""
    found = watched.page.locator(f".acn[aria-label='{card}'] .depths tr.row").all()
    return {int(row.get_attribute("data-depth")): row.inner_text() for row in found}


def test_it_answers_a_text_at_every_depth_of_both(opened):
    watched = opened()
    ask(watched)
    watched.page.wait_for_selector(TIMED)
    for card in ("bert", "labels"):
        shown = rows_of(watched, card)
        assert list(shown) == list(range(NUM_LAYERS + 1))
        assert all(re.search(r"\d ms", text) for text in shown.values())
    assert "Early exit (ConfidenceExit threshold 0.4) leaves at depth" in watched.text(".acn .exit")
    assert watched.page.locator(".acn .badge", has_text="early exit").count() == 1
    assert watched.page.locator("#notice [role=alert]").count() == 0


def test_it_answers_a_picture_as_soon_as_it_is_dropped(opened, tmp_path):
    picture().save(tmp_path / "picture.png")
    watched = opened("picture")
    drop(watched, tmp_path / "picture.png")
    watched.page.wait_for_selector(TIMED)
    assert len(rows_of(watched, "vit")) == 5
    assert "a picture of 24 × 16 pixels" in watched.text(".acn .note")


def test_it_refuses_a_file_that_is_no_picture(opened, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    watched = opened("picture")
    drop(watched, tmp_path / "text.png")
    watched.page.wait_for_selector("#notice [role=alert]")
    assert watched.text("#notice") == "This file is no picture that can be read: choose a PNG, JPEG, WebP or GIF."
    picture().save(tmp_path / "picture.png")
    assert watched.page.locator("#picture img").count() == 0
    drop(watched, tmp_path / "picture.png")
    watched.page.wait_for_selector(TIMED)
    assert watched.page.locator("#notice [role=alert]").count() == 0


def test_it_refuses_a_text_of_a_megabyte(opened):
    watched = opened()
    ask(watched, "a" * 1_048_576)
    watched.page.wait_for_selector("#notice [role=alert]")
    said = "A text may have 100,000 characters at most, and this one has 1,048,576."
    assert watched.text("#notice") == said
    ask(watched)
    watched.page.wait_for_selector(TIMED)


def test_two_people_are_answered_at_once(opened):
    first, second = opened(), opened(width=360)
    ask(first, "good film")
    ask(second, "bad film bad film bad")
    for watched, tokens in ((first, 4), (second, 7)):
        watched.page.wait_for_selector(TIMED)
        assert f"It read {tokens} tokens." in watched.text(".acn .note")


def test_it_is_used_by_keyboard(opened):
    page = opened().page
    page.focus("#text textarea")
    page.keyboard.type(TEXT)
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(TIMED)
    page.evaluate("document.querySelector('.acn summary').id = 'earlier'")
    page.locator("button.primary").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#earlier", state="detached")  # else what is opened below goes with the earlier answer
    page.wait_for_selector(TIMED)
    page.locator(".acn summary").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".acn details[open] table")


def test_examples_are_answered_when_they_are_chosen(opened):
    watched = opened()
    watched.page.locator(".gallery-item, .tr-body").first.click()
    watched.page.wait_for_selector(TIMED)
    assert watched.page.input_value("#text textarea").startswith("Review ")
    pictures = opened("picture")
    pictures.page.locator(".gallery-item, .tr-body").first.click()
    pictures.page.wait_for_selector(TIMED)


def test_what_wants_to_do_something_is_shown_and_not_done(opened):
    watched = opened("evil")
    ask(watched, EVIL)
    watched.page.wait_for_selector(TIMED)
    assert EVIL in watched.text(".acn .legend")
    assert watched.page.locator(".acn script, .acn img").count() == 0


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (360, "light"), (1440, "light"), (1440, "dark")])
@pytest.mark.parametrize("name", ["text", "picture", "evil"])
def test_nothing_is_wider_than_the_window(opened, tmp_path, name, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    watched = opened(name, width=width, scheme=scheme)
    if name == "picture":
        picture().save(tmp_path / "picture.png")
        drop(watched, tmp_path / "picture.png")
    else:
        ask(watched, EVIL if name == "evil" else TEXT)
    watched.page.wait_for_selector(TIMED)
    watched.page.locator(".acn summary").first.click()
    watched.check_width()
    found = axe.run(watched.page, options={"rules": {"image-redundant-alt": {"enabled": False}}}).response["violations"]
    ours = [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found]
    assert ours == []


# --- the command


def start(folder, tmp_path):
    """Start `acn-hf app`, and return the process and the address."""
    (tmp_path / "temporary").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "acn_hf", "app", str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, **pipes)
    return process, re.search(r"open (\S+)", process.stdout.readline())[1]


def test_ctrl_c_ends_it(browser, folders, tmp_path):
    process, address = start(folders / "vit", tmp_path)
    try:
        watched = Watched(browser, address, ready=READY)
        picture().save(tmp_path / "picture.png")
        drop(watched, tmp_path / "picture.png")
        watched.page.wait_for_selector(ANSWERED)
        assert list((tmp_path / "temporary").rglob("picture.png"))
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    watched.context.close()
    assert process.returncode == 130
    assert (said, complained.strip().splitlines()[-1]) == ("", "stopped; the app has ended")
    assert "Traceback" not in complained
    assert not list((tmp_path / "temporary").rglob("picture.png")), "what was dropped is not kept"


def test_it_listens_on_this_machine_alone(folders, tmp_path):
    process, address = start(folders / "bert", tmp_path)
    try:
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", address)[1])
        listening = [line for line in _sockets() if line.split(":")[1].split()[0] == f"{port:04X}"]
        assert [line.split(":")[0] for line in listening] == ["0100007F"]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def _sockets():
    """Return the sockets of this machine that listen, as Linux tells them: address, port and the rest."""
    lines = [line.split(None, 1)[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [line for line in lines if line.split()[2] == "0A"]
