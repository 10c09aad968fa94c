"""The command line measures every head that the data can be read for, by metrics of names and of files."""

import csv
import json

import pytest

from acn_hf import DepthProfile
from tests.support.command_line import pictures, residual, reviews, run, tokenizer, wrong_usage
from tests.support.families import NUM_LAYERS, by_name

__all__ = ["pictures", "residual", "reviews", "run"]

TAGS = {"id2label": {0: "O", 1: "B-FILM", 2: "I-FILM"}, "label2id": {"O": 0, "B-FILM": 1, "I-FILM": 2}}
SEVERAL = {"id2label": {0: "sad", 1: "funny", 2: "long"}, "label2id": {"sad": 0, "funny": 1, "long": 2}}


def saved(build, folder, name, **options):
    build(by_name(name), **options).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def write_lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_table(path, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def measured(run, tmp_path, *arguments):
    done = run("profile", *arguments, "--out", tmp_path / "p.json")
    assert done.exit_code == 0, done.output
    profile = DepthProfile.load(tmp_path / "p.json")
    assert profile.depths == tuple(range(NUM_LAYERS + 1))
    return profile


@pytest.mark.parametrize("metric", ["answer_f1", "exact_match", "loss", None])
def test_questions_are_measured(run, build, tmp_path, metric):
    model = saved(build, tmp_path / "model", "bert-ForQuestionAnswering")
    rows = [("what", "good bad film", "bad"), ("who", "film good", ""), ("which", "bad good good film " * 5, "film")]
    data = write_table(tmp_path / "data.csv", ("question", "text", "answer"), *rows)
    columns = ("--context-column", "text", "--answers-column", "answer", "--max-length", 12)
    profile = measured(run, tmp_path, model, data, *columns, *(("--metric", metric) if metric else ()))
    assert profile.metric == (metric or "answer_f1")
    assert profile.num_examples > 3  # windows


def test_a_model_of_questions_is_cut(run, build, tmp_path):
    model = saved(build, tmp_path / "model", "bert-ForQuestionAnswering")
    answers = {"text": ["film"], "answer_start": [4]}
    data = write_lines(tmp_path / "data.json", {"question": "what", "context": "bad film", "answers": answers})
    done = run("compress", model, data, tmp_path / "out", "--metric", "answer_f1", "--tolerance", 1)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == 0


def test_a_model_of_questions_is_cut_and_fine_tuned(run, build, tmp_path):
    model = saved(build, tmp_path / "model", "bert-ForQuestionAnswering")
    rows = [("what", "good bad film", "bad"), ("who", "film good", "")]
    train, data = (
        write_table(tmp_path / name, ("question", "context", "answers"), *rows) for name in ("train.csv", "data.csv")
    )
    options = ("--metric", "answer_f1", "--depth", 1, "--finetune", train, "--finetune-epochs", 1)
    done = run("compress", model, data, tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    assert "answer_f1, fine-tuned" in done.output


def test_choices_are_measured(run, build, tmp_path):
    model = saved(build, tmp_path / "model", "bert-ForMultipleChoice")
    rows = [("bad film", "good", "bad", 1), ("good film", "good", "bad", 0)]
    data = write_table(tmp_path / "data.csv", ("sent1", "ending0", "ending1", "label"), *rows)
    columns = ("--context-column", "sent1", "--choices-column", "ending")
    assert measured(run, tmp_path, model, data, *columns).metric == "accuracy"


def test_several_labels_at_once_are_measured(run, build, tmp_path):
    model = saved(
        build,
        tmp_path / "model",
        "bert-ForSequenceClassification",
        problem_type="multi_label_classification",
        **SEVERAL,
    )
    lists = write_lines(
        tmp_path / "d.json", {"text": "bad film", "label": ["sad", "long"]}, {"text": "good", "label": []}
    )
    rows = [("bad film", 1, 0, 1), ("good", 0, 0, 0)]
    columns = write_table(tmp_path / "d.csv", ("text", "sad", "funny", "long"), *rows)
    options = ("--metric", "f1_micro")
    one = measured(run, tmp_path, model, lists, *options)
    (tmp_path / "p.json").unlink()
    (tmp_path / "p.png").unlink()
    assert measured(run, tmp_path, model, columns, *options, "--label-column", "sad,funny,long") == one


def test_entities_are_measured(run, build, tmp_path):
    model = saved(build, tmp_path / "model", "bert-ForTokenClassification", **TAGS)
    row = {"text": ["good", "film"], "label": ["O", "B-FILM"]}
    data = write_lines(tmp_path / "data.json", row, row)
    assert measured(run, tmp_path, model, data, "--metric", "entity_f1", "--confidence", 0.9).metric == "entity_f1"


def test_a_metric_of_ones_own_is_measured(run, residual, reviews, tmp_path):
    (tmp_path / "own.py").write_text("def errors(predictions, references): return (predictions != references).sum()")
    options = ("--metric", tmp_path / "own.py", "--lower-is-better")
    profile = measured(run, tmp_path, residual, reviews, *options)
    assert (profile.metric, profile.greater_is_better) == ("errors", False)
    assert all(value == int(value) for value in profile.values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--metric", "no_such.py"), "there is no file no_such.py"),
        (("--metric", "no_such_module:f"), "metric 'no_such_module:f' cannot be loaded: ModuleNotFoundError"),
        (("--metric", "math:pi"), "math:pi must be a function of (predictions, references); got 3.14"),
        (("--metric", "accuracy", "--lower-is-better"), "--lower-is-better is for a metric of your own; accuracy is"),
        (("--lower-is-better",), "--lower-is-better is for --metric, which must be given too"),
    ],
    ids=str,
)
def test_a_metric_that_is_none_is_wrong_usage(run, residual, reviews, options, message):
    assert message in wrong_usage(run("profile", residual, reviews, *options))


def test_a_metric_of_another_head_is_named(run, residual, reviews):
    done = run("profile", residual, reviews, "--metric", "answer_f1")
    assert done.exit_code == 1
    assert "metric 'answer_f1' compares texts" in done.stderr
