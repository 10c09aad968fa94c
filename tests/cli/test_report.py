"""`acn-hf compress --report` and `acn-hf report`: the page of a result, for every task."""

import json
import sys

import pytest
from transformers import BertConfig, BertForSequenceClassification

from acn_hf import ConfidenceExit, EarlyExitReport, ExitCalibration
from acn_hf.report import ReportRecord
from tests.cli.test_tasks import SEVERAL, TAGS, saved, write_lines, write_table
from tests.cli.test_teach import FIELDS, QUICK, write
from tests.support.command_line import (
    checkpoint,
    names_in,
    not_ours,
    one_line,
    pictures,
    residual,
    reviews,
    run,
    tokenizer,
    wrong_usage,
)
from tests.support.families import NUM_LAYERS
from tests.support.hub_server import OWNER_TOKEN

__all__ = ["checkpoint", "pictures", "residual", "reviews", "run"]
REVIEWS = [("good film", "2"), ("bad", "0"), ("good good good film", "1")]
DEPTHS = set(range(NUM_LAYERS + 1))


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr("acn_hf.report.band.FEWER_RESAMPLES", 20)


def reported(run, folder, *arguments):
    """Run the command with a page, and return what the page shows."""
    done = run("compress", *arguments[:2], folder, "--report", *arguments[2:], "--depth", 1)
    assert done.exit_code == 0, done.output
    assert {"report.html", "report.json", "result.json"} <= names_in(folder)
    record = ReportRecord.load(folder / "report.json")
    assert set(record.figures.tradeoffs.depths) == DEPTHS
    return record


def parts(record):
    return {name for name in ("classes", "residuals", "examples", "exits") if getattr(record, name) is not None}


def shown(record):
    """Return what is read of each example."""
    return {example.text for example in record.examples.examples}


def test_texts(run, residual, reviews, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["acn-hf", "compress", "my model", "data.csv"])
    record = reported(run, tmp_path / "short", residual, reviews)
    assert parts(record) == {"classes", "examples"}
    assert shown(record) <= {text for text, _ in REVIEWS}
    assert record.command == "acn-hf compress 'my model' data.csv"
    assert record.name == "short"
    assert sum(record.classes.support) == record.examples.num_examples == 3
    assert set(record.losses) == set(record.classes.at) == set(record.examples.lost) == DEPTHS
    assert record.figures.choice["depth"] == 1
    card = (tmp_path / "short" / "README.md").read_text()
    assert "](depth_profile.png)](report.html)" in card
    assert "[Every depth with its costs, its classes and examples](report.html)" in card
    assert run("card", tmp_path / "short", "--license", "mit").exit_code == 0
    assert "](report.html)" in (tmp_path / "short" / "README.md").read_text()


def test_pictures(run, checkpoint, pictures, tmp_path):
    record = reported(run, tmp_path / "short", checkpoint, pictures)
    assert parts(record) == {"classes", "examples"}
    assert all(example.picture.startswith("data:image/png") for example in record.examples.examples)
    assert all(example.text is None for example in record.examples.examples)


@pytest.mark.slow
def test_several_labels(run, build, tmp_path):
    options = {"problem_type": "multi_label_classification", **SEVERAL}
    model = saved(build, tmp_path / "model", "bert-ForSequenceClassification", **options)
    rows = [{"text": "bad film", "label": ["sad", "long"]}, {"text": "good film", "label": []}]
    data = write_lines(tmp_path / "data.json", *rows, {"text": "good", "label": ["funny"]})
    record = reported(run, tmp_path / "short", model, data)
    assert record.classes.kind == "labels"
    assert dict(zip(record.classes.names, record.classes.support, strict=True)) == {"sad": 1, "funny": 1, "long": 1}
    assert {"sad, long", "none", "funny"} >= {example.label for example in record.examples.examples}


@pytest.mark.slow
def test_numbers(run, build, tmp_path):
    model = saved(build, tmp_path / "model", "bert-ForSequenceClassification", num_labels=1)
    data = write_table(tmp_path / "data.csv", ("text", "label"), ("good film", 0.9), ("bad film", 0.1), ("film", 0.5))
    record = reported(run, tmp_path / "short", model, data)
    assert parts(record) == {"residuals", "examples"}
    assert record.examples.by == "error"
    assert shown(record) <= {"good film", "bad film", "film"}


@pytest.mark.parametrize("metric", ["entity_f1", pytest.param("accuracy", marks=pytest.mark.slow)])
def test_tags(run, build, tmp_path, metric):
    model = saved(build, tmp_path / "model", "bert-ForTokenClassification", **TAGS)
    rows = [{"text": ["good", "film"], "label": ["O", "B-FILM"]}, {"text": ["bad"], "label": ["O"]}]
    record = reported(run, tmp_path / "short", model, write_lines(tmp_path / "data.json", *rows), "--metric", metric)
    assert parts(record) == ({"classes", "examples"} if metric == "entity_f1" else {"classes"})
    assert record.classes.kind == "tags"
    assert dict(zip(record.classes.names, record.classes.support, strict=True)) == {"O": 2, "B-FILM": 1, "I-FILM": 0}
    if metric == "entity_f1":
        assert shown(record) <= {"good film", "bad"}
        assert {example.label for example in record.examples.examples} <= {"film B-FILM", "none"}
    else:
        assert "does not say of which text" in record.absent["examples"]


@pytest.mark.slow
def test_masked_words(run, build, tmp_path):
    model = saved(build, tmp_path / "model", "bert-ForMaskedLM")
    data = write_table(tmp_path / "data.csv", ("text",), *[("good bad film " * 30,)] * 4)
    record = reported(run, tmp_path / "short", model, data)
    assert parts(record) == set()
    assert {"classes", "examples"} <= set(record.absent)


@pytest.mark.slow
def test_choices(run, build, tmp_path):
    model = saved(build, tmp_path / "model", "bert-ForMultipleChoice")
    rows = [("bad film", "good", "bad", 1), ("good film", "good", "bad", 0)]
    data = write_table(tmp_path / "data.csv", ("context", "choices0", "choices1", "label"), *rows)
    record = reported(run, tmp_path / "short", model, data)
    assert parts(record) == {"examples"}
    assert shown(record) <= {f"{text} film\n⁂\nchoice 0: good\nchoice 1: bad" for text in ("bad", "good")}


@pytest.mark.slow
def test_questions(run, build, tmp_path):
    model = saved(build, tmp_path / "model", "bert-ForQuestionAnswering")
    rows = [("what", "good bad film", "bad"), ("who", "film good", "film")]
    data = write_table(tmp_path / "data.csv", ("question", "context", "answers"), *rows)
    record = reported(run, tmp_path / "short", model, data, "--metric", "answer_f1")
    assert parts(record) == {"examples"}
    assert shown(record) <= {"what\n⁂\ngood bad film", "who\n⁂\nfilm good"}
    assert set(record.losses) == DEPTHS


def test_the_model_is_there_also_where_its_page_cannot_be(run, residual, reviews, tmp_path, monkeypatch):
    def refuse(record):
        raise ValueError("no page of this")

    monkeypatch.setattr("acn_hf.compression.result.render_report", refuse)
    done = run("compress", residual, reviews, tmp_path / "short", "--depth", 1, "--report")
    assert done.exit_code == 1
    assert done.stderr.strip().endswith(f"no page of this; without its page, the model lies in {tmp_path / 'short'}")
    assert {"model.safetensors", "README.md", "result.json"} <= names_in(tmp_path / "short")
    assert not {"report.html", "report.json"} & names_in(tmp_path / "short")


def test_nothing_of_the_data_is_shown_if_none_is_asked_for(run, residual, reviews, tmp_path):
    record = reported(run, tmp_path / "short", residual, reviews, "--report-examples", 0)
    assert record.examples is None
    written = (tmp_path / "short" / "report.html").read_text() + (tmp_path / "short" / "report.json").read_text()
    assert "good good" not in written


def test_examples_without_a_page_are_wrong_usage(run, tmp_path):
    done = run("compress", "model", "data", tmp_path / "short", "--report-examples", 3)
    assert "--report-examples is for --report, which must be given too" in wrong_usage(done)


def test_without_the_extra_nothing_is_begun(run, residual, reviews, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    line = one_line(run("compress", residual, reviews, tmp_path / "short", "--report"))
    assert line == "error: ImportError: the page needs altair and vl-convert: pip install 'acn-hf[report]'"
    assert not (tmp_path / "short").exists()


def test_a_page_of_before_does_not_stay_beside_another_model(run, residual, reviews, tmp_path):
    reported(run, tmp_path / "short", residual, reviews)
    (tmp_path / "short" / "exits.json").write_text("{}")
    done = run("compress", residual, reviews, tmp_path / "short", "--depth", 2, "--overwrite")
    assert done.exit_code == 0, done.output
    assert not {"report.html", "report.json", "exits.json"} & names_in(tmp_path / "short")
    assert "report.html" not in (tmp_path / "short" / "README.md").read_text()


@pytest.mark.slow
def test_healed_depths_are_shown_as_they_were_healed(run, tmp_path):
    classes = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    BertForSequenceClassification(BertConfig(**FIELDS, **classes)).save_pretrained(tmp_path / "bert")
    tokenizer().save_pretrained(tmp_path / "bert")
    train, data = write(tmp_path / "train.csv", 16), write(tmp_path / "data.csv", 10, shift=1)
    done = run(
        "compress",
        tmp_path / "bert",
        data,
        tmp_path / "short",
        "--teach",
        train,
        *QUICK,
        "--report",
        "--tolerance",
        0.2,
    )
    assert done.exit_code == 0, done.output
    record = ReportRecord.load(tmp_path / "short" / "report.json")
    figures, number = record.figures, record.examples.num_examples
    assert figures.before is not None
    for depth, counts in record.classes.at.items():
        assert sum(counts.right) / number == pytest.approx(figures.value_at(depth))
    assert sum(record.classes.full.right) / number == pytest.approx(figures.full_value)


@pytest.mark.slow  # a whole job, and two pages
def test_a_job_that_is_done_gets_its_page(run, residual, tmp_path):
    train, data = write(tmp_path / "train.csv", 8), write(tmp_path / "data.csv", 6, shift=1)
    short = tmp_path / "short"
    options = ("--teach", train, "--depth", 1, "--teach-epochs", 1, "--heal", 0)
    command = ("compress", residual, data, short, *options, "--resume")
    assert run(*command, "--report").exit_code == 0
    page, card = (short / "report.html").read_text(), (short / "README.md").read_text()
    assert "wrote" not in run(*command, "--report").output  # it is there
    (short / "report.html").unlink()
    assert "wrote" not in run(*command).output
    run("card", short)
    assert "](report.html)" not in (short / "README.md").read_text()
    done = run(*command, "--report")
    assert (done.exit_code, done.stdout.splitlines()[1:]) == (0, [f"wrote {short / 'report.html'}, of report.json"])
    assert ((short / "report.html").read_text(), (short / "README.md").read_text()) == (page, card)
    for name in ("report.html", "report.json"):
        (short / name).unlink()
    done = run(*command, "--report")
    (line,) = done.stdout.splitlines()[1:]
    assert line.startswith("There is no page: it shows answers to single examples, which are kept with --report alone.")
    assert f"`acn-hf report {short}`" in line
    assert not (short / "report.html").exists()


# --- acn-hf report


@pytest.fixture
def short(run, residual, reviews, tmp_path):
    reported(run, tmp_path / "short", residual, reviews)
    return tmp_path / "short"


def test_a_page_is_made_again(run, short, tmp_path):
    page = (short / "report.html").read_text()
    done = run("report", short, "--out", tmp_path / "again.html")
    assert done.exit_code == 0, done.output
    assert done.output.strip() == f"wrote {tmp_path / 'again.html'}"
    assert (tmp_path / "again.html").read_text() == page
    assert "is there already (--overwrite writes over it)" in wrong_usage(run("report", short))
    assert run("report", short, "--overwrite", "--name", "Another").exit_code == 0
    assert "<h1>Another</h1>" in (short / "report.html").read_text()


def test_a_result_without_a_record_has_a_page_too(run, short):
    for name in ("report.html", "report.json"):
        (short / name).unlink()
    assert run("report", short).exit_code == 0
    page = (short / "report.html").read_text()
    assert "result.json, which holds no examples" in page
    assert "<h1>short</h1>" in page


@pytest.mark.parametrize(
    "exits",
    [
        EarlyExitReport(ConfidenceExit(0.75), 0.9, (1, 1, 1, 0, 0)),
        ExitCalibration(ConfidenceExit(0.75), 0.01, 0.9, 0.895, 1.5, 3),
    ],
    ids=lambda exits: type(exits).__name__,
)
def test_a_policy_of_early_exit_is_shown(run, short, tmp_path, exits):
    exits.save(tmp_path / "exits.json")
    assert run("report", short, "--exits", tmp_path / "exits.json", "--overwrite").exit_code == 0
    assert "threshold=0.75" in (short / "report.html").read_text()


def test_what_is_damaged_is_one_line(run, short, tmp_path):
    (tmp_path / "exits.json").write_text("{}")
    line = one_line(run("report", short, "--overwrite", "--exits", tmp_path / "exits.json"))
    assert "exits.json holds no EarlyExitReport" in line
    (short / "report.json").write_text((short / "report.json").read_text()[:-20])
    assert "report.json holds no ReportRecord" in one_line(run("report", short, "--overwrite"))
    (tmp_path / "empty").mkdir()
    assert "holds none of them" in one_line(run("report", tmp_path / "empty"))
    assert "the result must be a folder" in wrong_usage(run("report", tmp_path / "nowhere"))


@not_ours
def test_the_page_is_pushed_only_if_it_is_asked_for(run, hub, short):
    repo = "someone/pushed"
    assert run("push", short, repo, "--token", OWNER_TOKEN).exit_code == 0
    files = hub.repos[repo].files
    assert "result.json" in files
    assert not {"report.html", "report.json"} & set(files)
    assert b"report.html" not in files["README.md"]
    assert run("push", short, repo, "--token", OWNER_TOKEN, "--report").exit_code == 0
    files = hub.repos[repo].files
    assert {"report.html", "report.json"} <= set(files)
    assert b"](depth_profile.png)](report.html)" in files["README.md"]

    assert json.loads(files["report.json"])["name"] == "short"
