"""`acn-hf compress --embeddings`: from a SentenceTransformer and texts to the short one."""

import errno
import json
import os
import re

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import BertConfig, BertForSequenceClassification, BertModel

from acn_hf import CardFacts, measure_embedding_profile
from acn_hf.compression.embedding_job import EmbeddingJob
from acn_hf.report import ReportRecord
from acn_hf.training.stages import Stages
from tests.support.command_line import names_in, one_line, run, wrong_usage
from tests.support.hub_server import OWNER_TOKEN
from tests.support.sentence_models import EVALUATOR, PROMPTS, SIZES, sentence_model, texts, transformer_folder

__all__ = ["run"]
pytestmark = pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true")
QUICK = ("--teach-epochs", 2, "--heal", 1, "--learning-rate", 3e-3, "--train-batch-size", 16)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """The folder of a small random SentenceTransformer of three layers, with a card."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    without = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0}
    config = BertConfig(**SIZES, num_hidden_layers=3, initializer_range=0.2, **without)
    sentence_model(folder / "bare", BertModel(config), prompts=PROMPTS).save_pretrained(str(folder / "long"))
    (folder / "long" / "README.md").write_text("---\nlicense: mit\nlanguage: en\n---\n# The long one\n")
    return folder / "long"


@pytest.fixture
def files(tmp_path):
    """Texts to teach with, to measure on and to test on, in three formats."""
    train, data, test = texts(80, seed=1), texts(60), texts(40, seed=2)
    (tmp_path / "train.txt").write_text("\n".join(train) + "\n")
    (tmp_path / "data.csv").write_text("text,stars\n" + "".join(f"{text},1\n" for text in data))
    (tmp_path / "test.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in test))
    return tmp_path / "train.txt", tmp_path / "data.csv", tmp_path / "test.jsonl"


def embed(folder, some):
    return SentenceTransformer(str(folder), device="cpu").encode(some)


def test_texts_alone_are_enough(run, long, files, tmp_path):
    train, data, test = files
    out, held_out = tmp_path / "short", texts(40, seed=2)
    done = run(
        "compress", long, data, out, "--embeddings", "--teach", train, "--test", test, "--tolerance", 0.5, *QUICK
    )
    assert done.exit_code == 0, done.output
    assert re.search(r"Teaching every depth of 3 layers: 10 steps", done.stderr)
    assert not re.search(r"Computing|Loading weights|\{'", done.output), "nothing else is printed"
    assert "neighbours, test data" in done.output
    assert not (tmp_path / "short.work").exists()
    assert {"modules.json", "1_Pooling", "README.md", "depth_profile.json", "result.json"} <= names_in(out)
    result = json.loads((out / "result.json").read_text())
    assert result["sources"] == {"model": "long", "train": "train.txt", "data": "data.csv", "test": "test.jsonl"}
    assert set(result["seconds"]) >= {"taught", "measured", "tested", "cost"}
    assert (result["metric"], result["data"]["full"], result["test"]["full"]) == ("neighbours", 1.0, 1.0)
    assert str(tmp_path) not in (out / "result.json").read_text() + (out / "README.md").read_text()
    short, whole = (SentenceTransformer(str(one), device="cpu") for one in (out, long))
    assert short.prompts == PROMPTS
    assert len(short[0].model.encoder.layer) == result["depth"] < 3
    kept = measure_embedding_profile(short, held_out, reference=whole, metric="neighbours", depths=[])
    assert result["test"]["short"] == pytest.approx(kept.values[-1])
    facts = CardFacts.load(out / "model_card.json")
    assert (facts.depth, facts.full_depth, facts.dataset) == (result["depth"], 3, "data.csv")
    assert "every depth of it taught for 2 epochs" in facts.description


def test_without_teaching_it_is_measured_and_cut(run, long, files, tmp_path):
    done = run("compress", long, files[1], tmp_path / "short", "--embeddings", "--tolerance", 1)
    assert done.exit_code == 0, done.output
    assert "Compressed to 0 of 3 layers" in done.output
    assert names_in(tmp_path) >= {"short"}
    assert not (tmp_path / "short.work").exists()


@pytest.mark.slow
def test_the_page_shows_depths_and_says_that_there_are_no_answers(run, long, files, tmp_path):
    out = tmp_path / "short"
    done = run("compress", long, files[1], out, "--embeddings", "--depth", 1, "--report")
    assert done.exit_code == 0, done.output
    record = ReportRecord.load(out / "report.json")
    assert record.figures.profile.metric == "neighbours"
    assert len(record.figures.tradeoffs.costs) == len(record.figures.profile.depths) == 4
    assert (record.classes, record.examples) == (None, None)
    assert "holds no answers to single examples" in record.absent["classes"]
    assert (out / "report.html").stat().st_size > 500_000
    assert "(report.html)" in (out / "README.md").read_text()


@pytest.mark.parametrize("how", [("--max-parameters", 1000000), ("--max-mb", 9), ("--depth", 1), ("--confidence", 0.9)])
def test_every_way_to_choose(run, long, files, tmp_path, how):
    done = run("compress", long, files[1], tmp_path / "short", "--embeddings", *how)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "short" / "result.json").read_text())["depth"] == (1 if how[0] == "--depth" else 3)


@pytest.mark.parametrize("name", ["", ":similarity", ":EVALUATOR", ":score"])
def test_an_evaluator_chooses_and_the_texts_test(run, long, files, tmp_path, name):
    extra = (
        "\n_count = []\n"
        if not name
        else "\nEVALUATOR = similarity()\ndef score(model):\n    return 1.0 + 0 * model.encode(['a'])[0, 0]\n"
    )
    (tmp_path / "judge.py").write_text(EVALUATOR + extra)
    source = f"{tmp_path / 'judge.py'}{name}"
    done = run("compress", long, files[1], tmp_path / "short", "--embeddings", "--evaluator", source, "--tolerance", 2)
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "short" / "result.json").read_text())
    assert result["sources"] == {"model": "long", "test": "data.csv", "evaluator": f"judge.py{name}"}
    assert result["metric"] == ("score" if name == ":score" else "spearman_cosine")
    assert (result["test"]["metric"], result["test"]["num_examples"]) == ("neighbours", 60)
    card = (tmp_path / "short" / "README.md").read_text()
    assert "neighbours on data.csv, by which nothing was chosen (60 examples)" in card


def test_a_run_that_was_stopped_goes_on_to_the_bit(run, long, files, tmp_path, monkeypatch):
    train, data, _ = files
    options = ("--embeddings", "--teach", train, "--depth", 1, "--checkpoint-every", 3, *QUICK)
    assert run("compress", long, data, tmp_path / "whole", *options).exit_code == 0
    out, work, trained = tmp_path / "parts", tmp_path / "parts.work", Stages.trained

    def stopped_at(name, after):
        from sentence_transformers import SentenceTransformerTrainer

        def stop(trainer, *args, **kwargs):
            if trainer.args.output_dir.endswith(name) and trainer.state.global_step == after:
                raise KeyboardInterrupt
            return step(trainer, *args, **kwargs)

        step = SentenceTransformerTrainer.training_step
        return stop

    with monkeypatch.context() as patched:
        patched.setattr("sentence_transformers.SentenceTransformerTrainer.training_step", stopped_at("teach-3", 7))
        done = run("compress", long, data, out, *options)
    assert done.exit_code == 130, done.output
    assert f"stopped; what is done lies in {work}; the same command with --resume goes on from there" in done.stderr
    assert not out.exists()
    assert names_in(work / "checkpoints" / "teach-3") == {"checkpoint-6"}
    with monkeypatch.context() as patched:
        patched.setattr("sentence_transformers.SentenceTransformerTrainer.training_step", stopped_at("heal-1", 4))
        done = run("compress", long, data, out, *options, "--resume")
    assert done.exit_code == 130, done.output
    assert "10 steps, 6 of them done" in done.stderr
    assert names_in(work) >= {"taught"}
    assert not out.exists()
    monkeypatch.setattr(Stages, "trained", trained)
    done = run("compress", long, data, out, *options, "--resume")
    assert done.exit_code == 0, done.output
    assert "Teaching" not in done.stderr
    assert "5 steps, 3 of them done" in done.stderr
    some = texts(30, seed=9)
    assert np.array_equal(embed(out, some), embed(tmp_path / "whole", some))
    assert not work.exists()
    done = run("compress", long, data, out, *options, "--resume")
    assert done.stdout.startswith(f"The job is done: its result, depth 1 of 3, lies in {out}.")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))], ids=repr)
@pytest.mark.slow
def test_what_is_stopped_while_it_is_written_leaves_nothing_half(run, long, files, tmp_path, monkeypatch, error):
    train, data, _ = files
    out = tmp_path / "out"
    command = ("compress", long, data, out, "--embeddings", "--teach", train, "--depth", 1, *QUICK)
    save = SentenceTransformer.save_pretrained

    def stopped(model, path, *args, **kwargs):
        save(model, path, *args, **kwargs)
        if "checkpoint" not in str(path):
            raise error

    with monkeypatch.context() as patched:
        patched.setattr(SentenceTransformer, "save_pretrained", stopped)
        done = run(*command)
    assert done.exit_code == (130 if isinstance(error, KeyboardInterrupt) else 1), done.output
    kept = f"what is done lies in {out}.work; the same command with --resume goes on from there"
    assert kept in done.stderr.strip().splitlines()[-1]
    assert names_in(tmp_path) == {"train.txt", "data.csv", "test.jsonl", "out.work"}
    done = run(*command, "--resume")
    assert done.exit_code == 0, done.output
    assert "Teaching" not in done.stderr
    assert "Healing" not in done.stderr
    assert SentenceTransformer(str(out), device="cpu")[0].model.config.num_hidden_layers == 1
    assert names_in(tmp_path) == {"train.txt", "data.csv", "test.jsonl", "out"}


def test_a_run_goes_on_only_as_it_began(run, long, files, tmp_path, monkeypatch):
    train, data, _ = files
    command = ("compress", long, data, tmp_path / "out", "--embeddings", "--teach", train, "--depth", 1, *QUICK)

    def stopped(stages, name, model, train):
        (tmp_path / "out.work" / "checkpoints").mkdir()  # it has begun
        raise KeyboardInterrupt

    monkeypatch.setattr(Stages, "trained", stopped)
    assert run(*command).exit_code == 130
    for changed, text in ((("--seed", 5), "--seed was 0 and is 5"), (("--heal", 3), "--heal was 1 and is 3")):
        assert f"a job goes on as it began, but {text}" in run(*command, "--resume", *changed).stderr
    data.write_text(data.read_text().replace("film", "scene"))
    assert "but data.csv (or how it is read) has changed" in run(*command, "--resume").stderr


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(run, long, files, tmp_path):
    train, data, _ = files
    before = names_in(tmp_path)
    done = run("compress", long, data, tmp_path / "out", "--embeddings", "--teach", train, "--dry-run", *QUICK)
    assert done.exit_code == 0, done.output
    for text in ("teach", "heal", "60 rows of data", "minutes of training here", "Nothing was written."):
        assert text in done.output
    assert names_in(tmp_path) == before


def test_what_is_healed_is_taught_for_as_long_as_every_depth(run, long, files, tmp_path):
    train, data, _ = files
    command = ("compress", long, data, tmp_path / "out", "--embeddings", "--teach", train, "--dry-run", "--depth", 2)
    for given, expected in (((), "3"), (("--heal", 1), "1")):
        plan = run(*command, "--teach-epochs", 3, *given).output
        epochs = dict(re.findall(r"(teach|heal)\W+\d+\W+(\d+)", plan))
        assert epochs == {"teach": "3", "heal": expected}


@pytest.mark.slow
def test_another_model_teaches(run, long, files, tmp_path):
    train, data, _ = files
    sentence_model(tmp_path / "bare", layers=2).save_pretrained(str(tmp_path / "teacher"))
    command = ("compress", long, data, tmp_path / "out", "--embeddings", "--teach", train, "--depth", 2, *QUICK)
    done = run(*command, "--teacher", tmp_path / "teacher")
    assert done.exit_code == 0, done.output
    assert "The teacher was teacher." in (tmp_path / "out" / "README.md").read_text()
    wide = BertModel(BertConfig(**{**SIZES, "hidden_size": 32}, num_hidden_layers=1))
    sentence_model(tmp_path / "wide-bare", wide).save_pretrained(str(tmp_path / "wide"))
    done = run(*command, "--overwrite", "--teacher", tmp_path / "wide")
    assert "the teacher must have the dimension of the model's, 16; those of" in done.stderr


def test_what_is_there_is_written_over_as_a_whole(run, long, files, tmp_path):
    command = ("compress", long, files[1], tmp_path / "out", "--embeddings")
    assert run(*command, "--depth", 2).exit_code == 0
    assert "must be empty" in wrong_usage(run(*command, "--depth", 1))
    assert run(*command, "--depth", 1, "--overwrite").exit_code == 0
    assert SentenceTransformer(str(tmp_path / "out"), device="cpu")[0].model.config.num_hidden_layers == 1
    assert not [name for name in names_in(tmp_path / "out") if name.startswith(".")]


BAD_TEXTS = {
    "none": ("", "must hold at least one example"),
    "blank": ("\n\n \n", "DataError"),
    "one": ("a film\n", "at least 12 different texts for 'neighbours'; got 1"),
    "the same": ("a film\n" * 50, "at least 12 different texts for 'neighbours'; got 1"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
@pytest.mark.parametrize("place", ["DATA", "--test"])
def test_bad_texts_are_refused_before_anything_is_trained(run, long, files, tmp_path, monkeypatch, name, place):
    monkeypatch.setattr(EmbeddingJob, "taught", None)
    content, text = BAD_TEXTS[name]
    (tmp_path / "bad.txt").write_text(content)
    data = tmp_path / "bad.txt" if place == "DATA" else files[1]
    test = () if place == "DATA" else ("--test", tmp_path / "bad.txt")
    done = run("compress", long, data, tmp_path / "out", "--embeddings", "--teach", files[0], *test)
    assert done.exit_code == 1, done.output
    text = text.replace("'neighbours'", "a test") if place == "--test" else text
    assert text in done.stderr.strip().splitlines()[-1]
    assert names_in(tmp_path) == {"train.txt", "data.csv", "test.jsonl", "bad.txt"}


def test_columns_that_hold_no_texts_are_refused(run, long, tmp_path):
    (tmp_path / "data.csv").write_text("text,stars\n" + "".join(f"{text},1\n" for text in texts(20)))
    command = ("compress", long, tmp_path / "data.csv", tmp_path / "out", "--embeddings", "--depth", 1)
    assert "'stars' must hold texts; it holds" in one_line(run(*command, "--text-column", "stars"))
    assert "column 'review'" in one_line(run(*command, "--text-column", "review"))


def classifier(folder):
    return transformer_folder(folder, BertForSequenceClassification(BertConfig(**SIZES, num_hidden_layers=2)))


def cross_encoder(folder):
    model = BertForSequenceClassification(BertConfig(**SIZES, num_hidden_layers=2, num_labels=1))
    CrossEncoder(transformer_folder(folder / "bare", model), device="cpu").save_pretrained(str(folder / "cross"))
    return folder / "cross"


def cut_by_hand(folder):
    sentence_model(folder / "bare", layers=2).save_pretrained(str(folder / "long"))
    config = json.loads((folder / "long" / "config.json").read_text())
    (folder / "long" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    return folder / "long"


def cut_off(folder):
    sentence_model(folder / "bare", layers=2).save_pretrained(str(folder / "long"))
    weights = folder / "long" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    return folder / "long"


MODELS = {
    "a classifier": (classifier, "must hold a SentenceTransformer, with modules.json; it holds BertForSequenceClass"),
    "a cross-encoder": (cross_encoder, "must hold a SentenceTransformer; it holds a CrossEncoder"),
    "no model": (
        lambda folder: folder,
        "must be a model of sentence-transformers, a folder or a name on the Hub; it is",
    ),
    "no folder": (lambda folder: folder / "nothing", "must be a model of sentence-transformers"),
    "layers that lack": (cut_by_hand, "must hold every weight of its 3 layers; it lacks 16, which would stay random"),
    "half a file": (cut_off, "cannot be read as a SentenceTransformer"),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_no_sentence_transformer_is_refused(run, files, tmp_path, name):
    make, text = MODELS[name]
    (tmp_path / "model").mkdir()
    done = run("compress", make(tmp_path / "model"), files[1], tmp_path / "out", "--embeddings", "--depth", 1)
    assert text in one_line(done)
    assert not (tmp_path / "out").exists()


JUDGES = {
    "no main score": (
        "def judge(model):\n    return {'a': float(model.encode(['a'])[0, 0])}\n",
        "must have a main score",
    ),
    "none": ("x = 1\n", "must hold one public function; it holds none"),
    "two": ("def a():\n    pass\ndef b():\n    pass\n", "say which, as"),
    "broken": ("1 / 0\n", "cannot be loaded: ZeroDivisionError"),
    "cannot be made": ("def judge():\n    1 / 0\n", "cannot be made: ZeroDivisionError"),
    "makes nothing": ("def judge():\n    return 3\n", "must return an evaluator of sentence-transformers; got int"),
    "of two": ("def judge(predictions, references):\n    return 3\n", "it takes (predictions, references)"),
}


@pytest.mark.parametrize("name", JUDGES)
def test_what_is_no_evaluator_is_refused(run, long, files, tmp_path, name):
    content, text = JUDGES[name]
    (tmp_path / "judge.py").write_text(content)
    command = ("compress", long, files[1], tmp_path / "out", "--embeddings", "--evaluator")
    assert text in one_line(run(*command, tmp_path / "judge.py"))


def test_an_evaluator_that_is_nowhere_is_refused(run, long, files, tmp_path):
    command = ("compress", long, files[1], tmp_path / "out", "--embeddings", "--evaluator")
    assert "there is no file" in one_line(run(*command, tmp_path / "nothing.py"))
    assert "evaluator 'no_such_module:a' cannot be loaded" in one_line(run(*command, "no_such_module:a"))
    assert "an evaluator lies in FILE.py, FILE.py:NAME or MODULE:NAME; got 'sts'" in one_line(run(*command, "sts"))


USELESS = [
    (("--task", "regression", "--teach", "TRAIN"), "--task must not be given with --embeddings: what is taught are"),
    (("--label-column", "stars"), "--label-column must not be given with --embeddings: embeddings have no labels"),
    (("--soft-labels", 1, "--teach", "TRAIN"), "--soft-labels must not be given"),
    (("--tune-epochs", 1, "--teach", "TRAIN"), "--tune-epochs must not be given with --embeddings: there is no head"),
    (("--no-calm", "--teach", "TRAIN"), "--no-calm must not be given"),
    (("--max-length", 9), "--max-length must not be given with --embeddings: the model itself says how long"),
    (("--convert",), "--convert must not be given"),
    (("--finetune", "TRAIN"), "--finetune must not be given with --embeddings: embeddings are taught (--teach)"),
    (("--lower-is-better", "--metric", "x"), "--lower-is-better is for a score of --evaluator"),
    (("--evaluator", "x.py", "--test", "TEST"), "--test must not be given with --evaluator"),
    (("--evaluator", "x.py", "--confidence", 0.9), "--confidence needs what each text contributes"),
    (("--teacher", "x"), "--teacher is for --teach"),
    (("--depth", 1, "--tolerance", 0.1), "--depth 1 leaves nothing to choose"),
    (("--teach", "DATA"), "must train on other data"),
]


@pytest.mark.parametrize(("options", "text"), USELESS, ids=str)
def test_what_says_nothing_about_embeddings_is_wrong_usage(run, long, files, tmp_path, options, text):
    named = {"TRAIN": files[0], "DATA": files[1], "TEST": files[2]}
    options = [named.get(option, option) for option in options]
    assert text in wrong_usage(run("compress", long, files[1], tmp_path / "out", "--embeddings", *options))


def test_an_evaluator_is_for_embeddings(run, long, files, tmp_path):
    said = wrong_usage(run("compress", long, files[1], tmp_path / "out", "--evaluator", "x.py"))
    assert "--evaluator is for --embeddings, which must be given too" in said


@pytest.mark.slow
def test_a_card_says_of_no_teaching_that_was_left_out(run, long, files, tmp_path):
    train, data, _ = files
    done = run("compress", long, data, tmp_path / "out", "--embeddings", "--teach", train, "--tolerance", 0, *QUICK)
    assert done.exit_code == 0, done.output
    assert "warning: no depth below 3 was chosen, and nothing is cut off" in done.stderr
    card = (tmp_path / "out" / "README.md").read_text()
    assert "taught for" not in card
    assert "1.0000" in card
    some = texts(30, seed=9)
    assert np.array_equal(embed(tmp_path / "out", some), embed(long, some))


def test_a_metric_of_texts_is_checked(run, long, files, tmp_path):
    command = ("compress", long, files[1], tmp_path / "out", "--embeddings", "--metric")
    assert "metric must be 'spearman' or 'neighbours' for plain texts" in one_line(run(*command, "accuracy"))
    assert run(*command, "spearman", "--tolerance", 2).exit_code == 0


@pytest.mark.slow
def test_texts_that_are_shared_are_warned_of(run, long, files, tmp_path):
    train, data, _ = files
    train.write_text(train.read_text() + "\n".join(texts(60)[:5]) + "\n")
    command = ("compress", long, data, tmp_path / "out", "--embeddings", "--teach", train, "--depth", 1, *QUICK)
    assert "of 60 rows of DATA are in the training data too" in run(*command).stderr
    assert "--strict refuses data" in run(*command, "--strict", "--overwrite").stderr


def test_duplicates_count_once(run, long, files, tmp_path):
    data = files[1]
    data.write_text(data.read_text() + "".join(f"{text},1\n" for text in texts(60)[:5]))
    done = run("compress", long, data, tmp_path / "out", "--embeddings", "--depth", 1)
    assert "5 of 65 texts are there already; each counts once" in done.stderr
    assert json.loads((tmp_path / "out" / "result.json").read_text())["profile"]["num_examples"] == 60


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_model_of_the_hub(run, hub, long, files, tmp_path):
    SentenceTransformer(str(long), device="cpu").push_to_hub("someone/long", token=OWNER_TOKEN)
    done = run("compress", "someone/long", files[1], tmp_path / "out", "--embeddings", "--depth", 1)
    assert done.exit_code == 0, done.output
    card = (tmp_path / "out" / "README.md").read_text()
    assert ModelCard(card).data.base_model == "someone/long"
    assert "Made from `someone/long`." in card
    done = run("compress", "someone/nothing", files[1], tmp_path / "none", "--embeddings", "--depth", 1)
    assert "someone/nothing must be a model of sentence-transformers" in one_line(done)
