"""The long and the short connection alone, without a model around them."""

import pytest
import torch
from torch import nn

from acn_hf import AcnBertConfig
from acn_hf.modeling.connectivity import LongConnection, PostNormLongConnection, ShortConnection, add_scaled


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
    """Returns what it reads, plus one, and remembers what else it was given."""

    def __init__(self, config):
        super().__init__()
        self.short_connection = ShortConnection(config, 0)

    def forward(self, hidden_states, *args, **kwargs):
        self.given = args, kwargs
        return hidden_states + 1


def test_layers_get_all_arguments_of_the_pass():
    config = AcnBertConfig(num_hidden_layers=1)
    layer = Layer(config)
    assert torch.equal(
        PostNormLongConnection(config).run([layer], torch.ones(2), "mask", use_cache=False), 3 * torch.ones(2)
    )
    assert layer.given == (("mask",), {"use_cache": False})


def test_a_long_connection_for_no_kind_of_block_says_so():
    config = AcnBertConfig(num_hidden_layers=1)
    with pytest.raises(TypeError, match=r"^LongConnection must say what readout='auto' is$"):
        LongConnection(config).run([Layer(config)], torch.ones(2))
