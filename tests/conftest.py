"""Offline, quiet and seeded tests, and models that are built once and copied for every test."""

import gc
import logging
import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
import transformers
from accelerate.state import AcceleratorState

from tests.support.copying import Copied
from tests.support.hub_server import playing_hub

transformers.utils.logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def _seed():
    # Where there is no GPU, torch.manual_seed remembers each call, with the stack it came from, for one that may come.
    (torch.manual_seed if torch.cuda.is_available() else torch.default_generator.manual_seed)(0)


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    """Let no test inherit the precision that a Trainer of an earlier test has set for the whole process."""
    AcceleratorState._reset_state()


@pytest.fixture(autouse=True)
def _same_logging():
    """Let no test inherit the silence of a script that an earlier test has run in this process.

    A logger of ours that was silenced for good is an error: tests that come later would miss its warnings.
    """
    level = transformers.utils.logging.get_verbosity()
    yield
    transformers.utils.logging.set_verbosity(level)
    known = list(logging.root.manager.loggerDict)  # at once: a thread that a test has left may add to them
    ours = [logging.getLogger(name) for name in known if name.startswith("acn_hf")]
    silenced = [one for one in ours if one.level != logging.NOTSET]
    for one in silenced:
        one.setLevel(logging.NOTSET)
    assert not silenced


@pytest.fixture(scope="session")
def built_models():
    """Models by table entry and options; nobody may change them."""
    return {}


@pytest.fixture
def build(built_models):
    """Return a function `(head, **options) -> model` that builds each model once a session and returns a copy."""

    def build_copy(head, **options):
        key = (head.name, repr(sorted(options.items())))
        if key not in built_models:
            built_models[key] = Copied(head.build(**options))
        return built_models[key].again()

    return build_copy


@pytest.fixture
def files():
    """Return a function that maps the files of a folder, at any level, to their bytes."""

    def read(folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read


@pytest.fixture
def hub(tmp_path):
    """The Hub, played by a server on this machine, for the time of one test."""
    with playing_hub(tmp_path / "home") as server:
        yield server


@pytest.fixture(autouse=True, scope="module")
def _imported_is_no_garbage():
    """Keep what is imported out of every collection of garbage: each training run begins with one.

    At each module once more, since what one test imports would slow down all that follow.
    """
    gc.collect()
    gc.freeze()
