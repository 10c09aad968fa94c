"""AC-Mixer: its two blocks, what it reads, and what its config refuses."""

import re

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForImageClassification

from acn_hf import AcnMixerConfig, AcnMixerForImageClassification, AcnMixerModel, truncate
from acn_hf.modeling.connectivity import PostNormLongConnection, PreNormLongConnection
from acn_hf.scripts.arguments import ModelArguments
from acn_hf.scripts.models import build_model
from tests.modeling.test_conformance_reference import close, doubled
from tests.support.families import CONNECTIONS, NUM_LAYERS, by_name

BLOCKS = {"standard": by_name("mixer-Model"), "paper": by_name("mixer-Model-paper")}
each_block = pytest.mark.parametrize("head", BLOCKS.values(), ids=BLOCKS)


@each_block
def test_depth_states_and_gradients_are_those_of_the_naive_loop_with_all_connections(build, head):
    """What the slow tests of the conformance suite check one by one.

    The last bias of token mixing adds the same number to all channels of a token, which the norm behind it takes away:
    where no short connection passes the norm by, its gradient is zero, and noise in float64.
    """
    inputs = doubled(head.inputs())
    for options in CONNECTIONS.values():
        model = build(head, **options).double()
        naive, states = head.build_naive(model), []
        for each in (model, naive):
            states.append(each(**inputs, output_hidden_states=True).hidden_states)
            sum(state.pow(3).mean() for state in states[-1]).backward()
        assert len(states[0]) == len(states[1]) == NUM_LAYERS + 1
        assert all(close(*pair) for pair in zip(*states, strict=True)), options
        gradients = {name: weight.grad for name, weight in naive.named_parameters() if weight.grad is not None}
        assert len(gradients) == len(list(model.named_parameters())) - 2  # no depth state is behind the final norm
        for name, weight in model.named_parameters():
            if name in gradients:
                torch.testing.assert_close(weight.grad, gradients[name], rtol=1e-10, atol=1e-12, msg=name)


def test_the_layer_decides_where_the_norms_stand():
    standard, paper = (head.build() for head in BLOCKS.values())
    assert type(standard.long_connection) is PreNormLongConnection
    assert type(paper.long_connection) is PostNormLongConnection


@each_block
@torch.no_grad()
def test_the_pooled_output_is_the_mean_of_the_normed_tokens(build, head):
    model, inputs = build(head), head.inputs()
    output = model(**inputs, output_hidden_states=True)
    assert output.last_hidden_state.shape == (2, 4, 16)
    assert torch.equal(output.last_hidden_state, model.layernorm(output.hidden_states[-1]))
    assert torch.equal(output.pooler_output, output.last_hidden_state.mean(dim=1))


def test_by_default_it_is_mixer_b_16():
    with torch.device("meta"):
        model = AcnMixerForImageClassification(AcnMixerConfig(num_labels=1000))
    # The weights of arXiv 2105.01601, table 1, are 59 million.
    assert model.num_parameters() == 59_880_472


@each_block
def test_fsdp_finds_every_class_that_is_not_to_be_split(head):
    model = head.build()
    classes = {type(module).__name__ for module in model.modules()}
    assert type(model.layers[0]).__name__ in model._no_split_modules <= classes


@torch.no_grad()
def test_attention_residual_keeps_the_short_connection_around_token_mixing(build):
    head = BLOCKS["standard"]
    layer, tokens = build(head, attention_residual=True).layers[0], torch.randn(2, 4, 16)
    mixed = tokens + layer.token_mlp(layer.layernorm_before(tokens))
    assert torch.equal(layer(tokens), layer.channel_mlp(layer.layernorm_after(mixed)))


@torch.no_grad()
def test_the_block_of_the_authors_without_short_connections(build):
    layer, tokens = build(BLOCKS["paper"]).layers[0], torch.randn(2, 4, 16)
    mixed = layer.channel_mlp(layer.token_mlp(tokens))
    assert torch.equal(layer(tokens), layer.layernorm(torch.relu(layer.dense(mixed))))


REFUSED = {
    "image_size": (30, "image_size must be a multiple of patch_size, .*; got image_size=30, patch_size=16"),
    "hidden_dropout_prob": (7.0, r"hidden_dropout_prob must lie in \[0, 1\]; got 7.0"),
    "initializer_range": (-0.1, "initializer_range must be a finite number > 0; got -0.1"),
    "layer_norm_eps": (float("nan"), "layer_norm_eps must be a finite number > 0; got nan"),
    "patch_size": (0, "patch_size must be a whole number >= 1; got 0"),
    "num_channels": (True, "'num_channels' expected int, got bool .*True"),
    "hidden_size": (-1, "hidden_size must be a whole number >= 1; got -1"),
    "token_intermediate_size": (0, "token_intermediate_size must be a whole number >= 1; got 0"),
    "intermediate_size": (2.5, "'intermediate_size' expected int, got float .*2.5"),
    "block_type": ("author", r"'block_type' expected one of \('standard', 'paper'\), got author"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_fields(name):
    value, text = REFUSED[name]
    with pytest.raises(StrictDataclassError, match=text):
        AcnMixerConfig(**{name: value})


def test_images_smaller_than_a_patch_are_refused():
    with pytest.raises(StrictDataclassError, match=r"image_size must be a multiple .* got image_size=0, patch_size=16"):
        AcnMixerConfig(image_size=0)


def test_the_block_of_the_authors_has_no_short_connection_to_keep():
    text = "attention_residual must be False with block_type='paper', which has no short connection around token mixing"
    with pytest.raises(StrictDataclassError, match=f"{text}; got True"):
        AcnMixerConfig(block_type="paper", attention_residual=True)


@pytest.mark.parametrize("shape", [(2, 1, 8, 12), (2, 3, 8, 8), (2, 1, 16, 16), (1, 8, 8)])
def test_images_of_another_shape_are_refused(build, shape):
    text = re.escape(
        f"pixel_values must be of shape (batch_size, 1, 8, 8), since a Mixer reads images of one size; got {shape}"
    )
    with pytest.raises(ValueError, match=text):
        build(BLOCKS["standard"])(torch.zeros(shape))


@each_block
def test_no_images_are_refused(build, head):
    with pytest.raises(ValueError, match="pixel_values must be given"):
        build(head)()


@torch.no_grad()
def test_a_model_without_classes_hands_out_what_the_classifier_reads(build):
    head = by_name("mixer-ForImageClassification")
    model, inputs = head.acn(head.config(num_labels=0)).eval(), head.inputs()
    assert torch.equal(model(**inputs).logits, model.mixer(**inputs).pooler_output)


def test_a_cut_mixer_keeps_its_block(build):
    short = truncate(build(BLOCKS["paper"]), 1)
    assert (type(short), short.config.block_type, len(short.layers)) == (AcnMixerModel, "paper", 1)


def test_the_scripts_build_one_whose_config_has_no_stride_of_a_decoder():
    overrides = "image_size=8,patch_size=4,num_channels=1,hidden_size=16,block_type=paper"
    arguments = ModelArguments(model_type="acn_mixer", num_hidden_layers=2, config_overrides=overrides)
    model = build_model(AutoModelForImageClassification, arguments, default_type="acn_vit")
    assert type(model) is AcnMixerForImageClassification
    assert (model.config.num_patches, model.config.block_type, len(model.mixer.layers)) == (4, "paper", 2)
    assert "encoder_stride" not in model.config.to_dict()
