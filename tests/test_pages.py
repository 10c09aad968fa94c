"""The pages for users: their code runs, and their commands and options are the real ones."""

import re

import pytest
import typer

from acn_hf import cli
from tests.support.adapted import quiet
from tests.support.pages import ROOT, run_page, run_training_page

COMMANDS = typer.main.get_command(cli.app).commands
LINES = {
    match[0]: path.name
    for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
    for match in re.finditer(r"^acn-hf [^#\n]*", path.read_text(), re.M)
}


# A Trainer without an accelerator says so at every start, and peft asks by an old name.
@quiet
@pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true")
def test_the_readme(tmp_path):
    few = {"num_train_epochs=40": "num_train_epochs=1, use_cpu=True"}
    assert "Compressed to" in run_page("README.md", tmp_path, **few)
    assert {"short", "short-2", "profile.png"} <= {path.name for path in tmp_path.iterdir()}


def test_training(tmp_path):
    assert "of 6 layers are left" in run_training_page("docs/training.md", tmp_path)
    assert (tmp_path / "trained" / "checkpoint-40" / "depth_profile.json").exists()


def test_compress(tmp_path):
    printed = run_training_page("docs/compression.md", tmp_path)
    assert "Compressed to 2 of 6 layers" in printed
    cut, finetuned = map(float, printed.split()[-2:])
    assert finetuned > cut
    assert "It was then fine-tuned" in (tmp_path / "short" / "README.md").read_text()


def test_conversion(tmp_path):
    few = {"train(original, 100)": "train(original, 8)", "train(model, 60,": "train(model, 6,"}
    few |= {"max_steps=60": "max_steps=6", "max_steps=40": "max_steps=4"}
    printed = run_training_page("docs/conversion.md", tmp_path, **few)
    assert "Compressed to 2 of 6 layers" in printed
    assert "Residual scales (learned)" in printed
    assert (tmp_path / "residual_scales.png").exists()


@quiet
def test_depth_of_any_model(tmp_path):
    printed = run_training_page("docs/depth_of_any_model.md", tmp_path)
    assert "transformers.models.bert.modeling_bert.BertForSequenceClassification" in printed
    assert not list((tmp_path / "short").glob("*.py"))


def test_connectivity(tmp_path):
    assert run_page("docs/connectivity.md", tmp_path) == "torch.Size([7, 4, 10])\n"


def test_pruning(tmp_path):
    printed = run_training_page("docs/pruning.md", tmp_path)
    assert "50.0% of the weights are zero" in printed
    assert "0.75 of the weights are zero" in printed
    assert (tmp_path / "pruned" / "checkpoint-30" / "model.safetensors").exists()
    assert (tmp_path / "narrow" / "model.safetensors").exists()


def test_early_exit(tmp_path):
    assert "mean depth" in run_page("docs/early_exit.md", tmp_path, **{"range(250)": "range(25)"})


def test_analysis(tmp_path):
    assert "DG / FG at every depth" in run_training_page("docs/analysis.md", tmp_path)
    for name in ("flow.png", "history.png", "connections.png", "trained/checkpoint-20/gradient_flow.json"):
        assert (tmp_path / name).stat().st_size > 500


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{LINES[line]}-{line}")
def test_the_commands_are_real(line):
    _, name, *words = line.split()
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    arguments = [parameter for parameter in COMMANDS[name].params if parameter.param_type_name == "argument"]
    assert len(arguments) <= len([word for word in words if not word.startswith("--")])
