"""The picture of the first page: its record, what is drawn of it, and the tables that quote it."""

import importlib.util
import json
import re
import statistics

import pytest

from acn_hf import DepthProfile
from tests.support.pages import ROOT

SPEC = importlib.util.spec_from_file_location("depth_picture", ROOT / "examples" / "depth_picture.py")
depth_picture = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(depth_picture)

RECORD = json.loads((ROOT / "docs" / "images" / "minilm_depth.json").read_text())


ROWS = {
    "fine-tuned, then cut": ("residual+none+none", "mean"),
    "taught at every depth, then cut": ("tuned-residual+uniform+only", "mean"),
    "cut to 3 layers, then taught": ("tuned-cut-3+none+only", "mean"),
}
"""Which network of the record each row of the first page is."""


def quoted(values):
    """Return a mean and its spread as the tables write them."""
    return f"{statistics.mean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


@pytest.mark.parametrize("network", RECORD["networks"], ids=lambda network: f"{network['name']}-{network['pooling']}")
def test_the_log_holds_every_number_of_the_record(network):
    log = (ROOT / "docs" / "experiments.md").read_text().split("the picture of the first page\n")[1].split("\n## ")[0]
    table = dict(zip(("mean", "cls"), re.findall(r"(?:^\|.*\n)+", log, re.M), strict=True))[network["pooling"]]
    cells = [quoted(column) for column in zip(*network["values"], strict=True)]
    assert f"| {network['name']} | {len(network['seeds'])} | {' | '.join(cells)} |" in table


def test_the_first_page_quotes_the_record():
    page = (ROOT / "README.md").read_text().split("with transformers' own class")[0]
    table = re.findall(r"^\| (.*?) \| (.*?) \|(.*?)\|$", page, re.M)
    found = {name: (at_three, at_full.strip()) for name, at_three, at_full in table if name in ROWS}
    assert set(found) == set(ROWS)
    for row, key in ROWS.items():
        columns = list(zip(*depth_picture.network_of(RECORD, *key)["values"], strict=True))
        expected = [quoted(columns[3]), quoted(columns[6]) if len(columns) > 4 else ""]
        assert found[row] == tuple(text.replace("0.", ".") for text in expected)


def test_the_picture_shows_the_record(tmp_path):
    ax = depth_picture.draw(RECORD, tmp_path / "picture.png")
    lines = {container.get_label(): container.lines[0].get_ydata() for container in ax.containers}
    taught = depth_picture.network_of(RECORD, depth_picture.TAUGHT)
    assert list(lines["taught at every depth"]) == [
        statistics.mean(each) for each in zip(*taught["values"], strict=True)
    ]
    assert len(lines) == 3
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def write_run(folder, name="residual+none+none", seed=0, epochs=2.0, commit="abc"):
    """Write a run of `compare_conversions.py` and what it was made of."""
    run = folder / "mean" / f"{name}-seed{seed}"
    run.mkdir(parents=True)
    files = {key: str(folder / f"{key}.csv") for key in ("model_name_or_path", "train_file", "validation_file")}
    for path in files.values():
        (folder / path).write_text("text,label\ngood,1\nfine,1\nbad,0\n")
    settings = files | {"pooling": "mean", "num_train_epochs": epochs} | dict.fromkeys(depth_picture.SETTINGS, 1)
    where = dict.fromkeys(depth_picture.SAME, "x") | {"commit": commit, "date": "2026-11-28"}
    record = {"name": name, "seed": seed, "train_runtime": 90.0, "settings": settings, "circumstances": where}
    (run / "run.json").write_text(json.dumps(record))
    DepthProfile((0, 1), (0.5, 0.75), "accuracy", True, 3, (10, 20)).save(run / "depth_profile.json")


def test_runs_become_a_record(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, seed=seed)
    record = depth_picture.gather([tmp_path / "mean"])
    (network,) = record["networks"]
    assert (network["seeds"], network["minutes"], network["epochs"]) == ([0, 1], [1.5, 1.5], 2.0)
    assert json.loads(json.dumps(network["values"])) == [[0.5, 0.75], [0.5, 0.75]]
    assert record["majority"] == 2 / 3
    assert str(tmp_path) not in json.dumps(record)


def test_runs_of_two_commits_are_no_record(tmp_path):
    write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=1, commit="def")
    with pytest.raises(ValueError, match="all runs of a record must have the same commit; got 'abc' and 'def'"):
        depth_picture.gather([tmp_path / "mean"])


def test_runs_of_different_lengths_are_no_network(tmp_path):
    write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=1, epochs=4.0)
    with pytest.raises(ValueError, match=r"all seeds of a run must have as many epochs; .*seed1 has 4"):
        depth_picture.gather([tmp_path / "mean"])


def test_no_runs_are_no_record(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there must be a run\.json below"):
        depth_picture.gather([tmp_path])
