"""The picture of the first page, and the log of an older one."""

import importlib.util
import json
import re
import statistics

import pytest

from tests.support.pages import ROOT

SPEC = importlib.util.spec_from_file_location("depth_picture", ROOT / "examples" / "depth_picture.py")
depth_picture = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(depth_picture)

RESULTS = ROOT / "benchmarks" / "results"
RECORD = json.loads((RESULTS / "compare_teaching.json").read_text())
OLD = json.loads((RESULTS / "minilm_pooling.json").read_text())


def quoted(values):
    """Return a mean and its spread as the tables write them."""
    return f"{statistics.mean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


@pytest.mark.parametrize("network", OLD["networks"], ids=lambda network: f"{network['name']}-{network['pooling']}")
def test_the_log_holds_every_number_of_the_old_record(network):
    log = (ROOT / "docs" / "experiments.md").read_text().split("the picture of the first page\n")[1].split("\n## ")[0]
    table = dict(zip(("mean", "cls"), re.findall(r"(?:^\|.*\n)+", log, re.M), strict=True))[network["pooling"]]
    cells = [quoted(column) for column in zip(*network["values"], strict=True)]
    assert f"| {network['name']} | {len(network['seeds'])} | {' | '.join(cells)} |" in table


def test_the_picture_shows_the_record(tmp_path):
    ax = depth_picture.draw(RECORD, tmp_path / "picture.png")
    lines = {container.get_label(): list(container.lines[0].get_ydata()) for container in ax.containers}
    taught = [run["values"][1:] for run in RECORD["runs"] if run["name"] == "taught"]
    assert lines["taught at every depth, one run"] == [statistics.mean(each) for each in zip(*taught, strict=True)]
    cut = [run["values"][-1] for run in RECORD["runs"] if run["name"] == "cut-3-taught"]
    assert statistics.mean(cut) in lines["cut first, then taught, a run for each"]
    assert len(lines) == len(depth_picture.CURVES) + len(depth_picture.SINGLE)
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_what_is_no_record_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["depth_picture.py", str(tmp_path / "none.json"), str(tmp_path / "picture.png")])
    with pytest.raises(SystemExit, match=r"none\.json"):
        depth_picture.main()
