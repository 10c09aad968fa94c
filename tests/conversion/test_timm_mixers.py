"""MLP-Mixers of timm become AC-Mixers with the same weights; what does not map is refused by name."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForImageClassification

from acn_hf import AcnMixerForImageClassification, AcnMixerModel, ConversionError, convert_checkpoint, from_residual
from acn_hf.conversion.loader import NotAnAcnError, load_model
from acn_hf.conversion.timm_mixers import read_timm_model
from acn_hf.data.rows import load_image_processor
from tests.modeling.test_conformance_saving import same_weights
from tests.support.timm_stand_in import MlpMixer, write_checkpoint


@pytest.fixture
def images():
    return torch.randn(4, 1, 8, 8)


@pytest.mark.parametrize("source", ["model", "folder"])
def test_at_scale_1_it_computes_what_timm_computes(images, source, tmp_path):
    original, labels = MlpMixer(), torch.tensor([0, 2, 1, 2])
    acn = from_residual(original if source == "model" else write_checkpoint(original, tmp_path), residual_scale=1.0)
    output, expected = acn(images, labels=labels), original(images)
    assert type(acn) is AcnMixerForImageClassification
    assert torch.equal(output.logits, expected)
    loss = nn.functional.cross_entropy(expected, labels)
    assert torch.equal(output.loss, loss)
    output.loss.backward()
    loss.backward()
    with torch.no_grad():
        for weight in original.parameters():
            weight.copy_(weight.grad)
    gradients = dict(from_residual(original).named_parameters())
    assert all(torch.equal(weight.grad, gradients[name]) for name, weight in acn.named_parameters())


def test_at_scale_0_it_has_the_same_weights_and_other_connections(images):
    original = MlpMixer()
    acn, residual = from_residual(original), from_residual(original, residual_scale=1.0)
    assert acn.config.residual_scale == 0.0
    assert all(map(torch.equal, acn.state_dict().values(), residual.state_dict().values()))
    assert not torch.allclose(acn(images).logits, residual(images).logits)


def test_the_original_is_left_as_it_was_and_shares_nothing():
    original = MlpMixer()
    before, drawn = copy.deepcopy(original.state_dict()), torch.get_rng_state()
    acn = from_residual(original)
    assert torch.equal(torch.get_rng_state(), drawn)
    with torch.no_grad():
        for weight in acn.parameters():
            weight.add_(1)
    assert all(torch.equal(before[name], weight) for name, weight in original.state_dict().items())


def test_without_a_classifier_it_is_the_model_without_a_head(images):
    original = MlpMixer(num_classes=0)
    acn = from_residual(original, residual_scale=1.0)
    assert type(acn) is AcnMixerModel
    assert torch.equal(acn(images).pooler_output, original(images))


def test_dtype_mode_frozen_weights_and_fields_come_along():
    original = MlpMixer(rate=0.25, eps=1e-5).to(torch.bfloat16).eval()
    original.stem.requires_grad_(False)
    acn = from_residual(original, residual_scale=[1.0, 0.5, 0.0], learn_residual_scale=True, attention_residual=True)
    assert {weight.dtype for weight in acn.parameters()} == {torch.bfloat16}
    assert not acn.training
    assert from_residual(original.train()).training
    frozen = [name for name, weight in acn.named_parameters() if not weight.requires_grad]
    assert frozen == [f"mixer.embeddings.patch_embeddings.{name}" for name in ("weight", "bias")]
    config = acn.config
    assert (config.hidden_dropout_prob, config.layer_norm_eps, config.attention_residual) == (0.25, 1e-5, True)
    assert [layer.short_connection.residual_scale.item() for layer in acn.mixer.layers] == [1.0, 0.5, 0.0]


def test_a_folder_in_a_folder(tmp_path):
    original = MlpMixer()
    write_checkpoint(original, tmp_path / "best")
    assert same_weights(from_residual(tmp_path, subfolder="best"), from_residual(original))


def test_names_of_classes_come_along(tmp_path):
    names = ["cat", "dog", "owl"]
    assert from_residual(write_checkpoint(MlpMixer(), tmp_path, label_names=names)).config.id2label[2] == "owl"
    assert from_residual(write_checkpoint(MlpMixer(), tmp_path, label_names=names[:2])).config.num_labels == 3


def test_a_converted_folder_is_a_checkpoint_with_its_image_processor(tmp_path, images):
    original = MlpMixer()
    facts = convert_checkpoint(write_checkpoint(original, tmp_path / "timm"), tmp_path / "acn", residual_scale=1.0)
    assert facts.description == "Converted from a `mixer_s16_224`, and computes what that computes."
    assert facts.processor == "AutoImageProcessor"
    assert torch.equal(
        AutoModelForImageClassification.from_pretrained(tmp_path / "acn")(images).logits, original(images)
    )
    described = json.loads((tmp_path / "acn" / "preprocessor_config.json").read_text())
    assert described["size"] == {"shortest_edge": 10}
    assert described["crop_size"] == {"height": 8, "width": 8}
    assert (described["image_mean"], described["image_std"], described["resample"]) == ([0.2], [0.4], 2)


def test_pages_load_what_timm_wrote_if_it_is_to_be_converted(tmp_path):
    folder = write_checkpoint(MlpMixer(), tmp_path)
    assert type(load_model(folder, residual_scale=1.0)) is AcnMixerForImageClassification
    with pytest.raises(
        NotAnAcnError,
        match=f"of transformers can be cut; timm wrote {re.escape(str(folder))}",
    ):
        load_model(folder)


BROKEN = {
    "architecture": ("architecture of .* must be as timm writes it, a str; got", None, 3),
    "model_args": ("model_args of .* must be as timm writes it, a dict; got", [1], "a"),
    "pretrained_cfg": ("pretrained_cfg of .* must be as timm writes it, a dict; got", None, []),
    "input_size": ("input_size of .* must be channels, height and width; got", None, 8, [3, 8], "3,8,8", [3, "8", 8]),
}
EACH_BROKEN = [(name, value) for name, (_, *values) in BROKEN.items() for value in values]


@pytest.mark.parametrize(("name", "value"), EACH_BROKEN)
def test_a_config_that_timm_does_not_write_is_refused(name, value, tmp_path):
    folder = write_checkpoint(MlpMixer(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config.pop("model_args", None)
    (config["pretrained_cfg"] if name == "input_size" else config)[name] = value
    (folder / "config.json").write_text(json.dumps(config))
    refused(BROKEN[name][0], folder)


def test_a_config_without_its_parts_is_refused(tmp_path):
    folder = write_checkpoint(MlpMixer(), tmp_path)
    (folder / "config.json").write_text(json.dumps({"architecture": "mixer_s16_224"}))
    refused("pretrained_cfg of .* must be as timm writes it, a dict; got None", folder)


def test_patches_that_are_none_are_refused(tmp_path):
    folder = write_checkpoint(MlpMixer(), tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["stem.proj.weight"] = weights["stem.proj.weight"].flatten(1)
    save_file(weights, folder / "model.safetensors")
    refused("the patches of mixer_s16_224 must be those of images, of 4 axes; got weights of", folder)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("crop_pct", 0, r"crop_pct of mixer_s16_224 must lie in \(0, 1\]; got 0"),
        ("crop_pct", None, r"crop_pct of mixer_s16_224 must lie in \(0, 1\]; got None"),
        ("mean", (0.5, 0.5), r"mean of mixer_s16_224 must hold a number for each of its 1 channels; got \(0.5, 0.5\)"),
        ("std", (), r"std of mixer_s16_224 must hold a number for each of its 1 channels; got \(\)"),
    ],
)
def test_images_that_cannot_be_prepared_so_are_refused(name, value, text):
    model = MlpMixer()
    model.pretrained_cfg[name] = value
    with pytest.raises(ConversionError, match=text):
        read_timm_model(model).image_processor()


@pytest.mark.parametrize(("name", "value"), [("interpolation", "random"), ("crop_mode", "squash")])
def test_images_that_no_processor_prepares_so_are_refused(name, value, tmp_path):
    model = MlpMixer()
    model.pretrained_cfg[name] = value
    with pytest.raises(ConversionError, match=rf"^the {name} of mixer_s16_224 must be one of .*; got {value}$"):
        convert_checkpoint(write_checkpoint(model, tmp_path / "timm"), tmp_path / "acn")
    assert not (tmp_path / "acn").exists()


def refused(text, source, **options):
    with pytest.raises(ConversionError, match=text):
        from_residual(source, **options)


RELATIVES = {
    "resmlp_12_224": "resmlp_12_224, which has affine layers for norms and mixes its tokens by one linear layer",
    "gmixer_24_224": "gmixer_24_224, whose MLPs are gated",
    "gmlp_s16_224": "gmlp_s16_224, whose tokens are mixed by gates",
    "vit_tiny_patch16_224": "vit_tiny_patch16_224",
}


@pytest.mark.parametrize(("name", "text"), RELATIVES.items(), ids=RELATIVES)
def test_other_models_of_timm_are_refused_by_name(name, text, tmp_path):
    model = MlpMixer()
    model.pretrained_cfg["architecture"] = name
    for source in (model, write_checkpoint(model, tmp_path)):
        refused(f"^of the models of timm only a mixer_.* can be an AC-Mixer; got {text}$", source)


def test_a_model_of_another_class_is_refused():
    other = type("VisionTransformer", (nn.Linear,), {"__module__": "timm.models.vision_transformer"})(2, 2)
    refused("only a mixer_.* can be an AC-Mixer; got VisionTransformer$", other)


def with_part(path, module):
    model = MlpMixer()
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
    return model


PARTS = {
    "blocks.1.mlp_channels.act": (nn.SiLU(), "blocks.1.mlp_channels.act of this one is a SiLU"),
    "blocks.0.mlp_tokens.act": (nn.GELU("tanh"), "blocks.0.mlp_tokens.act of this one is a GELU of tanh"),
    "blocks.2.norm1": (nn.RMSNorm(16), "blocks.2.norm1 of this one is a RMSNorm"),
    "norm": (nn.LayerNorm(16, eps=1e-3), "the eps of all norms must be the same; got 1e-06, 0.001"),
    "blocks.0.mlp_tokens.drop1": (nn.Dropout(0.5), "the dropout of all blocks must be the same; got 0.0, 0.5"),
    "stem.norm": (nn.LayerNorm(16, eps=1e-6), "do not map to AcnMixerForImageClassification: stem.norm.bias"),
    "blocks.0.mlp_tokens.norm": (nn.LayerNorm(6, eps=1e-6), "do not map to .*: mixer.layers.0.token_mlp.norm.bias"),
    "blocks.1": (nn.Identity(), "do not map to AcnMixerForImageClassification: no mixer.layers.1.channel_mlp.fc1.bias"),
    "blocks.0": (nn.Identity(), "the weights of mixer_s16_224 do not map to an AC-Mixer: no blocks.0.mlp_tokens"),
    "stem.proj": (nn.Conv2d(1, 16, (4, 2), (4, 2)), "the patches of mixer_s16_224 must be square .*; got 4x2"),
    "blocks.2.mlp_tokens.fc1": (nn.Linear(4, 7), "must have the shapes of a Mixer: "),
}


@pytest.mark.parametrize("path", PARTS)
def test_other_parts_are_refused(path):
    module, text = PARTS[path]
    refused(text, with_part(path, module))


@pytest.mark.parametrize(("name", "value"), [("global_pool", ""), ("act_layer", "silu"), ("norm_layer", "rmsnorm")])
def test_other_parts_of_a_folder_are_refused(name, value, tmp_path):
    folder = write_checkpoint(MlpMixer(), tmp_path, model_args={name: value})
    refused(
        rf"must have the parts of timm's mixer_s16_224; {re.escape(str(folder))} was made with {name}='{value}'", folder
    )


def test_a_model_that_pools_nothing_is_refused():
    model = MlpMixer()
    model.global_pool = ""
    refused("must have the parts of timm's mixer_.*; global_pool is ''", model)


def test_images_that_are_not_square_are_refused():
    model = MlpMixer()
    model.stem.img_size = (16, 4)
    refused("the images of mixer_s16_224 must be square .*; got 16x4", model)


def test_what_has_no_place_is_refused(tmp_path):
    folder = write_checkpoint(MlpMixer(), tmp_path)
    refused(
        "pooling is for classes that have the choice; got 'mean' for AcnMixerForImageClassification",
        folder,
        pooling="mean",
    )
    with pytest.raises(TypeError, match="takes revision, token, cache_dir, subfolder; got dtype, num_labels"):
        from_residual(folder, num_labels=2, dtype="float16")
    with pytest.raises(TypeError, match=r"^architecture is a class of transformers, and timm wrote .*; got ViTModel$"):
        from_residual(folder, architecture="ViTModel")


def test_a_folder_must_hold_whole_weights(tmp_path):
    folder = write_checkpoint(MlpMixer(), tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(f"the weights in {re.escape(str(folder))} must be whole", folder)
    path.unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        from_residual(folder)


def test_images_are_resized_and_cropped(tmp_path):
    convert_checkpoint(write_checkpoint(MlpMixer(), tmp_path / "timm"), tmp_path / "acn")
    processor = load_image_processor(str(tmp_path / "acn"))
    image = np.zeros((20, 40), dtype=np.uint8)
    image[:, 16:24] = 255  # rows 20 to 10, columns 40 to 20, of which the middle 8 stay: white from 2 to 6
    pixels = processor(Image.fromarray(image), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 1, 8, 8)
    torch.testing.assert_close(pixels[0, 0, :, 3:5], torch.full((8, 2), (1 - 0.2) / 0.4))
    torch.testing.assert_close(pixels[0, 0, :, 0], torch.full((8,), -0.2 / 0.4))
