"""A short model and the evidence for it."""

import functools
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from rich.table import Table

from ..depth.cost import Cost
from ..depth.profile import DepthProfile
from ..depth.tradeoffs import DepthTradeoffs
from ..exits.kept import KEPT_NAME
from ..modeling.checkpoint import weight_files, written_beside
from ..publishing.checkpoints import REPORT_FILES, RESULT_NAME
from ..publishing.compressed import TestValues
from ..publishing.facts import collect
from ..publishing.hub import prepare_repo, upload
from ..publishing.model_card import PAGE_FILE, write_into
from ..report.answers import Measurements
from ..report.page import render_report, write_report
from ..report.record import RECORD_NAME, ReportRecord
from ..report.still import still_picture
from ..support.records import render, write_text
from ..support.sentence_models import with_card
from ..support.wrappers import is_sentence_model
from ..training.calming import Calmed


@dataclass(frozen=True)
class CompressionResult:
    """A short model and the evidence for it.

    Args:
        model (`PreTrainedModel`, `PeftModel` or `SentenceTransformer`): The short model, independent of the long one,
            in eval mode.
        depth (`int`): Its number of layers.
        profile (`DepthProfile`): The metric at every depth of the long model, after it was taught;
            `profile.value_at(depth)` is the one of the short model as it was cut.
        cost_before (`Cost`): Of the long model.
        cost_after (`Cost`): Of the short model.
        finetuned (`float`, *optional*): The metric of the short model after it was healed or fine-tuned, on the same
            data.
        before (`DepthProfile`, *optional*): The metric at every depth before it was taught, if it was.
        healed (`dict[int, float]`): The metric at each depth at which the model was cut and healed.
        test (`TestValues`, *optional*): The metric on other data.
        interval (`tuple[float, float]`, *optional*): What the short model loses against the model at full depth before
            anything was taught lies between these, with 95% confidence, on the data on which its depth was chosen; what
            it gains is a loss below 0.
        doubts (`tuple[str, ...]`): What speaks against the choice, in words.
        tradeoffs (`DepthTradeoffs`, *optional*): The metric and the cost of every depth, where limits chose one.
        calmed (`Calmed`, *optional*): What was done to the model before it was taught, or healed, if anything was.
        training (`dict[str, dict]`): The arguments of the Trainer of each stage that decide how it turns out: epochs or
            steps, learning rate, batch size, precision, seed and so on.
        sources (`dict[str, str]`): What the model and the data sets are called, as far as that is known.
        seconds (`dict[str, float]`): How long each stage of training took; and how long this run measured the metric
            (`measured`), tested (`tested`) and measured the cost (`cost`).
        circumstances (`dict`): Date, versions and hardware of the measurements.
        choice (`dict`): By what the depth was chosen: a `depth`, `limits`, or a `tolerance`.
        measurements (`Measurements`, *optional*): What every depth answered to every example, of which `report` chooses
            some; kept in memory, not saved.
    """

    model: Any
    depth: int
    profile: DepthProfile
    cost_before: Cost
    cost_after: Cost
    finetuned: float | None = None
    before: DepthProfile | None = None
    healed: dict[int, float] = field(default_factory=dict)
    test: TestValues | None = None
    interval: tuple[float, float] | None = None
    doubts: tuple[str, ...] = ()
    tradeoffs: DepthTradeoffs | None = None
    calmed: Calmed | None = None
    training: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    circumstances: dict[str, Any] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=dict)
    measurements: Measurements | None = field(default=None, repr=False, compare=False)

    @property
    def value(self) -> float:
        """The metric of the short model on the data on which its depth was chosen."""
        return self.profile.value_at(self.depth) if self.finetuned is None else self.finetuned

    @property
    def full_value(self) -> float:
        """The metric of the model at full depth before anything was taught, on the same data."""
        return (self.before or self.profile).values[-1]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the model, which is saved with `model.save_pretrained`, as JSON can hold it."""
        return {
            "depth": self.depth,
            "profile": self.profile.to_dict(),
            "cost_before": self.cost_before.to_dict(),
            "cost_after": self.cost_after.to_dict(),
            "finetuned": self.finetuned,
            "metric": self.profile.metric,
            "data": {"full": self.full_value, "short": self.value, "num_examples": self.profile.num_examples},
            "test": None if self.test is None else self.test.to_dict(),
            "before": None if self.before is None else self.before.to_dict(),
            "healed": {str(depth): value for depth, value in sorted(self.healed.items())},
            "interval": None if self.interval is None else list(self.interval),
            "doubts": list(self.doubts),
            "tradeoffs": None if self.tradeoffs is None else self.tradeoffs.to_dict(),
            "calmed": None if self.calmed is None else self.calmed.to_dict(),
            "training": self.training,
            "sources": self.sources,
            "seconds": self.seconds,
            "circumstances": self.circumstances,
            "choice": self.choice,
        }

    def save(self, path: str | os.PathLike) -> None:
        """Write everything but the model to a JSON file."""
        write_text(path, json.dumps(self.to_dict(), indent=2) + "\n")

    def report(self, path: str | os.PathLike, **options: Any) -> ReportRecord:
        """Write one HTML file that shows the result in a browser, without a network and without acn_hf.

        A slider goes through the depths. The page shows metric, latency, parameters and megabytes, precision and recall
        of each class or the residuals of numbers, and which examples each depth loses and gains against full depth.

        Args:
            path (`str` or `os.PathLike`): The file.
            options: `name` (`str`), the title; `rows`, the texts or images that were measured, in their order, as a
                data set or a list of dictionaries, else examples are shown by their numbers; `columns`
                ([`~acn_hf.data.Columns`]), what their columns are called; `processor`, a tokenizer for rows of
                `input_ids`; `examples` (`int`, defaults to 10), how many are in a list, and 0 shows none of the data;
                `exits` ([`EarlyExitReport`] or [`ExitCalibration`]), what a policy of early exit does; `command`
                (`str`), what made the result.

        Returns:
            `ReportRecord`: All that the page shows. `acn_hf.report.write_report` makes the same page of it.

        Raises:
            ImportError: altair or vl-convert is missing.
            OSError: The file cannot be written.
            TypeError: There is no such option.
            ValueError: `rows` are not as many as were measured, or `examples` is no whole number >= 0.
        """
        record = ReportRecord.of(self, **options)
        write_report(path, record)
        return record

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        *,
        processor: Any = None,
        report: ReportRecord | None = None,
        **facts: Any,
    ) -> None:
        """Write the short model with its processor, its model card, and the evidence for it.

        The files appear when all are complete: those of the model and the processor, `README.md`, `depth_profile.png`
        (with matplotlib), `model_card.json`, `depth_profile.json` and `result.json`. The model alone is written
        by `result.model.save_pretrained`.

        Args:
            folder (`str` or `os.PathLike`): The folder to write to.
            processor (*optional*): Tokenizer or image processor.
            report (`ReportRecord`, *optional*): Is written as `report.html`, to which the card links, and as
                `report.json`, of which `acn-hf report` makes the page again.
            facts: What the card says besides; see [`write_model_card`].

        Raises:
            NotADirectoryError: `folder` is a file.
            TypeError: A fact has a name that a card does not know, or the model keeps its adapters apart
                (`merge_adapter=False`), of which there is no card: save it by itself.
        """
        target = Path(folder)
        facts.setdefault("name", facts.get("repo_id", target.absolute().name).split("/")[-1])
        is_stale = weight_files(None)
        of_another = (KEPT_NAME, *REPORT_FILES)
        with written_beside(target, stale=lambda name: is_stale(name) or name in of_another) as beside:
            self._write(beside, target, processor, facts, report)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        processor: Any = None,
        report: ReportRecord | None = None,
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
            report (`ReportRecord`, *optional*): See `save_pretrained`. It shows rows of your data to whoever may read
                the repository.
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
            facts = {"name": repo_id.split("/")[-1], **facts, "repo_id": repo_id}
            self._write(folder, there, processor, facts, report)
            return upload(
                folder, repo_id, commit_message=commit_message, token=token, revision=revision, create_pr=create_pr
            )

    def _write(
        self, folder: Path, target: Path, processor: Any, facts: dict[str, Any], report: ReportRecord | None
    ) -> None:
        """Write everything into `folder`, with the card that `target` has as a part of the new one."""
        model = self.model
        if is_sentence_model(model):  # which writes a card of its own
            named = {"model_name": "name", "model_id": "repo_id", "base_model": "base_model"}
            model = with_card(model, **{ours: facts.get(theirs) for ours, theirs in named.items()})
        model.save_pretrained(str(folder))
        if processor is not None:
            processor.save_pretrained(folder)
        self.profile.save(folder / "depth_profile.json")
        self.save(folder / RESULT_NAME)
        if report is not None:
            write_text(folder / PAGE_FILE, render_report(report))
            report.save(folder / RECORD_NAME)
        still = None if report is None else functools.partial(still_picture, report)
        about = collect(folder, result=self, **facts)
        write_into(folder, about, target, has_page=report is not None, still=still)

    def table(self) -> Table:
        """Return the comparison before / after as a rich table."""
        table = Table("", "before", "after", title=f"Compressed to {self.depth} of {self.profile.depths[-1]} layers")
        before, after = self.cost_before, self.cost_after
        table.add_row("depth", str(self.profile.depths[-1]), str(self.depth))
        table.add_row("parameters", f"{before.num_parameters:,}", f"{after.num_parameters:,}")
        table.add_row("MB", f"{before.size_bytes / 1e6:.2f}", f"{after.size_bytes / 1e6:.2f}")
        table.add_row("GFLOPs", f"{before.flops / 1e9:.4g}", f"{after.flops / 1e9:.4g}")
        table.add_row(
            "latency in ms", *(f"{c.latency_ms:.2f} ± {c.latency_spread_ms / 2:.2f}" for c in (before, after))
        )
        for row in self._metric_rows():
            table.add_row(*row)
        return table

    def _metric_rows(self) -> list[tuple[str, str, str]]:
        metric, cut = self.profile.metric, f"{self.profile.value_at(self.depth):.4f}"
        full = f"{self.full_value:.4f}"
        rows = [(metric if self.finetuned is None else f"{metric}, as cut", full, cut)]
        if self.finetuned is not None:
            rows.append((f"{metric}, {'healed' if self.healed else 'fine-tuned'}", "", f"{self.finetuned:.4f}"))
        if self.interval is not None:
            low, high = self.interval
            rows.append(("loses, with 95% confidence", "", f"{low:.4f} to {high:.4f}"))
        if self.test is not None:
            rows.append((f"{self.test.metric or metric}, test data", f"{self.test.full:.4f}", f"{self.test.short:.4f}"))
        return rows

    def depths_table(self) -> Table:
        """Return the metric at every depth, before teaching, taught, and healed where it was, as a rich table."""
        columns = [] if self.before is None else ["before teaching"]
        columns += ["as cut" if self.before is None else "taught"] + (["healed"] if self.healed else [])
        table = Table("depth", *columns, title=f"{self.profile.metric} at every depth")
        for depth, value in zip(self.profile.depths, self.profile.values, strict=True):
            cells = [] if self.before is None else [f"{self.before.value_at(depth):.4f}"]
            cells.append(f"{value:.4f}")
            if self.healed:
                cells.append(f"{self.healed[depth]:.4f}" if depth in self.healed else "")
            table.add_row(f"{depth} *" if depth == self.depth else str(depth), *cells)
        return table

    def __str__(self) -> str:
        return render(self.table())
