"""The script that compares teaching with its rivals, and the tables that quote its record."""

import importlib.util
import json
import re
import sys

import pytest
from transformers import BertConfig, BertModel, set_seed

from tests.support.command_line import tokenizer
from tests.support.pages import ROOT
from tests.support.quoting import quoted, rows_of, runs_of, values_at

SPEC = importlib.util.spec_from_file_location("compare_teaching", ROOT / "examples" / "compare_teaching.py")
compare_teaching = importlib.util.module_from_spec(SPEC)
sys.modules["compare_teaching"] = compare_teaching
SPEC.loader.exec_module(compare_teaching)
RECORDS = {"compare_teaching": "### all-MiniLM-L6-v2\n", "compare_teaching_soft": "### The teacher's answers alone\n"}
"""Under which heading the log quotes each record."""
NETWORKS = sorted({(record, run["name"]) for record in RECORDS for run in runs_of(record)})
SHOWN = {
    ("README.md", "\n## Results", (1, 2, 3, 4, 5, 6)): {
        "tuned": "fine-tuned, then cut",
        "taught": "**every depth taught, then cut**",
        "healed-{}": "the same, healed for one epoch",
        "cut-{}-taught": "cut first, then taught",
        "cut-{}-alone": "cut first, then trained without a teacher",
    },
    ("docs/results.md", "\nWith transformers' own class", (1, 2, 3, 4, 6)): {
        "tuned": "fine-tuned for 2 epochs, cut",
        "taught": "**then taught at every depth for 4 epochs**",
        "cut-{}-taught": "cut first, then taught, a run for each",
        "cut-{}-alone": "cut first, then trained without a teacher",
    },
}
"""Which networks of the record each row of a page's table is, one for all depths or one for each.

A table is told by its page, what stands before it, and its depths.
"""
ROWS = [(*table, name, shown) for table, rows in SHOWN.items() for name, shown in rows.items()]
ALL_RUNS = ["healed-1", "cut-1-taught", "cut-1-alone", "supervised", "acn", "acn-annealed"]


@pytest.mark.parametrize(("page", "opening", "depths", "name", "shown"), ROWS)
def test_short_pages_quote_the_record(page, opening, depths, name, shown):
    results = (ROOT / page).read_text().split(opening)[1]
    cells = re.search(rf"^\| {re.escape(shown)} \|(.*)\|$", results, re.M)[1].split("|")
    runs = runs_of("compare_teaching")
    found = [values_at(runs, name.format(depth)).get(depth) for depth in depths]
    assert [cell.strip() for cell in cells] == [quoted(values) if values else "" for values in found]


@pytest.mark.parametrize(("record", "name"), NETWORKS)
def test_the_log_quotes_the_record(record, name):
    log = (ROOT / "docs" / "experiments.md").read_text().split("## 2026-11-29: one command")[1]
    seeds, *cells = rows_of(re.split(r"^#{2,3} ", log.split(RECORDS[record])[1], flags=re.M)[0])[name]
    runs = runs_of(record)
    assert int(seeds) == len([run for run in runs if run["name"] == name])
    expected = {depth: quoted(values) for depth, values in values_at(runs, name).items()}
    assert {depth: cell for depth, cell in enumerate(cells) if cell} == expected


@pytest.mark.parametrize("runs", [["tuned", "taught"], pytest.param(ALL_RUNS, marks=pytest.mark.slow)], ids=len)
def test_runs_are_done_once_and_recorded(tmp_path, capsys, runs):
    set_seed(0)
    fields = {"vocab_size": 8, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    BertModel(BertConfig(**fields, num_hidden_layers=2)).save_pretrained(tmp_path / "bert")
    tokenizer().save_pretrained(tmp_path / "bert")
    for part in ("train", "validation"):
        (tmp_path / f"{part}.csv").write_text("text,label\n" + "good film,1\nbad film film,0\n" * 8)
    arguments = ["--model", "bert", "--train_file", "train.csv", "--validation_file", "validation.csv"]
    arguments = [str(tmp_path / one) if index % 2 else one for index, one in enumerate(arguments)]
    arguments += ["--output_dir", str(tmp_path / "runs"), "--record", str(tmp_path / "record.json"), "--seeds", "0"]
    arguments += ["--tune_epochs", "1", "--teach_epochs", "1", "--runs", *runs]
    compare_teaching.main(arguments)
    assert capsys.readouterr().out.count("-seed0: ") == len(runs)
    record = json.loads((tmp_path / "record.json").read_text())["runs"]
    assert sorted(run["name"] for run in record) == sorted(runs)
    assert all(run["train_runtime"] > 0 and run["torch"] for run in record)
    compare_teaching.main(arguments)
    assert "-seed0: " not in capsys.readouterr().out
