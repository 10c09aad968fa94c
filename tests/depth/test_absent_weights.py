"""Weights that are offloaded, or that hold no numbers: what works does so exactly, and the rest is refused."""

import copy
import re

import pytest
import torch
from accelerate import cpu_offload
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from acn_hf import (
    ConversionError,
    depth_logits,
    from_residual,
    measure_cost,
    measure_depth_profile,
    save_truncated,
    to_residual,
    truncate,
)
from acn_hf.modeling.depth import DepthError
from tests.modeling.test_conformance_saving import same_weights
from tests.support.families import NUM_LAYERS, by_name

HEAD = by_name("bert-ForSequenceClassification")
ON_DISK = {"bert.embeddings": "cpu", "bert.encoder": "disk", "bert.pooler": "cpu", "dropout": "cpu"} | {
    "classifier": "cpu"
}
CONVERSIONS = {"acn": to_residual, "upstream": from_residual}

pytestmark = [
    pytest.mark.filterwarnings("ignore:Attempting to save a model with offloaded modules"),
    pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter"),
]
each_kind = pytest.mark.parametrize("kind", CONVERSIONS)


@pytest.fixture
def model(build, kind):
    """An ACN of scale 1, or the upstream model that computes the same."""
    acn = build(HEAD, residual_scale=1.0)
    return acn if kind == "acn" else to_residual(acn)


@pytest.fixture(params=["disk", "cpu", "all"])
def offloaded(request, model, tmp_path):
    """The same model, of which `device_map` put a part on the disk or the CPU, or accelerate all to the CPU."""
    if request.param == "all":
        return cpu_offload(copy.deepcopy(model), torch.device("cpu"))
    model.save_pretrained(tmp_path / "whole")
    places = ON_DISK if request.param == "disk" else "cpu"
    return AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "whole", device_map=places, offload_folder=tmp_path / "offloaded"
    )


def is_whole(model):
    return not any(weight.is_meta for weight in model.parameters())


def refused(error, text, function, *args, **options):
    with pytest.raises(error, match=re.escape(text)):
        function(*args, **options)


def absent(model, place):
    names = [name for name, weight in model.named_parameters() if weight.is_meta]
    return f"; {len(names)} of this {type(model).__name__} are {place}, among them {names[0]}"


OFFLOADED, EMPTY = "offloaded to the CPU or to disk", "on the meta device"


@each_kind
@torch.no_grad()
def test_offloaded_models_have_all_their_depths(model, offloaded):
    inputs = HEAD.inputs(labels=True)
    assert torch.equal(depth_logits(offloaded, **inputs), depth_logits(model, **inputs))
    assert torch.equal(truncate(offloaded, 2)(**inputs).logits, truncate(model, 2)(**inputs).logits)
    values = measure_depth_profile(model, [inputs], metric="loss").values
    assert measure_depth_profile(offloaded, [inputs], metric="loss").values == values
    assert measure_cost(offloaded).size_bytes == measure_cost(model).size_bytes


@each_kind
def test_offloaded_models_are_converted_in_memory_only(kind, model, offloaded):
    convert = CONVERSIONS[kind]
    if is_whole(offloaded):
        assert type(convert(offloaded)) is type(convert(model))
        return
    text = f"weights must be in memory to be converted{absent(offloaded, OFFLOADED)}. Load the model without device_map"
    refused(ConversionError, text, convert, offloaded)


@each_kind
def test_of_offloaded_models_those_of_a_device_map_are_saved(model, offloaded, tmp_path):
    if is_whole(offloaded) or hasattr(offloaded, "hf_device_map"):
        save_truncated(offloaded, tmp_path / "short", 2)
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "short")
        assert same_weights(loaded, truncate(model, 2))
        return
    text = f"weights must be in memory to be saved{absent(offloaded, OFFLOADED)}"
    refused(ValueError, text, save_truncated, offloaded, tmp_path / "short", 2)
    assert not (tmp_path / "short").exists()


@each_kind
def test_offloaded_models_are_measured_where_accelerate_put_them(offloaded):
    if not is_whole(offloaded):
        text = "device must be None, since accelerate chose one for this model; got cpu: "
        refused(ValueError, text, measure_depth_profile, offloaded, [HEAD.inputs(labels=True)], device="cpu")


def test_a_checkpoint_is_not_converted_on_disk(build, tmp_path):
    to_residual(build(HEAD, residual_scale=1.0)).save_pretrained(tmp_path / "whole")
    options = {"device_map": ON_DISK, "offload_folder": tmp_path / "offloaded"}
    text = "weights must be in memory to be converted; 48 of this BertForSequenceClassification are "
    refused(ConversionError, text + OFFLOADED, from_residual, tmp_path / "whole", **options)
    for options in ({"device_map": "cpu"}, {"device_map": "auto"}, {"low_cpu_mem_usage": True}):
        acn = from_residual(tmp_path / "whole", **options)
        assert is_whole(acn)
        assert same_weights(acn, from_residual(tmp_path / "whole"))


@each_kind
def test_models_without_numbers(model, tmp_path):
    empty, inputs = copy.deepcopy(model).to("meta"), HEAD.inputs(labels=True)
    assert truncate(empty, 2).config.num_hidden_layers == 2
    refused(
        ValueError, f"weights must be in memory to be saved{absent(empty, EMPTY)}", save_truncated, empty, tmp_path, 2
    )
    text = f"weights must hold numbers to be measured{absent(empty, EMPTY)}"
    for options in ({}, {"device": "cpu"}):
        refused(ValueError, text, measure_depth_profile, empty, [inputs], **options)


def test_depths_are_read_of_numbers():
    """Those of an ACN too, but there all is known without them: only the shape comes out."""
    config = HEAD.upstream.config_class(**{**HEAD.fields, "vocab_size": 41})  # of no other test, so not checked yet
    with torch.device("meta"):
        empty = BertForSequenceClassification(config)
    text = f"weights must hold numbers for the depths of a model to be read{absent(empty, EMPTY)}"
    refused(DepthError, text, depth_logits, empty, **HEAD.inputs())
    logits = depth_logits(from_residual(empty), input_ids=HEAD.inputs()["input_ids"])
    assert (logits.shape, logits.device.type) == ((NUM_LAYERS + 1, 2, 3), "meta")


@pytest.mark.parametrize("stored", [True, False])
def test_quantised_checkpoints(build, tmp_path, stored):
    original = to_residual(build(HEAD, residual_scale=1.0))
    quantised = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    original.config.update({"quantization_config": quantised} if stored else {})
    original.save_pretrained(tmp_path)
    text = f"weights must be plain numbers; those of {tmp_path} are quantised: "
    options = {} if stored else {"quantization_config": quantised}
    for architecture in (None, "BertForSequenceClassification"):
        refused(ConversionError, text, from_residual, tmp_path, architecture=architecture, **options)
