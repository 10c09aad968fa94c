"""What cannot be exported is refused by a text that says why, and then nothing is left behind."""

import subprocess
import sys

import pytest
import torch

import acn_hf
from acn_hf.export import files as export, program as tracing
from tests.support.any_models import BODY, IMAGES, TEXT, AnyModel, any_model
from tests.support.families import by_name

HEAD = by_name("bert-ForSequenceClassification")
EXPORTS = {"onnx": acn_hf.export_onnx, "program": acn_hf.export_program}
each_export = pytest.mark.parametrize("export_to", EXPORTS.values(), ids=EXPORTS)


@pytest.fixture
def model(build):
    return build(HEAD, num_hidden_layers=1)


@pytest.fixture
def mixer(build):
    """A model that is fast to export."""
    return build(by_name("mixer-ForImageClassification"), num_hidden_layers=1)


def test_a_quantised_model_is_no_onnx(model, tmp_path):
    model.config.quantization_config = {"quant_method": "torchao"}  # what transformers leaves there
    with pytest.raises(ValueError, match=r"ONNX is written from float weights, .*; got a quantised model"):
        acn_hf.export_onnx(model, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("opset", [17, 0, True, "20"])
def test_opsets_that_there_are_not(opset, model, tmp_path):
    with pytest.raises(ValueError, match=f"opset must be a whole number >= 18, the oldest .* got {opset!r}"):
        acn_hf.export_onnx(model, tmp_path, opset=opset)


def test_an_opset_that_torch_does_not_write(mixer, tmp_path):
    with pytest.raises(acn_hf.ExportError, match=r"torch \S+ cannot write opset 99; the model is in opset \d\d"):
        acn_hf.export_onnx(mixer, tmp_path / "new", opset=99)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_why_opset_17_is_not_offered(build, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LEAST_OPSET", 17)
    answers = by_name("bert-ForQuestionAnswering")
    with pytest.raises(acn_hf.ExportError, match=r"onnxruntime \S+ cannot run .* num_outputs for operator Split"):
        acn_hf.export_onnx(build(answers, num_hidden_layers=0), tmp_path, opset=17)


def test_another_quantization(model, tmp_path):
    with pytest.raises(ValueError, match="quantize must be None or \"int8\"; got 'int4'"):
        acn_hf.export_onnx(model, tmp_path, quantize="int4")


@each_export
def test_a_file_in_the_place_of_the_folder(export_to, model, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"the place to export to must be a folder; .*file is a file"):
        export_to(model, tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"


@each_export
@pytest.mark.parametrize("name", ["model.onnx", "model.pt2"])
def test_the_name_of_a_file_in_the_place_of_the_folder(export_to, name, model, tmp_path):
    with pytest.raises(
        ValueError, match=f"folder must be the name of a folder, in which model.* is written; got .*{name}"
    ):
        export_to(model, tmp_path / name)


@each_export
def test_an_export_that_is_there(export_to, mixer, tmp_path, files):
    acn_hf.export_program(mixer, tmp_path)
    before = files(tmp_path)
    with pytest.raises(FileExistsError, match=r"holds an export \(config.json\): overwrite=True replaces it"):
        export_to(mixer, tmp_path)
    assert files(tmp_path) == before
    (tmp_path / "README.md").write_text("mine")
    report = export_to(mixer, tmp_path, overwrite=True)
    assert set(files(tmp_path)) == {"README.md", "config.json", report.path.split("/")[-1]}


@each_export
def test_a_checkpoint_in_the_folder(export_to, model, tmp_path, files):
    model.save_pretrained(tmp_path)
    before = files(tmp_path)
    with pytest.raises(FileExistsError, match=r"no checkpoint, .* holds model.safetensors: export to .*onnx, say"):
        export_to(model, tmp_path, overwrite=True)
    assert files(tmp_path) == before


REFUSED = {
    "LongformerForSequenceClassification": (
        {**TEXT, "attention_window": 4},
        acn_hf.ExportError,
        r"torch.export of torch \S+ cannot export Longformer\S+: Could not guard on data-dependent expression [^\n]*$",
    ),
    "MobileBertForSequenceClassification": (
        {**TEXT, "embedding_size": 32, "true_hidden_size": 32, "intra_bottleneck_size": 32},
        acn_hf.ExportError,
        r"cannot export MobileBert\S+: Constraints violated \(sequence_length\)! - Not all values of [^\n]*$",
    ),
    "BeitForMaskedImageModeling": (
        {**BODY, **IMAGES, "use_mask_token": False},
        acn_hf.ExportError,
        r"Beit\S+ must run on {'pixel_values': \('batch_size', 3, 16, 16\), .*} to be exported: 'None",
    ),
    "Dinov2Backbone": (
        {**BODY, **IMAGES},
        acn_hf.ExportError,
        "a model must return tensors to be exported; those of Dinov2Backbone lie in others",
    ),
    "PatchTSTForPrediction": (
        {"d_model": 16, "num_attention_heads": 2, "ffn_dim": 16, "num_hidden_layers": 2},
        ValueError,
        r"made of input_ids, pixel_values, input_values, input_features; PatchTST\S+ takes past_values",
    ),
    "T5ForConditionalGeneration": (
        {"d_model": 32, "num_layers": 3, "num_heads": 2, "d_ff": 32, "d_kv": 16, "vocab_size": 60},
        acn_hf.DepthError,
        r"a model must have one stack of layers to have depth; T5ForConditionalGeneration has 2: encoder\.block, dec",
    ),
}


@each_export
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name.startswith("MobileBert") else ()) for name in REFUSED]
)
def test_upstream_models_that_cannot_be_exported(export_to, name, tmp_path):
    fields, error, text = REFUSED[name]
    with pytest.raises(error, match=text):
        export_to(AnyModel(name, fields).build(), tmp_path / "new")
    assert not list(tmp_path.iterdir())


@each_export
def test_a_depth_that_a_class_of_transformers_does_not_have(export_to, tmp_path):
    model = any_model("ModernBertForMaskedLM").build()
    with pytest.raises(acn_hf.DepthError, match=r"depth must lie in \[1, 4\] for ModernBert\S+, which needs a layer"):
        export_to(model, tmp_path / "new", depth=0)
    with pytest.raises(acn_hf.DepthError, match=r"depth must lie in \[0, 4\] for this model; got 5"):
        export_to(model, tmp_path / "new", depth=5)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@each_export
def test_a_model_that_calls_operators_of_transformers(export_to, tmp_path, monkeypatch):
    mixture = any_model("MixtralForCausalLM").build()
    monkeypatch.setattr(type(mixture), "_can_set_experts_implementation", lambda *_: False)
    with pytest.raises(acn_hf.ExportError, match=r"run without transformers; Mixtral\S+ calls transformers\.group"):
        export_to(mixture, tmp_path / "new", depth=1)
    assert not list(tmp_path.iterdir())


@each_export
def test_what_is_no_model_of_transformers(export_to, tmp_path):
    with pytest.raises(TypeError, match="only models of transformers have depth; got Linear"):
        export_to(torch.nn.Linear(2, 2), tmp_path / "new")
    assert not list(tmp_path.iterdir())


@each_export
def test_sharded_weights(export_to, model, tmp_path, monkeypatch):
    monkeypatch.setattr("acn_hf.support.wrappers.FSDPModule", type(model))
    with pytest.raises(TypeError, match="the weights of the model must be whole, and FSDP shards them"):
        export_to(model, tmp_path)


@each_export
def test_weights_that_are_not_in_memory(export_to, model, tmp_path):
    with pytest.raises(ValueError, match=r"must be in memory to be exported; bert.embeddings.* is on the meta device"):
        export_to(model.to("meta"), tmp_path)


@each_export
def test_a_depth_that_the_model_does_not_have(export_to, model, tmp_path):
    with pytest.raises(acn_hf.DepthError, match=r"depth must lie in \[0, 1\] for this model; got 2"):
        export_to(model, tmp_path, depth=2)


@each_export
def test_an_export_that_computes_something_else(export_to, mixer, tmp_path, monkeypatch):
    def another(forward):
        changed = tracing.served(mixer, None)
        changed.model.classifier.bias.add_(0.01)
        return tracing.traced(changed)

    monkeypatch.setattr(export, "traced", another)
    with pytest.raises(acn_hf.ExportError, match=r"must be within 0.0001 of the model's; they differ by 0.00\d+"):
        export_to(mixer, tmp_path / "new")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@each_export
def test_a_size_that_was_taken_for_a_constant(export_to, model, tmp_path, monkeypatch):
    monkeypatch.setattr(tracing, "dynamic_shapes", lambda forward, inputs: dict.fromkeys(inputs))
    with pytest.raises(acn_hf.ExportError, match=r"must take every size; it fails for \{'input_ids': \(1, 1\)"):
        export_to(model, tmp_path / "new")
    assert not list(tmp_path.iterdir())


@each_export
def test_weights_that_are_no_numbers(export_to, mixer, tmp_path):
    with torch.no_grad():
        mixer.classifier.bias.fill_(float("nan"))
    with pytest.raises(
        acn_hf.ExportError, match="the outputs must be finite numbers, for random inputs too; logits is not"
    ):
        export_to(mixer, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_outputs_that_are_missing(model):
    with pytest.raises(acn_hf.ExportError, match=r"must return \{'logits': \(1, 3\)\}; got \{\}"):
        tracing.largest_difference(tracing.served(model, None), lambda inputs: {})


FULL_DISK = """
import resource, signal, sys
import acn_hf
config = acn_hf.AcnBertConfig(hidden_size=64, num_attention_heads=4, num_hidden_layers=1)
model = acn_hf.AcnBertModel(config)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    getattr(acn_hf, sys.argv[1])(model, sys.argv[2])
except OSError as error:
    print("OSError", error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["export_onnx", "export_program"])
def test_a_disk_that_is_full(name, tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, name, tmp_path / "new"], capture_output=True, text=True)
    assert done.stdout.startswith("OSError"), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_names_the_extra(missing, model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"export to ONNX needs {missing}: pip install 'acn-hf\[onnx\]'"):
        acn_hf.export_onnx(model, tmp_path)


def test_programs_need_no_extra(model, tmp_path, monkeypatch):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    assert acn_hf.export_program(model, tmp_path).max_difference == 0
