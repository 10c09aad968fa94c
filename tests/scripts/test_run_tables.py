"""The table of many runs, against values worked out by hand."""

import json

import pytest

from acn_hf import DepthProfile
from acn_hf.scripts.run_tables import depth_table, find_networks, record_of_runs


def write(folder, values, seconds=None, shares=()):
    folder.mkdir(parents=True)
    depths = tuple(range(len(values)))
    DepthProfile(depths, tuple(values), "accuracy", True, 10, depths).save(folder / "depth_profile.json")
    if seconds is not None:
        (folder / "train_results.json").write_text(json.dumps({"train_runtime": seconds}))
    history = [{"loss": 1.0}, *({"eval_shedding_saved_layer_steps": share} for share in shares)]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))


def test_mean_and_spread_over_seeds(tmp_path):
    write(tmp_path / "strict-seed0", [0.1, 0.8, 0.8], seconds=60)
    write(tmp_path / "strict-seed1", [0.3, 0.6, 0.9], seconds=180)
    write(tmp_path / "shed-seed0", [0.2, 0.7], shares=[0.1, 0.25])
    rows = depth_table(find_networks(tmp_path), [0.01]).splitlines()
    assert rows == [
        "| network | seeds | 0 | 1 | 2 | full | effective, 0.01 | minutes | saved |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| shed | 1 | 0.200 | 0.700 |  | 0.700 | 1 |  | 0.250 |",
        "| strict | 2 | 0.200 ± 0.141 | 0.700 ± 0.141 | 0.850 ± 0.071 | 0.850 ± 0.071 | 1 2 | 2.0 |  |",
    ]


def test_seeds_that_end_at_different_depths(tmp_path):
    write(tmp_path / "shed-seed0", [0.2, 0.7])
    write(tmp_path / "shed-seed1", [0.2, 0.7, 0.9])
    assert depth_table(find_networks(tmp_path)).splitlines()[2] == (
        "| shed | 2 | 0.200 ± 0.000 | 0.700 ± 0.000 | 0.900 | 0.800 ± 0.141 |"
    )


def test_a_record_says_what_layers_that_left_saved(tmp_path):
    write(tmp_path / "shed", [0.2, 0.7], shares=[0.1, 0.25])
    write(tmp_path / "whole", [0.2, 0.7])
    shed, whole = record_of_runs(tmp_path)["runs"]
    assert shed["saved"] == 0.25
    assert "saved" not in whole


def test_a_folder_without_runs_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there must be a profile .*there is none"):
        find_networks(tmp_path)


def test_a_record_holds_every_run(tmp_path):
    write(tmp_path / "strict-seed1", [0.3, 0.9], seconds=180)
    write(tmp_path / "short", [0.2])
    told = {"train_runtime": 60, "seed": 0, "arguments": {"task": "images", "output_dir": "/here"}}
    (tmp_path / "short" / "train_results.json").write_text(json.dumps(told))
    measured = {"metric": "accuracy", "num_examples": 10}
    one = {"name": "short", "seed": 0, "depths": (0,), "values": (0.2,), **measured, "train_runtime": 60}
    assert record_of_runs(tmp_path, ["task"])["runs"][0] == {**one, "settings": {"task": "images"}}
    other = {"name": "strict", "seed": 1, "depths": (0, 1), "values": (0.3, 0.9), **measured, "train_runtime": 180}
    assert record_of_runs(tmp_path)["runs"] == [{**one, "settings": {}}, {**other, "settings": {}}]
