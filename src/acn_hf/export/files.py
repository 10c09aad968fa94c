"""A model as a file that runs without this package: ONNX and `torch.export`. ONNX needs the extra `onnx`."""

import importlib
import io
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedConfig

from ..modeling.checkpoint import written_beside
from ..support.records import Record
from ..support.wrappers import unwrap
from .inputs import Inputs, names_of_sizes
from .program import (
    CHECKED_BATCH_SIZES,
    ExportError,
    Served,
    cannot,
    inference,
    largest_difference,
    quiet_leaf_specs,
    served,
    traced,
)

DEFAULT_OPSET = 20
LEAST_OPSET = 18
"""The oldest that torch writes. What converts its files to 17 leaves operators in them that 17 does not have (Split of
the head for question answering), and to older ones it does not convert at all."""
TOLERANCE = 1e-4
"""The largest difference from the model in full precision; see [`largest_difference`] for what it is relative to."""
MODEL_FILES = re.compile(r"model(_int8)?\.onnx(\.data)?|model\.pt2")
WEIGHTS = re.compile(r".*\.safetensors(\.index\.json)?|pytorch_model.*\.bin(\.index\.json)?")


@dataclass(frozen=True)
class ExportReport(Record):
    """What was exported, and how far it is from the model.

    Args:
        path (`str`): The file that holds the model.
        depth (`int`): Layers in it.
        opset (`int`, *optional*): Version of the ONNX operators; `None` for `torch.export`.
        quantize (`str`, *optional*): `"int8"` if the weights are.
        size_bytes (`int`): Of the file, and of the weights beside it if they are too large for one file.
        max_difference (`float`): The largest difference of an output from the model's, divided by the largest output
            where that is above 1.
        num_examples (`int`): Random examples on which it was measured, at batch sizes and lengths that were not
            traced.
    """

    path: str
    depth: int
    opset: int | None
    quantize: str | None
    size_bytes: int
    max_difference: float
    num_examples: int


def export_onnx(
    model: Any,
    folder: str | os.PathLike,
    *,
    depth: int | None = None,
    processor: Any = None,
    opset: int | None = None,
    quantize: Literal["int8"] | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write a model, or its first layers, as ONNX, and check in onnxruntime that it computes what the model computes.

    The folder then holds `model.onnx` or `model_int8.onnx`, `config.json` with the names of the labels, and the files
    of the processor: all that serving needs. Weights that do not fit into one file (2 GB) lie in `model.onnx.data`.

    The inputs are those of the model by name, all of them given, as its signature, its config and the processor say:
    `input_ids`, with `attention_mask` and `token_type_ids` (int64) if it takes them, `pixel_values`, `input_values` or
    `input_features` (float32), and `bool_masked_pos` for masked image modelling. The number of examples, tokens,
    choices and samples may differ from call to call; the size of images is fixed. The outputs have the names that the
    model gives them. Numbers are float32, whatever precision the model is in.

    Args:
        model (`PreTrainedModel` or `PeftModel`): A model of acn_hf, or any other of transformers that has one stack of
            layers, with any head or none, on any device; it is left as it is. What the active adapters learned goes
            into the weights, hooks are left out, and what `torch.compile` and data parallelism return is taken for the
            model inside.
        folder (`str` or `os.PathLike`): Where to write. After an error it is as it was.
        depth (`int`, *optional*): Number of layers to export, in `[0, L]`. Defaults to all.
        processor (*optional*): Tokenizer, image processor or feature extractor, saved beside the model. Masks and token
            types that it does not make are no inputs, and images have the size that it makes.
        opset (`int`, *optional*, defaults to 20): Version of the ONNX operators, 18 or above.
        quantize (`"int8"`, *optional*): Store the weights of matrix products and embeddings in 8 bits, one scale a
            column, and quantize what they are multiplied by as it comes. How far the outputs move is in the report;
            what it does to the accuracy has to be measured on data.
        overwrite (`bool`, *optional*, defaults to `False`): Whether to replace an export that is there.

    Returns:
        `ExportReport`: The file, its size, and its largest difference from the model.

    Raises:
        DepthError: The model does not have this depth, or no plain stack of layers.
        ExportError: torch cannot export the model, and the message says why; or the outputs differ from the model's by
            more than 1e-4, or onnxruntime cannot run this opset.
        FileExistsError: The folder holds an export and `overwrite` is `False`, or it holds the weights of a checkpoint.
        ImportError: onnx, onnxscript or onnxruntime is missing.
        NotADirectoryError: `folder` is a file.
        OSError: The files cannot be written.
        TypeError: `model` is not one of transformers, its weights are sharded, or it was adapted by prompts.
        ValueError: `opset`, `quantize` or the name of the folder is none that there is, weights are not in memory or
            quantised already, or nothing says how large the inputs are.

    Source: https://docs.pytorch.org/docs/stable/onnx_export.html

    Example:

    ```python
    >>> import tempfile
    >>> from acn_hf import AcnViTConfig, AcnViTForImageClassification, export_onnx

    >>> config = AcnViTConfig(image_size=8, patch_size=4, hidden_size=48, num_hidden_layers=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = export_onnx(AcnViTForImageClassification(config), folder, depth=1)
    >>> report.depth, report.max_difference < 1e-4
    (1, True)

    ```
    """
    if quantize not in (None, "int8"):
        raise ValueError(f'quantize must be None or "int8"; got {quantize!r}')
    opset = DEFAULT_OPSET if opset is None else opset
    if isinstance(opset, bool) or not isinstance(opset, int) or opset < LEAST_OPSET:
        raise ValueError(f"opset must be a whole number >= {LEAST_OPSET}, the oldest that torch writes; got {opset!r}")
    if getattr(unwrap(model).config, "quantization_config", None) is not None:
        raise ValueError(
            'ONNX is written from float weights, and quantize="int8" makes them int8; got a quantised model'
        )
    _check_folder(Path(folder), overwrite)
    _check_extra()
    forward = served(model, depth, torch.float32, processor)

    def write(beside: Path) -> tuple[Path, float]:
        path = beside / "model.onnx"
        _write_onnx(forward, path, opset)
        difference = _checked(forward, _onnx_runner(path))
        if quantize is None:
            return path, difference
        short = beside / "model_int8.onnx"
        _quantize(path, short)
        for full in (path, path.with_name("model.onnx.data")):
            full.unlink(missing_ok=True)
        return short, largest_difference(forward, _onnx_runner(short))

    return _written(forward, folder, processor, write, opset=opset, quantize=quantize)


def export_program(
    model: Any,
    folder: str | os.PathLike,
    *,
    depth: int | None = None,
    processor: Any = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write a model, or its first layers, as a program of `torch.export`, and check that it computes the same.

    The folder then holds `model.pt2`, `config.json` with the names of the labels, and the files of the processor.
    `torch.export.load(path).module()` is a function of the inputs, given by name, that returns a dictionary; it needs
    torch alone. Inputs and outputs are those of [`export_onnx`]. The precision is that of the model; the weights are on
    the CPU, from where `torch.export.passes.move_to_device_pass` takes them elsewhere.

    Args:
        model (`PreTrainedModel` or `PeftModel`): See [`export_onnx`].
        folder (`str` or `os.PathLike`): Where to write. After an error it is as it was.
        depth (`int`, *optional*): Number of layers to export, in `[0, L]`. Defaults to all.
        processor (*optional*): Tokenizer, image processor or feature extractor, saved beside the model. Masks and token
            types that it does not make are no inputs, and images have the size that it makes.
        overwrite (`bool`, *optional*, defaults to `False`): Whether to replace an export that is there.

    Returns:
        `ExportReport`: The file, its size, and its largest difference from the model.

    Raises:
        DepthError: The model does not have this depth, or no plain stack of layers.
        ExportError: torch cannot export the model, and the message says why; or the outputs differ from the model's by
            more than 1e-4.
        FileExistsError: The folder holds an export and `overwrite` is `False`, or it holds the weights of a checkpoint.
        NotADirectoryError: `folder` is a file.
        OSError: The files cannot be written.
        TypeError: `model` is not one of transformers, its weights are sharded, or it was adapted by prompts.
        ValueError: The name of the folder is that of a file, weights are not in memory, or nothing says how large the
            inputs are.

    Source: https://docs.pytorch.org/docs/stable/export.html

    Example:

    ```python
    >>> import tempfile
    >>> import torch
    >>> from acn_hf import AcnBertConfig, AcnBertModel, export_program

    >>> model = AcnBertModel(AcnBertConfig(num_hidden_layers=2, hidden_size=48))
    >>> ids = torch.tensor([[1, 2, 3]])
    >>> inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = export_program(model, folder)
    ...     program = torch.export.load(report.path).module()
    >>> program(**inputs)["last_hidden_state"].shape
    torch.Size([1, 3, 48])

    ```
    """
    _check_folder(Path(folder), overwrite)
    forward = served(model, depth, processor=processor)

    def write(beside: Path) -> tuple[Path, float]:
        path = beside / "model.pt2"
        program = traced(forward)
        archive = io.BytesIO()  # torch ends the whole process when it cannot write to a file
        torch.export.save(program, archive)
        path.write_bytes(archive.getbuffer())
        loaded = torch.export.load(path).module()

        def run(inputs: Inputs) -> Inputs:
            with inference():
                return loaded(**inputs)

        return path, _checked(forward, run)

    return _written(forward, folder, processor, write)


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Raise if an export to this folder would fail in the end, or destroy what is there."""
    if folder.suffix in (".onnx", ".pt2"):
        raise ValueError(f"folder must be the name of a folder, in which model{folder.suffix} is written; got {folder}")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"the place to export to must be a folder; {folder} is a file")
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    weights = next(filter(WEIGHTS.fullmatch, names), None)
    if weights is not None:
        raise FileExistsError(
            f"an export needs a folder that is no checkpoint, whose config.json it would replace; {folder} holds "
            f"{weights}: export to {folder / 'onnx'}, say"
        )
    there = next((name for name in names if MODEL_FILES.fullmatch(name) or name == "config.json"), None)
    if there is not None and not overwrite:
        raise FileExistsError(f"{folder} holds an export ({there}): overwrite=True replaces it")


def _check_extra() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(f"export to ONNX needs {name}: pip install 'acn-hf[onnx]'") from error


def _written(
    forward: Served,
    folder: str | os.PathLike,
    processor: Any,
    write: Callable[[Path], tuple[Path, float]],
    *,
    opset: int | None = None,
    quantize: str | None = None,
) -> ExportReport:
    """Write the model and what serving needs beside it; the files appear in the folder when all are complete."""
    config: Any = forward.model.config
    config.architectures = [type(forward.model).__name__]
    config.__dict__.pop("auto_map", None)  # names files of code, which an export does not need
    for part in (config, *(value for value in vars(config).values() if isinstance(value, PreTrainedConfig))):
        part._name_or_path = ""  # may be a folder of this machine
    with written_beside(Path(folder), stale=lambda name: MODEL_FILES.fullmatch(name) is not None) as beside:
        path, difference = write(beside)
        size = sum(file.stat().st_size for file in beside.iterdir())
        config.to_json_file(beside / "config.json", use_diff=False)  # with the labels, whatever they are
        if processor is not None:
            processor.save_pretrained(beside)
    return ExportReport(
        path=str(Path(folder) / path.name),
        depth=forward.depth,
        opset=opset,
        quantize=quantize,
        size_bytes=size,
        max_difference=difference,
        num_examples=sum(CHECKED_BATCH_SIZES),
    )


def _checked(forward: Served, run: Callable[[Inputs], dict[str, Any]]) -> float:
    difference = largest_difference(forward, run)
    if difference > TOLERANCE:
        raise ExportError(
            f"the outputs of the exported model must be within {TOLERANCE} of the model's; they differ by {difference}"
        )
    return difference


def _write_onnx(forward: Served, path: Path, opset: int) -> None:
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    program = traced(forward)
    sizes = names_of_sizes(forward.shapes)
    first, *others = sizes  # all share the names of the sizes, and torch warns when a name is given twice
    outputs = list(forward(**program.example_inputs[1]))
    with (
        inference(),
        quiet_leaf_specs(),
        cannot("torch.onnx", forward),
        _quiet("torch.onnx._internal.exporter._registration", "torchvision is not"),
    ):
        onnx_program: Any = torch.onnx.export(
            program,
            dynamo=True,
            dynamic_shapes={first: sizes[first]} | dict.fromkeys(others),
            output_names=outputs,
            opset_version=opset,
            verbose=False,
        )
    if onnx_program.model.opset_imports[""] != opset:
        raise ExportError(
            f"torch {torch.__version__} cannot write opset {opset}; the model is in opset "
            f"{onnx_program.model.opset_imports['']}"
        )
    ClearMetadataAndDocStringPass()(onnx_program.model)  # one stack trace a node, with the folders of this machine
    onnx_program.save(path)


def _onnx_runner(path: Path) -> Callable[[Inputs], dict[str, Any]]:
    """Return a function that runs an ONNX file on the CPU."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base class of their own
        raise ExportError(f"onnxruntime {onnxruntime.__version__} cannot run the exported model: {error}") from error
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Inputs) -> dict[str, Any]:
        values = session.run(names, {name: value.numpy() for name, value in inputs.items()})
        return dict(zip(names, values, strict=True))

    return run


def _quantize(path: Path, target: Path) -> None:
    """Write an ONNX file with the weights in int8.

    Convolutions, one in a ViT, stay as they are: they hold few of the weights. 7 of the 8 bits are used, since products
    of 8 bits overflow on x86 processors without VNNI.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet(None, "Please consider to run pre-processing"):
        quantize_dynamic(
            path,
            target,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )


@contextmanager
def _quiet(name: str | None, beginning: str) -> Iterator[None]:
    """Drop one log message of a library, advice on what does not matter here, for the time of a block."""
    logger, nowhere = logging.getLogger(name), logging.NullHandler()

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(beginning)

    logger.addFilter(keep)
    logger.addHandler(nowhere)  # a root logger without handlers would be given one for good
    try:
        yield
    finally:
        logger.removeHandler(nowhere)
        logger.removeFilter(keep)
