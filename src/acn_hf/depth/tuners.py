"""What a tuner of peft keeps beside the layers, and must forget of layers that are gone."""

from typing import Any

from transformers import PreTrainedModel

from ..modeling.injected import adapter_configs

JOINT_TYPES = {"FROD", "UNILORA"}
"""Types of adapters of which peft makes a part anew when it reads them, from all layers at once."""


def check_can_be_cut(model: PreTrainedModel) -> None:
    """Raise `ValueError` if a model holds an adapter that would be read as another one where there are fewer layers."""
    for config in adapter_configs(model).values():
        kind = getattr(config.peft_type, "value", config.peft_type)
        if kind in JOINT_TYPES and not getattr(config, "save_indices", False):  # by which UniLoRA stores all of it
            raise ValueError(
                f"an adapter of type {kind} belongs to all of its layers together: peft would read what is cut as "
                "another one. Pass merge_adapter=True to acn_hf.truncate, which keeps what it learned"
            )


def fit_tuner(tuner: Any, model: PreTrainedModel) -> None:
    """Let a tuner, in place, forget the layers that its model has lost.

    Args:
        tuner (`peft.tuners.tuners_utils.BaseTuner`): What stands between a `PeftModel` and the model inside.
        model (`PreTrainedModel`): The model inside, or a view of it that is to stand there.
    """
    names = dict(model.named_modules())
    tuner.__dict__["targeted_module_names"] = [name for name in tuner.targeted_module_names if name in names]
    if (allocator := vars(tuner).get("rankallocator")) is not None:  # that of AdaLoRA
        tuner.__dict__["rankallocator"] = _prefix_allocator(allocator, model)


def _prefix_allocator(allocator: Any, model: PreTrainedModel) -> Any:
    """Return what gives ranks to the weights that are left, with what it has learned of them."""
    left = type(allocator)(model, adapter_configs(model)[allocator.adapter_name], allocator.adapter_name)
    names = dict(model.named_parameters())
    for field in ("ipt", "exp_avg_ipt", "exp_avg_unc"):
        known = getattr(allocator, field)
        setattr(left, field, {name: value for name, value in known.items() if name in names})
    return left
