"""The script that compares ways to embeddings that are good at every depth."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from acn_hf import measure_embedding_profile
from tests.support.pages import ROOT
from tests.support.sentence_models import SIZES, sentence_model, texts

SPEC = importlib.util.spec_from_file_location("compare_embeddings", ROOT / "examples" / "compare_embeddings.py")
compare_embeddings = importlib.util.module_from_spec(SPEC)
sys.modules["compare_embeddings"] = compare_embeddings
SPEC.loader.exec_module(compare_embeddings)
FAST = ["cut", "taught", "healed-1", "spread-1", "kept-1", "random-words"]
SLOW = [
    "adaptive-mse",
    "adaptive-cosine@0.01",
    "adaptive-similarity",
    "matryoshka2d",
    "taught-dims",
    "random-projection",
]


@pytest.fixture
def long(tmp_path):
    torch.manual_seed(0)
    without = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
    model = sentence_model(
        tmp_path / "bare", BertModel(BertConfig(**SIZES, num_hidden_layers=2, initializer_range=0.2, **without))
    )
    model.save_pretrained(str(tmp_path / "long"))
    return model


@pytest.fixture
def arguments(long, tmp_path):
    """What the script is given, about a small random model."""
    for name, some in {"train": texts(60), "held_out": texts(40, seed=1)}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(some) + "\n")
    for name, seed in (("labelled_train", 2), ("labelled_test", 3)):
        rows = [f"{text},{int('film' in text)}" for text in texts(40, seed)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    given = {"model": tmp_path / "long", "output_dir": tmp_path / "runs", "record": tmp_path / "record.json"}
    given |= {f"{name}_file": tmp_path / f"{name}.txt" for name in ("train", "held_out")}
    given |= {f"{name}_file": tmp_path / f"{name}.csv" for name in ("labelled_train", "labelled_test")}
    given |= {"seeds": 0, "steps": 3, "heal_steps": 2, "batch_size": 8, "learning_rate": 0.003, "speed_texts": 8}
    return [*(str(part) for name, value in given.items() for part in (f"--{name}", value)), "--dimensions", "8", "4"]


@pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true")
@pytest.mark.parametrize("runs", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)], ids=["ours", "theirs"])
def test_runs_are_done_once_and_recorded(arguments, tmp_path, capsys, runs):
    compare_embeddings.main([*arguments, "--runs", *runs])
    assert len(capsys.readouterr().out.splitlines()) == len(runs), "nothing else is printed"
    record = {run["name"]: run for run in json.loads((tmp_path / "record.json").read_text())["runs"]}
    assert set(record) == set(runs)
    for name, run in record.items():
        assert run["metric"] == "recall"
        assert run["depths"] == ([0] if "random" in name else [1] if name[-1] == "1" and "@" not in name else [0, 1, 2])
        assert set(run["measures"]) == {"spearman", "recall", "accuracy", "neighbour_accuracy"}
        for by_dimension in run["measures"].values():
            assert set(by_dimension) == {"16", "8", "4"}
            assert {len(values) for values in by_dimension.values()} == {len(run["depths"])}
        assert run["measures"]["recall"]["16"] == run["values"]
        assert ("sentences_per_second" in run) is (name == "cut")
        assert run["torch"]
        assert run["settings"]["steps"] == 3
    compare_embeddings.main([*arguments, "--runs", *runs, "--tables"])
    printed = capsys.readouterr().out
    assert "-seed0: " not in printed
    assert printed.count("### ") == 4 * 3 + 1
    value = f"{record[runs[0]]['measures']['accuracy']['4'][-1]:.3f}"
    row = printed.split("### accuracy, 4 dimensions")[1].split(f"| {runs[0]} |")[1].splitlines()[0]
    assert row.endswith(f"| {value} |")


def test_the_measures_are_those_of_profiles(arguments, long, tmp_path):
    compare_embeddings.main([*arguments, "--runs", "cut"])
    (run,) = json.loads((tmp_path / "record.json").read_text())["runs"]
    held_out = texts(40, seed=1)
    for name, metric in (("recall", "neighbours"), ("spearman", "spearman")):
        expected = measure_embedding_profile(long, held_out, reference=long, metric=metric)
        # In batches of another size similarities differ in their last bits, and those that nearly tie change ranks.
        assert run["measures"][name]["16"] == pytest.approx(expected.values, abs=1e-4)
    assert run["measures"]["recall"]["16"][-1] == 1.0


def test_pairs_and_texts_are_labelled_by_the_model(arguments, long, tmp_path):
    (given,) = compare_embeddings.HfArgumentParser(compare_embeddings.Arguments).parse_args_into_dataclasses(arguments)
    read = compare_embeddings.Texts.read(given)
    assert not set(read.train) & set(read.held_out)
    runs = compare_embeddings.Runs(given, long, read, compare_embeddings.Measures(long, read, [16]), 0)
    pairs, single = runs.of_pairs(), runs.of_texts()
    assert all(first != second for first, second in zip(pairs["first"], pairs["second"], strict=True))
    one, other = (long.encode(pairs[name][:5]) for name in ("first", "second"))
    np.testing.assert_allclose(pairs["label"][:5], (one * other).sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(single["label"][:5], long.encode(single["text"][:5]), atol=1e-6)


def test_a_run_that_is_none_is_refused(arguments):
    with pytest.raises(ValueError, match=r"a run must be one of cut, taught, .*; got healed-9"):
        compare_embeddings.main([*arguments, "--runs", "healed-9"])


def test_labels_belong_together(arguments):
    place = arguments.index("--labelled_test_file")
    with pytest.raises(ValueError, match="belong together"):
        compare_embeddings.main([*arguments[:place], *arguments[place + 2 :]])
