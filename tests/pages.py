"""The pages for users as programs: all their code, one block after another."""

import contextlib
import io
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)


def run_page(page, folder, **replaced):
    """Run all code of a page in a folder, on the CPU, and return what it prints.

    In this process: an import of everything for each page would take longer than the pages.
    """
    program = "\n".join(python_blocks(page))
    for old, new in {'report_to="none"': 'report_to="none", use_cpu=True', **replaced}.items():
        program = program.replace(old, new)
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        exec(compile(program, page, "exec"), {"__name__": "__main__"})
    return printed.getvalue()
