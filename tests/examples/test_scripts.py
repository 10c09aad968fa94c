"""The training scripts run end to end on small real data, and what they write loads with the Auto classes."""

import csv
import gc
import gzip
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from sklearn.datasets import load_digits
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForMaskedImageModeling,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from acn_hf import DepthProfile, measure_depth_profile
from acn_hf.conversion.loader import load_model
from acn_hf.data.files import load_data
from acn_hf.data.rows import Columns, DataError, load_processor, prepare
from tests.data.test_idx import write_split
from tests.support.hub_server import OWNER_TOKEN
from tests.support.programs import run_program

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("run_*.py"))
SENTENCES = [
    f"{subject} {verb} {thing} {ending}"
    for subject in ("emma", "the old man", "nobody here")
    for verb in ("loved", "hated", "saw")
    for thing in ("the film", "every page of it", "paris")
    for ending in ("and said so .", "once more .", ".")
]
QUICK = ("--do_train", "--do_eval", "--max_steps", 2, "--disable_tqdm", "True", "--use_cpu", "True")
TINY = "hidden_size=16,intermediate_size=24,num_attention_heads=2,num_hidden_layers=2"


@pytest.fixture
def script():
    """Return a function that runs a script in this process."""

    def run(name, *arguments):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where dataclasses look for their types
        spec.loader.exec_module(module)
        module.main([str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    with gzip.open(folder / "train.txt.gz", "wt") as file:
        file.writelines(f"{sentence}\n" for sentence in SENTENCES[:60])
    (folder / "validation.txt").write_text("\n".join(SENTENCES[60:]) + "\n")
    return folder


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """CSV files of labelled sentences and pairs, and JSON files of labelled words."""
    folder = tmp_path_factory.mktemp("tables")
    rows = [(text, "yes" if "loved" in text else "no", SENTENCES[0], len(text) / 10) for text in SENTENCES]
    for split, part in (("train", rows[::2]), ("validation", rows[1::2])):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label", "other", "length"), *part])
        with (folder / f"{split}.json").open("w") as file:
            for text, *_ in part:
                words = text.split()
                tags = ["PLACE" if word == "paris" else "O" for word in words]
                file.write(json.dumps({"tokens": words, "labels": tags}) + "\n")
    return folder


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("idx")
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8) * 15).astype(np.uint8)
    write_split(folder, "train", images[:120], labels[:120])
    write_split(folder, "t10k", images[120:160], labels[120:160])
    return folder


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    pixels, labels = load_digits(return_X_y=True)
    for split, rows in (("train", range(60)), ("validation", range(60, 100))):
        for row in rows:
            (folder / split / f"digit {labels[row]}").mkdir(parents=True, exist_ok=True)
            image = Image.fromarray((pixels[row].reshape(8, 8) * 15).astype(np.uint8))
            image.save(folder / split / f"digit {labels[row]}" / f"{row}.png")
    return folder


@pytest.fixture
def pretrained(script, corpus, tmp_path):
    """A tiny AC-BERT and its tokenizer."""
    options = ("--train_file", corpus / "train.txt.gz", "--validation_sequences", 5, "--vocab_size", 120)
    script(
        "run_mlm", *QUICK, *options, "--max_seq_length", 16, "--config_overrides", TINY, "--output_dir", tmp_path / "b"
    )
    return tmp_path / "b"


def results(folder, num_layers=2):
    """Return what a run wrote about itself, after a look at whether it is complete."""
    profile = DepthProfile.load(folder / "depth_profile.json")
    assert profile.depths == tuple(range(num_layers + 1))
    written = json.loads((folder / "all_results.json").read_text())
    assert {"train_runtime", "eval_loss", "eval_samples", "train_samples"} <= set(written)
    assert (folder / "trainer_state.json").exists()
    return written, profile


def test_a_masked_language_model_is_pretrained_with_a_tokenizer_of_its_own(pretrained):
    written, profile = results(pretrained)
    assert written["eval_samples"] == 5
    assert profile.metric == "loss"
    assert profile.values[-1] == pytest.approx(written["eval_loss"], rel=0.05)  # weighted by batch there, by token here
    assert written["perplexity"] == pytest.approx(np.exp(written["eval_loss"]))
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(pretrained), AutoTokenizer.from_pretrained(pretrained)
    assert model.config.vocab_size == len(tokenizer) <= 120
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert tokenizer.model_max_length == 16
    assert tokenizer.tokenize("the film") == ["the", "film"]


def test_the_command_line_measures_what_the_script_measured(script, corpus, tmp_path):
    files = ("--train_file", corpus / "train.txt.gz", "--validation_file", corpus / "validation.txt")
    settings = ("--max_seq_length", 16, "--vocab_size", 120, "--config_overrides", TINY, "--output_dir", tmp_path)
    script("run_mlm", *QUICK, *files, *settings)
    written, profile = results(tmp_path)
    model = load_model(str(tmp_path))
    data = load_data(str(corpus / "validation.txt"))
    rows, collate = prepare(model, load_processor(model, str(tmp_path)), data, Columns())
    assert len(rows) == written["eval_samples"]
    measured = measure_depth_profile(model, rows, metric="loss", collate_fn=collate)
    assert measured.values == pytest.approx(profile.values, rel=1e-6)


def test_a_corpus_is_streamed_into_an_upstream_model(script, corpus, pretrained, tmp_path):
    options = ("--train_file", corpus / "train.txt.gz", "--streaming", "--validation_sequences", 4)
    start = ("--model_type", "bert", "--tokenizer_name", pretrained, "--max_seq_length", 16)
    script("run_mlm", *QUICK, *options, *start, "--config_overrides", TINY, "--output_dir", tmp_path / "out")
    assert AutoConfig.from_pretrained(tmp_path / "out").model_type == "bert"
    assert len(DepthProfile.load(tmp_path / "out" / "depth_profile.json").depths) > 1
    assert json.loads((tmp_path / "out" / "eval_results.json").read_text())["eval_samples"] == 4


@pytest.fixture
def closed_by_the_collector():
    """Collect the file that datasets leaves open where only first rows were streamed, before another test does."""
    yield
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.usefixtures("closed_by_the_collector")
@pytest.mark.parametrize("streaming", [(), ("--streaming",)], ids=["at_once", "streamed"])
def test_what_is_wrong_with_a_corpus_is_named(script, corpus, tables, tmp_path, streaming):
    def refused(message, *files):
        options = ("--vocab_size", 120, "--output_dir", tmp_path / "out", *streaming)
        with pytest.raises(DataError, match=message):
            script("run_mlm", *QUICK, *options, *files)
        assert not (tmp_path / "out").exists()

    table = ("--train_file", tables / "train.csv", "--validation_sequences", 5, "--text_column_name")
    which = "the data" if streaming else r"train\.csv"
    refused(f"{which} must have a column 'review'; got text, label, other, length", *table, "review")
    place = "row 1" if streaming else r"train\.csv, line 2"
    refused(f"{place}: column 'length' must hold text; got 3.3", *table, "length")
    text = ("--train_file", corpus / "train.txt.gz")
    refused("--validation_file must not be given", *text, "--validation_file", text[1], "--validation_sequences", 5)
    refused("there must be held-out texts; give --validation_file", *text)
    refused("--dataset_name names all the data; --train_file", *text, "--dataset_name", "some/name")
    refused("there is no test of a masked language model", *text, "--validation_sequences", 5, "--do_predict")
    refused("--vocab_size must be at least 1; got -5", *text, "--validation_sequences", 5, "--vocab_size", -5)


def test_an_empty_cell_does_not_end_a_run(script, pretrained, tmp_path, caplog):
    rows = "".join(f"emma loved paris in may {number}\n" for number in range(30))
    (tmp_path / "train.csv").write_text(f"text,other\n{rows},3\n".replace(" in may", ",in may"))
    options = ("--train_file", tmp_path / "train.csv", "--validation_sequences", 2, "--max_seq_length", 16)
    script("run_mlm", *QUICK, *options, "--model_name_or_path", pretrained, "--output_dir", tmp_path / "out")
    assert "train: 1 of 31 rows is incomplete and left out: " in caplog.text
    with pytest.raises(DataError, match=r"train: 1 of 31 rows .*train\.csv, line 32 has no 'text'"):
        script("run_mlm", *QUICK, *options, "--incomplete", "refuse", "--output_dir", tmp_path / "other")


def test_an_empty_corpus_is_named(script, tmp_path):
    (tmp_path / "blank.txt").write_text("\n\n")
    options = ("--vocab_size", 120, "--output_dir", tmp_path / "out", "--validation_sequences", 5)
    with pytest.raises(DataError, match=r"must hold at least one example; .*blank\.txt is empty"):
        script("run_mlm", *QUICK, "--train_file", tmp_path / "blank.txt", *options)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.usefixtures("closed_by_the_collector")
def test_csv_is_streamed_by_its_column(script, tables, tmp_path):
    options = ("--vocab_size", 120, "--output_dir", tmp_path / "out", "--config_overrides", TINY, "--streaming")
    files = ("--train_file", tables / "train.csv", "--validation_file", tables / "validation.csv")
    script("run_mlm", *QUICK, *files, *options, "--max_seq_length", 16)
    assert "loved" in AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    assert DepthProfile.load(tmp_path / "out" / "depth_profile.json").num_examples >= 24


def test_pretraining_goes_on_from_a_checkpoint(script, corpus, pretrained, tmp_path):
    files = ("--train_file", corpus / "train.txt.gz", "--validation_file", corpus / "validation.txt")
    start = ("--model_name_or_path", pretrained, "--num_hidden_layers", 1, "--max_seq_length", 16)
    script("run_mlm", *QUICK, *files, *start, "--output_dir", tmp_path / "out", "--learning_rate", 0)
    results(tmp_path / "out", num_layers=1)
    before, after = (AutoModelForMaskedLM.from_pretrained(folder) for folder in (pretrained, tmp_path / "out"))
    assert torch.equal(
        before.bert.encoder.layer[0].output.dense.weight, after.bert.encoder.layer[0].output.dense.weight
    )


def test_sentences_are_classified(script, tables, pretrained, tmp_path):
    files = ("--train_file", tables / "train.csv", "--validation_file", tables / "validation.csv")
    options = ("--model_name_or_path", pretrained, "--output_dir", tmp_path / "out")
    script(
        "run_text_classification", *QUICK, *files, *options, "--test_file", tables / "validation.csv", "--do_predict"
    )
    written, profile = results(tmp_path / "out")
    assert written["eval_accuracy"] == pytest.approx(profile.values[-1])
    assert written["test_accuracy"] == written["eval_accuracy"]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.id2label == {0: "no", 1: "yes"}
    assert model.config.num_hidden_layers == 2


def test_pairs_are_regressed_from_scratch(script, tables, pretrained, tmp_path):
    files = ("--train_file", tables / "train.csv", "--num_held_out", 10)
    columns = ("--text_pair_column_name", "other", "--label_column_name", "length", "--regression")
    options = ("--tokenizer_name", pretrained, "--config_overrides", TINY, "--output_dir", tmp_path / "out")
    script("run_text_classification", *QUICK, *files, *columns, *options)
    written, profile = results(tmp_path / "out")
    assert profile.metric == "mse"
    assert written["eval_mse"] == pytest.approx(profile.values[-1], rel=1e-4)
    assert written["eval_samples"] == 10
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config.num_labels == 1


def test_words_are_classified(script, tables, pretrained, tmp_path):
    files = ("--train_file", tables / "train.json", "--validation_file", tables / "validation.json")
    options = ("--model_name_or_path", pretrained, "--depth_metric", "f1_macro", "--output_dir", tmp_path / "out")
    script("run_token_classification", *QUICK, *files, *options)
    written, profile = results(tmp_path / "out")
    assert written["eval_f1_macro"] == pytest.approx(profile.values[-1])
    assert AutoModelForTokenClassification.from_pretrained(tmp_path / "out").config.id2label == {0: "O", 1: "PLACE"}


def test_images_are_pretrained_and_then_classified(script, idx_folder, tmp_path):
    data = ("--dataset_name", idx_folder, "--num_held_out", 20, "--max_train_samples", 80)
    overrides = ("--config_overrides", f"patch_size=4,{TINY}")
    script("run_image_pretraining", *QUICK, *data, *overrides, "--output_dir", tmp_path / "one")
    written, profile = results(tmp_path / "one")
    assert (written["train_samples"], written["eval_samples"]) == (80, 20)
    assert written["eval_loss"] == pytest.approx(profile.values[-1], rel=1e-4)
    assert AutoModelForMaskedImageModeling.from_pretrained(tmp_path / "one").config.image_size == 8
    start = ("--model_name_or_path", tmp_path / "one", "--learning_rate", 0)
    script("run_image_classification", *QUICK, *data, *start, "--output_dir", tmp_path / "two")
    results(tmp_path / "two")
    before = AutoModelForMaskedImageModeling.from_pretrained(tmp_path / "one")
    after = AutoModelForImageClassification.from_pretrained(tmp_path / "two")
    assert after.config.num_labels == 10
    assert torch.equal(before.vit.embeddings.cls_token, after.vit.embeddings.cls_token)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("run_image_classification", "annealed"),
        ("run_image_pretraining", "annealed"),
        ("run_mlm", "annealed"),
        ("run_mlm", "masked-words"),
    ],
)
def test_a_recipe_of_ours_ends_at_an_acn(script, idx_folder, tmp_path, name, recipe):
    """It begins with the first weights that a width of 16 needs, and with a residual network."""
    (tmp_path / "lines.txt").write_text("\n".join(SENTENCES))
    data = {
        "run_mlm": ("--train_file", tmp_path / "lines.txt", "--validation_sequences", 2, "--max_seq_length", 16),
    }.get(name, ("--dataset_name", idx_folder, "--num_held_out", 20, "--max_train_samples", 80))
    fields = TINY if name == "run_mlm" else f"patch_size=4,{TINY}"
    steps = ("--do_train", "--do_eval", "--max_steps", 4, "--disable_tqdm", "True", "--use_cpu", "True")
    script(
        *(name, *steps, *data, "--recipe", recipe, "--logging_steps", 1),
        *("--config_overrides", fields, "--output_dir", tmp_path / "out"),
    )
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert (config.residual_scale, config.attention_residual) == (0.0, recipe == "annealed")
    assert config.initializer_range == pytest.approx(0.02 * 48**0.5)
    log = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    scales = [entry["residual_scale"] for entry in log if "residual_scale" in entry]
    assert (scales[0], scales[-1]) == (1.0, 0.0)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # by huggingface_hub's own call to httpx
def test_what_was_trained_is_pushed_with_its_card(script, idx_folder, tmp_path, hub):
    data = ("--dataset_name", idx_folder, "--num_held_out", 20, "--max_train_samples", 80)
    push = ("--push_to_hub", "True", "--hub_model_id", "someone/trained", "--hub_token", OWNER_TOKEN)
    overrides = ("--config_overrides", f"patch_size=4,{TINY}", "--output_dir", tmp_path / "out")
    script("run_image_classification", *QUICK, *data, *overrides, *push)
    _, profile = results(tmp_path / "out")
    assert AutoModelForImageClassification.from_pretrained("someone/trained").config.num_hidden_layers == 2
    card = ModelCard.load("someone/trained")
    assert {"acn", "auto-compressing-network"} <= set(card.data.tags)
    assert f"| 2 | {profile.values[-1]:.4f} |" in card.content.replace("**", "")
    assert idx_folder.name in card.content
    assert "## Training procedure" in card.content  # what Trainer writes by itself is there too


@pytest.mark.parametrize("limit", [2**31, 1], ids=["decoded_once", "decoded_when_asked_for"])
def test_folders_of_images_are_classified(script, image_folder, tmp_path, monkeypatch, limit):
    monkeypatch.setattr("acn_hf.data.pixels.LARGEST_IN_MEMORY", limit)
    overrides = f"image_size=8,patch_size=4,num_channels=1,{TINY}"
    options = ("--dataset_name", image_folder, "--config_overrides", overrides, "--output_dir", tmp_path)
    script("run_image_classification", *QUICK, *options, "--eval_strategy", "steps", "--eval_steps", 1)
    written, profile = results(tmp_path)
    assert written["eval_accuracy"] == pytest.approx(profile.values[-1])
    assert AutoModelForImageClassification.from_pretrained(tmp_path).config.label2id["digit 7"] == 7


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_reads_well(script, name, capsys):
    with pytest.raises(SystemExit) as left:
        script(name, "--help")
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert f"python examples/{name}.py" in shown
    for flag in ("--config_overrides", "--profile_every", "--output_dir", "--learning_rate"):
        assert flag in shown
    assert "SUPPRESS" not in shown


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    options = ("--do_train", "--output_dir", tmp_path, "--train_file", "no.csv")
    done = run_program(EXAMPLES / "run_mlm.py", *options)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: there must be a file no.csv; there is none"
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_is_told_nothing_says_so(script, name, tmp_path):
    with pytest.raises(ValueError, match="there is nothing to do; give --do_train, --do_eval or --do_predict"):
        script(name, "--output_dir", tmp_path)
    with pytest.raises(DataError, match=r"there must be (data|texts|a tokenizer).*; give --"):
        script(name, "--do_train", "--output_dir", tmp_path)
    assert not any(tmp_path.iterdir())


def test_classes_that_training_has_not_seen_are_named(script, tables, pretrained, tmp_path):
    (tmp_path / "other.csv").write_text("text,label\nemma hated paris,maybe\n")
    files = ("--train_file", tables / "train.csv", "--validation_file", tmp_path / "other.csv")
    rule = "a label must be one of no, yes; got 'maybe'"
    with pytest.raises(DataError, match=rf"other\.csv, line 2, column 'label': {rule}"):
        script(
            "run_text_classification",
            *QUICK,
            *files,
            "--model_name_or_path",
            pretrained,
            "--output_dir",
            tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_patches_that_do_not_fit_the_images_are_named(script, idx_folder, tmp_path):
    data = ("--dataset_name", idx_folder, "--num_held_out", 20, "--output_dir", tmp_path / "out")
    for name in ("run_image_classification", "run_image_pretraining"):
        with pytest.raises(DataError, match="patch_size must divide image_size, 8; got 3"):
            script(name, *QUICK, *data, "--config_overrides", f"patch_size=3,{TINY}")


@pytest.mark.slow
def test_two_processes_train_together(corpus, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", EXAMPLES / "run_mlm.py"]
    options = ("--train_file", corpus / "train.txt.gz", "--validation_sequences", 5, "--vocab_size", 120)
    settings = ("--max_seq_length", 16, "--config_overrides", TINY, "--output_dir", tmp_path)
    done = subprocess.run(
        [*map(str, (*command, *QUICK, *options, *settings))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Depth profile over 5 examples") == 1
    results(tmp_path)
