"""Exported models, how they are run, and the inputs of every size that they are run on."""

import inspect

import numpy as np
import onnxruntime
import torch

from acn_hf.depth.cost import inner_config

BATCH_SIZES = (1, 7)
LENGTHS = (1, 5, 16)
TEXT = {"input_ids", "attention_mask", "token_type_ids"}


def sized_inputs(head, batch_size, length, num_choices=2):
    """Return inputs of a head with so many rows; texts have the length, and padding where they can have some."""
    torch.manual_seed(batch_size + length)
    config = head.config()
    features = head.make_features(config, batch_size)
    if "input_ids" not in features:
        return features
    shape = (batch_size, *([num_choices] if features["input_ids"].ndim == 3 else []), length)
    mask = torch.ones(shape, dtype=torch.long)
    mask[batch_size // 2 :, ..., length // 2 + 1 :] = 0
    return {
        "input_ids": torch.randint(0, config.vocab_size, shape),
        "attention_mask": mask,
        "token_type_ids": torch.randint(0, 2, shape),
    }


def tried(model, shapes, batch_size, length, padding):
    """Return inputs of any model; texts have padding on one side, in every row but the first, or none.

    Args:
        model (`PreTrainedModel`): Its config says which numbers there may be.
        shapes (`dict`): See `acn_hf.export.inputs.input_shapes`.
        batch_size (`int`): Rows.
        length (`int`): Tokens of a text; hundreds of samples of a sound.
        padding (`str`): `"none"`, `"right"` or `"left"`.
    """
    torch.manual_seed(batch_size + length)
    config = inner_config(model)
    sizes = {"batch_size": batch_size, "num_choices": 2, "sequence_length": length}
    sizes |= {"num_samples": 100 * length, "num_frames": length + 4}
    shape = {name: [sizes.get(size, size) for size in axes] for name, axes in shapes.items()}
    made = {name: torch.randn(axes) for name, axes in shape.items()}
    if "bool_masked_pos" in made:
        made["bool_masked_pos"] = made["bool_masked_pos"] > 0
    if "input_ids" not in made:
        return made
    mask = torch.ones(shape["input_ids"], dtype=torch.long)
    if padding != "none":
        mask[1:, ..., length // 2 + 1 :] = 0
    mask = mask.flip(-1) if padding == "left" else mask
    ids = torch.randint(1, config.vocab_size, mask.shape)
    made["input_ids"] = torch.where(mask > 0, ids, config.pad_token_id or 0)
    for name in made.keys() & {"attention_mask", "token_type_ids", "bbox"}:
        made[name] = {
            "attention_mask": lambda: mask,
            "token_type_ids": lambda: torch.randint(0, config.type_vocab_size, mask.shape),
            "bbox": lambda: torch.randint(0, 500, shape["bbox"]).sort(-1).values,
        }[name]()
    return made


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run_onnx(path):
    """Return a function from inputs of a model to its named outputs."""
    running = session(path)
    names = [output.name for output in running.get_outputs()]
    return lambda inputs: dict(
        zip(names, running.run(None, {key: value.numpy() for key, value in inputs.items()}), strict=True)
    )


def run_program(path):
    program = torch.export.load(path).module()

    def run(inputs):
        with torch.no_grad():
            return {name: value.float().numpy() for name, value in program(**inputs).items()}

    return run


def outputs(model, inputs):
    """Return the named outputs of a model that an export of it must have."""
    named = inspect.signature(model.forward).parameters
    with torch.no_grad():
        found = model(**inputs, **({"use_cache": False} if "use_cache" in named else {}))
    return {name: value.float().numpy() for name, value in found.items() if name != "loss"}


def difference(run, model, inputs, *, relative=False):
    """Return the largest absolute difference between an export and a model, which must name the same outputs.

    Args:
        run (`Callable`): Runs the export.
        model (`PreTrainedModel`): What it must compute, but for what stands before a text, where there is nothing.
        inputs (`dict`): What both are given.
        relative (`bool`, *optional*, defaults to `False`): Whether it is divided by the largest output above 1.
    """
    found, expected = run(inputs), outputs(model, inputs)
    assert list(found) == list(expected)
    assert {name: value.shape for name, value in found.items()} == {
        name: value.shape for name, value in expected.items()
    }
    largest = 0.0
    for name, wanted in expected.items():
        apart = np.abs(found[name] - wanted) / (max(1.0, np.abs(wanted).max()) if relative else 1.0)
        if "attention_mask" in inputs and "input_ids" in inputs and apart.ndim > inputs["attention_mask"].ndim:
            apart = apart[inputs["attention_mask"].cumsum(-1).numpy() > 0]
        assert np.isfinite(apart).all()
        largest = max(largest, float(apart.max()))
    return largest


def differences(run, model, head):
    """Return the largest absolute difference over all sizes."""
    lengths = LENGTHS if "input_ids" in head.inputs() else LENGTHS[:1]
    return max(
        difference(run, model, sized_inputs(head, batch_size, length))
        for batch_size in BATCH_SIZES
        for length in lengths
    )
