"""Fetches the tests of the installed transformers, which its wheel lacks and its source archive holds.

They are never copied into this repository, so that they always match the installed release.
"""

import functools
import importlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
import transformers

PACKAGE = "transformers_tests"
"""Name under which upstream's `tests` is imported; `tests` itself may be ours."""

ABSENT_FROM_ARCHIVE = {
    "exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    "utils.test_configuration_utils": {
        "config_common_kwargs": {
            "architectures": ["AnyModel"],
            "output_hidden_states": True,
            "return_dict": False,
            "dtype": "float16",
            "chunk_size_feed_forward": 5,
            "id2label": {0: "label"},
            "label2id": {"label": 0},
            "problem_type": "regression",
        }
    },
}
"""What the suite imports from folders that the archive leaves out: empty mixins, and values for every common field."""


class SuiteUnavailableError(RuntimeError):
    """The source archive is neither in the cache nor to be had from the package index."""


def upstream_module(name: str) -> ModuleType:
    """Return a module of upstream's `tests`; without the archive, skip the test module that asks for it.

    With `ACN_HF_REQUIRE_UPSTREAM=1` that test module fails instead.
    """
    reason = _import_package()
    if reason is not None:
        if os.environ.get("ACN_HF_REQUIRE_UPSTREAM") == "1":
            raise SuiteUnavailableError(reason)
        pytest.skip(reason, allow_module_level=True)
    return importlib.import_module(f"{PACKAGE}.{name}")


@functools.cache
def _import_package() -> str | None:
    """Import upstream's `tests` as `PACKAGE`; return what stands in the way, which is asked once a session."""
    try:
        folder = unpacked_tests()
    except SuiteUnavailableError as error:
        return str(error)
    # A package of its own name needs no entry in sys.path and cannot be taken for the tests of this repository.
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[PACKAGE])
    for path, names in ABSENT_FROM_ARCHIVE.items():
        for parent in (path.partition(".")[0], path):
            module = sys.modules.setdefault(f"{PACKAGE}.{parent}", ModuleType(f"{PACKAGE}.{parent}"))
            module.__path__ = []
        vars(module).update(names)
    return None


def unpacked_tests() -> Path:
    """Return the folder with the tests of the installed transformers; fetch and unpack it the first time."""
    archive = fetch_archive()
    folder = archive.with_name(archive.name.removesuffix(".tar.gz"))
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=archive.parent) as beside:
            with tarfile.open(archive) as tar:
                members = [member for member in tar.getmembers() if member.name.startswith(f"{folder.name}/tests/")]
                tar.extractall(beside, members=members, filter="data")
            (Path(beside) / folder.name / "tests" / "__init__.py").touch()
            _move(Path(beside) / folder.name, folder)
    return folder / "tests"


def fetch_archive() -> Path:
    """Return the source archive of the installed transformers, in the cache.

    Raises:
        SuiteUnavailableError: It is not there and cannot be downloaded; the message says what to do.
    """
    cache = Path(os.environ.get("ACN_HF_CACHE") or Path(__file__).parents[2] / ".cache")
    archive = cache / f"transformers-{transformers.__version__}.tar.gz"
    if archive.exists():
        return archive
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as beside:
        # Without build isolation nothing but this one archive is downloaded.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
        command += ["--no-binary=transformers", "--retries=1", f"--dest={beside}"]
        result = subprocess.run([*command, f"transformers=={transformers.__version__}"], capture_output=True, text=True)
        if result.returncode != 0:
            reason = (result.stderr.strip().splitlines() or ["pip failed"])[-1]
            raise SuiteUnavailableError(
                f"the source archive of transformers, which holds its tests, could not be fetched ({reason}); "
                f"run once with access to a package index, or put {archive.name} into {cache}"
            )
        _move(Path(beside) / archive.name, archive)
    return archive


def _move(source: Path, target: Path) -> None:
    """Rename at once, so that a run beside this one sees all or nothing; whoever comes first wins."""
    try:
        source.rename(target)
    except OSError:
        if not target.exists():
            raise
