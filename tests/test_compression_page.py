"""The page on compression: its code runs, and its commands and options are the real ones."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from acn_hf import cli

PAGE = (Path(__file__).parent.parent / "docs" / "compression.md").read_text()
COMMANDS = typer.main.get_command(cli.app).commands


def test_the_code_runs(tmp_path):
    program = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.S))
    assert program.count('report_to="none"') == 1
    program = program.replace('report_to="none"', 'report_to="none", use_cpu=True')
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Compressed to 2 of 6 layers" in done.stdout
    cut, finetuned = map(float, done.stdout.split()[-2:])
    assert finetuned > cut
    assert "It was then fine-tuned" in (tmp_path / "short" / "README.md").read_text()


@pytest.mark.parametrize("line", re.findall(r"^acn-hf .*", PAGE, re.M))
def test_the_commands_are_real(line):
    _, name, *words = line.split()
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    arguments = [parameter for parameter in COMMANDS[name].params if parameter.param_type_name == "argument"]
    assert len(arguments) <= len([word for word in words if not word.startswith("--")])
