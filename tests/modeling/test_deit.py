"""What AC-DeiT has that AC-ViT has not: a second token, and a class with two heads."""

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import AutoImageProcessor, AutoModelForImageClassification, DeiTImageProcessorPil, pipeline

from acn_hf import compress, depth_logits, measure_depth_profile, truncate
from tests.modeling.test_conformance_saving import same_weights
from tests.support.families import NUM_LAYERS, by_name, each_head
from tests.test_auto import auto_image_processor_needs_torchvision

TEACHER, CLASSIFIER = by_name("deit-ForImageClassificationWithTeacher"), by_name("deit-ForImageClassification")
DEPTHS = range(NUM_LAYERS + 1)


def labelled(count):
    return {**TEACHER.inputs(count), "labels": torch.arange(count) % 3}


@torch.no_grad()
def test_every_depth_has_both_heads_and_their_mean(build):
    model, inputs = build(TEACHER), TEACHER.inputs()
    for depth, logits in enumerate(depth_logits(model, **inputs)):
        output = truncate(model, depth)(**inputs)
        assert torch.equal(output.logits, logits)
        assert torch.equal(output.logits, (output.cls_logits + output.distillation_logits) / 2)
        assert not torch.allclose(output.cls_logits, output.distillation_logits)


def test_labels_give_the_loss_of_the_mean(build):
    model, inputs = build(TEACHER), labelled(6)
    output = model(**inputs)
    assert torch.equal(output.loss, cross_entropy(output.logits, inputs["labels"]))
    output.loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.cls_classifier.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.distillation_classifier.parameters())
    as_tuple = model(**inputs, return_dict=False)
    assert torch.equal(as_tuple[0], output.loss)
    assert torch.equal(as_tuple[1], output.logits)


@torch.no_grad()
def test_accuracy_is_that_of_the_mean(build):
    model, batch = build(TEACHER), labelled(12)
    right = depth_logits(model, pixel_values=batch["pixel_values"]).argmax(-1) == batch["labels"]
    assert measure_depth_profile(model, [batch]).values == pytest.approx(right.double().mean(-1).tolist())
    losses = [truncate(model, depth)(**batch).loss.item() for depth in DEPTHS]
    assert measure_depth_profile(model, [batch], metric="loss").values == pytest.approx(losses, abs=1e-6)
    short = compress(model, [batch], tolerance=1.0)
    assert type(short.model) is TEACHER.acn
    assert short.depth == 0


@each_head([TEACHER, CLASSIFIER])
@torch.no_grad()
def test_one_auto_class_serves_two_heads(build, head, tmp_path):
    model = build(head)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert type(loaded) is head.acn
    assert same_weights(loaded, model)


def test_without_a_name_the_auto_class_builds_the_first():
    assert type(AutoModelForImageClassification.from_config(CLASSIFIER.config())) is CLASSIFIER.acn


@each_head([TEACHER, CLASSIFIER, by_name("deit-Model"), by_name("deit-ForMaskedImageModeling")])
def test_checkpoints_of_upstream_are_read_by_their_old_names(build, head, tmp_path):
    model = build(head, residual_scale=1.0)
    head.build_upstream(model).save_pretrained(tmp_path)
    assert any("attention.attention.query" in name for name in load_file(tmp_path / "model.safetensors"))
    loaded, info = head.acn.from_pretrained(tmp_path, residual_scale=1.0, output_loading_info=True)
    assert not any(info.values()), info
    assert same_weights(loaded, model)


@pytest.mark.skipif(
    auto_image_processor_needs_torchvision(), reason="AutoImageProcessor of this transformers needs torchvision"
)
def test_the_image_processor_is_that_of_deit(build, tmp_path):
    processor = DeiTImageProcessorPil(size={"height": 8, "width": 8}, crop_size={"height": 8, "width": 8})
    build(TEACHER, num_channels=3).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert isinstance(AutoImageProcessor.from_pretrained(tmp_path), transformers.DeiTImageProcessorPil)
    image = Image.linear_gradient("L").resize((8, 8)).convert("RGB")
    scores = pipeline("image-classification", model=str(tmp_path), device="cpu", top_k=3)(image)
    with torch.no_grad():
        model = AutoModelForImageClassification.from_pretrained(tmp_path)
        expected = model(**processor(image, return_tensors="pt")).logits.softmax(-1)[0]
    assert sorted(entry["score"] for entry in scores) == pytest.approx(sorted(expected.tolist()), rel=1e-6)
