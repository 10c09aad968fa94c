"""What every ACN family shares: building on upstream's classes, reading a checkpoint, and writing one."""

import re
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import PreTrainedModel
from transformers import initialization as init

from .checkpoint import check_layers_loaded, drop_layers, weight_files, written_beside
from .connectivity import ShortConnection
from .depth import check_layers_match_config, layers_path, prefix_view
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

    def save_pretrained(self, save_directory, *args, depth: int | None = None, **kwargs):
        """Like upstream, with four differences.

        `depth=k` writes the model cut to its first `k` layers and leaves this model as it is. A model whose layers
        and config disagree is not saved. The files are written beside their place and moved when all are complete.
        Weights are stored under the names that they have in the model, since `Trainer` looks for these when it
        resumes; `save_original_format=True` stores ViT weights under the names of older releases.

        Args:
            save_directory (`str` or `os.PathLike`): The folder to write to.
            depth (`int`, *optional*): Number of layers to save, in `[0, L]`. Defaults to all.
            args, kwargs: What upstream takes.

        Raises:
            DepthError: `depth` is not a whole number in `[0, L]`, or layers and config disagree.
            NotADirectoryError: `save_directory` is a file.
        """
        check_layers_match_config(self)
        model = self if depth is None else prefix_view(self, depth)
        if depth is not None and kwargs.get("state_dict") is not None:
            kwargs["state_dict"] = drop_layers(kwargs["state_dict"], layers_path(self), model.config.num_hidden_layers)
        model.config.auto_map = dict(model.config.auto_classes)
        kwargs.setdefault("save_original_format", False)
        if kwargs.get("distributed_checkpoint"):  # every process writes into the same folder at the same time
            return PreTrainedModel.save_pretrained(model, save_directory, *args, **kwargs)
        if kwargs.get("push_to_hub"):
            kwargs.setdefault("repo_id", Path(save_directory).name)
        with written_beside(Path(save_directory), stale=weight_files(kwargs.get("variant"))) as folder:
            return PreTrainedModel.save_pretrained(model, folder, *args, **kwargs)

    def push_to_hub(self, *args, depth: int | None = None, **kwargs):
        """Like upstream; `depth=k` uploads the model cut to its first `k` layers.

        Raises:
            DepthError: `depth` is not a whole number in `[0, L]`, or layers and config disagree.
        """
        check_layers_match_config(self)
        model = self if depth is None else prefix_view(self, depth)
        return PreTrainedModel.push_to_hub(model, *args, **kwargs)


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
