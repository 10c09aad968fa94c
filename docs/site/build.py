"""Build the site into `build/site/`.

It fails if a link leads nowhere, if a docstring refers to a name that does not exist, if a public name has no entry in
the reference, or if a page would look otherwise than on GitHub.
"""

import os
import subprocess
import sys
from pathlib import Path

from package import ROOT
from pages import write_sources

BUILD = ROOT / "build"


def main() -> None:
    """Write the sources, then build the site of them."""
    write_sources(BUILD)
    # The theme announces at every start that its support ends in 2027; mkdocs.yml says it once.
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(BUILD / "mkdocs.yml")]
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if status == 0:
        print("Read it: python3 -m http.server --directory build/site")
    raise SystemExit(status)


if __name__ == "__main__":
    main()
