"""The long and the short connection alone, without a model around them."""

import pytest
import torch
from torch import nn

from acn_hf import AcnBertConfig
from acn_hf.modeling.connectivity import (
    LongConnection,
    PostNormLongConnection,
    PreNormLongConnection,
    ShortConnection,
    add_scaled,
)


@pytest.mark.parametrize("kind", [float, lambda scale: torch.tensor([scale])], ids=["number", "learned"])
@pytest.mark.parametrize("scale", [0.0, 0.25, 1.0, 2.0])
def test_the_skip_is_scaled_and_added(scale, kind):
    branch, skip = torch.tensor([1.0, -2.0, 8.0]), torch.tensor([4.0, 16.0, -4.0])
    expected = torch.tensor([1.0 + scale * 4, -2.0 + scale * 16, 8.0 - scale * 4])
    assert torch.equal(add_scaled(branch, skip, kind(scale)), expected)


def test_at_scale_0_the_skip_is_not_read():
    """What overflowed in a part that is left out spoils nothing."""
    branch = torch.ones(2)
    assert add_scaled(branch, torch.full((2,), torch.inf), 0.0) is branch


class Layer(nn.Module):
    """Returns what it reads, plus one, and remembers that and what else it was given."""

    def __init__(self, config, index=0):
        super().__init__()
        self.short_connection = ShortConnection(config, index)

    def forward(self, hidden_states, *args, **kwargs):
        self.given = args, kwargs
        self.returned = hidden_states + 1
        return self.returned


def pass_through(kind, **options):
    """Return the layers of a pass in half precision, and where it stood at every depth from 0 on."""
    config = AcnBertConfig(num_hidden_layers=3, **options)
    long, layers = kind(config), [Layer(config, index) for index in range(3)]
    streams = [long.start(torch.ones(2).half())]
    for layer in layers:
        streams.append(long.step(streams[-1], layer))
    return layers, streams


def test_layers_get_all_arguments_of_the_pass():
    config = AcnBertConfig(num_hidden_layers=1)
    layer = Layer(config)
    last = PostNormLongConnection(config).run([layer], torch.ones(2), "mask", use_cache=False)
    assert torch.equal(last, torch.full((2,), 3.0))
    assert layer.given == (("mask",), {"use_cache": False})


@pytest.mark.parametrize(
    ("kind", "options", "same"),
    [
        (PreNormLongConnection, {"residual_scale": 1.0}, [0, 1, 2]),
        (PreNormLongConnection, {"residual_scale": [1.0, 1.0, 0.0]}, [0, 1]),
        (PreNormLongConnection, {"residual_scale": [0.0, 1.0, 1.0]}, []),
        (PreNormLongConnection, {"residual_scale": 1.0, "readout": "sum"}, []),
        (PreNormLongConnection, {"residual_scale": 1.0, "direct_gradient_only": True}, []),
        (PostNormLongConnection, {"residual_scale": 1.0}, [0, 1, 2]),
        (PostNormLongConnection, {"residual_scale": [0.0, 1.0, 0.5]}, [1]),
        (PostNormLongConnection, {"residual_scale": 1.0, "readout": "sum"}, []),
    ],
    ids=str,
)
def test_where_nothing_is_added_the_depth_state_is_the_very_output_of_the_layer(kind, options, same):
    """No sum is computed where the residual stream holds it already, so it costs nothing and is exact to the bit."""
    layers, (first, *streams) = pass_through(kind, **options)
    assert first.depth_state is first.layer_output
    assert torch.equal(first.depth_state, torch.ones(2).half())
    is_output = [stream.depth_state is layer.returned for stream, layer in zip(streams, layers, strict=True)]
    assert [index for index, is_it in enumerate(is_output) if is_it] == same


@pytest.mark.parametrize("kind", [PreNormLongConnection, PostNormLongConnection])
def test_the_sum_follows_the_layers_to_their_device(kind):
    """As layers stand on several where a model is too large for one."""
    config = AcnBertConfig(num_hidden_layers=2, residual_scale=0.5)
    layers = [Layer(config, index) for index in range(2)]
    layers[0].register_forward_hook(lambda module, args, output: output.to("meta"))
    assert kind(config).run(layers, torch.ones(2)).device.type == "meta"


@pytest.mark.parametrize(
    ("dtype", "returned", "expected"),
    [
        (torch.float16, torch.inf, torch.finfo(torch.float16).max),
        (torch.float16, -torch.inf, torch.finfo(torch.float16).min),
        (torch.bfloat16, 2.0**100, 2.0**101),
        (torch.float32, -(2.0**100), -(2.0**101)),
    ],
    ids=str,
)
def test_only_in_float16_a_sum_ends_at_the_largest_number(dtype, returned, expected):
    config = AcnBertConfig(num_hidden_layers=2, residual_scale=0.0)
    layers = [Layer(config, index) for index in range(2)]
    layers[0].register_forward_hook(lambda module, args, output: torch.full_like(output, returned))
    last = PreNormLongConnection(config).run(layers, torch.ones(2, dtype=dtype))
    assert torch.equal(last, torch.full((2,), expected, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_what_is_carried_is_subtracted_in_float32(dtype):
    config = AcnBertConfig(num_hidden_layers=1, residual_scale=0.3)
    embeddings, layer = torch.randn(1000).to(dtype), Layer(config)
    state = PreNormLongConnection(config).run([layer], embeddings)
    expected = embeddings.float() + layer.returned.float() - 0.3 * embeddings.float()
    assert torch.equal(state, expected.to(dtype))


def test_a_long_connection_for_no_kind_of_block_says_so():
    with pytest.raises(TypeError, match=r"^LongConnection must say what readout='auto' is$"):
        pass_through(LongConnection)
