"""Random small residual networks go the whole way: convert, train, profile, cut, save, load, export."""

import copy
import tempfile
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from transformers import Trainer, TrainingArguments

from acn_hf import depth_logits, export_onnx, export_program, from_residual, measure_depth_profile, truncate
from tests.support.families import HEADED, Head, images, masked_images, no_labels
from tests.support.training import same_weights, weights

ORDINARY = [
    head for head in HEADED if head.upstream.__module__.startswith("transformers.") and "WithTeacher" not in head.name
]
"""Heads of upstream that can be trained."""
SLOW = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck), "phases": [Phase.generate]}
"""The same examples in every run; a failing one is shown as it is, since to shrink it takes minutes."""

shapes = st.fixed_dictionaries(
    {
        "num_hidden_layers": st.integers(1, 4),
        "num_attention_heads": st.integers(1, 3),
        "intermediate_size": st.integers(1, 40),
        "hidden_act": st.sampled_from(["gelu", "relu", "silu", "gelu_new", "tanh"]),
        "layer_norm_eps": st.sampled_from([1e-12, 1e-5]),
        "hidden_dropout_prob": st.sampled_from([0.0, 0.1]),
        "attention_probs_dropout_prob": st.sampled_from([0.0, 0.1]),
        "initializer_range": st.sampled_from([0.02, 0.2]),
    }
)
texts = st.fixed_dictionaries(
    {
        "vocab_size": st.integers(10, 60),
        "max_position_embeddings": st.integers(7, 40),
        "type_vocab_size": st.integers(2, 3),
        "chunk_size_feed_forward": st.sampled_from([0, 0, 1]),
    }
)
pictures = st.fixed_dictionaries(
    {"num_channels": st.sampled_from([1, 3]), "qkv_bias": st.booleans(), "image_size": st.sampled_from([4, 8, 12])}
)


@st.composite
def networks(draw) -> tuple[Head, dict, dict]:
    """Return a head, fields of its upstream config, and arguments of a conversion."""
    head = draw(st.sampled_from(ORDINARY))
    fields = {**head.fields, **draw(shapes), **draw(texts if head.name.startswith("bert") else pictures)}
    fields["hidden_size"] = fields["num_attention_heads"] * draw(st.integers(1, 6)) * 2
    if "patch_size" in fields:
        fields |= {"patch_size": 4, "encoder_stride": 4}
    scale = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))
    conversion = {
        "residual_scale": draw(st.one_of(scale, st.lists(scale, min_size=4, max_size=4))),
        "attention_residual": draw(st.sampled_from([None, True, False])),
        "readout": draw(st.sampled_from(["auto", "sum"])),
        "learn_residual_scale": draw(st.booleans()),
    }
    if isinstance(conversion["residual_scale"], list):
        conversion["residual_scale"] = conversion["residual_scale"][: fields["num_hidden_layers"]]
    return head, fields, conversion


def batch(head: Head, config, batch_size: int, labels: bool = True) -> dict[str, torch.Tensor]:
    if head.make_features is masked_images:
        side = config.image_size // config.patch_size
        masked = torch.arange(side * side).expand(batch_size, -1) % 2 == 0
        return {**images(config, batch_size), "bool_masked_pos": masked}
    features = head.make_features(config, batch_size)
    return {**features, **(head.make_labels if labels else no_labels)(config, batch_size)}


def converted(head: Head, fields: dict, conversion: dict):
    original = head.upstream(head.upstream.config_class(**fields)).eval()
    inputs = batch(head, original.config, 2)
    same = from_residual(original, residual_scale=1.0)
    assert torch.equal(same(**inputs).loss, original(**inputs).loss)
    return from_residual(original, **conversion)


def train_two_steps(model, inputs: dict[str, torch.Tensor], folder: str) -> None:
    rows = [{name: value[index] for name, value in inputs.items()} for index in range(len(next(iter(inputs.values()))))]
    options = {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "use_cpu": True}
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "dataloader_pin_memory": False}
    arguments = TrainingArguments(folder, **options, **quiet, remove_unused_columns=False)
    Trainer(model, arguments, train_dataset=rows).train()


@settings(max_examples=12, **SLOW)
@given(networks(), st.data())
@torch.random.fork_rng()
def test_the_whole_way(network, data):
    torch.manual_seed(0)
    head, fields, conversion = network
    model = converted(head, fields, conversion)
    before = weights(model)
    with tempfile.TemporaryDirectory() as folder:
        train_two_steps(model, batch(head, model.config, 4), folder)
        assert not same_weights(before, weights(model))
        profile = measure_depth_profile(model, [batch(head, model.config, 2)], metric="loss")
        assert len(profile.values) == fields["num_hidden_layers"] + 1
        depth = data.draw(st.sampled_from(profile.depths), label="depth")
        short = truncate(model.eval(), depth)
        short.save_pretrained(folder)
        # Loaded weights lie where the file has them; kernels round otherwise where memory is not aligned. A copy is.
        again = copy.deepcopy(getattr(transformers, head.auto).from_pretrained(folder).eval())
        inputs = batch(head, model.config, 3, labels=False)
        with torch.no_grad():
            expected = depth_logits(model, **inputs)[depth]
            assert torch.equal(depth_logits(again, **inputs)[-1], expected)
        assert type(again) is head.acn
        assert again.config.num_hidden_layers == depth


@pytest.mark.slow
@settings(max_examples=2, **SLOW)
@given(networks(), st.data())
@torch.random.fork_rng()
def test_every_export_is_checked(network, data):
    """The exports compare themselves with the model, and raise if they differ."""
    torch.manual_seed(0)
    head, fields, conversion = network
    model = converted(head, fields, conversion)
    depth = data.draw(st.integers(0, fields["num_hidden_layers"]), label="depth")
    with tempfile.TemporaryDirectory() as folder:
        assert export_onnx(model, Path(folder, "onnx"), depth=depth).max_difference <= 1e-4
        assert export_program(model, Path(folder, "program"), depth=depth).max_difference <= 1e-4
