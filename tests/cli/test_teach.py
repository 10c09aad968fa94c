"""`acn-hf compress --teach`: from the checkpoint that one has, with a head or without, to the short model."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import datasets
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    Trainer,
    set_seed,
)

from acn_hf import CardFacts, CompressionResult
from acn_hf.cli.work_folder import WorkFolder
from acn_hf.compression.job import Job
from acn_hf.data.masking import MaskingCollator
from acn_hf.training.stages import Stages
from tests.support.command_line import GREY, names_in, one_line, pictures, run, tokenizer, wrong_usage
from tests.support.families import by_name

__all__ = ["pictures", "run"]
FIELDS = {
    "vocab_size": 8,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "max_position_embeddings": 16,
}
QUICK = ("--tune-epochs", 1, "--teach-epochs", 2, "--heal", 1, "--learning-rate", 3e-3, "--train-batch-size", 4)


def write(path, number, shift=0, texts=(("good", "yes"), ("bad", "no"))):
    """Write texts of two classes; those of another shift are others."""
    rows = [
        f"{word} {'film ' * (1 + (row + shift) % 9)}{'good ' * shift},{label}"
        for row, (word, label) in zip(range(number), texts * number, strict=False)
    ]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


@pytest.fixture
def files(tmp_path):
    return (
        write(tmp_path / "train.csv", 16),
        write(tmp_path / "data.csv", 10, shift=1),
        write(tmp_path / "test.csv", 12, shift=2),
    )


@pytest.fixture
def bare(tmp_path):
    """A BERT without a head."""
    set_seed(0)
    BertModel(BertConfig(**FIELDS)).save_pretrained(tmp_path / "bare")
    tokenizer().save_pretrained(tmp_path / "bare")
    return tmp_path / "bare"


@pytest.fixture
def with_head(tmp_path):
    """A BERT of transformers that knows the classes."""
    set_seed(1)
    classes = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    BertForSequenceClassification(BertConfig(**FIELDS, **classes)).save_pretrained(tmp_path / "bert")
    tokenizer().save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def one_line_after_notes(done):
    """Return the error of a run, which may have said other things before."""
    assert done.exit_code == 1, done.output
    return done.stderr.strip().splitlines()[-1]


def facts_text(folder):
    return (folder / "README.md").read_text()


def weights_in(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder).state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_without_a_head_becomes_a_short_classifier(run, bare, files, tmp_path):
    train, data, test = files
    done = run("compress", bare, data, tmp_path / "out", "--teach", train, "--test", test, *QUICK)
    assert done.exit_code == 0, done.output
    assert "2 classes of texts: no, yes" in done.output
    assert "The head is new, so the model is fine-tuned first" in done.output
    for stage in ("Fine-tuning 3 layers: 4 steps", "Teaching every depth of 3 layers: 8 steps"):
        assert stage in done.stderr
    assert "accuracy, test data" in done.output
    out = tmp_path / "out"
    assert {"result.json", "depth_profile.json", "depth_profile.png", "README.md", "model.safetensors"} <= names_in(out)
    assert not (tmp_path / "out.work").exists()
    result = json.loads((out / "result.json").read_text())
    assert set(result["seconds"]) >= {"tuned", "taught"}
    assert (result["data"]["num_examples"], result["test"]["num_examples"]) == (10, 12)
    assert result["sources"] == {"model": "bare", "train": "train.csv", "data": "data.csv", "test": "test.csv"}
    assert [result["training"][stage]["num_train_epochs"] for stage in ("tuned", "taught")] == [1, 2]
    assert {(one["learning_rate"], one["seed"]) for one in result["training"].values()} == {(3e-3, 0)}
    assert str(tmp_path) not in (out / "result.json").read_text()
    short = AutoModelForSequenceClassification.from_pretrained(out)
    assert type(short) is BertForSequenceClassification
    assert short.config.id2label == {0: "no", 1: "yes"}
    assert short.config.num_hidden_layers == result["depth"]
    facts = CardFacts.load(out / "model_card.json")
    assert facts.compression.test.to_dict() == result["test"]
    full, value = (f"{result['test'][name]:.4f}" for name in ("full", "short"))
    assert f"| on test.csv, by which nothing was chosen (12 examples) | {full} | {value} |" in facts_text(out)
    assert ("what was left trained" in facts.description) is (result["finetuned"] is not None)
    assert "every depth of it taught for 2 epochs" in facts.description
    assert str(tmp_path) not in (out / "README.md").read_text()


def test_a_head_that_is_there_is_kept(run, with_head, files, tmp_path):
    train, data, _ = files
    done = run(
        "compress", with_head, data, tmp_path / "out", "--teach", train, "--depth", 2, "--teach-epochs", 1, "--heal", 0
    )
    assert done.exit_code == 0, done.output
    assert "Fine-tuning" not in done.output
    assert "Healing" not in done.output
    assert json.loads((tmp_path / "out" / "result.json").read_text())["healed"] == {}


@pytest.mark.slow
def test_another_model_teaches(run, bare, with_head, files, tmp_path):
    train, data, _ = files
    command = ("compress", bare, data, tmp_path / "out", "--teach", train, "--depth", 1, *QUICK)
    done = run(*command, "--teacher", with_head)
    assert done.exit_code == 0, done.output
    assert "The teacher was bert." in (tmp_path / "out" / "README.md").read_text()
    set_seed(0)
    config = BertConfig(**FIELDS, id2label={0: "yes", 1: "no"}, label2id={"yes": 0, "no": 1})
    BertForSequenceClassification(config).save_pretrained(tmp_path / "other")
    tokenizer().save_pretrained(tmp_path / "other")
    command = ("compress", bare, data, tmp_path / "out-2", "--teach", train, *QUICK)
    assert (
        "the teacher must have the classes of the model, 0: no, 1: yes; "
        in run(*command, "--teacher", tmp_path / "other").stderr
    )


def test_a_run_that_was_stopped_goes_on_to_the_bit(run, bare, files, tmp_path, monkeypatch):
    train, data, _ = files
    options = ("--teach", train, "--depth", 1, "--checkpoint-every", 3, *QUICK)
    assert run("compress", bare, data, tmp_path / "whole", *options).exit_code == 0
    out, trained = tmp_path / "parts", Stages.trained

    def stopped(stages, name, model, train):
        if name == "healed-1":
            raise KeyboardInterrupt
        return trained(stages, name, model, train)

    monkeypatch.setattr(Stages, "trained", stopped)
    done = run("compress", bare, data, out, *options)
    assert done.exit_code == 130
    assert f"stopped; what is done lies in {out}.work; the same command with --resume goes on from there" in done.stderr
    assert not out.exists()
    monkeypatch.setattr(Stages, "trained", trained)
    assert "holds the stages of a run that was stopped: --resume goes on" in wrong_usage(
        run("compress", bare, data, out, *options)
    )
    done = run("compress", bare, data, out, *options, "--resume")
    assert done.exit_code == 0, done.output
    assert "Teaching" not in done.stderr
    assert same(weights_in(tmp_path / "whole"), weights_in(out))
    assert not (tmp_path / "parts.work").exists()


@pytest.mark.parametrize("kept", [(), ("--keep-work",)], ids=["removed", "kept"])
def test_a_job_that_is_done_is_said_to_be_done(run, with_head, files, tmp_path, kept, monkeypatch):
    train, data, test = files
    out, work = tmp_path / "out", tmp_path / "out.work"
    given = ("compress", with_head, data, out, "--teach", train, "--teach-epochs", 1, "--heal", 0, *kept)
    command = (*given, "--depth", 1)
    with monkeypatch.context() as patched:
        if not kept:  # the machine goes down when all is written
            patched.setattr(WorkFolder, "remove", lambda folder: None)
        assert run(*command).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    done = run(*command, "--resume")
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    said = f"The job is done: its result, depth 1 of 3, lies in {out}."
    assert done.stdout == f"{said} (Other options are not compared; --overwrite does it again.)\n"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert work.exists() is bool(kept)
    assert run(*given, "--resume").exit_code == 0
    # What lies there is the result of another job, or there is none.
    for others in (("--depth", 2), ("--depth", 1, "--test", test), ("--depth", 1, "--teacher", with_head)):
        assert "must be empty" in wrong_usage(run(*given, *others, "--resume"))
    assert "must be empty" in wrong_usage(run(*command))
    for broken in ("[]", "{"):
        (out / "result.json").write_text(broken)
        assert "must be empty" in wrong_usage(run(*command, "--resume"))


def test_a_job_that_was_begun_again_is_not_done(run, with_head, files, tmp_path, monkeypatch):
    """Its stages are those of the new one, and stay."""
    train, data, _ = files
    given = ("--teach", train, "--depth", 1, "--teach-epochs", 1, "--heal", 0)
    command = ("compress", with_head, data, tmp_path / "out", *given)
    assert run(*command).exit_code == 0

    def stopped(stages, name, model, train):
        (tmp_path / "out.work" / "checkpoints").mkdir()  # it has begun
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Stages, "trained", stopped)
        assert run(*command, "--overwrite").exit_code == 130
    assert "must be empty" in wrong_usage(run(*command, "--resume"))
    assert (tmp_path / "out.work" / "command").exists()
    assert "Teaching" in run(*command, "--resume", "--overwrite").stderr


@pytest.mark.parametrize("place", ["a stage", "a checkpoint", "the result", "the answers", "the first file"])
def test_a_full_disk_is_said_with_what_to_do_and_what_is_kept(run, bare, files, tmp_path, monkeypatch, place):
    """Wherever it happens; then the same command with --resume ends the job."""
    train, data, _ = files
    command = ("compress", bare, data, tmp_path / "out", "--teach", train, "--depth", 1, *QUICK)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        of, name = {
            "a stage": (Stages, "_write"),
            "a checkpoint": (Trainer, "_save_optimizer_and_scheduler"),
            "the result": (CompressionResult, "_write"),
            "the answers": (os, "posix_fallocate"),
            "the first file": (Stages, "begin"),
        }[place]
        patched.setattr(of, name, full)
        line = run(*command).stderr.strip().splitlines()[-1]
    work, out = tmp_path / "out.work", tmp_path / "out"
    assert line.startswith("error: OSError: [Errno 28] No space left on device: "), line
    assert f"'{out if place == 'the result' else work}" in line
    if place == "the first file":
        assert line.endswith("; free space there; nothing was written")
    else:
        kept = f"what is done lies in {work}; the same command with --resume goes on from there"
        assert line.endswith(f"; free space there; {kept}")
    assert not out.exists()
    done = run(*command, "--resume")
    assert done.exit_code == 0, done.output
    assert ("Teaching" in done.stderr) is (place != "the result")


def test_a_run_goes_on_only_as_it_began(run, bare, files, tmp_path, monkeypatch):
    train, data, _ = files
    options = ("--teach", train, "--depth", 1, *QUICK)

    def stopped(stages, name, model, train):
        (tmp_path / "out.work" / "checkpoints").mkdir()  # it has begun
        raise KeyboardInterrupt

    monkeypatch.setattr(Stages, "trained", stopped)
    assert run("compress", bare, data, tmp_path / "out", *options).exit_code == 130
    command = ("compress", bare, data, tmp_path / "out", *options, "--resume")
    for changed, text in (
        (("--seed", 5), "--seed was 0 and is 5"),
        (("--heal", 3), "--heal was 1 and is 3"),
        (("--tune-epochs", 0.5), "--tune-epochs was 1 and is 0.5"),
        (("--max-length", 8), "--max-length was not given and is 8"),
        (("--soft-labels", 1), "--soft-labels was 0.5 and is 1"),
        (("--no-calm",), "--no-calm was not given and is given"),
    ):
        line = one_line_after_notes(run(*command, *changed))
        assert line.startswith(f"error: StageError: a job goes on as it began, but {text}: "), line
    train.write_text(train.read_text().replace("film", "good"))
    line = one_line_after_notes(run(*command))
    assert line.startswith(
        "error: StageError: a job goes on as it began, but train.csv (or how it is read) has changed: "
    ), line
    write(train, 16)
    torn = BertModel.from_pretrained(bare)
    with torch.no_grad():
        torn.embeddings.word_embeddings.weight += 1
    torn.save_pretrained(bare)
    line = one_line_after_notes(run(*command))
    assert line.startswith("error: StageError: a job goes on as it began, but the model has changed: "), line


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(run, bare, files, tmp_path):
    train, data, _ = files
    before = names_in(tmp_path)
    done = run("compress", bare, data, tmp_path / "out", "--teach", train, "--dry-run", *QUICK)
    assert done.exit_code == 0, done.output
    for text in ("tune", "teach", "heal", "10 rows of data", "minutes of training here", "Nothing was written."):
        assert text in done.output
    assert names_in(tmp_path) == before


SEARCHES = {
    (): True,
    ("--choose-taught",): False,
    ("--depth", 2): False,
    ("--max-mb", 9): False,
    ("--confidence", 0.9): False,
    ("--tolerance", 0.1): True,
}


@pytest.mark.parametrize("mode", [("--dry-run",), ()], ids=["dry", "real"])
def test_a_limit_that_no_depth_meets_is_refused_before_training(run, bare, files, tmp_path, mode):
    train, data, _ = files
    given = ("compress", bare, data, tmp_path / "out", "--teach", train, *QUICK, *mode)
    done = run(*given, "--max-mb", 0.001)
    assert done.exit_code == 1
    assert "no depth meets max_mb=0.001: the smallest, depth 0, has" in done.stderr
    assert "Fine-tuning" not in done.output
    assert not (tmp_path / "out.work").exists()


def test_there_may_be_nothing_to_go_on_with(run, with_head, files, tmp_path):
    train, data, _ = files
    given = ("compress", with_head, data, tmp_path / "out", "--teach", train, "--teach-epochs", 1, "--heal", 0)
    done = run(*given, "--depth", 1, "--resume")
    assert done.exit_code == 0, done.output
    assert f"There is nothing to go on with in {tmp_path / 'out.work'}" in done.stdout.replace("\n", "")


@pytest.mark.parametrize(("options", "searches"), SEARCHES.items(), ids=str)
def test_a_dry_run_says_whether_a_run_would_search(run, with_head, files, tmp_path, monkeypatch, options, searches):
    """What it says is what the run does, by whatever the depth is chosen."""
    train, data, _ = files
    monkeypatch.setattr("acn_hf.cli.plan._seconds_of_a_step", lambda run, settings, name, depth: 1.0)
    command = ("compress", with_head, data, tmp_path / "out", "--teach", train, *options)
    done = run(*command, "--dry-run")
    assert ("up to 2 times" in done.output) is searches, done.output
    asked = []

    def stopped(job, model, teacher, searches, test):
        asked.append(searches)
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "run", stopped)
    assert run(*command).exit_code == 130
    assert asked == [searches]


def test_rows_that_are_in_two_sets_are_said_and_strict_refuses_them(run, with_head, files, tmp_path):
    train, data, _ = files
    data.write_text(data.read_text() + "good film,yes\n")
    command = ("compress", with_head, data, tmp_path / "out", "--teach", train, "--depth", 1, "--teach-epochs", 1)
    text = "1 of 11 rows of DATA are in the training data too"
    done = run(*command, "--heal", 0)
    assert f"warning: {text}" in done.stderr
    assert text in one_line(run(*command, "--strict", "--overwrite"))


def test_what_is_wrong_with_the_data_is_said_before_the_training_and_once(run, bare, with_head, files, tmp_path):
    train, data, _ = files
    write(data, 8, shift=1, texts=(("good", "yes"),))
    for model in (bare, with_head):
        done = run("compress", model, data, tmp_path / "out", "--teach", train, "--depth", 1, "--overwrite", *QUICK)
        assert done.exit_code == 0, done.output
        warning, lines = 'warning: all 8 examples have the label "yes"', done.stderr.splitlines()
        assert sum(line.startswith(warning) for line in lines) == 1
        first = next(number for number, line in enumerate(lines) if line.startswith(("Fine-tuning", "Teaching")))
        assert any(line.startswith(warning) for line in lines[:first])
        stored = json.loads((tmp_path / "out" / "result.json").read_text())
        assert any('have the label "yes"' in doubt for doubt in stored["doubts"])


def test_a_label_of_the_model_that_the_training_data_lack_is_said(run, files, tmp_path):
    train, data, test = files
    set_seed(1)
    names = ["no", "yes", "maybe"]
    classes = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    BertForSequenceClassification(BertConfig(**FIELDS, **classes)).save_pretrained(tmp_path / "bert")
    tokenizer().save_pretrained(tmp_path / "bert")
    test.write_text(test.read_text() + "film film,maybe\n")
    command = ("compress", tmp_path / "bert", data, tmp_path / "out", "--test", test, "--depth", 1, "--heal", 0)
    done = run(*command, "--teach", train, "--teach-epochs", 1)
    assert done.exit_code == 0, done.output
    text = "the test data have the label maybe, of which the training data have no row"
    assert f"warning: {text}" in done.stderr[: done.stderr.index("Teaching")]
    assert text in json.loads((tmp_path / "out" / "result.json").read_text())["doubts"]
    done = run(*command, "--teach", train, "--strict", "--overwrite")
    assert f"--strict refuses data about which there are doubts: {text}" in done.stderr


def test_a_label_that_the_training_data_lack_is_named_with_its_place(run, bare, files, tmp_path):
    train, data, _ = files
    data.write_text(data.read_text() + "film film,maybe\n")
    done = run("compress", bare, data, tmp_path / "out", "--teach", train)
    assert re.search(r"error: .*data\.csv, line 12.*maybe", done.stderr), done.stderr
    assert not (tmp_path / "out").exists()


def test_each_file_may_have_its_own_separator(run, with_head, files, tmp_path):
    train, data, _ = files
    train.write_text(train.read_text().replace(",", ";"))
    command = ("compress", with_head, data, tmp_path / "out", "--teach", train, "--depth", 1, "--heal", 0)
    done = run(*command, "--teach-epochs", 1)
    assert done.exit_code == 0, done.output
    assert f"{train}: its columns are separated by ';'" in done.stderr
    refused = one_line(run(*command, "--separator", ";", "--overwrite"))
    assert f"the columns of {data} must be separated by ';'; its first line is 'text,label'" in refused


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("column", ["text", "label"])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["TRAIN", "DATA", "TEST"])
def test_of_several_data_sets_the_one_is_named_that_lacks_a_column(run, bare, files, tmp_path, which, column, kind):
    places = list(files)
    places[which].write_text(places[which].read_text().replace(column, "other", 1))
    if kind == "folder":
        rows = datasets.load_dataset("csv", data_files=str(places[which]), split="train")
        places[which] = tmp_path / "saved"
        rows.save_to_disk(places[which])
    train, data, test = places
    done = run("compress", bare, data, tmp_path / "out", "--teach", train, "--test", test)
    line = done.stderr.strip().splitlines()[-1]
    there = "other, label" if column == "text" else "text, other"
    says = f"DataError: {places[which]} must have a column '{column}'"
    assert line.startswith(f"error: {says}".replace("DataError", "ColumnError")), line
    assert f"; got {there}" in line
    assert "Fine-tuning" not in done.stderr


def test_limits_that_no_depth_meets_name_the_best_there_is(run, with_head, files, tmp_path):
    train, data, _ = files
    done = run("compress", with_head, data, tmp_path / "out", "--max-parameters", "0.5K")
    assert re.search(r"BudgetError: no depth meets max_parameters=500.*: the smallest, depth 0, has", done.stderr)
    command = ("compress", with_head, data, tmp_path / "out", "--teach", train, *QUICK)
    done = run(*command, "--max-mb", "0.0001")
    assert "BudgetError" in done.stderr
    assert "Teaching" not in done.stderr  # seen before anything is taught
    done = run("compress", with_head, data, tmp_path / "out", "--max-parameters", "1M")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--teach-epochs", 1), "--teach-epochs is for --teach, which must be given too"),
        (("--heal", 1), "--heal is for --teach"),
        (("--dry-run",), "--dry-run is for --teach"),
        (("--resume",), "--resume is for --teach"),
        (("--teacher", "x"), "--teacher is for --teach"),
        (("--max-parameters", "many"), "must be a number, as 20M or 20000000; got 'many'"),
    ],
    ids=str,
)
def test_what_would_do_nothing_is_wrong_usage(run, with_head, files, tmp_path, options, text):
    assert text in wrong_usage(run("compress", with_head, files[1], tmp_path / "out", *options))


def test_a_run_that_ended_before_anything_was_trained_leaves_nothing_to_go_on_with(run, with_head, files, tmp_path):
    """So the next one may be another."""
    train, data, _ = files
    write(data, 8, shift=1, texts=(("good", "yes"),))
    command = ("compress", with_head, data, tmp_path / "out", "--teach", train, "--depth", 1, "--heal", 0)
    assert "refuses a choice" in run(*command, "--strict").stderr
    assert not (tmp_path / "out.work").exists()
    done = run(*command, "--teach-epochs", 1, "--seed", 3)
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "out.work").exists()


def test_two_ways_of_training_are_wrong_usage(run, with_head, files, tmp_path):
    train, data, _ = files
    command = ("compress", with_head, data, tmp_path / "out")
    assert "give one of them" in wrong_usage(run(*command, "--teach", train, "--finetune", train))
    assert "must train on other data" in wrong_usage(run(*command, "--teach", data))
    assert "--depth 1 and --max-mb" in wrong_usage(run(*command, "--depth", 1, "--max-mb", 3))
    assert "--tolerance and --max-mb" in wrong_usage(run(*command, "--tolerance", 1, "--max-mb", 3))


@pytest.mark.parametrize("option", ["OUT", "--work-dir"])
@pytest.mark.parametrize("kind", ["/proc", "full", "a file", "below a file", "a link to nothing"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(
    run, with_head, files, tmp_path, monkeypatch, kind, option
):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    place = {"/proc": Path("/proc/nope"), "a file": tmp_path / "file", "below a file": tmp_path / "file" / "out"}
    place = {**place, "a link to nothing": tmp_path / "link"}.get(kind, tmp_path / "new" / "out")
    if kind == "/proc" and not Path("/proc").is_dir():
        pytest.skip("this system has no folder that takes nothing from anybody")
    if kind == "full":

        def full(*args, **kwargs):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("tempfile.mkdtemp", full)
    before = names_in(tmp_path)
    out = (place,) if option == "OUT" else (tmp_path / "out", "--work-dir", place)
    said = wrong_usage(run("compress", with_head, files[1], *out, "--teach", files[0]))
    which = {
        "/proc": "/proc/nope cannot be written; nothing can be made in /proc: No such file or directory",
        "full": f"cannot be written; nothing can be made in {tmp_path}: No space left on device",
        "a file": f"must be a folder; {place} is a file",
        "below a file": f"{place} cannot be made; {tmp_path / 'file'} is a file",
        "a link to nothing": f"cannot be made; it is a link to {tmp_path / 'nothing'}, which is not there",
    }[kind]
    assert which in said
    assert "There is to learn" not in said
    assert names_in(tmp_path) == before


def test_a_work_dir_that_is_not_ours_alone_is_refused_and_left(run, with_head, files, tmp_path):
    """It is removed when the job is done, so nothing else may be in it, and it may be nothing else."""
    train, data, _ = files
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("mine")
    command = ("compress", with_head, data, tmp_path / "mine" / "out", "--teach", train, "--depth", 1, *QUICK)
    for options in (("--work-dir", tmp_path / "mine"), ("--work-dir", with_head), ("--work-dir", tmp_path)):
        for resume in ((), ("--resume",)):
            assert "--work-dir must" in wrong_usage(run(*command, *options, *resume))
    command = ("compress", with_head, data, tmp_path / "out", "--teach", train, "--depth", 1, *QUICK)
    assert "--work-dir must" in wrong_usage(run(*command, "--work-dir", tmp_path / "out"))
    assert "neither" in wrong_usage(run(*command, "--work-dir", tmp_path / "mine", "--resume"))
    assert (tmp_path / "mine" / "precious.txt").read_text() == "mine"
    assert (with_head / "config.json").exists()


@pytest.mark.slow
def test_masked_words_are_taught_in_blocks_that_fit(run, bare, tmp_path):
    for name in ("train", "data"):
        (tmp_path / f"{name}.txt").write_text("good bad film good\n" * 12)
    command = (
        "compress",
        bare,
        tmp_path / "data.txt",
        tmp_path / "out",
        "--teach",
        tmp_path / "train.txt",
        "--depth",
        1,
    )
    done = run(*command, "--tune-epochs", 1, "--teach-epochs", 1, "--heal", 0)
    assert done.exit_code == 0, done.output
    assert "masked tokens of texts" in done.output
    assert json.loads((tmp_path / "out" / "result.json").read_text())["metric"] == "loss"


@pytest.mark.parametrize("how", ["--teach", "--finetune"])
def test_words_are_masked_anew_in_every_epoch(run, tmp_path, monkeypatch, how):
    set_seed(0)
    BertForMaskedLM(BertConfig(**FIELDS)).save_pretrained(tmp_path / "bert")
    tokenizer().save_pretrained(tmp_path / "bert")
    for name, word in (("train", "good"), ("data", "bad")):
        (tmp_path / f"{name}.txt").write_text(f"{word} film good bad bad film good good film bad\n")
    seen, collate = [], MaskingCollator.__call__

    def watched(collator, rows):
        batch = collate(collator, rows)
        if "labels" not in rows[0]:
            seen.append((batch["input_ids"][0].tolist(), batch["labels"][0].tolist()))
        return batch

    monkeypatch.setattr(MaskingCollator, "__call__", watched)
    epochs = ("--teach-epochs", 8, "--heal", 0) if how == "--teach" else ("--finetune-epochs", 8)
    command = ("compress", tmp_path / "bert", tmp_path / "data.txt", tmp_path / "out", "--depth", 2, "--max-length", 12)
    done = run(*command, how, tmp_path / "train.txt", *epochs)
    assert done.exit_code == 0, done.output
    texts = {
        tuple(label if label >= 0 else token for token, label in zip(ids, labels, strict=True)) for ids, labels in seen
    }
    assert len(texts) == 1  # one block, in which other words are hidden
    assert len({str(one) for one in seen}) > 4


def test_what_cannot_be_taught_is_refused_before_anything_is_trained(run, build, pictures, tmp_path):
    model = by_name("vit-ForMaskedImageModeling")
    model.build_upstream(build(model)).save_pretrained(tmp_path / "model")
    GREY.save_pretrained(tmp_path / "model")
    shutil.copytree(pictures, tmp_path / "train")
    command = ("compress", tmp_path / "model", pictures, tmp_path / "out", "--task", "masked-image-modeling")
    done = run(*command, "--teach", tmp_path / "train", "--tune-epochs", 1)
    assert "nothing is said of masked patches that --teach could teach" in wrong_usage(done)


def test_a_new_head_does_not_teach_as_it_is(run, bare, files, tmp_path):
    command = ("compress", bare, files[1], tmp_path / "out", "--teach", files[0], "--tune-epochs", 0)
    assert "leaves the new head as it is, random, and it would teach" in wrong_usage(run(*command))
