"""Registers every family with the Auto classes of transformers, from the tables in the families' configs.

Importing this module does it, which `import acn_hf` does as soon as transformers is imported too. What peft has to
know is told when peft is imported.
"""

from contextlib import suppress
from types import ModuleType

import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, PreTrainedModel
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING
from transformers.utils import is_torchvision_available

from .modeling import modeling_acn_bert, modeling_acn_deit, modeling_acn_mixer, modeling_acn_vit
from .modeling.configuration_acn import AcnConfig
from .modeling.configuration_acn_bert import AcnBertConfig
from .modeling.configuration_acn_deit import AcnDeiTConfig
from .modeling.configuration_acn_mixer import AcnMixerConfig
from .modeling.configuration_acn_vit import AcnViTConfig

FAMILIES: dict[type[AcnConfig], ModuleType] = {
    AcnBertConfig: modeling_acn_bert,
    AcnDeiTConfig: modeling_acn_deit,
    AcnMixerConfig: modeling_acn_mixer,
    AcnViTConfig: modeling_acn_vit,
}
"""The config of every family, and the module of its models."""

VIT_NAMES = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output.dense": "fc2"}
"""What the modules are called in ViT that peft targets in BERT; its few entries for ViT are names of older releases."""

MIXER_NAMES = {"query": "fc1", "key": "fc1", "value": "fc2", "output.dense": "fc2"}
"""What stands in for them in a Mixer, which has no attention: the linear layers of both its MLPs."""


def register() -> None:
    """Make `AutoModelForX.from_pretrained`, `from_config` and `pipeline` work for every family.

    A `model_type` that a later transformers defines by itself is served by acn_hf's class all the same.
    """
    for config_class, module in FAMILIES.items():
        _register_family(config_class, module)
    AutoTokenizer.register(AcnBertConfig, TOKENIZER_MAPPING[transformers.BertConfig], exist_ok=True)
    _register_image_processors(AcnViTConfig, "ViT")
    _register_image_processors(AcnDeiTConfig, "DeiT")
    _register_image_processors(AcnMixerConfig, "ViT")


def model_classes() -> dict[str, type[PreTrainedModel]]:
    """Return every model class that an Auto class serves, of every family, by its name."""
    return {
        name: getattr(module, name)
        for config_class, module in FAMILIES.items()
        for auto_name, reference in [*config_class.auto_classes.items(), *config_class.second_classes.items()]
        if auto_name != "AutoConfig" and (name := reference.partition(".")[2])
    }


def _register_image_processors(config_class: type[AcnConfig], upstream: str) -> None:
    processors = {"pil": getattr(transformers, f"{upstream}ImageProcessorPil")}
    if is_torchvision_available():
        processors["torchvision"] = getattr(transformers, f"{upstream}ImageProcessor")
    # Where AutoImageProcessor itself needs a package that is missing, there is nothing to register with.
    with suppress(ImportError):
        AutoImageProcessor.register(config_class, image_processor_classes=processors, exist_ok=True)


def register_adapters() -> None:
    """Tell every tuner of peft what it adapts if no `target_modules` are given: what it adapts in BERT."""
    from peft.utils import constants

    for name, modules_of in vars(constants).items():
        if name.startswith("TRANSFORMERS_MODELS_TO_") and "bert" in modules_of:
            modules_of[AcnBertConfig.model_type] = list(modules_of["bert"])
            for config_class, names in (
                (AcnDeiTConfig, VIT_NAMES),
                (AcnMixerConfig, MIXER_NAMES),
                (AcnViTConfig, VIT_NAMES),
            ):
                modules_of[config_class.model_type] = list(
                    dict.fromkeys(names[module] for module in modules_of["bert"])
                )


def _register_family(config_class: type[AcnConfig], module: ModuleType) -> None:
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    config_class.register_for_auto_class()
    for auto_name in config_class.auto_classes:
        if auto_name == "AutoConfig":
            continue
        tables = (config_class.auto_classes, config_class.second_classes)
        served = tuple(getattr(module, table[auto_name].partition(".")[2]) for table in tables if auto_name in table)
        getattr(transformers, auto_name).register(config_class, served if len(served) > 1 else served[0], exist_ok=True)
        for model_class in served:
            if not model_class.is_remote_code():  # a class without head serves several, saved under the first
                model_class.register_for_auto_class(auto_name)


register()
