"""The pages for users: their code runs, and their commands and options are the real ones."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from acn_hf import cli

ROOT = Path(__file__).parent.parent
COMMANDS = typer.main.get_command(cli.app).commands
LINES = {
    match[0]: path.name
    for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
    for match in re.finditer(r"^acn-hf [^#\n]*", path.read_text(), re.M)
}


def run_page(name, folder):
    """Run all code of a page as one program in a folder, on the CPU, and return what it prints."""
    program = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(), re.S))
    assert 'report_to="none"' in program
    program = program.replace('report_to="none"', 'report_to="none", use_cpu=True')
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_compression(tmp_path):
    printed = run_page("compression.md", tmp_path)
    assert "Compressed to 2 of 6 layers" in printed
    cut, finetuned = map(float, printed.split()[-2:])
    assert finetuned > cut
    assert "It was then fine-tuned" in (tmp_path / "short" / "README.md").read_text()


def test_conversion(tmp_path):
    printed = run_page("conversion.md", tmp_path)
    assert "Compressed to 2 of 6 layers" in printed
    assert "Residual scales (learned)" in printed
    assert (tmp_path / "residual_scales.png").exists()


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{LINES[line]}-{line}")
def test_the_commands_are_real(line):
    _, name, *words = line.split()
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    arguments = [parameter for parameter in COMMANDS[name].params if parameter.param_type_name == "argument"]
    assert len(arguments) <= len([word for word in words if not word.startswith("--")])
