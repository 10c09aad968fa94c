"""Examples run end to end on small real data."""

import gzip
import json
import re
from pathlib import Path

import pytest
from transformers import AutoModelForImageClassification, AutoModelForMaskedLM

from acn_hf import DepthProfile
from tests.support.programs import run_program

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script, *arguments):
    return run_program(EXAMPLES / script, *arguments)


def test_compare_connections_trains_profiles_and_prints_a_table(tmp_path):
    options = ("--num_epochs", 0.2, "--num_hidden_layers", 2, "--seeds", 0, 1, "--output_dir", tmp_path)
    done = run("compare_connections.py", "--task", "digits", "--connections", "strict", "residual", *options)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert rows[0] == "| network | seeds | 0 | 1 | 2 |"
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["residual-2", "strict-2"]
    folder = tmp_path / "digits" / "strict-2-seed1"
    assert AutoModelForImageClassification.from_pretrained(folder).config.num_hidden_layers == 2
    assert DepthProfile.load(folder / "profile.json").num_examples == 719
    record = json.loads((folder / "training.json").read_text())
    assert (record["seed"], record["connection"]) == (1, "strict")


@pytest.mark.slow
def test_compare_connections_resumes(tmp_path):
    options = ("--task", "digits", "--connections", "strict", "--num_epochs", 0.1, "--num_hidden_layers", 1)
    done = run("compare_connections.py", *options, "--seeds", 0, "--output_dir", tmp_path)
    assert done.returncode == 0, done.stderr
    weights = tmp_path / "digits" / "strict-1-seed0" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    run("compare_connections.py", *options, "--seeds", 0, "--output_dir", tmp_path)
    assert weights.stat().st_mtime_ns == written


@pytest.mark.slow
def test_compare_connections_reads_gzipped_text(tmp_path):
    lines = [f"the {a} {b} saw the {b} {a} and was glad of it\n" for a in "abcdefghij" for b in "klmnopqrst"] * 100
    with gzip.open(tmp_path / "corpus.txt.gz", "wt") as file:
        file.writelines(lines)
    options = ("--connections", "attention", "--seeds", 0, "--max_steps", 4, "--num_hidden_layers", 1)
    done = run(
        "compare_connections.py", "--task", "text", "--train_file", tmp_path / "corpus.txt.gz", *options,
        "--output_dir", tmp_path / "runs",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "text" / "attention-1-seed0"
    assert AutoModelForMaskedLM.from_pretrained(folder).config.attention_residual
    assert DepthProfile.load(folder / "profile.json").metric == "loss"


@pytest.mark.parametrize(
    ("script", "option", "name", "text"),
    [
        ("compare_connections.py", "--connections", "resnet", "connections must be strict, attention, residual"),
        ("compare_connections.py", "--family", "resnet", "family must be one of vit, mixer"),
        ("compare_recipes.py", "--recipes", "resnet", "a recipe must be strict, attention, residual with"),
        (
            "compare_recipes.py",
            "--recipes",
            "strict+frozen",
            "a recipe must be strict, attention, residual with",
        ),
        ("compare_recipes.py", "--recipes", "residual4+annealed", "only an ACN is annealed"),
        ("compare_recipes.py", "--recipes", "strict+dropped", "left out of a residual network alone"),
        ("compare_recipes.py", "--recipes", "strict+early+late", "there must be one"),
    ],
)
def test_networks_and_recipes_that_do_not_exist_are_refused(tmp_path, script, option, name, text):
    with pytest.raises(ValueError, match=f"{text}.*{re.escape(name)}"):
        run(script, "--task", "digits", option, name, "--output_dir", tmp_path)


RECIPES = ["attention+topdown+begun+held", "strict2+kept+uniform+shed", "residual2+dropped+restarted"]


@pytest.mark.slow
def test_compare_recipes_trains_each_once_and_records_it(tmp_path):
    options = ("--task", "digits", "--num_epochs", 0.5, "--seeds", 0, "--output_dir", tmp_path)
    for family, recipes in (("mixer", RECIPES[:2]), ("vit", RECIPES)):
        record = tmp_path / f"{family}.json"
        done = run("compare_recipes.py", *options, "--family", family, "--recipes", *recipes, "--record", record)
        assert done.returncode == 0, done.stderr
    runs = {one["name"]: one for one in json.loads(record.read_text())["runs"]}
    assert {name: one["settings"]["family"] for name, one in runs.items()} == dict(
        zip(RECIPES, ("mixer", "mixer", "vit"), strict=True)
    )
    assert len(runs[RECIPES[0]]["values"]) == 13
    assert all(0 <= value <= 1 for one in runs.values() for value in one["values"])
    kept = AutoModelForImageClassification.from_pretrained(tmp_path / f"{RECIPES[1]}-seed0")
    assert kept.config.residual_scale == pytest.approx(0.1)
    assert "restarted" in run("compare_runs.py", tmp_path, "--record", tmp_path / "all.json").stdout
    written = json.loads((tmp_path / "all.json").read_text())
    assert (len(written["runs"]), "commit" in written["circumstances"]) == (3, True)


def test_help_reads_well():
    done = run("compare_connections.py", "--help")
    assert done.returncode == 0
    assert "--output_dir" in done.stdout
