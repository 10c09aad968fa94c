"""The pages for users as programs: all their code, one block after another."""

import contextlib
import io
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)


def run_page(page, folder, **replaced):
    """Run all code of a page in a folder and return what it prints; what is replaced must be there.

    In this process: an import of everything for each page would take longer than the pages.
    """
    program = "\n".join(python_blocks(page))
    for old, new in replaced.items():
        assert old in program, f"{page} must hold {old}"
        program = program.replace(old, new)
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        exec(compile(program, page, "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def run_training_page(page, folder, **replaced):
    """Run a page that trains, on the CPU; what is replaced are numbers of steps, say."""
    program, quiet = "\n".join(python_blocks(page)), 'report_to="none"'
    assert program.count("TrainingArguments(") == program.count(quiet) > 0
    return run_page(page, folder, **{quiet: f"{quiet}, use_cpu=True"}, **replaced)
