"""Exports compute what the model computes, at every size, and leave the model alone."""

import copy
import json

import onnx
import peft
import pytest
import torch
from accelerate import dispatch_model
from torch.export.passes import move_to_device_pass

import acn_hf
from acn_hf.export.files import ExportReport
from tests.support.adapted import any_peft, each_way, quiet
from tests.support.covering import covering
from tests.support.exporting import TEXT, difference, differences, run_onnx, run_program, session, sized_inputs
from tests.support.families import HEADS, NUM_LAYERS, by_name, each_head, heads_in_turn

__all__ = ["any_peft"]
TOLERANCE = 1e-4
TWO_HEADS = [by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")]
EXPORTED = [
    by_name(name)
    for name in (
        "bert-ForMultipleChoice",
        "vit-ForMaskedImageModeling",
        "mixer-ForImageClassification",
    )
]
"""What the fast tests export; the slow ones export every head."""
PROGRAM = by_name("bert-ForSequenceClassification")
"""The head of the tests that need one export, which is fastest as a program."""
MIXER = by_name("mixer-ForImageClassification")
"""The head that is fastest as ONNX, for what does not depend on the head."""
DEEP = {
    "residual": {"residual_scale": 1.0},
    "half": {"residual_scale": 0.5},
    "learned": {"residual_scale": [1.0, 0.25, 0.0], "learn_residual_scale": True},
    "sum": {"residual_scale": [1.0, 0.25, 0.0], "readout": "sum", "attention_residual": True},
}


def checked_onnx(model, folder, head, *, short=None, **options):
    """Export and compare at every size; return the report."""
    report = acn_hf.export_onnx(model, folder, **options)
    assert report.max_difference < TOLERANCE
    assert differences(run_onnx(report.path), short or model, head) < TOLERANCE
    return report


def checked_program(model, folder, head, *, short=None, **options):
    report = acn_hf.export_program(model, folder, **options)
    assert report.max_difference < TOLERANCE
    assert differences(run_program(report.path), short or model, head) < TOLERANCE
    return report


@each_head(EXPORTED)
def test_onnx_equals_the_model_at_every_size(head, build, tmp_path):
    num_layers = 1 if head.has_attention else 2  # ONNX takes longest for attention
    model = build(head, num_hidden_layers=num_layers)
    report = checked_onnx(model, tmp_path, head)
    running = session(report.path)
    sizes = {given.name: given.shape for given in running.get_inputs()}
    assert set(sizes) == set(head.inputs())
    assert all(shape[0] == "batch_size" for shape in sizes.values())
    if set(sizes) == TEXT:
        choices = ["num_choices"] if head.name == "bert-ForMultipleChoice" else []
        assert all(shape == ["batch_size", *choices, "sequence_length"] for shape in sizes.values())
    assert (report.depth, report.opset, report.quantize) == (num_layers, 20, None)
    assert report.size_bytes == (tmp_path / "model.onnx").stat().st_size
    onnx.checker.check_model(report.path, full_check=True)


@pytest.mark.slow
@each_head(EXPORTED)
def test_programs_equal_the_model_at_every_size(head, build, tmp_path):
    report = checked_program(build(head), tmp_path, head)
    assert (report.depth, report.opset, report.quantize) == (NUM_LAYERS, None, None)
    assert report.max_difference == 0


@pytest.mark.parametrize(("head", "depth"), list(zip(TWO_HEADS, [1, 0], strict=True)), ids=["bert-1", "vit-0"])
def test_onnx_of_a_depth_is_the_truncated_model(head, depth, build, tmp_path):
    model = build(head, **DEEP["sum"])
    report = checked_onnx(model, tmp_path, head, short=acn_hf.truncate(model, depth), depth=depth)
    assert report.depth == depth
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["num_hidden_layers"], len(config["residual_scale"])) == (depth, depth)


@pytest.mark.parametrize(("head", "depth"), list(zip(TWO_HEADS, [0, 1], strict=True)), ids=["bert-0", "vit-1"])
def test_programs_of_a_depth_are_the_truncated_model(head, depth, build, tmp_path):
    model = build(head, **DEEP["sum"])
    checked_program(model, tmp_path, head, short=acn_hf.truncate(model, depth), depth=depth)


@pytest.mark.slow
@heads_in_turn(whole=False, options={"learned": DEEP["learned"], "sum": DEEP["sum"], "acn": {}}, depth=[None, 1, 0])
def test_onnx_of_heads_connections_and_depths(head, options, depth, build, tmp_path):
    """Which of them meet is traced in the same way for programs: those below have every pair."""
    model = build(head, **options)
    short = acn_hf.truncate(model, NUM_LAYERS if depth is None else depth)
    checked_onnx(model, tmp_path, head, short=short, depth=depth)


@pytest.mark.slow
@covering(head=HEADS, options=DEEP | {"acn": {}}, depth=[None, 1, 0], whole=False)
def test_programs_of_every_head_connection_and_depth(depth, options, head, build, tmp_path):
    model = build(head, **options)
    short = acn_hf.truncate(model, NUM_LAYERS if depth is None else depth)
    checked_program(model, tmp_path, head, short=short, depth=depth)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, pytest.param(23, marks=pytest.mark.full)])
def test_onnx_of_another_opset(opset, build, tmp_path):
    head = by_name("bert-ForQuestionAnswering")
    assert checked_onnx(build(head, num_hidden_layers=1), tmp_path, head, opset=opset).opset == opset
    found = onnx.load(tmp_path / "model.onnx").opset_import
    assert [item.version for item in found if item.domain == ""] == [opset]


@pytest.mark.slow
def test_any_number_of_choices(build, tmp_path):
    head = by_name("bert-ForMultipleChoice")
    model = build(head, num_hidden_layers=1)
    run = run_program(acn_hf.export_program(model, tmp_path).path)
    for num_choices in (1, 2, 5):
        assert difference(run, model, sized_inputs(head, 3, 6, num_choices)) < TOLERANCE


def quantized(head, model, folder):
    """Export in int8, check what must hold for every head, and return how far it is from the model."""
    report = acn_hf.export_onnx(model, folder, quantize="int8")
    assert (report.quantize, (folder / "model_int8.onnx").stat().st_size) == ("int8", report.size_bytes)
    assert not (folder / "model.onnx").exists()
    stored = {tensor.data_type for tensor in onnx.load(report.path).graph.initializer}
    assert onnx.TensorProto.INT8 in stored
    assert differences(run_onnx(report.path), model, head) < 0.3 * largest_output(head, model)
    return report.max_difference


def largest_output(head, model):
    with torch.no_grad():
        return max(float(value.abs().max()) for value in model(**head.inputs()).values() if value.ndim)


@pytest.mark.slow
@each_head()
def test_int8_runs_for_every_head_and_its_difference_is_reported(head, build, tmp_path):
    assert TOLERANCE < quantized(head, build(head, num_hidden_layers=1), tmp_path) < 0.3


@pytest.mark.slow
def test_int8_takes_a_quarter_of_the_space(tmp_path):
    config = acn_hf.AcnBertConfig(vocab_size=3000, hidden_size=128, num_hidden_layers=1, num_attention_heads=4)
    model = acn_hf.AcnBertForMaskedLM(config)
    weights = 4 * model.num_parameters()  # the bytes of float32, without which no file of the model can be
    assert acn_hf.export_onnx(model, tmp_path, quantize="int8").size_bytes < 0.3 * weights


@pytest.mark.slow
def test_weights_that_are_too_large_for_one_file_lie_beside_it(build, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 1024)
    model = build(MIXER, num_hidden_layers=1)
    report = checked_onnx(model, tmp_path, MIXER)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"config.json", "model.onnx", "model.onnx.data"}
    assert report.size_bytes == sizes["model.onnx"] + sizes["model.onnx.data"]
    acn_hf.export_onnx(model, tmp_path, quantize="int8", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model_int8.onnx"}


def test_the_model_is_left_as_it_is(build, tmp_path):
    model = build(PROGRAM).train()
    model.bert.pooler.eval()
    calls = []
    hooks = [
        module.register_forward_hook(lambda *_: calls.append(1)) for module in (model, model.bert.encoder.layer[0])
    ]
    config, weights = model.config.to_dict(), copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    torch.manual_seed(5)
    acn_hf.export_program(model, tmp_path, depth=1)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert model.config.to_dict() == config
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not calls
    model(**PROGRAM.inputs())
    assert len(calls) == len(hooks)


@pytest.mark.slow
def test_what_the_caller_is_in_is_not_traced(build, tmp_path):
    model = build(PROGRAM, num_hidden_layers=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        checked = acn_hf.export_program(model, tmp_path / "autocast")
    with torch.inference_mode():
        again = acn_hf.export_program(model, tmp_path / "inference")
    for report in (checked, again):
        assert differences(run_program(report.path), model, PROGRAM) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"chunk_size_feed_forward": 2},
        {"attn_implementation": "eager"},
        {"max_position_embeddings": 2},
        {"max_position_embeddings": 1},
    ],
    ids=str,
)
def test_configs_that_tracing_could_stumble_over(options, tmp_path):
    model = PROGRAM.build(**options, num_hidden_layers=1)
    run = run_program(acn_hf.export_program(model, tmp_path).path)
    model.config.chunk_size_feed_forward = 0
    for layer in model.bert.encoder.layer:
        layer.chunk_size_feed_forward = 0
    lengths = range(1, min(4, model.config.max_position_embeddings) + 1)
    assert max(difference(run, model, sized_inputs(PROGRAM, 3, length)) for length in lengths) < TOLERANCE


@each_head(TWO_HEADS)
def test_outputs_that_a_config_adds_are_left_out(head, build, tmp_path):
    one = {"num_hidden_layers": 1}
    model, plain = build(head, attn_implementation="eager", **one), build(head, **one)
    model.config.output_hidden_states = model.config.output_attentions = True
    model.config.return_dict = False
    assert difference(run_program(acn_hf.export_program(model, tmp_path).path), plain, head.inputs()) < TOLERANCE


def test_a_model_that_accelerate_dispatched(build, tmp_path):
    model = build(PROGRAM)
    short = acn_hf.truncate(model, 1)
    dispatched = dispatch_model(model, {"": "cpu"}, force_hooks=True)
    report = acn_hf.export_program(dispatched, tmp_path, depth=1)
    assert differences(run_program(report.path), short, PROGRAM) < TOLERANCE
    assert "forward" in vars(dispatched)


@pytest.mark.slow
def test_wrapped_models_are_taken_for_the_model_inside(build, tmp_path):
    model = build(PROGRAM)
    for name, wrapped in {
        "compiled": torch.compile(model, backend="eager"),
        "parallel": torch.nn.DataParallel(model),
    }.items():
        report = acn_hf.export_program(wrapped, tmp_path / name, depth=1)
        assert differences(run_program(report.path), acn_hf.truncate(model, 1), PROGRAM) < TOLERANCE


@pytest.mark.slow
@quiet
@each_way
@pytest.mark.usefixtures("any_peft")
def test_adapters_are_merged(adapt, build, tmp_path):
    plain, adapted = build(PROGRAM), adapt(build(PROGRAM))
    merged = acn_hf.truncate(adapted, 1, merge_adapter=True)
    run = run_program(acn_hf.export_program(adapted, tmp_path, depth=1).path)
    assert differences(run, merged, PROGRAM) < TOLERANCE
    assert differences(run, acn_hf.truncate(plain, 1), PROGRAM) > 0.01
    assert any("lora_" in name for name in adapted.state_dict())
    assert isinstance(adapted, peft.PeftModel) or adapted.active_adapters() == ["default"]


def test_onnx_of_a_bfloat16_model_has_its_weights_in_float32(build, tmp_path):
    model = build(MIXER, num_hidden_layers=1).bfloat16()
    wide = copy.deepcopy(model).float()
    checked_onnx(model, tmp_path, MIXER, short=wide)
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_programs_keep_the_precision_of_the_model(dtype, build, tmp_path):
    model = build(PROGRAM, num_hidden_layers=1).to(dtype)
    report = checked_program(model, tmp_path, PROGRAM)
    assert torch.export.load(report.path).module()(**PROGRAM.inputs())["logits"].dtype == dtype


def test_programs_hold_nothing_that_is_bound_to_the_cpu(build, tmp_path):
    program = torch.export.load(acn_hf.export_program(build(PROGRAM, num_hidden_layers=1), tmp_path).path)
    moved = move_to_device_pass(program, "meta").module()
    inputs = {name: value.to("meta") for name, value in PROGRAM.inputs().items()}
    assert moved(**inputs)["logits"].device.type == "meta"


@pytest.mark.gpu
def test_models_on_a_gpu_are_exported_from_a_copy_and_programs_run_there(build, tmp_path):
    model = build(PROGRAM)
    report = acn_hf.export_program(copy.deepcopy(model).to("cuda"), tmp_path / "program")
    assert differences(run_program(report.path), model, PROGRAM) < TOLERANCE
    moved = move_to_device_pass(torch.export.load(report.path), "cuda").module()
    inputs = PROGRAM.inputs()
    found = moved(**{name: value.to("cuda") for name, value in inputs.items()})["logits"].cpu()
    assert torch.allclose(found, model(**inputs).logits, atol=1e-3)
    checked_onnx(copy.deepcopy(model).to("cuda"), tmp_path / "onnx", PROGRAM, short=model)


@pytest.mark.slow
def test_the_files_name_no_folder_of_this_machine(build, tmp_path, files):
    build(MIXER, num_hidden_layers=1).save_pretrained(tmp_path / "checkpoint")
    model = MIXER.acn.from_pretrained(tmp_path / "checkpoint")
    acn_hf.export_onnx(model, tmp_path / "onnx")
    acn_hf.export_program(model, tmp_path / "program")
    for folder in (tmp_path / "onnx", tmp_path / "program"):
        for name, content in files(folder).items():
            for place in (str(tmp_path), str(copy.__file__).rsplit("/", 1)[0], acn_hf.__file__.rsplit("/", 1)[0]):
                assert place.encode() not in content, name
        assert "auto_map" not in (folder / "config.json").read_text()


def test_the_report_saves_and_loads(tmp_path):
    report = ExportReport("onnx/model.onnx", 4, 20, None, 1000, 1e-6, 8)
    report.save(tmp_path / "report.json")
    assert ExportReport.load(tmp_path / "report.json") == report
