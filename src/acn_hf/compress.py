"""Choose a depth, cut, fine-tune if asked to, and say what was gained."""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from rich.table import Table

from .depth.cost import Cost, measure_cost
from .depth.every_depth import truncate
from .depth.layers import layers_of, prefix_view
from .depth.metrics import ProfileError
from .depth.profile import DepthProfile, measure_depth_profile
from .depth.self_check import check_by_example
from .modeling.checkpoint import weight_files, written_beside
from .modeling.depth import check_depth
from .publishing.facts import collect
from .publishing.hub import prepare_repo, upload
from .publishing.model_card import write_into
from .support.records import render, write_text
from .support.wrappers import unwrap
from .training.finetuning import Finetune, fine_tune


@dataclass(frozen=True)
class CompressionResult:
    """A short model and the evidence for it.

    Args:
        model (`PreTrainedModel` or `PeftModel`): The short model, independent of the long one, in eval mode.
        depth (`int`): Its number of layers.
        profile (`DepthProfile`): The metric of the long model at every depth; `profile.value_at(depth)` is the one of
            the short model as it was cut.
        cost_before (`Cost`): Of the long model.
        cost_after (`Cost`): Of the short model.
        finetuned (`float`, *optional*): The metric of the short model after fine-tuning, on the same data.
    """

    model: Any
    depth: int
    profile: DepthProfile
    cost_before: Cost
    cost_after: Cost
    finetuned: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the model, which is saved with `model.save_pretrained`."""
        return {
            "depth": self.depth,
            "profile": self.profile.to_dict(),
            "cost_before": self.cost_before.to_dict(),
            "cost_after": self.cost_after.to_dict(),
            "finetuned": self.finetuned,
        }

    def save(self, path: str | os.PathLike) -> None:
        """Write everything but the model to a JSON file."""
        write_text(path, json.dumps(self.to_dict(), indent=2) + "\n")

    def save_pretrained(self, folder: str | os.PathLike, *, processor: Any = None, **facts: Any) -> None:
        """Write the short model with its processor, its model card, and the evidence for it.

        The files appear when all are complete: those of the model and the processor, `README.md`, `depth_profile.png`
        (with matplotlib), `model_card.json`, `depth_profile.json` and `compression.json`. The model alone is written
        by `result.model.save_pretrained`.

        Args:
            folder (`str` or `os.PathLike`): The folder to write to.
            processor (*optional*): Tokenizer or image processor.
            facts: What the card says besides; see [`write_model_card`].

        Raises:
            NotADirectoryError: `folder` is a file.
            TypeError: A fact has a name that a card does not know, or the model keeps its adapters apart
                (`merge_adapter=False`), of which there is no card: save it by itself.
        """
        target = Path(folder)
        facts.setdefault("name", facts.get("repo_id", target.absolute().name).split("/")[-1])
        with written_beside(target, stale=weight_files(None)) as beside:
            self._write(beside, target, processor, facts)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        processor: Any = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload compressed model",
        create_pr: bool = False,
        **facts: Any,
    ) -> CommitInfo:
        """Upload what `save_pretrained` writes, in one commit: a revision is complete or not there.

        A card that the repository has is kept; see [`write_model_card`].

        Args:
            repo_id (`str`): The repository; it is made if it does not exist.
            processor (*optional*): Tokenizer or image processor.
            private (`bool`, *optional*): Whether a new repository is private.
            token (`str` or `bool`, *optional*): Defaults to the one of `hf auth login`.
            revision (`str`, *optional*): Branch to commit to; it is made if it does not exist.
            commit_message (`str`, *optional*, defaults to `"Upload compressed model"`): First line of the commit.
            create_pr (`bool`, *optional*, defaults to `False`): Whether to open a pull request instead.
            facts: What the card says besides; see [`write_model_card`].

        Raises:
            HfHubHTTPError: The Hub refuses; the repository is as it was.
            TypeError: A fact has a name that a card does not know, or the model keeps its adapters apart
                (`merge_adapter=False`), of which there is no card: save it by itself.
        """
        with tempfile.TemporaryDirectory() as scratch:
            there, folder = Path(scratch, "there"), Path(scratch, "new")
            collect(folder, result=self, **facts)  # a wrong name shows before a repository is made
            repo_id = prepare_repo(repo_id, there, private=private, token=token, revision=revision)
            folder.mkdir()
            self._write(folder, there, processor, {"name": repo_id.split("/")[-1], **facts, "repo_id": repo_id})
            return upload(
                folder, repo_id, commit_message=commit_message, token=token, revision=revision, create_pr=create_pr
            )

    def _write(self, folder: Path, target: Path, processor: Any, facts: dict[str, Any]) -> None:
        """Write everything into `folder`, with the card that `target` has as a part of the new one."""
        self.model.save_pretrained(folder)
        if processor is not None:
            processor.save_pretrained(folder)
        self.profile.save(folder / "depth_profile.json")
        self.save(folder / "compression.json")
        write_into(folder, collect(folder, result=self, **facts), target)

    def table(self) -> Table:
        """Return the comparison before / after as a rich table."""
        table = Table("", "before", "after", title=f"Compressed to {self.depth} of {self.profile.depths[-1]} layers")
        before, after = self.cost_before, self.cost_after
        full, chosen = self.profile.values[-1], self.profile.value_at(self.depth)
        table.add_row("depth", str(self.profile.depths[-1]), str(self.depth))
        table.add_row("parameters", f"{before.num_parameters:,}", f"{after.num_parameters:,}")
        table.add_row("MB", f"{before.size_bytes / 1e6:.2f}", f"{after.size_bytes / 1e6:.2f}")
        table.add_row("GFLOPs", f"{before.flops / 1e9:.4g}", f"{after.flops / 1e9:.4g}")
        table.add_row(
            "latency in ms", *(f"{c.latency_ms:.2f} ± {c.latency_spread_ms / 2:.2f}" for c in (before, after))
        )
        if self.finetuned is None:
            table.add_row(self.profile.metric, f"{full:.4f}", f"{chosen:.4f}")
        else:
            table.add_row(f"{self.profile.metric}, as cut", f"{full:.4f}", f"{chosen:.4f}")
            table.add_row(f"{self.profile.metric}, fine-tuned", "", f"{self.finetuned:.4f}")
        return table

    def __str__(self) -> str:
        return render(self.table())


def compress(
    model: Any,
    data: Any,
    *,
    tolerance: float = 0.005,
    relative: bool = False,
    confidence: float | None = None,
    depth: int | None = None,
    finetune: Finetune | None = None,
    merge_adapter: bool = True,
    **options: Any,
) -> CompressionResult:
    """Find the smallest depth that does the task, and return the model cut there, fine-tuned if asked to.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Any model with a head and one stack of layers; it is left as it is.
            What `torch.compile` and data parallelism return is taken for the model inside.
        data: What the depth is chosen on; see [`measure_depth_profile`]. Report the result on other data. With
            `finetune` it is read twice, so it must not be an iterator.
        tolerance (`float`, *optional*, defaults to 0.005): How much worse than full depth the metric may be.
        relative (`bool`, *optional*, defaults to `False`): See [`DepthProfile.effective_depth`].
        confidence (`float`, *optional*): See [`DepthProfile.effective_depth`].
        depth (`int`, *optional*): In `[0, L]`. Cut here, whatever the tolerance says.
        finetune (`Callable`, *optional*): From the cut model to a [`~transformers.Trainer`] that is ready to train it,
            `lambda short: Trainer(short, arguments, train_dataset=train)`. It is trained, from
            `arguments.resume_from_checkpoint` if that names a checkpoint, and measured once more on `data`. Layers may
            leave meanwhile. Fine-tuned, a network does with fewer layers, so `depth` is better given than chosen.
        merge_adapter (`bool`, *optional*, defaults to `True`):
            Whether the short model of an adapted one is an ordinary model, with the adapters in its weights, all of
            which fine-tuning trains. If not, it keeps the adapters of its layers, and fine-tuning goes on with them.
        options: Further arguments of [`measure_depth_profile`].

    Returns:
        `CompressionResult`: The short model is independent of `model`, of the Trainer, and of what `finetune` saw.

    Raises:
        DepthError: A depth is not a whole number in `[0, L]`.
        FinetuningError: The Trainer trains another model, it shards the weights, or they end as no finite numbers.
        ProfileError: No profile can be made of the data, a tolerance is out of range, `relative` or `confidence` is
            given besides `depth`, or the data cannot be read twice.
        TypeError: `model` is not one of transformers, has no head, or was adapted by prompts, which are not in its
            layers; or `finetune` returns no Trainer.

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import AcnBertConfig, AcnBertForSequenceClassification, compress

    >>> config = AcnBertConfig(num_hidden_layers=4, hidden_size=64, num_attention_heads=4)
    >>> model = AcnBertForSequenceClassification(config)
    >>> batch = {"input_ids": torch.tensor([[1, 2], [3, 4]]), "labels": torch.tensor([0, 1])}
    >>> result = compress(model, [batch], tolerance=1.0)
    >>> result.depth, result.model.config.num_hidden_layers
    (0, 0)

    ```
    """
    if depth is not None:
        depth = check_depth(depth, len(layers_of(unwrap(model))))
        check_by_example(unwrap(model), depth)
        if relative or confidence is not None:
            raise ProfileError(f"relative and confidence choose a depth, so none may be given; got depth={depth}")
        if options.get("depths") is not None:
            options["depths"] = [*options["depths"], depth]
    if finetune is not None and isinstance(data, Iterator):
        raise ProfileError(
            "with finetune the data are read twice, so they must be a data set, a DataLoader or a list of batches; "
            f"got an iterator, {type(data).__name__}"
        )
    profile = measure_depth_profile(model, data, **options)
    if depth is None:
        depth = profile.effective_depth(tolerance, relative=relative, confidence=confidence)
    short, value = truncate(model, depth, merge_adapter=merge_adapter), None
    if finetune is not None:
        short = fine_tune(short, finetune)
        depth = len(layers_of(unwrap(short)))
        if depth not in profile.depths:  # layers left while it trained
            profile = measure_depth_profile(model, data, **{**options, "depths": [*profile.depths, depth]})
        value = _value_of(short, data, profile.num_examples, options)
    # The whole model as a view, so that a `forward` bound to it, with autocast, is not timed against one without.
    before = measure_cost(prefix_view(unwrap(model), profile.depths[-1]))
    after = measure_cost(unwrap(short.eval()))
    return CompressionResult(short, depth, profile, cost_before=before, cost_after=after, finetuned=value)


def _value_of(model: Any, data: Any, num_examples: int, options: dict[str, Any]) -> float:
    """Return the metric of a model at its full depth, on data that must hold so many examples."""
    profile = measure_depth_profile(model, data, **{**options, "depths": []})
    if profile.num_examples != num_examples:
        raise ProfileError(
            "with finetune the data must hold the same examples whenever they are read; they held "
            f"{num_examples} before and {profile.num_examples} after"
        )
    return profile.values[-1]
