"""The demo with base dependencies alone; `tests/cli` runs it as a whole."""

import sys
from types import SimpleNamespace

from acn_hf import DepthProfile
from acn_hf.demo import save_picture

RESULT = SimpleNamespace(profile=DepthProfile((0, 1), (0.1, 0.9), "accuracy", True, 100, (10, 60)), depth=1)


def test_the_picture(tmp_path):
    assert save_picture(RESULT, tmp_path) == f"Picture: {tmp_path / 'depth_profile.png'}"
    assert (tmp_path / "depth_profile.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert save_picture(RESULT, tmp_path) == "No picture: plots need matplotlib: pip install 'acn-hf[plots]'"
    assert not list(tmp_path.iterdir())
