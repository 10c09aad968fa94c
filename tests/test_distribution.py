"""What is released holds the package, and works where only base dependencies are installed."""

import tempfile
import zipfile
from pathlib import Path

import pytest

from tests.support import distribution

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source distribution and the wheel."""
    pytest.importorskip("twine", reason="needs acn-hf[release]")
    return distribution.build(tmp_path_factory.mktemp("dist"))


def test_both_hold_what_is_tracked(built):
    sdist, wheel = built
    distribution.check_sdist(sdist)
    distribution.check_wheel(wheel)


@pytest.mark.parametrize("left_out", ["acn_hf/publishing/template.md", "acn_hf/depth/__init__.pyi", "acn_hf/py.typed"])
def test_a_file_that_the_wheel_lacks_is_named(built, tmp_path, left_out):
    short = tmp_path / built[1].name
    with zipfile.ZipFile(built[1]) as whole, zipfile.ZipFile(short, "w") as partial:
        for name in whole.namelist():
            if name != left_out:
                partial.writestr(name, whole.read(name))
    with pytest.raises(distribution.DistributionError, match=f"lacks {left_out}"):
        distribution.check_wheel(short)


def test_the_wheel_works_with_base_dependencies(built):
    with tempfile.TemporaryDirectory() as folder:  # pytest would keep the environment
        distribution.try_out(built[1], Path(folder))
        written = {path.name for path in Path(folder, "elsewhere", "demo").iterdir()}
    assert written == {"compressed", "depth_profile.json", "result.json"}
