"""AC-Mixers against the Mixers of timm: outputs, depth states, loss, gradients, files, images. `make test-timm`."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from transformers import ViTImageProcessorPil

from acn_hf import AcnMixerForImageClassification, ConversionError, convert_checkpoint, from_residual

timm = pytest.importorskip("timm", reason="timm is not installed: make test-timm")

SIZES = {"img_size": 12, "patch_size": 4, "in_chans": 3, "num_blocks": 3, "embed_dim": 16, "num_classes": 5}
MIXERS = timm.list_models("mixer_*")
GATED = {"block_layer": timm.models.mlp_mixer.SpatialGatingBlock, "mlp_layer": timm.layers.GatedMlp}
RELATIVES = timm.list_models(["resmlp_*", "gmixer_*", "gmlp_*"])


def mixer(**options):
    """Return a small Mixer of timm in eval mode; all weights and biases are random."""
    model = timm.models.MlpMixer(**{**SIZES, **options}).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.3)
    return model


@pytest.fixture
def images():
    return torch.randn(4, 3, 12, 12)


def test_outputs_and_depth_states(images):
    original = mixer()
    acn = from_residual(original, residual_scale=1.0)
    output = acn(images, output_hidden_states=True)
    assert torch.equal(output.logits, original(images))
    states = [original.stem(images)]
    for block in original.blocks:
        states.append(block(states[-1]))
    assert all(map(torch.equal, output.hidden_states, states))
    assert len(output.hidden_states) == len(states)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_loss_and_gradients(images, rate):
    """With dropout too, which must draw the same numbers at the same places."""
    original, labels = mixer(proj_drop_rate=rate).train(), torch.tensor([0, 4, 1, 2])
    acn = from_residual(original, residual_scale=1.0)
    torch.manual_seed(3)
    loss = acn(images, labels=labels).loss
    torch.manual_seed(3)
    expected = cross_entropy(original(images), labels)
    assert torch.equal(loss, expected)
    loss.backward()
    expected.backward()
    with torch.no_grad():
        for weight in original.parameters():
            weight.copy_(weight.grad)
    gradients = dict(from_residual(original).named_parameters())
    assert all(torch.equal(weight.grad, gradients[name]) for name, weight in acn.named_parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_dtypes(images, dtype):
    original = mixer().to(dtype)
    assert torch.equal(from_residual(original, residual_scale=1.0)(images).logits, original(images.to(dtype)))


def test_other_scales_are_not_timm(images):
    original = mixer()
    assert not torch.allclose(from_residual(original, residual_scale=[1.0, 1.0, 0.0])(images).logits, original(images))


@pytest.mark.parametrize("num_classes", [0, 7])
def test_what_timm_writes(images, tmp_path, num_classes):
    original = timm.create_model("mixer_s32_224", num_classes=num_classes, in_chans=1).eval()
    timm.models.save_for_hf(original, tmp_path, safe_serialization=True)
    acn, pixels = from_residual(tmp_path, residual_scale=1.0), torch.randn(1, 1, 224, 224)
    with torch.no_grad():
        output = acn(pixels)
        assert torch.equal(output.logits if num_classes else output.pooler_output, original(pixels))


@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_of_timm_is_an_ac_mixer(name):
    with torch.device("meta"):
        original = timm.create_model(name)
        acn = from_residual(original)
    assert type(acn) is AcnMixerForImageClassification
    assert acn.num_parameters() == sum(weight.numel() for weight in original.parameters())
    assert acn.config.num_patches == original.stem.num_patches


@pytest.mark.parametrize("name", RELATIVES)
def test_its_relatives_are_refused_by_name(name):
    with torch.device("meta"), pytest.raises(ConversionError, match=rf"only a mixer_\* .*; got {name}, wh"):
        from_residual(timm.create_model(name))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"stem_norm": True}, "stem.norm.bias"),
        ({"act_layer": torch.nn.SiLU}, "is a SiLU"),
        ({"mlp_layer": timm.layers.GluMlp}, "is a GluMlp"),
        ({"norm_layer": timm.models.mlp_mixer.Affine}, "is a Affine"),
        ({"block_layer": timm.models.mlp_mixer.ResBlock, "mlp_ratio": 4}, "is a ResBlock"),
        ({**GATED, "mlp_ratio": 4}, "is a SpatialGatingBlock"),
        ({"global_pool": ""}, "global_pool is ''"),
        ({"img_size": (8, 12)}, "the images of MlpMixer must be square .*; got 8x12"),
        ({"patch_size": (4, 2)}, "the patches of MlpMixer must be square .*; got 4x2"),
    ],
    ids=str,
)
def test_other_parts_are_refused(options, text):
    with pytest.raises(ConversionError, match=text):
        from_residual(mixer(**options))


@pytest.mark.parametrize(("size", "earlier"), [((230, 500), 0), ((300, 260), 1)], ids=["even", "odd"])
def test_images_are_prepared_as_timm_prepares_them(tmp_path, size, earlier):
    """PIL resizes in both; where an odd number of rows is cut away, timm cuts one more of them at the top."""
    original = timm.create_model("mixer_s32_224", num_classes=2)
    timm.models.save_for_hf(original, tmp_path / "timm", safe_serialization=True)
    convert_checkpoint(tmp_path / "timm", tmp_path / "acn")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=original), is_training=False)
    processor = ViTImageProcessorPil.from_pretrained(tmp_path / "acn")
    pixels = processor(image, return_tensors="pt")["pixel_values"][0]
    rows = pixels.shape[1] - earlier
    torch.testing.assert_close(pixels[:, earlier:], transform(image)[:, :rows], rtol=0, atol=1e-6)
