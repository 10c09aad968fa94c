"""The runs of the paper's experiments: made once, found again, taken by one process, and not mixed."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from tests.support.paper_lab import counted, laboratory, load, result, small, write_results

__all__ = ["small"]
lab, store, experiment = load("lab.laboratory"), load("lab.store"), load("lab.experiment")


def test_a_network_is_trained_once(small, monkeypatch):
    network = small.network("vit", "acn")
    first = small.trained(network, 0)
    monkeypatch.setattr(lab, "train", None)  # a second training would fail
    second = small.trained(network, 0)
    assert second.history == first.history
    assert set(first.history[0]) == {"epoch", "train_loss", "test_loss", "test_accuracy"}
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])
    with pytest.raises(TypeError):
        small.trained(network, 1)
    assert small.accuracies(second.model, second.task) == small.accuracies(first.model, first.task)


def test_a_network_whose_weights_are_not_whole_is_named_and_trained_again_without_them(small):
    network = small.network("vit", "acn")
    first = small.trained(network, 0)
    (weights,) = Path(small.arguments.work_dir).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match=f"{re.escape(str(weights))} must be whole: .* the network is trained again"):
        small.trained(network, 0)
    weights.unlink()
    second = small.trained(network, 0)
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"seeds": [0, -1]}, "--seeds must be numbers from 0 to 4294967295; got -1"),
        ({"seeds": [2**32]}, "--seeds must be numbers from 0 to 4294967295; got 4294967296"),
        ({"image_data": "some/digits"}, "--image_data must not be called digits, as .*; got some/digits"),
    ],
)
def test_arguments_that_are_refused(tmp_path, arguments, text):
    with pytest.raises(ValueError, match=text):
        laboratory(tmp_path, **arguments)


def test_bert_needs_texts(tmp_path):
    assert laboratory(tmp_path).families("vit", "bert") == ("vit",)
    with pytest.raises(ValueError, match="--text_data must name a data set of texts for --family bert; got none"):
        laboratory(tmp_path, family=["bert"]).families("vit")


def test_one_seed_decides_nothing(small):
    one, _ = counted(1)
    experiment.run(one, small)
    assert experiment.said(one, small).endswith("One seed has no spread: this decides no claim.")
    two, _ = counted(2)
    experiment.run(two, small)
    assert "One seed" not in experiment.said(two, small)


@pytest.mark.parametrize("name", ["settings", "values", "circumstances"])
def test_results_are_dictionaries(tmp_path, name):
    fields = {"name": "one", **result({"seed": 0}, {"x": 1}).to_dict(), name: [1]}
    (tmp_path / "one.jsonl").write_text(json.dumps(fields))
    text = rf"^line 1 of .*one.jsonl holds no Result: {name} must be a dictionary; got \(1,\)$"
    with pytest.raises(ValueError, match=text):
        store.Store(tmp_path, "one").results()


def test_the_same_seed_trains_the_same_network(small, tmp_path):
    other = laboratory(tmp_path / "other")
    other.size = small.size
    for name, value in small.trained(small.network("vit", "residual"), 0).model.state_dict().items():
        assert torch.equal(value, other.trained(other.network("vit", "residual"), 0).model.state_dict()[name])


def test_what_is_complete_is_not_run_again(small):
    one, made = counted(2)
    experiment.run(one, small)
    two, made_later = counted(3)
    results = experiment.run(two, small)
    assert (made, made_later) == ([0, 1], [2])
    assert [found.settings["seed"] for found in results] == [0, 1, 2]
    *_, stored = map(json.loads, small.store("counted").path.read_text().splitlines())
    assert stored["name"] == "vit-acn-seed2"
    assert {"commit", "acn_hf", "torch", "transformers", "device", "trained_at", "seconds"} <= set(
        stored["circumstances"]
    )
    assert stored["settings"]["num_epochs"] == 1


def test_a_run_that_another_process_has_begun_is_left_to_it(small):
    """The other process ends its run while this one makes the next."""
    one, made = counted(1)
    (job,) = one.jobs(small)
    counted_runs, settings = small.store("counted"), {**job.settings, **vars(small.size), "data": "digits"}
    held = counted_runs.lock(job.name)
    held.acquire()

    def next_run():
        counted_runs.save(job.name, settings, {"accuracies": [0.0, 0.25]}, trained_at=[], seconds=1)
        held.release()
        return {"accuracies": [0.0, 0.75]}

    two = dataclasses.replace(one, jobs=lambda _: [job, experiment.Job({**job.settings, "seed": 1}, next_run)])
    assert [found.values["accuracies"][1] for found in experiment.run(two, small)] == [0.75, 0.25]
    assert made == []


def test_results_of_other_settings_are_refused(small):
    one, _ = counted(1)
    experiment.run(one, small)
    small.size = dataclasses.replace(small.size, num_epochs=7)
    with pytest.raises(store.MixedResultsError, match=r"was made with num_epochs=1; got 7\. .* another --results_dir"):
        experiment.run(one, small)


@pytest.mark.parametrize("key", [*store.ONE_TABLE, "trained_at"])
def test_results_that_do_not_belong_together_are_refused(tmp_path, key):
    made = [
        result({"seed": seed}, {"x": 1}, **{key: [value] if key == "trained_at" else value})
        for seed, value in enumerate(("old", "new"))
    ]
    write_results(tmp_path / "one.jsonl", *made)
    with pytest.raises(store.MixedResultsError, match=f"the results of one table must share their {key}; .*new.*old"):
        store.Store(tmp_path, "one").results()


@pytest.mark.parametrize(
    ("heads", "trained_at", "fits"),
    [
        (("shared", "supervised"), ("old", "now"), True),
        (("shared", "shared"), ("old", "now"), False),
        (("shared", "supervised"), ("old", "older"), False),
    ],
)
def test_an_experiment_may_train_some_kinds_of_networks_and_find_others(tmp_path, heads, trained_at, fits):
    made = [
        result({"seed": seed, "heads": one}, {"x": 1}, commit="now", trained_at=[commit])
        for seed, (one, commit) in enumerate(zip(heads, trained_at, strict=True))
    ]
    write_results(tmp_path / "one.jsonl", *made)
    if fits:
        assert len(store.Store(tmp_path, "one").results()) == 2
        return
    with pytest.raises(store.MixedResultsError, match="the results of one table must share their trained_at"):
        store.Store(tmp_path, "one").results()


def test_results_on_two_data_sets_are_two_tables(tmp_path):
    made = [
        result({"seed": number, "data": data}, {"x": 1}, commit=commit)
        for number, (data, commit) in enumerate([("texts", "old"), ("texts", "old"), ("images", "new")])
    ]
    write_results(tmp_path / "one.jsonl", *made)
    assert len(store.Store(tmp_path, "one").results()) == 3
    write_results(tmp_path / "one.jsonl", *made, result({"seed": 3, "data": "images"}, {"x": 1}, commit="old"))
    with pytest.raises(store.MixedResultsError, match=r'must share their commit; .* "new", "old"'):
        store.Store(tmp_path, "one").results()


@pytest.mark.parametrize("setting", ["arch", "method"])
def test_what_was_added_later_has_circumstances_of_its_own(tmp_path, setting):
    rows = [("acn", "old"), ("residual", "old"), ("acn-annealed", "new"), ("residual-scaled", "new")]
    made = [result({"seed": n, setting: name}, {"x": 1}, commit=commit) for n, (name, commit) in enumerate(rows)]
    write_results(tmp_path / "one.jsonl", *made)
    assert len(store.Store(tmp_path, "one").results()) == 4
    said = load("render_paper").circumstances(made).split("\n\n")
    assert said[0].startswith("2 runs, 2 seeds, data digits; commit old;")
    assert said[1].startswith("acn-annealed and residual-scaled: 2 runs, 2 seeds, data digits; commit new;")
    other = result({"seed": 4, setting: "acn-annealed"}, {"x": 1}, commit="old")
    for wrong in (other, result({"seed": 4, setting: "acn"}, {"x": 1}, commit="new")):
        write_results(tmp_path / "one.jsonl", *made, wrong)
        with pytest.raises(store.MixedResultsError, match="must share their commit"):
            store.Store(tmp_path, "one").results()
    write_results(tmp_path / "one.jsonl", *made, result({"seed": 4, setting: "acn-annealed", "num_layers": 3}, {}))
    with pytest.raises(store.MixedResultsError, match="must share their num_layers"):
        store.Store(tmp_path, "one").results()


@pytest.mark.parametrize("key", store.ONE_SIZE)
def test_quick_and_full_results_are_two_tables(tmp_path, key):
    made = [result({"seed": seed, key: value}, {"x": 1}) for seed, value in enumerate((4, 12))]
    write_results(tmp_path / "one.jsonl", *made)
    with pytest.raises(store.MixedResultsError, match=f"the results of one table must share their {key}; .* 12, 4"):
        store.Store(tmp_path, "one").results()


def test_no_results_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there must be results in .*one\.jsonl; there are none"):
        store.Store(tmp_path, "one").results()
