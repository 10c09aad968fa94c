"""Models that PEFT adapted, with random adapters, so that none is the identity by accident."""

import copy
import inspect

import peft
import pytest
import torch
import transformers.integrations.peft as integration
from packaging.version import Version

import acn_hf

HEADS_ARE_READ = "adapter_state_dict_load_map" in inspect.getsource(integration.PeftAdapterMixin.load_adapter)
"""Whether this release of transformers reads the head of an adapter; older ones leave it out."""

quiet = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
"""What every `get_peft_model` raises, since peft asks for a property that newer releases of transformers renamed."""


@pytest.fixture
def any_peft(monkeypatch):
    """Let `add_adapter` of transformers work with the peft that is installed.

    A release of transformers may ask for a newer peft than there is. What is tested here is what we add to it.
    """
    if Version(peft.__version__) < Version(integration.MIN_PEFT_VERSION):
        monkeypatch.setattr(integration, "MIN_PEFT_VERSION", peft.__version__)


def randomized(model):
    """Return the model with random weights in all that its adapters train."""
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name.lower() else 0.0, std=0.3)
    return model.eval()


def with_peft(model, **options):
    """Return a `PeftModel` around the model, one that hands on all inputs."""
    if type(model).__name__.endswith("ForQuestionAnswering"):  # peft's own class drops which tokens are the question
        options = {"task_type": None} | options
    return randomized(peft.get_peft_model(model, acn_hf.lora_config(model, **{"r": 2} | options)))


def with_adapter(model, **options):
    """Return the model itself, to which `add_adapter` of transformers added an adapter."""
    model.add_adapter(acn_hf.lora_config(model, **{"r": 2} | options))
    return randomized(model)


WAYS = {"get_peft_model": with_peft, "add_adapter": with_adapter}

each_way = pytest.mark.parametrize("adapt", WAYS.values(), ids=WAYS)
"""Parametrise a test over `adapt`, both ways to an adapted model."""


def output(model, head):
    """Return the first output of a model that runs on the inputs of a head, in its dtype."""
    inputs = {
        name: value.to(model.dtype) if value.is_floating_point() else value for name, value in head.inputs().items()
    }
    with torch.no_grad():
        return model(**inputs).to_tuple()[0]


def same_whatever_is_frozen(head, one, other) -> bool:
    """Return whether two outputs of models with the same weights are the same, of which other weights are frozen.

    Where torch multiplies the transposed tokens of a Mixer, it adds up in another order if the weight is frozen.
    """
    return torch.equal(one, other) if head.has_attention else torch.allclose(one, other, rtol=1e-5, atol=1e-5)


def loaded_by_transformers(load, has_head: bool):
    """Return what `load` returns; for an adapter with a head, `None` if this release of transformers leaves it out."""
    if HEADS_ARE_READ or not has_head:
        return load()
    with pytest.raises(
        ValueError, match=r"left weights of the adapter unread .* with peft\.PeftModel\.from_pretrained"
    ):
        load()
    return None


def snapshot(model):
    """Return what must not change when an adapter is refused."""
    modules = [(name, type(module), module.training) for name, module in model.named_modules()]
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    return modules, trained, copy.deepcopy(model.state_dict()), "peft_config" in vars(model)


def is_as_it_was(model, before) -> bool:
    """Return whether a model is in every respect of a snapshot what it was."""
    modules, trained, weights, adapted = snapshot(model)
    same = weights.keys() == before[2].keys() and all(torch.equal(weights[key], before[2][key]) for key in weights)
    return same and (modules, trained, adapted) == (before[0], before[1], before[3])
