"""What every ACN family shares: how a head sits on the base model, and how a checkpoint is written and read."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import PreTrainedModel
from transformers import initialization as init

from .connectivity import ShortConnection
from .depth import DepthError, encoder_layers, layers_path, prefix_view
from .upstream import no_init_weights


class AcnPreTrainedModel(PreTrainedModel):
    """Goes before the upstream class in the bases of every ACN; see `AcnBertPreTrainedModel` for how."""

    layers_name: ClassVar[str]
    """Dotted name of the list of layers, seen from the base model."""

    def __init__(self, config, *args, **kwargs):
        config.validate()
        checkpointing = getattr(config, "gradient_checkpointing", False)
        # Upstream builds its residual layers, which the subclass replaces: no time is spent on their weights.
        with no_init_weights():
            super().__init__(config, *args, **kwargs)
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
            _check_layers_loaded(model, info["missing_keys"], pretrained_model_name_or_path)
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
            kwargs["state_dict"] = _drop_layers(kwargs["state_dict"], layers_path(self), model.config.num_hidden_layers)
        model.config.auto_map = dict(model.config.auto_classes)
        kwargs.setdefault("save_original_format", False)
        if kwargs.get("distributed_checkpoint"):  # every process writes into the same folder at the same time
            return PreTrainedModel.save_pretrained(model, save_directory, *args, **kwargs)
        if kwargs.get("push_to_hub"):
            kwargs.setdefault("repo_id", Path(save_directory).name)
        with written_beside(Path(save_directory), stale=_weight_files(kwargs.get("variant"))) as folder:
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


def check_layers_match_config(model: PreTrainedModel) -> None:
    """Raise `DepthError` if the model holds more or fewer layers than its config says."""
    held = len(encoder_layers(model))
    if held != model.config.num_hidden_layers:
        raise DepthError(
            f"the model holds {held} layers and its config says num_hidden_layers={model.config.num_hidden_layers}; "
            "cut a model with acn_hf.truncate(model, depth), which keeps them equal"
        )


def _check_layers_loaded(model: PreTrainedModel, missing_keys: Iterable[str], source: Any) -> None:
    pattern = re.compile(rf"(?:^|\.){re.escape(model.layers_name)}\.(\d+)\.(?!short_connection\.)")
    lacking = sorted({int(match[1]) for key in missing_keys if (match := pattern.search(key))})
    if not lacking:
        return
    wanted = model.config.num_hidden_layers
    if lacking[0] == 0:
        rule = "its layers do not have the names of this architecture"
    else:
        rule = f"it holds {lacking[0]} complete layers"
    raise DepthError(
        f"{source} cannot fill the {wanted} layers that the config asks for: {rule}, "
        f"and weights of layers {lacking[0] + 1} to {lacking[-1] + 1} would stay random"
    )


def _drop_layers(state_dict: dict[str, Any], path: str, depth: int) -> dict[str, Any]:
    pattern = re.compile(rf"^{re.escape(path)}\.(\d+)\.")
    return {key: value for key, value in state_dict.items() if not (m := pattern.match(key)) or int(m[1]) < depth}


def _weight_files(variant: str | None) -> Callable[[str], bool]:
    """Return whether a file name is that of weights which a later save of the same variant replaces."""
    tag = "" if variant is None else f".{re.escape(variant)}"
    pattern = re.compile(rf"model{tag}(-\d{{5}}-of-\d{{5}})?\.safetensors|model\.safetensors\.index{tag}\.json")
    return lambda name: pattern.fullmatch(name) is not None


@contextmanager
def written_beside(target: Path, stale: Callable[[str], bool] = lambda name: False) -> Iterator[Path]:
    """Yield an empty folder beside `target` whose files move there when the block ends without an error.

    Args:
        target (`Path`): Created if it does not exist. After an error it is as it was.
        stale (*optional*): Tells which names in `target` a new set of files makes obsolete.

    Raises:
        NotADirectoryError: `target` is a file.
    """
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"the place to save to must be a folder; {target} is a file")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target if target.is_dir() else target.parent))
    try:
        yield beside
        if target.is_dir():
            written = {path.name for path in beside.iterdir()}
            for path in sorted(beside.iterdir()):
                path.replace(target / path.name)
            for path in target.iterdir():
                if written and path.name not in written and stale(path.name):
                    path.unlink()
        else:
            beside.chmod(0o777 & ~_umask())
            beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
