"""The site of the docs is built, and every way in which it could mislead its readers stops the build."""

import os
import re
import subprocess
import sys

import pytest

from tests.support.distribution import tracked_files

pytestmark = pytest.mark.slow


@pytest.fixture
def clone(tmp_path):
    """A copy of the tracked files."""
    pytest.importorskip("mkdocs", reason="needs acn-hf[docs]")
    for name, content in tracked_files().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def build(clone):
    """Return the exit status of the build, and what it prints."""
    sources = os.pathsep.join(filter(None, [str(clone / "src"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": sources}
    command = [sys.executable, str(clone / "docs" / "site" / "build.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def append(path, text):
    path.write_text(path.read_text() + text)


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_site_is_built(clone):
    status, printed = build(clone)
    assert status == 0, printed
    assert "WARNING" not in printed
    room = (clone / "build" / "site" / "reference" / "depth.html").read_text()
    assert 'id="acn_hf.depth.profile.DepthProfile.effective_depth"' in room


def test_pages_with_faults(clone):
    append(clone / "docs" / "export.md", "\n[a page](nowhere.md), [a file](../src/acn_hf/nowhere.py)\n")
    append(clone / "docs" / "training.md", "\n- a list\n  - in a list\n")
    status, printed = build(clone)
    assert status != 0
    assert "export.md: broken links, [a page](nowhere.md), [a file](../src/acn_hf/nowhere.py)" in printed
    assert re.search(r"training.md: .* <ul> on GitHub, .*; a list inside of a list needs four spaces", printed)


def test_places_and_names_that_do_not_exist(clone):
    append(clone / "docs" / "export.md", "\n[a place](paper.md#no-such-place)\n")
    replace(clone / "src" / "acn_hf" / "training" / "shedding.py", "[`measure_depth_profile`]", "[`measure_profile`]")
    error = '"""A model or checkpoint whose weights do not map to an ACN."""'
    replace(clone / "src" / "acn_hf" / "conversion" / "layouts.py", error, "pass")
    status, printed = build(clone)
    assert status != 0
    assert "'paper.md' does not contain an anchor '#no-such-place'" in printed
    assert "LayerSheddingCallback refers to [`measure_profile`], which acn_hf does not have" in printed
    assert (
        "reference/index.md: Could not find cross-reference target 'acn_hf.conversion.layouts.ConversionError'"
        in printed
    )


def test_a_public_name_that_is_defined_nowhere(clone):
    stub = clone / "src" / "acn_hf" / "__init__.pyi"
    append(stub, "\nfrom .plots import no_such_plot as no_such_plot\n")
    status, printed = build(clone)
    assert status != 0
    assert "acn_hf.no_such_plot is public, but the sources do not define it" in printed
