"""The matrix of connections is the derivative of what is read by what the branches hold, on the models themselves."""

import math

import numpy as np
import pytest
import torch
from transformers import BertModel

from acn_hf import ConnectivityMatrix, connectivity_matrix, plot_connectivity, residual_scales, truncate
from acn_hf.exits.exiting_connection import long_connection_path
from acn_hf.modeling.connectivity import PreNormLongConnection
from acn_hf.modeling.depth import encoder_layers, short_connections
from tests.support.families import BASES, CONNECTIONS, NUM_LAYERS, SOME_CONNECTIONS, by_name, each_head
from tests.support.line import build_line

BERT, VIT = by_name("bert-ForSequenceClassification"), by_name("vit-Model")
MATRIX = ConnectivityMatrix(((1.0, 0.0), (0.5, 1.0)), True)


def replace_output(module, value):
    """Let a module return a tensor of one value, whatever it reads; a module that returns a tuple, with that first."""

    def hook(module, args, output):
        filled = torch.zeros_like(output[0] if isinstance(output, tuple) else output) + value
        return (filled, *output[1:]) if isinstance(output, tuple) else filled

    module.register_forward_hook(hook)


def probe_branches(model):
    """Replace embeddings, attentions and MLPs by numbers, norms by the identity; return the numbers of both kinds."""
    attentions, mlps = ([torch.ones((), dtype=torch.float64, requires_grad=True) for _ in range(4)] for _ in range(2))
    replace_output(model.embeddings, mlps[0])
    for number, layer in enumerate(encoder_layers(model), start=1):
        if hasattr(layer, "token_mlp"):  # a Mixer
            parts = [layer.dense] if hasattr(layer, "dense") else [layer.channel_mlp, layer.token_mlp]
        elif hasattr(layer, "mlp"):  # a ViT
            parts = [layer.mlp, layer.attention]
        else:  # a BERT
            parts = [layer.output.dense, layer.attention.output.dense]
        for part, numbers in zip(parts, (mlps, attentions), strict=False):
            replace_output(part, numbers[number])
    if not isinstance(model.get_submodule(long_connection_path(model)), PreNormLongConnection):
        for module in encoder_layers(model).modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.register_forward_hook(lambda module, args, output: args[0])
    return mlps, attentions


def derivatives(value, numbers):
    gradients = torch.autograd.grad(value.mean(), numbers, retain_graph=True, allow_unused=True)
    return [0.0 if gradient is None else gradient.item() for gradient in gradients]


LEARNED = {("alpha_list", "auto", "learned"): SOME_CONNECTIONS["learned"]}


@each_head(BASES, options=CONNECTIONS | LEARNED, strength=3)
def test_the_derivatives_of_what_is_read(build, head, options):
    model = build(head, **options).double()
    matrix = connectivity_matrix(model)
    mlps, attentions = probe_branches(model)
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in head.inputs().items()}
    output = model(**inputs, output_layer_outputs=True, output_hidden_states=True)
    read = [*output.layer_outputs[:-1], output.hidden_states[-1]]
    for value, row in zip(read, matrix.weights, strict=True):
        assert derivatives(value, mlps) == pytest.approx(row, abs=1e-12)
        if "paper" not in head.name:  # attention is part of the branch, scaled
            scaled = [0.0, *(a * w for a, w in zip(residual_scales(model).scales, row[1:], strict=True))]
            assert derivatives(value, attentions) == pytest.approx(scaled, abs=1e-12)
    assert matrix.exact == isinstance(model.get_submodule(long_connection_path(model)), PreNormLongConnection)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("readout", ["auto", "sum"])
def test_the_linear_network(alpha, readout):
    """Where layers multiply by a small w, the terms without any w are the connections, and those of one w branches."""
    w, x = 1e-5, torch.ones(1, 1, dtype=torch.float64)
    weights = connectivity_matrix(build_line([0.0] * 3, residual_scale=alpha, readout=readout)).weights
    bare = build_line([0.0] * 3, residual_scale=alpha, readout=readout)(x).logits.item()
    assert bare == pytest.approx(weights[-1][0])
    for layer in range(3):
        model = build_line([w if each == layer else 0.0 for each in range(3)], residual_scale=alpha, readout=readout)
        branch = w * weights[layer][0]  # w times what the layer reads of the embeddings
        assert model(x).logits.item() - bare == pytest.approx(branch * weights[-1][layer + 1], abs=1e-12)


@each_head(BASES)
def test_the_two_ends(build, head):
    acn, residual = (
        np.array(connectivity_matrix(build(head, residual_scale=alpha, attention_residual=False)).weights)
        for alpha in (0.0, 1.0)
    )
    np.testing.assert_array_equal(acn, np.vstack([np.eye(NUM_LAYERS, NUM_LAYERS + 1), np.ones(NUM_LAYERS + 1)]))
    np.testing.assert_array_equal(residual, np.tri(NUM_LAYERS + 1))


def test_any_head_any_depth_and_scales_that_training_moved(build):
    model = build(BERT, residual_scale=0.5, learn_residual_scale=True, attention_residual=True)
    with torch.no_grad():
        short_connections(model)[1].residual_scale.fill_(1.5)
    weights = connectivity_matrix(model).weights
    assert weights[2] == (0.75, 1.5, 1.0, 0.0)
    assert connectivity_matrix(truncate(model, 2)).weights[:2] == tuple(row[:3] for row in weights[:2])
    assert connectivity_matrix(truncate(model, 0)).weights == ((1.0,),)
    assert connectivity_matrix(torch.compile(model, backend="eager")).weights == weights


def test_a_matrix_saves_and_reads_as_a_table(tmp_path, build):
    for matrix in (MATRIX, connectivity_matrix(build(BERT, residual_scale=0.5))):
        matrix.save(tmp_path / "matrix.json")
        assert ConnectivityMatrix.load(tmp_path / "matrix.json") == matrix
        assert ("norms between layers are taken" in str(matrix)) == (not matrix.exact)
    (head,) = [line.split("│")[1:4] for line in str(MATRIX).splitlines() if "head" in line]
    assert [cell.strip() for cell in head] == ["head", "0.5", "1"]


def test_a_matrix_of_many_layers_is_readable():
    text = str(connectivity_matrix(build_line([0.0] * 24, residual_scale=[0.5] * 24)))
    assert text.count(" 0.0625 ") == 22
    assert len(text.splitlines()) == 25 + 5


def test_the_picture_shows_the_weights_and_leaves_out_what_cannot_be(build):
    matrix = connectivity_matrix(build(VIT, residual_scale=0.5))
    axes = plot_connectivity(matrix)
    shown = axes.get_images()[0].get_array().filled(math.nan)
    lower = np.tri(NUM_LAYERS + 1, dtype=bool)
    np.testing.assert_array_equal(shown[lower], np.array(matrix.weights)[lower])
    assert np.isnan(shown[~lower]).all()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["layer 1", "layer 2", "layer 3", "head"]
    labels = [
        plot_connectivity(each).figure.axes[-1].get_ylabel() for each in (MATRIX, ConnectivityMatrix(((1.0,),), False))
    ]
    assert labels == ["weight", "weight (norms taken for the identity)"]


@pytest.mark.parametrize("weights", [((1.0, 0.0),), ((1.0,), (1.0, 1.0)), ()])
def test_a_matrix_that_is_no_square_is_refused(weights):
    with pytest.raises(ValueError, match=f"as many numbers in each row as there are rows, {len(weights)}; got"):
        ConnectivityMatrix(weights, True)


def test_refused_models(build):
    with pytest.raises(TypeError, match="only the models of acn_hf"):
        connectivity_matrix(BertModel(BertModel.config_class(hidden_size=24, num_hidden_layers=1)))
    model = build(BERT)
    model.config.num_hidden_layers = 2
    with pytest.raises(ValueError, match="holds 3 layers and its config says num_hidden_layers=2"):
        connectivity_matrix(model)
