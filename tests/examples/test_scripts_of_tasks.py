"""The scripts of questions, of choices, of several labels at once, and of tags run end to end."""

import csv
import json
import os
import subprocess
import sys

import pytest
from transformers import (
    AutoConfig,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
)

from acn_hf.data import DataError
from tests.examples.test_scripts import EXAMPLES, QUICK, SENTENCES, TINY, corpus, pretrained, results, script, tables

__all__ = ["corpus", "pretrained", "script", "tables"]

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
PLACES = [sentence for sentence in SENTENCES if "paris" in sentence]


@pytest.fixture(scope="session")
def questions(tmp_path_factory):
    """Files of questions: lines as SQuAD has them, a table, and one as SQuAD is published, with two that have none."""
    folder = tmp_path_factory.mktemp("questions")
    contexts = [f"{one} {two}" for one, two in zip(PLACES, reversed(PLACES), strict=True)]
    for split, part in (("train", contexts[::2]), ("validation", contexts[1::2])):
        lines = [
            {
                "question": "what ?",
                "context": text,
                "answers": {"text": ["paris"], "answer_start": [text.index("paris")]},
            }
            for text in part
        ]
        (folder / f"{split}.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("ask", "text", "answer"), *(("what ?", text, "paris") for text in part)])
        asked = [
            {
                "id": str(number),
                "question": "what ?",
                "answers": [{"text": "paris", "answer_start": text.index("paris")}],
            }
            for number, text in enumerate(part)
        ]
        asked[0]["answers"] = []
        paragraphs = [{"context": text, "qas": [one]} for text, one in zip(part, asked, strict=True)]
        published = {"version": "v2.0", "data": [{"title": "", "paragraphs": paragraphs}]}
        (folder / f"{split}-v2.json").write_text(json.dumps(published))
    return folder


def data_of(folder, kind):
    return ("--train_file", folder / f"train{kind}", "--validation_file", folder / f"validation{kind}")


@pytest.mark.parametrize("kind", [".json", "-v2.json"])
def test_questions_are_answered(script, questions, pretrained, tmp_path, kind):
    test = ("--test_file", questions / f"train{kind}", "--do_predict")
    options = ("--model_name_or_path", pretrained, "--output_dir", tmp_path / "out", "--doc_stride", 2)
    during = ("--eval_strategy", "steps", "--eval_steps", 1, "--profile_every", 1, "--supervision", "uniform")
    script("run_question_answering", *QUICK, *data_of(questions, kind), *test, *options, *during)
    written, profile = results(tmp_path / "out")
    assert profile.metric == "answer_f1"
    assert written["eval_answer_f1"] == pytest.approx(profile.values[-1])
    assert written["eval_samples"] > len(PLACES) // 2  # windows
    assert 0 <= written["test_answer_f1"] <= 1
    history = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    at_last_step = {name: value for entry in history if entry["step"] == 2 for name, value in entry.items()}
    assert at_last_step["eval_answer_f1_at_depth_2"] == pytest.approx(at_last_step["eval_answer_f1"])
    model = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out")
    assert model.config.num_labels == 2


def test_questions_of_a_table_are_answered_from_scratch(script, questions, pretrained, tmp_path):
    columns = ("--question_column_name", "ask", "--context_column_name", "text", "--answers_column_name", "answer")
    options = ("--tokenizer_name", pretrained, "--config_overrides", TINY, "--max_seq_length", 32)
    metric = ("--depth_metric", "exact_match", "--max_answer_length", 2)
    script(
        "run_question_answering", *QUICK, *data_of(questions, ".csv"), *columns, *options, *metric, "--output_dir",
        tmp_path / "out",
    )  # fmt: skip
    written, profile = results(tmp_path / "out")
    assert profile.metric == "exact_match"
    assert written["eval_exact_match"] == pytest.approx(profile.values[-1])


def test_layers_leave_by_the_answers(script, questions, pretrained, tmp_path):
    shedding = (
        "--shed_tolerance",
        1,
        "--shed_every",
        1,
        "--shed_patience",
        1,
        "--shed_start",
        0,
        "--shed_examples",
        12,
    )
    options = ("--model_name_or_path", pretrained, "--output_dir", tmp_path / "out", *shedding)
    script("run_question_answering", *QUICK, *data_of(questions, ".json"), *options)
    assert AutoConfig.from_pretrained(tmp_path / "out").num_hidden_layers == 1


def test_choices_are_chosen(script, pretrained, tmp_path):
    rows = [(text.split()[0], text, text[::-1], number % 2) for number, text in enumerate(SENTENCES)]
    rows = [(name, one, two, 0) if right == 0 else (name, two, one, 1) for name, one, two, right in rows]
    for split, part in (("train", rows[::2]), ("validation", rows[1::2])):
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("sent1", "ending0", "ending1", "label"), *part])
    columns = ("--context_column_name", "sent1", "--choices_column_name", "ending")
    options = ("--model_name_or_path", pretrained, "--output_dir", tmp_path / "out")
    script("run_multiple_choice", *QUICK, *data_of(tmp_path, ".csv"), *columns, *options)
    written, profile = results(tmp_path / "out")
    assert written["eval_accuracy"] == pytest.approx(profile.values[-1])
    assert AutoModelForMultipleChoice.from_pretrained(tmp_path / "out").config.num_hidden_layers == 2


def test_choices_that_are_not_there_are_named(script, tables, pretrained, tmp_path):
    options = ("--model_name_or_path", pretrained, "--output_dir", tmp_path / "out")
    with pytest.raises(DataError, match="must have a column 'choices' of lists of choices, or columns choices0"):
        script("run_multiple_choice", *QUICK, *data_of(tables, ".csv"), *options, "--context_column_name", "text")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [".json", ".csv"])
def test_several_labels_are_predicted_at_once(script, pretrained, tmp_path, kind):
    names = ("loved", "paris")
    for split, part in (("train", SENTENCES[::2]), ("validation", SENTENCES[1::2])):
        rows = [{"text": text, "label": [word for word in names if word in text]} for text in part]
        (tmp_path / f"{split}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            columns = [(text, *(int(word in text) for word in names)) for text in part]
            csv.writer(file).writerows([("text", *names), *columns])
    options = ("--model_name_or_path", pretrained, "--output_dir", tmp_path / "out")
    label = ("--label_column_name", "loved,paris") if kind == ".csv" else ()
    script("run_text_classification", *QUICK, *data_of(tmp_path, kind), *options, *label)
    written, profile = results(tmp_path / "out")
    assert profile.metric == "f1_micro"
    assert written["eval_f1_micro"] == pytest.approx(profile.values[-1])
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config
    assert config.problem_type == "multi_label_classification"
    assert config.id2label == {0: "loved", 1: "paris"}


def test_entities_are_measured_and_metrics_of_ones_own(script, pretrained, tmp_path):
    for split, part in (("train", SENTENCES[::2]), ("validation", SENTENCES[1::2])):
        rows = [{"tokens": text.split(), "labels": ["B-LOC" if word == "paris" else "O" for word in text.split()]}
                for text in part]  # fmt: skip
        (tmp_path / f"{split}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.py").write_text("def errors(predictions, references): return (predictions != references).sum()")
    data = data_of(tmp_path, ".json")
    metrics = (("entity_f1", "--depth_metric", "entity_f1"), ("errors", "--depth_metric", tmp_path / "own.py"))
    for name, *metric in metrics:
        options = ("--model_name_or_path", pretrained, "--output_dir", tmp_path / name, *metric)
        lower = ("--lower_is_better", "True") if name == "errors" else ()
        script("run_token_classification", *QUICK, *data, *options, *lower)
        written, profile = results(tmp_path / name)
        assert (profile.metric, profile.greater_is_better) == (name, name != "errors")
        assert written[f"eval_{name}"] == pytest.approx(profile.values[-1])


def test_classes_that_are_no_tags_are_refused_before_training(script, tables, pretrained, tmp_path):
    options = ("--model_name_or_path", pretrained, "--depth_metric", "entity_f1", "--output_dir", tmp_path / "out")
    with pytest.raises(ValueError, match=r"metrics of entities need tags .*; got 'PLACE'"):
        script("run_token_classification", *QUICK, *data_of(tables, ".json"), *options)
    assert not list((tmp_path / "out").glob("checkpoint-*"))


@pytest.mark.slow
def test_two_processes_answer_together(questions, pretrained, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    options = ("--model_name_or_path", pretrained, "--output_dir", tmp_path / "out", "--per_device_eval_batch_size", 3)
    script = (EXAMPLES / "run_question_answering.py", *QUICK, *data_of(questions, "-v2.json"), *options)
    done = subprocess.run(
        [*command, *map(str, script)], capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD}
    )
    assert done.returncode == 0, done.stderr
    written, profile = results(tmp_path / "out")
    assert written["eval_answer_f1"] == pytest.approx(profile.values[-1])
