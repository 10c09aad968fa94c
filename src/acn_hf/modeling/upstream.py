"""The one door through which semi-private names of transformers enter.

Everything here may move between minor releases of transformers; the oldest and the newest supported
release run the whole test suite, so a move shows here and nowhere else.
"""

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.initialization import no_init_weights
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.bert.modeling_bert import BertEncoder, BertLayer, BertSelfAttention
from transformers.models.vit.modeling_vit import ViTAttention, ViTLayer
from transformers.pytorch_utils import apply_chunking_to_forward
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs, maybe_install_capturing_hooks


def depth_state_recorder(long_connection: type[nn.Module]) -> OutputRecorder:
    """Return what records `hidden_states`: the first output of the long connection, `L + 1` times."""
    recorder = OutputRecorder(long_connection, index=0, capture_initial_hidden_state=False)
    recorder.num_hidden_layers_key = "num_depth_states"  # read by newer releases, to count from the end
    return recorder


def detached_input(hidden_states: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """Return what a layer reads without the gradient of what comes before it.

    A layer that is run again in the backward pass must have an input that asks for a gradient: where checkpointing is
    reentrant, its own weights would get none otherwise.
    """
    hidden_states = hidden_states.detach()
    if layer.training and getattr(layer, "gradient_checkpointing", False):
        hidden_states.requires_grad_()
    return hidden_states


__all__ = [
    "ACT2FN",
    "BertEncoder",
    "BertLayer",
    "BertSelfAttention",
    "GradientCheckpointingLayer",
    "OutputRecorder",
    "ViTAttention",
    "ViTLayer",
    "apply_chunking_to_forward",
    "capture_outputs",
    "create_bidirectional_mask",
    "depth_state_recorder",
    "detached_input",
    "get_checkpoint_conversion_mapping",
    "maybe_install_capturing_hooks",
    "merge_with_config_defaults",
    "no_init_weights",
    "register_checkpoint_conversion_mapping",
]
