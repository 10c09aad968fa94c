"""What is released: built from the tracked files, checked, and used where nothing else is installed.

`make dist` runs this module, and the slow tests call it. The source distribution holds every tracked file: whoever
builds from it can run the tests, which read the README, the docs, the examples and the model cards.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
MADE_BY_SETUPTOOLS = ("PKG-INFO", "setup.cfg", "src/acn_hf.egg-info/")
EVERY_NAME = """
import acn_hf
for name in acn_hf.__all__:
    getattr(acn_hf, name)
print(len(acn_hf.__all__), "public names of", acn_hf.__file__)
"""


class DistributionError(Exception):
    """A distribution that does not hold what it should."""


def tracked_files() -> dict[str, bytes]:
    """Return the files that git tracks, as they lie in the working tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {name: (ROOT / name).read_bytes() for name in listed.split("\0") if name}


def build(out: Path) -> tuple[Path, Path]:
    """Build the source distribution and, from it, the wheel; check what they say of themselves.

    From a copy: the folder of a clone holds files that nobody tracks, and what setuptools remembers of earlier builds.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in tracked_files().items():
            path = Path(scratch, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        run(sys.executable, "-m", "build", "--quiet", "--outdir", out, scratch)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    return sdist, wheel


def check_wheel(wheel: Path) -> None:
    """Raise `DistributionError` unless a wheel holds the package as it is tracked, the licence, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    about = {name for name in held if PurePosixPath(name).parts[0].endswith(".dist-info")}
    expected = {
        name.removeprefix("src/"): content for name, content in tracked_files().items() if name.startswith("src/")
    }
    _compare(wheel, expected, {name: content for name, content in held.items() if name not in about})
    if not any(name.endswith("/licenses/LICENSE") for name in about):
        raise DistributionError(f"{wheel.name} lacks its licence")


def check_sdist(sdist: Path) -> None:
    """Raise `DistributionError` unless a source distribution holds every tracked file, and nothing else."""
    with tarfile.open(sdist) as archive:
        files = [member for member in archive.getmembers() if member.isfile()]
        held = {member.name.partition("/")[2]: archive.extractfile(member).read() for member in files}
    _compare(sdist, tracked_files(), {k: v for k, v in held.items() if not k.startswith(MADE_BY_SETUPTOOLS)})


def _compare(distribution: Path, expected: Mapping[str, bytes], held: Mapping[str, bytes]) -> None:
    faults = {
        "lacks": expected.keys() - held.keys(),
        "must not hold": held.keys() - expected.keys(),
        "changed": {name for name in expected.keys() & held.keys() if expected[name] != held[name]},
    }
    found = [f"{fault} {name}" for fault, names in faults.items() for name in sorted(names)]
    if found:
        raise DistributionError(f"{distribution.name}: " + "; ".join(found))


def try_out(wheel: Path, folder: Path) -> None:
    """Install a wheel into an empty environment, with base dependencies alone, and use it outside of the clone."""
    run(sys.executable, "-m", "venv", folder / "environment")
    programs, elsewhere = folder / "environment" / "bin", folder / "elsewhere"
    install = (programs / "python", "-m", "pip", "install", "--quiet", "--no-compile")
    run(*install, "--constraint", ROOT / "constraints.txt", wheel)
    run(programs / "python", "-m", "pip", "check")
    elsewhere.mkdir()
    run(programs / "python", "-c", EVERY_NAME, folder=elsewhere)
    run(programs / "acn-hf", "--version", folder=elsewhere)
    run(programs / "acn-hf", "demo", "--epochs", 1, "--out", "demo", folder=elsewhere)


def run(*command: object, folder: Path = ROOT) -> None:
    """Run a program that sees nothing of this environment, and show what it prints."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    print("$", *[word if len(str(word).splitlines()) == 1 else "..." for word in command], flush=True)
    subprocess.run([str(word) for word in command], cwd=folder, env=environment, check=True)


def main(out: Path) -> None:
    """Build into an emptied folder and check all."""
    shutil.rmtree(out, ignore_errors=True)
    sdist, wheel = build(out)
    check_sdist(sdist)
    check_wheel(wheel)
    with tempfile.TemporaryDirectory() as scratch:
        try_out(wheel, Path(scratch))
    print(f"{sdist} and {wheel} are ready")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
