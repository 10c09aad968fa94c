"""The command line: exit codes, files, and one clear line where something is wrong."""

import json
import signal
import subprocess
import sys

import datasets
import pytest
import torch
import transformers
import typer
from PIL import Image
from transformers import AutoModelForImageClassification, ViTImageProcessorPil, pipeline

import acn_hf
from acn_hf import CardFacts, DepthProfile, cli
from acn_hf.demo import digits
from acn_hf.support import on_stop
from tests.support.command_line import (
    CLASSIFIER,
    checkpoint,
    one_line,
    pictures,
    quiet_command,
    residual,
    reviews,
    run,
    tokenizer,
    wrong_usage,
)
from tests.support.families import NUM_LAYERS

__all__ = ["checkpoint", "pictures", "residual", "reviews", "run"]


def test_profile_prints_and_saves(run, checkpoint, pictures, tmp_path):
    result = run("profile", checkpoint, pictures, "--out", tmp_path / "out" / "p.json", "--tolerance", 1)
    assert result.exit_code == 0, result.output
    assert "6 examples" in result.output
    assert f"effective depth: 0 of {NUM_LAYERS} (tolerance 1)" in result.output
    assert DepthProfile.load(tmp_path / "out" / "p.json").num_examples == 6
    assert (tmp_path / "out" / "p.png").read_bytes().startswith(b"\x89PNG")


def test_profile_takes_options(run, checkpoint, pictures, tmp_path):
    out = tmp_path / "p.json"
    options = ("--metric", "loss", "--max-examples", 4, "--batch-size", 3, "--confidence", 0.9, "--relative")
    result = run("profile", checkpoint, pictures, "--out", out, *options)
    assert result.exit_code == 0, result.output
    profile = DepthProfile.load(out)
    assert (profile.metric, profile.num_examples) == ("loss", 4)


def test_compress_writes_an_ordinary_checkpoint(run, checkpoint, pictures, tmp_path):
    out = tmp_path / "short"
    result = run("compress", checkpoint, pictures, out, "--tolerance", 1)
    assert result.exit_code == 0, result.output
    assert f"Compressed to 0 of {NUM_LAYERS} layers" in result.output
    for word in ("parameters", "MB", "GFLOPs", "latency in ms", "accuracy"):
        assert word in result.output
    files = {path.name for path in out.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= files
    assert {"depth_profile.json", "depth_profile.png", "result.json", "README.md"} <= files
    facts = CardFacts.load(out / "model_card.json")
    assert (facts.name, facts.dataset, facts.dataset_id, facts.base_model) == ("short", "images", None, None)
    assert str(tmp_path) not in (out / "README.md").read_text()
    assert not [name for name in files if name.startswith(".")]
    assert AutoModelForImageClassification.from_pretrained(out).config.num_hidden_layers == 0
    assert DepthProfile.load(out / "depth_profile.json").depths == tuple(range(NUM_LAYERS + 1))


def test_text_is_compressed_too(run, build, tmp_path):
    tokenizer().save_pretrained(tmp_path / "model")
    build(CLASSIFIER).save_pretrained(tmp_path / "model")
    (tmp_path / "reviews.csv").write_text("review,stars\ngood film,2\nbad,0\ngood good good film,1\n")
    columns = ("--text-column", "review", "--label-column", "stars", "--max-length", 5)
    result = run("compress", tmp_path / "model", tmp_path / "reviews.csv", tmp_path / "out", *columns, "--tolerance", 1)
    assert result.exit_code == 0, result.output
    assert "3 examples" in result.output
    classify = pipeline("text-classification", str(tmp_path / "out"))
    assert classify("good film")[0]["label"] in {"LABEL_0", "LABEL_1", "LABEL_2"}


def test_the_version_is_that_of_the_package(run):
    assert run("--version").output.strip() == f"acn-hf {acn_hf.__version__}"


def test_env_names_the_versions(run):
    result = run("env")
    assert result.exit_code == 0
    for package in ("acn-hf", "torch", "transformers", "accelerator"):
        assert package in result.output


def test_python_m_acn_hf_is_the_command():
    done = subprocess.run([sys.executable, "-m", "acn_hf", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, f"acn-hf {acn_hf.__version__}")


COMMANDS = typer.main.get_command(cli.app).commands


def test_the_commands_are_these():
    assert set(COMMANDS) == {
        "app",
        "bench",
        "card",
        "compress",
        "convert",
        "demo",
        "env",
        "export",
        "profile",
        "push",
        "report",
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(run, name):
    assert run(name, "--help").exit_code == 0
    assert COMMANDS[name].help
    for parameter in COMMANDS[name].params:
        assert parameter.help, f"{name} says nothing of {parameter.name}"


# --- wrong usage: exit code 2


def test_no_arguments_show_help(run):
    assert "Usage" in run().output
    assert run("profile").exit_code == 2
    assert run("nothing").exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--metric", "acuracy"), "metric must be one of"),
        (("--confidence", 2), "confidence must lie in (0, 1)"),
        (("--tolerance", -1), "greater than or equal to 0"),
        (("--batch-size", 0), "greater than or equal to 1"),
        (("--max-examples", "x"), "integer"),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_wrong_usage(run, checkpoint, pictures, options, message):
    assert message in wrong_usage(run("profile", checkpoint, pictures, *options))


def test_a_folder_that_is_not_empty_is_not_written_to(run, checkpoint, pictures, tmp_path):
    out = tmp_path / "short"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    assert f"the target folder must be empty; {out} is not" in wrong_usage(run("compress", checkpoint, pictures, out))
    assert [path.name for path in out.iterdir()] == ["precious.txt"]
    assert run("compress", checkpoint, pictures, out, "--overwrite", "--tolerance", 1).exit_code == 0
    assert (out / "precious.txt").read_text() == "mine"


def test_a_target_that_cannot_be_written_is_wrong_usage(run, checkpoint, pictures, tmp_path):
    (tmp_path / "file").write_text("mine")
    below = tmp_path / "file" / "below"
    assert "the target must be a folder" in wrong_usage(run("compress", checkpoint, pictures, tmp_path / "file"))
    assert "cannot be made" in wrong_usage(run("compress", checkpoint, pictures, below))
    assert "--out must be a file" in wrong_usage(run("profile", checkpoint, pictures, "--out", tmp_path))
    assert "cannot be made" in wrong_usage(run("profile", checkpoint, pictures, "--out", below))


def test_a_read_only_target_is_wrong_usage(run, checkpoint, pictures, tmp_path, monkeypatch):
    """Asked of the system, since whoever runs the tests may be allowed to write everywhere."""
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    for command in (("compress", checkpoint, pictures, tmp_path / "x"), ("convert", checkpoint, tmp_path / "x")):
        assert f"{tmp_path / 'x'} cannot be written; {tmp_path} is read-only" in wrong_usage(run(*command))
    assert "is read-only" in wrong_usage(run("bench", checkpoint, "--out", tmp_path / "x.json"))


@pytest.mark.parametrize("there", ["p.json", "p.png"])
def test_a_profile_that_is_there_is_not_written_over(run, checkpoint, pictures, tmp_path, there):
    (tmp_path / there).write_text("mine")
    command = ("profile", checkpoint, pictures, "--out", tmp_path / "p.json")
    assert f"{there} is there already (--overwrite writes over it)" in wrong_usage(run(*command))
    assert (tmp_path / there).read_text() == "mine"
    assert run(*command, "--overwrite").exit_code == 0
    assert DepthProfile.load(tmp_path / "p.json").num_examples == 6


def test_numbers_are_not_measured_by_accuracy(run, build, tmp_path):
    tokenizer().save_pretrained(tmp_path / "model")
    build(CLASSIFIER, num_labels=1).save_pretrained(tmp_path / "model")
    (tmp_path / "rated.csv").write_text("text,label\ngood film,2.5\nbad,-1\n")
    result = run("profile", tmp_path / "model", tmp_path / "rated.csv")
    assert result.exit_code == 0, result.output
    assert "mse" in result.output
    assert "accuracy" not in result.output


def test_a_sample_is_random_and_the_same_every_time(run, checkpoint, pictures, tmp_path):
    outputs = {run("profile", checkpoint, pictures, "--max-examples", 3, "--metric", "loss").output for _ in range(2)}
    assert len(outputs) == 1
    assert "3 examples" in outputs.pop()


def test_a_checkpoint_of_transformers_is_measured_cut_and_stays_one(run, residual, reviews, tmp_path):
    measured = run("profile", residual, reviews, "--out", tmp_path / "profile.json")
    assert measured.exit_code == 0, measured.output
    assert acn_hf.DepthProfile.load(tmp_path / "profile.json").depths[0] == 0
    done = run("compress", residual, reviews, tmp_path / "out", "--depth", "1")
    assert done.exit_code == 0, done.output
    assert not list((tmp_path / "out").glob("*.py"))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["model_type"], config["num_hidden_layers"]) == ("bert", 1)
    assert "auto_map" not in config
    card = (tmp_path / "out" / "README.md").read_text()
    assert "an ordinary checkpoint of transformers" in card
    assert "trust_remote_code" not in card
    short = transformers.pipeline("text-classification", str(tmp_path / "out"), device="cpu")
    assert type(short.model) is transformers.BertForSequenceClassification
    assert short("a text")[0]["label"]


# --- Ctrl-C: exit code 130 and one line


@pytest.mark.parametrize("kept", [(), ("out/checkpoint-4 is kept", "--resume goes on")], ids=["nothing", "something"])
def test_ctrl_c_says_what_is_kept(run, checkpoint, pictures, monkeypatch, kept):
    def stop(*args, **kwargs):
        with on_stop(kept[1] if kept else ""), on_stop(lambda: kept[0] if kept else ""):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("acn_hf.depth.profile.measure_depth_profile", stop)
    result = run("profile", checkpoint, pictures)
    assert result.exit_code == 130
    assert result.stderr.strip() == "; ".join(["stopped", *kept])
    assert run("--debug", "profile", checkpoint, pictures).exit_code == 130


# --- a failed run: exit code 1 and one line


def test_a_folder_that_is_no_checkpoint_is_one_line(run, pictures, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in one_line(run("profile", tmp_path / "empty", pictures))
    assert "missing" in one_line(run("profile", tmp_path / "missing", pictures))


def test_a_model_without_plain_layers_is_one_line(run, reviews, tmp_path):
    config = transformers.AlbertConfig(hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=9)
    transformers.AlbertForSequenceClassification(config).save_pretrained(tmp_path / "albert")
    line = one_line(run("compress", tmp_path / "albert", reviews, tmp_path / "out"))
    assert "DepthError" in line
    assert "AlbertForSequenceClassification has none: its layers share weights" in line
    assert not (tmp_path / "out").exists()


def test_data_that_do_not_fit_are_one_line(run, checkpoint, pictures, tmp_path):
    line = one_line(run("compress", checkpoint, pictures, tmp_path / "out", "--label-column", "stars"))
    assert "must have a column 'stars'; got image, label" in line
    assert not (tmp_path / "out").exists()


def test_a_truncated_checkpoint_is_one_line(run, checkpoint, pictures):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "must be whole" in one_line(run("profile", checkpoint, pictures))


def test_a_full_disk_leaves_nothing_behind(run, checkpoint, pictures, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ViTImageProcessorPil, "save_pretrained", full)
    *warnings, line = run("compress", checkpoint, pictures, tmp_path / "out").stderr.strip().splitlines()
    assert f"No space left on device: '{tmp_path / 'out'}'; free space there; nothing was written" in line
    assert all(one.startswith("warning: ") for one in warnings)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "images"}


def test_debug_shows_the_traceback(run, pictures, tmp_path):
    result = run("--debug", "profile", tmp_path / "missing", pictures)
    assert isinstance(result.exception, OSError)


# --- the demo, small


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of a demo that trains for a few steps."""
    out = tmp_path_factory.mktemp("small") / "demo"
    with quiet_command() as run:
        result = run("demo", "--out", out, "--epochs", 0.1)
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.slow
def test_demo_is_the_main_job(demo):
    out = demo
    assert {"compressed", "depth_profile.json", "depth_profile.png", "result.json"} <= {p.name for p in out.iterdir()}
    summary = json.loads((out / "result.json").read_text())
    short = AutoModelForImageClassification.from_pretrained(out / "compressed")
    assert short.config.num_hidden_layers == summary["chosen_depth"]
    assert summary["num_parameters"]["after"] == short.num_parameters() <= summary["num_parameters"]["before"]
    tested = summary["test_accuracy"]
    assert tested["reloaded"] == tested["compressed"]
    facts = CardFacts.load(out / "compressed" / "model_card.json")
    assert facts.results == {"accuracy": tested["compressed"]}
    assert facts.training["num_train_epochs"] == 0.1
    test = digits()["test"]
    with torch.no_grad():
        right = short(pixel_values=test["pixel_values"][:]).logits.argmax(-1) == test["labels"][:]
    assert right.float().mean().item() == pytest.approx(tested["reloaded"])


@pytest.mark.slow
def test_the_compressed_demo_serves_a_pipeline(demo):
    classify = pipeline("image-classification", str(demo / "compressed"))
    assert len(classify(Image.new("L", (8, 8), 100), top_k=3)) == 3


def test_a_demo_is_not_written_among_other_things(run, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    assert "must be empty" in wrong_usage(run("demo", "--out", tmp_path, "--epochs", 0.1))


def test_demo_splits_do_not_overlap():
    data = digits()
    assert {name: len(rows) for name, rows in data.items()} == {"train": 1078, "validation": 359, "test": 360}
    assert isinstance(data["train"], datasets.Dataset)
    seen = {name: {row.numpy().tobytes() for row in rows["pixel_values"]} for name, rows in data.items()}
    assert not seen["test"] & (seen["train"] | seen["validation"])
