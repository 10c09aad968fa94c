"""The command `acn-hf export`, for ACNs and for checkpoints of transformers as they are."""

import json

import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor

from tests.support.any_models import TEXT, AnyModel, any_model
from tests.support.command_line import checkpoint, gpt2, names_in, one_line, residual, run, wrong_usage

__all__ = ["checkpoint", "gpt2", "residual", "run"]


@pytest.mark.slow
@pytest.mark.parametrize(("form", "name"), [("onnx", "model.onnx"), ("program", "model.pt2")])
def test_export_writes_a_file_that_was_checked(run, checkpoint, tmp_path, form, name):
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    result = run("export", checkpoint, tmp_path / "exported", "--format", form, "--depth", 1)
    assert result.exit_code == 0, result.output
    assert {name, "config.json", "preprocessor_config.json"} <= names_in(tmp_path / "exported")
    assert f"{name}: 1 layers" in result.output
    assert "largest difference from the model" in result.output
    assert "must be empty" in wrong_usage(run("export", checkpoint, tmp_path / "exported", "--format", form))
    again = run("export", checkpoint, tmp_path / "exported", "--format", form, "--overwrite")
    assert again.exit_code == 0, again.output


@pytest.mark.slow
def test_export_in_8_bits(run, checkpoint, tmp_path):
    pytest.importorskip("onnxruntime")
    result = run("export", checkpoint, tmp_path / "exported", "--int8")
    assert result.exit_code == 0, result.output
    assert "model_int8.onnx" in names_in(tmp_path / "exported")
    assert "model.onnx" not in names_in(tmp_path / "exported")


def test_what_cannot_be_exported_leaves_nothing(run, checkpoint, gpt2, tmp_path):
    out = tmp_path / "exported"
    assert "depth must lie in [0, 3] for this model; got 4" in one_line(
        run("export", checkpoint, out, "--format", "program", "--depth", 4)
    )
    assert "depth must lie in [0, 1] for this model; got 2" in one_line(run("export", gpt2, out, "--depth", 2))
    text = wrong_usage(run("export", checkpoint, out, "--format", "program", "--int8"))
    assert "--int8 is for --format onnx; got --format program" in text
    assert "--opset is for --format onnx" in wrong_usage(
        run("export", checkpoint, out, "--format", "program", "--opset", 20)
    )
    assert not out.exists()
    assert "format" in wrong_usage(run("export", checkpoint, out, "--format", "tflite"))


@pytest.mark.parametrize(
    ("form", "name"), [pytest.param("onnx", "model.onnx", marks=pytest.mark.slow), ("program", "model.pt2")]
)
def test_export_takes_a_checkpoint_of_transformers_as_it_is(run, residual, tmp_path, form, name):
    result = run("export", residual, tmp_path / "exported", "--format", form, "--depth", 1)
    assert result.exit_code == 0, result.output
    assert names_in(tmp_path / "exported") == {name, "config.json", "tokenizer.json", "tokenizer_config.json"}
    assert f"{name}: 1 layers" in result.output
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert (config["model_type"], config["num_hidden_layers"]) == ("bert", 1)
    assert config["architectures"] == ["BertForSequenceClassification"]


@pytest.mark.slow
@pytest.mark.parametrize("mask", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_export_takes_the_processor_of_a_sound(run, tmp_path, mask):
    source, out = tmp_path / "sound", tmp_path / "exported"
    any_model("Wav2Vec2ForSequenceClassification").build(feat_extract_norm="layer").save_pretrained(source)
    Wav2Vec2FeatureExtractor(return_attention_mask=mask).save_pretrained(source)
    result = run("export", source, out, "--format", "program", "--depth", 1)
    assert result.exit_code == 0, result.output
    assert "preprocessor_config.json" in names_in(out)
    taken = torch.export.load(out / "model.pt2").graph_signature.user_inputs
    assert taken == (("input_values", "attention_mask") if mask else ("input_values",))


UNFIT = {
    "no feature extractor": ("must hold the feature extractor of the model", ()),
    "two stacks": ("T5ForConditionalGeneration has 2: encoder.block, decoder.block", ()),
    "no weights": ("no file named model.safetensors", ()),
    "no depth 0": ("depth must lie in [1, 4] for ModernBertForMaskedLM, which needs a layer; got 0", ("--depth", 0)),
    "torch.export": ("cannot export LongformerForSequenceClassification: Could not guard on data-dependent", ()),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_checkpoints_of_transformers_that_cannot_be_exported(run, tmp_path, kind):
    text, options = UNFIT[kind]
    source, out = tmp_path / "source", tmp_path / "exported"
    unfit = {
        "two stacks": AnyModel(
            "T5ForConditionalGeneration", {"d_model": 8, "num_layers": 2, "num_heads": 1, "d_ff": 8}
        ),
        "no feature extractor": any_model("ASTForAudioClassification"),
        "torch.export": AnyModel("LongformerForSequenceClassification", {**TEXT, "attention_window": 4}),
    }
    unfit.get(kind, any_model("ModernBertForMaskedLM")).build().save_pretrained(source)
    if kind == "no weights":
        (source / "model.safetensors").unlink()
    if kind == "no feature extractor":  # but a tokenizer
        (source / "tokenizer_config.json").write_text("{}")
    assert text in one_line(run("export", source, out, "--format", "program", *options))
    assert not out.exists()
