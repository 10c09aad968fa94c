"""What the app loads, and what it refuses before it listens."""

import pytest
from huggingface_hub import HfApi
from transformers import GPT2Config, GPT2LMHeadModel

from acn_hf import ConfidenceExit, EarlyExitReport, PatienceExit
from acn_hf.app import load_checkpoint
from acn_hf.app.checkpoint import UnsupportedError, load_checkpoints
from acn_hf.report import ReportRecord
from tests.support.asked import write
from tests.support.command_line import not_ours, tokenizer
from tests.support.families import by_name
from tests.support.hub_server import OWNER_TOKEN
from tests.support.reported import result, rows


def test_what_lies_beside_it_is_read(build, tmp_path):
    folder = write("bert", tmp_path / "film", build)
    EarlyExitReport(ConfidenceExit(0.75), 0.9, (1, 1, 1, 0)).save(folder / "exits.json")
    ReportRecord.of(result(), rows=rows(), name="Reviews").save(folder / "report.json")
    checkpoint = load_checkpoint(folder)
    assert checkpoint.name == "film"
    assert checkpoint.policy == ConfidenceExit(0.75)
    assert checkpoint.record.name == "Reviews"
    EarlyExitReport(PatienceExit(2), 0.9, (1, 1, 1, 0)).save(tmp_path / "other.json")
    assert load_checkpoint(folder, exits=tmp_path / "other.json").policy == PatienceExit(2)


@pytest.mark.parametrize(
    ("file", "error"),
    [("exits.json", "exits.json holds no EarlyExitReport"), ("report.json", "report.json holds no ReportRecord")],
)
@pytest.mark.parametrize("text", ["{", "[" * 100_000], ids=["cut", "deep"])
def test_what_is_damaged_is_refused_by_name(build, tmp_path, file, error, text):
    folder = write("bert", tmp_path / "film", build)
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=error):
        load_checkpoint(folder)


def test_a_policy_that_does_not_fit_is_refused(build, tmp_path):
    folder = write("labels", tmp_path / "film", build)
    EarlyExitReport(ConfidenceExit(0.75), 0.9, (1, 1, 1, 0)).save(folder / "exits.json")
    with pytest.raises(TypeError, match="needs probabilities of classes, of which one is right"):
        load_checkpoint(folder)


def test_a_policy_of_embeddings_is_refused(build, tmp_path):
    folder = write("sentences", tmp_path / "near", build)
    EarlyExitReport(PatienceExit(2), 0.9, (1, 1, 1, 0)).save(tmp_path / "exits.json")
    with pytest.raises(UnsupportedError, match=r"that choose an answer; .*near is a SentenceTransformer"):
        load_checkpoint(folder, exits=tmp_path / "exits.json")


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("bert-ForQuestionAnswering", "question-answering"),
        ("bert-ForMaskedLM", "fill-mask"),
        ("bert-ForMultipleChoice", "multiple-choice"),
    ],
)
def test_other_heads_are_refused_by_name(build, tmp_path, name, task):
    build(by_name(name)).save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    with pytest.raises(UnsupportedError, match=f"classify texts, pictures or words.*AcnBertFor.*, which is for {task}"):
        load_checkpoint(tmp_path / "model")


def test_a_language_model_is_refused_by_name(tmp_path):
    config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=8, n_positions=8, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    with pytest.raises(UnsupportedError, match="holds a GPT2LMHeadModel, which is for text-generation"):
        load_checkpoint(tmp_path / "model")


def test_two_read_the_same(build, tmp_path):
    text, image = write("bert", tmp_path / "one", build), write("vit", tmp_path / "two", build)
    with pytest.raises(UnsupportedError, match="must read the same; one reads texts and two reads pictures"):
        load_checkpoints([text, image])


def test_two_folders_of_one_name_are_told_apart(build, tmp_path):
    folders = [write(name, tmp_path / name / "short", build) for name in ("bert", "labels")]
    EarlyExitReport(PatienceExit(2), 0.9, (1, 1, 1, 0)).save(tmp_path / "exits.json")
    first, second = load_checkpoints(folders, exits=tmp_path / "exits.json")
    assert [first.name, second.name] == list(map(str, folders))
    assert (first.policy, second.policy) == (PatienceExit(2), None)


@pytest.mark.parametrize("sources", [[], ["a", "b", "c"], "bert"])
def test_there_are_one_or_two(sources):
    with pytest.raises(ValueError, match="one or two checkpoints; got"):
        load_checkpoints(sources)


def test_what_is_nowhere(tmp_path):
    with pytest.raises(OSError, match="must be a checkpoint"):
        load_checkpoint(tmp_path / "nowhere")


@not_ours
def test_a_checkpoint_of_the_hub(hub, build, tmp_path):
    folder = write("bert", tmp_path / "film", build)
    EarlyExitReport(ConfidenceExit(0.75), 0.9, (1, 1, 1, 0)).save(folder / "exits.json")
    HfApi().create_repo("someone/film", token=OWNER_TOKEN)
    HfApi().upload_folder(folder_path=folder, repo_id="someone/film", token=OWNER_TOKEN)
    checkpoint = load_checkpoint("someone/film")
    assert (checkpoint.name, checkpoint.policy, checkpoint.record) == ("someone/film", ConfidenceExit(0.75), None)
