"""What every ACN family shares: building on upstream's classes, reading a checkpoint, and writing one."""

import re
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import PreTrainedModel, initialization as init

from .checkpoint import (
    check_adapter_configs,
    check_adapter_loaded,
    check_layers_loaded,
    check_layers_of_state_dict,
    check_no_adapter_beside,
    drop_layers,
    weight_files,
    written_beside,
)
from .connectivity import ShortConnection
from .depth import DepthError, check_layers_match_config, encoder_layers, layers_path, prefix_view, truncate
from .injected import adapter_configs, put_back_on_error, remove_adapters
from .upstream import no_init_weights

HUB_TAGS = ("acn", "auto-compressing-network")
"""By these the Hub finds the models of this architecture."""


class AcnPreTrainedModel(PreTrainedModel):
    """Goes before the upstream class in the bases of every ACN; see `AcnBertPreTrainedModel` for how."""

    layers_name: ClassVar[str]
    """Dotted name of the list of layers, seen from the base model."""

    def __init__(self, config, *args, **kwargs):
        if not hasattr(config, "residual_scale"):
            raise TypeError(f"config must be an {self.config_class.__name__}; got {type(config).__name__}")
        config.validate()
        checkpointing = getattr(config, "gradient_checkpointing", False)
        # Upstream builds its residual layers, which the subclass replaces: no time is spent on their weights.
        with no_init_weights():
            super().__init__(config, *args, **kwargs)
        self.model_tags = list(HUB_TAGS)  # what pushes this model, `Trainer` too, gives them to its card
        if checkpointing:  # upstream switched it on in the layers that are replaced, and dropped the wish
            config.gradient_checkpointing = True
        if (config.original_num_hidden_layers or 0) > config.num_hidden_layers:
            # A prefix of a longer checkpoint leaves the other layers unread, and that is what was asked for.
            pattern = rf"(^|\.){re.escape(self.layers_name)}\.\d+\."
            self._keys_to_ignore_on_load_unexpected: set[str] | None = {
                *(self._keys_to_ignore_on_load_unexpected or ()),
                pattern,
            }

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, ShortConnection) and module.residual_scale is not None:
            init.constant_(module.residual_scale, module.initial_scale)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        """Like upstream; refuses weights of another depth, which `strict=False` would take for a part."""
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if self.base_model is self:
            check_layers_of_state_dict(self, state_dict, prefix)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info=False, **kwargs):
        """Like upstream, with two differences.

        `num_hidden_layers=k` reads the first `k` layers of a longer checkpoint, exactly. A checkpoint that holds
        fewer layers than the config asks for is refused, where upstream fills the rest with random weights.

        Raises:
            DepthError: The checkpoint lacks weights of some layer that the config asks for.
        """
        model, info = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        if pretrained_model_name_or_path is not None:
            check_layers_loaded(model, info["missing_keys"], pretrained_model_name_or_path)
        return (model, info) if output_loading_info else model

    @property
    def peft_config(self):
        """The configs of the adapters inside, by their names, if there are any."""
        if "peft_config" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} holds no adapter")
        return self.__dict__["peft_config"]

    @peft_config.setter
    def peft_config(self, configs):
        # Whatever function of peft adds an adapter, it ends by this assignment. Nothing that it asks of a model
        # before lets the model see the config, so a refused adapter is taken out again.
        self.__dict__["peft_config"] = configs
        try:
            check_adapter_configs(len(encoder_layers(self)), configs)
        except DepthError:
            if len(configs) == 1:
                remove_adapters(self, merge=False)
            raise
        # What an adapter holds for layers that a prefix of a checkpoint lacks must show when it is loaded.
        self._keys_to_ignore_on_load_unexpected = set()

    @peft_config.deleter
    def peft_config(self):
        del self.__dict__["peft_config"]

    def add_adapter(self, adapter_config, *args, **kwargs):
        """Like upstream; a refused adapter leaves the model as it was.

        Raises:
            DepthError: `layers_to_transform` names a layer that the model does not have.
        """
        with put_back_on_error(self):
            check_adapter_configs(len(encoder_layers(self)), {"new": adapter_config})
            return super().add_adapter(adapter_config, *args, **kwargs)

    def load_adapter(self, peft_model_id=None, adapter_name=None, *args, **kwargs):
        """Like upstream; a refused adapter leaves the model as it was.

        Raises:
            DepthError: The adapter was made for another number of layers.
            ValueError: It holds a head, and this release of transformers reads adapters without their heads.
        """
        with put_back_on_error(self):
            info = super().load_adapter(peft_model_id, adapter_name, *args, **kwargs)
            check_adapter_loaded(self, adapter_name or "default", info)
        return info

    def save_pretrained(self, save_directory, *args, depth: int | None = None, merge_adapter: bool = False, **kwargs):
        """Like upstream, with five differences.

        `depth=k` writes the model cut to its first `k` layers and leaves this model as it is. Of a model with adapters
        (`add_adapter`), upstream writes the active adapter alone; `merge_adapter=True` writes the whole model with
        the adapter in its weights. A model whose layers and config disagree is not saved. The files are written beside
        their place and moved when all are complete. Weights are stored under the names that they have in the model,
        since `Trainer` looks for these when it resumes; `save_original_format=True` stores ViT weights under the names
        of older releases.

        Args:
            save_directory (`str` or `os.PathLike`): The folder to write to.
            depth (`int`, *optional*): Number of layers to save, in `[0, L]`. Defaults to all.
            merge_adapter (`bool`, *optional*, defaults to `False`): Whether to write an ordinary checkpoint of a model
                with adapters. Other models are written as ever.
            args, kwargs: What upstream takes.

        Raises:
            DepthError: `depth` is not a whole number in `[0, L]`, or layers and config disagree.
            FileExistsError: The folder holds an adapter, and `merge_adapter=True`.
            NotADirectoryError: `save_directory` is a file.
            ValueError: `state_dict` is given together with `merge_adapter=True`, or the model is the one inside a
                `PeftModel`, of which upstream would write no checkpoint that can be read.
        """
        merged = merge_adapter and bool(adapter_configs(self))
        if merged:
            check_no_adapter_beside(save_directory)
            if kwargs.get("state_dict") is not None:
                raise ValueError("merge_adapter=True writes the weights of the model; state_dict must be None")
        model = self._to_save(depth, merge_adapter)
        if depth is not None and kwargs.get("state_dict") is not None:
            kwargs["state_dict"] = drop_layers(kwargs["state_dict"], layers_path(self), model.config.num_hidden_layers)
        model.config.auto_map = dict(model.config.auto_classes)
        kwargs.setdefault("save_original_format", False)
        if kwargs.get("distributed_checkpoint"):  # every process writes into the same folder at the same time
            return PreTrainedModel.save_pretrained(model, save_directory, *args, **kwargs)
        if kwargs.get("push_to_hub"):
            kwargs.setdefault("repo_id", Path(save_directory).name)
        # An adapter may lie in the folder of its base model, whose weights it does not replace.
        options = {} if adapter_configs(model) else {"stale": weight_files(kwargs.get("variant"))}
        with written_beside(Path(save_directory), **options) as folder:
            return PreTrainedModel.save_pretrained(model, folder, *args, **kwargs)

    def push_to_hub(self, *args, depth: int | None = None, merge_adapter: bool = False, **kwargs):
        """Like upstream; `depth` and `merge_adapter` mean what they mean in `save_pretrained`.

        Raises:
            DepthError: `depth` is not a whole number in `[0, L]`, or layers and config disagree.
            ValueError: The model is the one inside a `PeftModel`; see `save_pretrained`.
        """
        return PreTrainedModel.push_to_hub(self._to_save(depth, merge_adapter), *args, **kwargs)

    def _to_save(self, depth: int | None, merge_adapter: bool) -> PreTrainedModel:
        """Return this model, its prefix, or a copy of either into which the adapters are merged."""
        check_layers_match_config(self)
        if merge_adapter and adapter_configs(self):
            model = truncate(self, self.config.num_hidden_layers if depth is None else depth)
            remove_adapters(model, merge=True)
            return model
        if adapter_configs(self) and not self._hf_peft_config_loaded:
            raise ValueError(
                f"peft put adapters ({', '.join(adapter_configs(self))}) into this model: save the PeftModel, or "
                "acn_hf.truncate(peft_model, depth), for the adapter alone, or pass merge_adapter=True for an "
                "ordinary checkpoint"
            )
        return self if depth is None else prefix_view(self, depth)


class AcnHead(PreTrainedModel):
    """A head of the upstream family on top of the ACN base model."""

    base_model_class: ClassVar[type[PreTrainedModel]]

    def __init__(self, config):
        super().__init__(config)
        residual = self.base_model
        options: dict[str, Any] = {"add_pooling_layer": residual.pooler is not None}
        if getattr(residual.embeddings, "mask_token", None) is not None:
            options["use_mask_token"] = True
        setattr(self, self.base_model_prefix, self.base_model_class(config, **options))
        self.post_init()
