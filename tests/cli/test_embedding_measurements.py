"""`acn-hf profile` and `acn-hf bench` of a SentenceTransformer."""

import json

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from transformers import BertConfig, BertModel

from acn_hf import DepthProfile, measure_embedding_profile
from tests.support.command_line import one_line, run, wrong_usage
from tests.support.sentence_models import EVALUATOR, SIZES, sentence_model, texts

__all__ = ["run"]
DISTANCE = """
def distance(model):
    return float(abs(model.encode(["a film"]) - model.encode(["the end"])).max())
"""


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """The folder of a small random SentenceTransformer of three layers, with a Dense module."""
    folder = tmp_path_factory.mktemp("models")
    sentence_model(folder / "bare", more=[Dense(SIZES["hidden_size"], 12)]).save_pretrained(str(folder / "long"))
    return folder / "long"


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("text,stars\n" + "".join(f"{text},1\n" for text in texts(40)))
    return path


@pytest.fixture
def judge(tmp_path):
    path = tmp_path / "judge.py"
    path.write_text(EVALUATOR + DISTANCE)
    return path


@pytest.mark.parametrize("metric", [None, "spearman"])
def test_texts_are_compared_with_full_depth(run, long, data, tmp_path, metric):
    named = ("--metric", metric) if metric else ()
    done = run("profile", long, data, "--embeddings", *named, "--out", tmp_path / "profile.json")
    assert done.exit_code == 0, done.output
    model = SentenceTransformer(str(long), device="cpu")
    expected = measure_embedding_profile(model, texts(40), reference="self", metric=metric or "neighbours")
    found = DepthProfile.load(tmp_path / "profile.json")
    assert (found.metric, found.values, found.num_examples) == (expected.metric, expected.values, 40)
    depth = expected.effective_depth(0.05)
    assert f"effective depth: {depth} of 3 (tolerance 0.05)" in done.output
    assert (tmp_path / "profile.png").exists()


def test_a_tolerance_and_a_confidence_choose(run, long, data):
    command = ("profile", long, data, "--embeddings", "--tolerance", 1)
    assert "effective depth: 0 of 3 (tolerance 1)" in run(*command).output
    assert "effective depth: 0 of 3" in run(*command, "--confidence", 0.9).output
    assert "a correlation of all pairs does not have" in one_line(
        run(*command, "--confidence", 0.9, "--metric", "spearman")
    )


def test_an_evaluator_measures_without_texts(run, long, judge, tmp_path):
    done = run("profile", long, "--embeddings", "--evaluator", f"{judge}:similarity", "--out", tmp_path / "out.json")
    assert done.exit_code == 0, done.output
    assert DepthProfile.load(tmp_path / "out.json").metric == "spearman_cosine"
    assert "(tolerance 0.005)" in done.output
    named = ("--metric", "pearson_cosine", "--tolerance", 9)
    assert (
        "effective depth: 0 of 3"
        in run("profile", long, "--embeddings", "--evaluator", f"{judge}:similarity", *named).output
    )


@pytest.mark.parametrize("options", [(), ("--lower-is-better",)], ids=str)
def test_a_score_is_better_as_it_is_said(run, long, judge, tmp_path, options):
    out = tmp_path / "out.json"
    done = run("profile", long, "--embeddings", "--evaluator", f"{judge}:distance", "--out", out, *options)
    assert done.exit_code == 0, done.output
    assert DepthProfile.load(out).greater_is_better is not bool(options)


WRONG = [
    (("MODEL", "--embeddings"), "DATA must be given; only --evaluator measures without"),
    (("MODEL",), "DATA must be given; only --evaluator measures without"),
    (("MODEL", "DATA", "--embeddings", "--evaluator", "JUDGE"), "DATA must not be given with --evaluator, which has"),
    (
        ("MODEL", "--embeddings", "--evaluator", "JUDGE", "--split", "test"),
        "--split must not be given with --evaluator",
    ),
    (("MODEL", "--embeddings", "--evaluator", "JUDGE", "--batch-size", 4), "--batch-size must not be given with"),
    (("MODEL", "--evaluator", "JUDGE"), "--evaluator is for --embeddings, which must be given too"),
    (("MODEL", "DATA", "--embeddings", "--convert"), "--convert must not be given with --embeddings: the model stays"),
    (
        ("MODEL", "DATA", "--embeddings", "--label-column", "stars"),
        "--label-column must not be given with --embeddings",
    ),
]


@pytest.mark.parametrize(("arguments", "text"), WRONG, ids=str)
def test_what_says_nothing_about_embeddings_is_wrong_usage(run, long, data, judge, arguments, text):
    named = {"MODEL": long, "DATA": data, "JUDGE": judge}
    assert text in wrong_usage(run("profile", *(named.get(argument, argument) for argument in arguments)))


def test_a_model_without_a_head_is_told_of_its_embeddings(run, long, data, tmp_path):
    hint = "as a SentenceTransformer it is measured with --embeddings"
    assert hint in one_line(run("profile", long, data))
    BertModel(BertConfig(**SIZES, num_hidden_layers=2)).save_pretrained(tmp_path / "bert")
    assert hint not in one_line(run("profile", tmp_path / "bert", data))
    assert "must hold a SentenceTransformer, with modules.json" in one_line(
        run("profile", tmp_path / "bert", data, "--embeddings")
    )


def test_all_modules_cost_something(run, long, tmp_path):
    quick = ("--sequence-length", 8, "--repeats", 2, "--warmup", 0)
    done = run("bench", long, "--embeddings", *quick, "--out", tmp_path / "cost.json")
    assert done.exit_code == 0, done.output
    model = SentenceTransformer(str(long), device="cpu")
    whole = json.loads((tmp_path / "cost.json").read_text())["costs"][-1]["num_parameters"]
    assert whole == sum(parameter.numel() for parameter in model.parameters())
    alone = run("bench", long, *quick, "--out", tmp_path / "alone.json")
    assert "warning: this is what the transformer costs alone; with --embeddings all modules" in alone.stderr
    assert json.loads((tmp_path / "alone.json").read_text())["costs"][-1]["num_parameters"] < whole
    assert "--convert must not be given with --embeddings" in wrong_usage(
        run("bench", long, "--embeddings", "--convert")
    )
