"""The scripts that do what one would do otherwise: they parse without their libraries; the log quotes their record."""

import importlib
import json
import sys

import pytest
from safetensors.torch import save_model
from transformers import BertConfig, BertForSequenceClassification, set_seed

from tests.support.command_line import tokenizer
from tests.support.pages import ROOT

FOLDER = ROOT / "examples" / "rivals"
RECORD = json.loads((ROOT / "benchmarks" / "results" / "rivals.json").read_text())["runs"]
LIBRARIES = ["sentence_transformers", "setfit", "textbrewer", "torch_pruning", "modelopt", "acn_hf"]


@pytest.fixture
def script(monkeypatch):
    """Return a function from the name of a script to its module, which is gone after the test."""
    monkeypatch.syspath_prepend(FOLDER)

    def load(name):
        for one in ("shared", name):
            monkeypatch.delitem(sys.modules, one, raising=False)
        module = importlib.import_module(name)
        for one in ("shared", name):
            monkeypatch.setitem(sys.modules, one, sys.modules.get(one, module))
        return module

    return load


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("run_*.py")))
def test_help_needs_no_rival(script, name, monkeypatch, capsys):
    for library in LIBRARIES:
        monkeypatch.setitem(sys.modules, library, None)  # an import of it fails
    with pytest.raises(SystemExit) as end:
        script(name).main(["--help"])
    assert end.value.code == 0
    assert "--validation_file" in capsys.readouterr().out


def test_the_log_quotes_the_record(script):
    log = (ROOT / "docs" / "experiments.md").read_text().split("## 2026-11-29: what one would do otherwise")[1]
    table = script("table").rows(RECORD)
    assert len(table) == len({run["name"] for run in RECORD})
    for row in table:
        assert f"\n{row}\n" in log


def test_the_log_quotes_what_they_are_compared_with(script):
    log = (ROOT / "docs" / "experiments.md").read_text().split("## 2026-11-29: what one would do otherwise")[1]
    runs = json.loads((ROOT / "benchmarks" / "results" / "compare_teaching.json").read_text())["runs"]
    columns = list(zip(*(run["values"] for run in runs if run["name"] == "taught"), strict=True))
    cells = " | ".join(script("table").quoted(column) for column in columns[1:])
    assert f"\n| taught (acn_hf) | {len(columns[0])} | {cells} | |\n" in log


def test_versions_are_those_of_the_requirements():
    wanted = [set(path.read_text().splitlines()) for path in FOLDER.glob("requirements-*.txt")]
    for run in RECORD:
        used = {f"{name}=={version.removesuffix('+cpu')}" for name, version in run["versions"].items()}
        assert any(used <= lines for lines in wanted), f"no requirements-*.txt has {sorted(used)}"


@pytest.fixture
def tiny(tmp_path):
    """Return the arguments of a script, about a small random model that is said to be fine-tuned."""
    set_seed(0)
    fields = {"vocab_size": 8, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    model = BertForSequenceClassification(BertConfig(**fields, num_hidden_layers=2))
    model.base_model.save_pretrained(tmp_path / "bert")
    tokenizer().save_pretrained(tmp_path / "bert")
    (tmp_path / "tuned-0").mkdir()
    save_model(model, str(tmp_path / "tuned-0" / "weights.safetensors"))
    for part in ("train", "validation"):
        (tmp_path / f"{part}.csv").write_text("text,label\n" + "good film,1\nbad film film,0\n" * 16)
    files = {"model": "bert", "train_file": "train.csv", "validation_file": "validation.csv", "output_dir": "runs"}
    arguments = [part for name, file in files.items() for part in (f"--{name}", str(tmp_path / file))]
    return [*arguments, "--tuned", str(tmp_path / "tuned-{}"), "--epochs", "1", "--batch_size", "8"]


def test_torch_pruning_halves_every_layer(script, tiny, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch_pruning")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pruning = script("run_torch_pruning")
    pruning.main([*tiny, "--num_batches", "1"])
    assert capsys.readouterr().out.count("torch-pruning-half-seed0: ") == 1
    run = json.loads((tmp_path / "runs" / "torch-pruning-half-seed0.json").read_text())
    whole = BertForSequenceClassification.from_pretrained(tmp_path / "bert").num_parameters()
    layer = 2 * (4 * 16 * 16 + 2 * 16 * 16)  # matrices of both layers
    assert whole - layer * 0.53 < run["num_parameters"] < whole - layer * 0.47
    assert run["depths"] == [2]
    assert 0 <= run["values"][0] <= 1
    assert run["settings"]["epochs"] == 1
    pruning.main(tiny)
    assert capsys.readouterr().out == ""
    record = tmp_path / "rivals.json"
    script("table").main([str(tmp_path / "runs"), "--record", str(record)])
    assert json.loads(record.read_text())["runs"] == [run]
    assert capsys.readouterr().out.startswith("| torch-pruning-half | 1 |  | ")
