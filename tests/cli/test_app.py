"""`acn-hf app`: what it refuses before it listens, and how it ends."""

import sys

import pytest

from acn_hf.cli import app_command
from tests.support.asked import closed_loops
from tests.support.command_line import checkpoint, names_in, one_line, residual, run, wrong_usage

__all__ = ["checkpoint", "residual", "run"]
gradio = pytest.importorskip("gradio")


@pytest.fixture(autouse=True)
def _closed_loops():
    with closed_loops():
        yield


@pytest.fixture
def launched(monkeypatch):
    """How the app is launched; whoever waits for its end is interrupted at once."""
    given = {}

    def launch(self, **options):
        given.update(options, blocks=self)
        self.local_url, self.share_url, self.is_running = "http://127.0.0.1:7860/", None, False

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(gradio.Blocks, "launch", launch)
    monkeypatch.setattr(app_command, "_wait", interrupt)
    return given


def test_it_listens_on_this_machine_alone_until_it_is_stopped(run, residual, launched):
    done = run("app", residual)
    assert done.exit_code == 130, done.output
    assert done.stdout.strip() == "open http://127.0.0.1:7860/ (Ctrl-C ends it)"
    assert done.stderr.strip() == "stopped; the app has ended"
    assert (launched["server_name"], launched["server_port"], launched["share"]) == ("127.0.0.1", None, False)
    assert launched["blocks"].title == "bert at every depth"


def test_it_listens_where_it_is_told_to(run, residual, checkpoint, launched):
    done = run("app", residual, residual, "--host", "0.0.0.0", "--port", 8123, "--share")
    assert done.exit_code == 130, done.output
    assert (launched["server_name"], launched["server_port"], launched["share"]) == ("0.0.0.0", 8123, True)


def test_analytics_are_off(run, residual, launched, monkeypatch):
    monkeypatch.delenv("GRADIO_ANALYTICS_ENABLED", raising=False)
    assert run("app", residual).exit_code == 130
    assert launched["blocks"].analytics_enabled is False


def test_without_the_extra_one_line_says_what_to_install(run, residual, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert one_line(run("app", residual)) == "error: ImportError: the app needs gradio: pip install 'acn-hf[app]'"


def test_wrong_usage(run, residual):
    assert "Invalid value for '--port'" in wrong_usage(run("app", residual, "--port", 70000))
    assert "Missing argument" in wrong_usage(run("app"))


def test_what_cannot_be_shown_is_one_line(run, residual, checkpoint, tmp_path):
    assert "must be a checkpoint" in one_line(run("app", tmp_path / "nowhere"))
    assert "bert reads texts and model reads pictures" in one_line(run("app", residual, checkpoint))
    assert "No such file" in one_line(run("app", residual, "--exits", tmp_path / "nowhere.json"))
    (tmp_path / "exits.json").write_text("{}")
    assert "exits.json holds no EarlyExitReport" in one_line(run("app", residual, "--exits", tmp_path / "exits.json"))


def test_nothing_is_written_beside_the_checkpoint(run, residual, launched):
    before = names_in(residual)
    run("app", residual)
    assert names_in(residual) == before
