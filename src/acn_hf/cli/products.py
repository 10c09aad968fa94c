"""Commands that write what others read: `convert`, `export`, `card`, `push`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from ..publishing.facts import CardFacts

from .base import command, console
from .options import (
    SCALES,
    Depth,
    Model,
    Overwrite,
    check_folder,
    check_is_folder,
    check_writable,
    residual_scale_option,
    scale_or_exact,
)

Folder = Annotated[Path, typer.Argument(help="Folder of a checkpoint.")]


@command("convert")
def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            help="Checkpoint folder or Hub id: a BERT or ViT with any head or none, a Mixer of timm; back, an ACN."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="New folder for what it becomes.")],
    to_residual: Annotated[
        bool, typer.Option("--to-residual", help="The way back: write the BERT or ViT that an ACN of scale 1 computes.")
    ] = False,
    residual_scale: Annotated[Any, residual_scale_option(help=SCALES)] = None,
    attention_residual: Annotated[
        bool | None,
        typer.Option(
            "--attention-residual/--no-attention-residual",
            help="Keep the short connection around attention. Defaults by the family: BERT keeps it, ViT does not.",
        ),
    ] = None,
    readout: Annotated[
        Literal["auto", "sum"] | None, typer.Option(help="What the long connections add up.", show_default="auto")
    ] = None,
    learn_residual_scale: Annotated[
        bool, typer.Option("--learn-residual-scale", help="Each layer's scale is a parameter that starts there.")
    ] = False,
    pooling: Annotated[
        Literal["cls", "mean"] | None,
        typer.Option(help="What a classifier reads; mean is for a new head on sentence embeddings."),
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Class to read the checkpoint with, e.g. BertForMaskedLM, or for a new head.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the ACN of a residual checkpoint, with the same weights, its tokenizer or image processor, and a card.

    At the default scale of 1 it computes what the checkpoint computes, as with --convert of other commands. With
    --to-residual it is the other way round: the checkpoint of transformers that an ACN of scale 1 computes.
    """
    asked: dict[str, Any] = {
        "residual_scale": residual_scale,
        "attention_residual": attention_residual,
        "readout": readout,
        "learn_residual_scale": learn_residual_scale or None,
        "pooling": pooling,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    if to_residual and asked:
        option = next(iter(asked)).replace("_", "-")
        raise typer.BadParameter(f"--to-residual makes no ACN; --{option} must not be given")
    if not to_residual:
        asked["residual_scale"] = scale_or_exact(residual_scale)
    check_folder(out, overwrite, source=source)
    from ..publishing.checkpoints import convert_checkpoint

    facts = convert_checkpoint(source, out, architecture=architecture, to_residual=to_residual, **asked)
    console.print(facts.description or "")
    if facts.processor is None:
        console.print(
            f"{source} has no tokenizer or image processor that says its class; put one into {out} before you measure"
        )
    console.print(f"wrote {out}: {facts.architecture}, {facts.depth} layers; next: {_next_step(facts, out)}")


def _next_step(facts: "CardFacts", out: Path) -> str:
    from ..publishing.checkpoints import UNTRAINED

    if not facts.is_acn:
        return f"{facts.auto_class}.from_pretrained({str(out)!r}), wherever transformers is"
    if not facts.is_residual or UNTRAINED in (facts.description or ""):
        return f"train it, {facts.auto_class}.from_pretrained({str(out)!r}) after `import acn_hf`"
    if facts.auto_class == "AutoModel":
        return "put a head on it, --architecture, or train one"
    return f"acn-hf profile {out} DATA"


@command("export")
def export_command(
    model: Model,
    out: Annotated[Path, typer.Argument(help="New folder for the exported model.")],
    format: Annotated[Literal["onnx", "program"], typer.Option(help="ONNX, or a program of torch.export.")] = "onnx",
    depth: Depth = None,
    int8: Annotated[bool, typer.Option("--int8", help="ONNX: store the weights in 8 bits.")] = False,
    opset: Annotated[int | None, typer.Option(min=1, help="ONNX: version of the operators.", show_default="20")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a model as a file that runs without this package, and check that it computes the same."""
    if format == "program" and (int8 or opset is not None):
        raise typer.BadParameter(f"{'--int8' if int8 else '--opset'} is for --format onnx; got --format program")
    check_folder(out, overwrite, source=model)
    from ..conversion.loader import load_model
    from ..export.files import export_onnx, export_program
    from ..publishing.checkpoints import processor_beside

    network = load_model(model, needs_head=False)
    options: dict[str, Any] = {
        "depth": depth,
        "processor": processor_beside(network, model),
        "overwrite": overwrite,
    }
    if format == "onnx":
        report = export_onnx(network, out, opset=opset, quantize="int8" if int8 else None, **options)
    else:
        report = export_program(network, out, **options)
    console.print(
        f"wrote {report.path}: {report.depth} layers, {report.size_bytes / 1e6:.2f} MB; largest difference from the "
        f"model {report.max_difference:.2g}, on {report.num_examples} random examples"
    )


@command("card")
def card_command(
    folder: Folder,
    name: Annotated[str | None, typer.Option(help="Title; defaults to the name of the folder.")] = None,
    description: Annotated[str | None, typer.Option(help="Free text, Markdown.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the data set.")] = None,
    dataset_id: Annotated[str | None, typer.Option(help="Its id on the Hub.")] = None,
    split: Annotated[str | None, typer.Option(help="What the profile was measured on, e.g. validation.")] = None,
    profile: Annotated[Path | None, typer.Option(help="Profile that `acn-hf profile --out` wrote.")] = None,
    result: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=VALUE", help="A result of this model; may be repeated."),
    ] = None,
    results_split: Annotated[str | None, typer.Option(help="What the results were measured on, e.g. test.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Id on the Hub of what it was made from.")] = None,
    repo_id: Annotated[str | None, typer.Option(help="Where it will lie on the Hub.")] = None,
    license: Annotated[str | None, typer.Option(help="As the Hub spells it, e.g. apache-2.0.")] = None,
    language: Annotated[str | None, typer.Option(help="Code of the language of the texts, e.g. en.")] = None,
) -> None:
    """Write the model card of a checkpoint, or add to the one that is there."""
    check_is_folder(folder, "the checkpoint")
    check_writable(folder)
    results = dict(map(_result, result)) if result else None
    from ..depth.profile import DepthProfile
    from ..publishing.model_card import write_model_card

    facts = write_model_card(
        folder,
        profile=None if profile is None else DepthProfile.load(profile),
        results=results,
        name=name,
        description=description,
        dataset=dataset,
        dataset_id=dataset_id,
        split=split,
        results_split=results_split,
        base_model=base_model,
        repo_id=repo_id,
        license=license,
        language=language,
    )
    console.print(f"wrote {folder / 'README.md'}: {facts.name}, {facts.architecture}, {facts.depth} layers")


@command("push")
def push_command(
    folder: Folder,
    repo_id: Annotated[str, typer.Argument(help="Repository on the Hub, e.g. someone/acn; it is made if need be.")],
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Of a new repository; defaults to what the owner's are.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="Defaults to HF_TOKEN, else to the one of `hf auth login`.", show_default=False)
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to; it is made if need be.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of a commit.")] = False,
    commit_message: Annotated[str, typer.Option(help="First line of the commit.")] = "Upload model",
    replace_card: Annotated[
        bool, typer.Option("--replace-card", help="The folder's README.md replaces the repository's, which else stays.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Upload report.html and report.json too, which show rows of the data.")
    ] = False,
    space: Annotated[
        bool, typer.Option("--space", help="Upload a Space too, which runs the app for this model on the Hub.")
    ] = False,
    space_name: Annotated[
        str | None, typer.Option(help="Of the Space.", show_default="the name of the repository")
    ] = None,
) -> None:
    """Upload a checkpoint, its processor and its card in one commit, if it can be loaded and is whole."""
    if space_name is not None and not space:
        raise typer.BadParameter("--space-name is for --space, which must be given too")
    if space and (create_pr or revision is not None):
        option = "create-pr" if create_pr else "revision"
        raise typer.BadParameter(f"a Space shows what main holds, so --{option} and --space do not go together")
    check_is_folder(folder, "the place to upload from")
    options: dict[str, Any] = {"private": private, "token": token, "commit_message": commit_message}
    options |= {"replace_card": replace_card, "report": report}
    if space:
        _push_with_space(folder, repo_id, space_id=space_name, **options)
        return
    from ..publishing.checkpoints import push_checkpoint

    info = push_checkpoint(folder, repo_id, revision=revision, create_pr=create_pr, **options)
    console.print(f"pushed {folder}: {info.pr_url or info.commit_url}")


def _push_with_space(folder: Path, repo_id: str, **options: Any) -> None:
    from ..app.space_upload import push_with_space

    pushed = push_with_space(folder, repo_id, **options)
    console.print(f"pushed {folder}: {pushed.model.commit_url}")
    console.print(f"its Space is {pushed.space_url}; the Hub builds it now, which takes some minutes")
    if pushed.is_private:
        console.print(
            "The model is private: give the Space a token that may read it, as the secret HF_TOKEN in its settings"
        )


def _result(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not name.strip() or not math.isfinite(number):
        raise typer.BadParameter(f"--result must read METRIC=VALUE, e.g. accuracy=0.93; got {text!r}")
    return name.strip(), number
