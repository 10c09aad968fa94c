"""What it costs to start: imports against those of transformers, and the answers of the command line.

Each is a process of its own.

    python benchmarks/start.py

Goals: `import acn_hf` costs at most 1.2 times `from transformers import BertModel`, and so does what makes a model of
ours; help, the version and wrong usage are answered in half a second.
"""

import subprocess
import sys
from functools import partial

from timing import interleaved, ratio, store

PROGRAMS = {
    "import torch": "import torch",
    "import transformers": "import transformers",
    "from transformers import BertModel": "from transformers import BertModel",
    "import acn_hf": "import acn_hf",
    "import acn_hf, transformers": "import acn_hf, transformers",
    "from acn_hf import AcnBertModel": "from acn_hf import AcnBertModel",
    "from acn_hf import compress": "from acn_hf import compress",
}
COMMANDS = {
    "acn-hf --help": ("--help",),
    "acn-hf --version": ("--version",),
    "acn-hf compress --help": ("compress", "--help"),
    "acn-hf compress (an argument is missing)": ("compress", "model"),
    "acn-hf profile (a metric that does not exist)": ("profile", "model", "data", "--metric", "nonsense"),
}
BASE = "from transformers import BertModel"


def run(*words: str) -> None:
    """Run Python with these arguments; what it answers is not looked at."""
    subprocess.run([sys.executable, *words], capture_output=True, check=False)


def main() -> None:
    """Time every program and command in turn, and write medians and ratios."""
    calls = {name: partial(run, "-c", program) for name, program in PROGRAMS.items()}
    calls |= {name: partial(run, "-m", "acn_hf", *words) for name, words in COMMANDS.items()}
    times = interleaved(calls, rounds=5, warmup=1)
    ours = [name for name in PROGRAMS if "acn_hf" in name]
    store("start", {"times": times, "ratios": {f"{name} / {BASE}": ratio(times, name, BASE) for name in ours}})


if __name__ == "__main__":
    main()
