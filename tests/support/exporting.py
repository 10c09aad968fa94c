"""Exported models, how they are run, and the inputs of every size that they are run on."""

import numpy as np
import onnxruntime
import torch

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
    with torch.no_grad():
        found = model(**inputs)
    return {name: value.float().numpy() for name, value in found.items() if name != "loss"}


def difference(run, model, inputs):
    """Return the largest absolute difference between an export and a model, which must name the same outputs."""
    found, expected = run(inputs), outputs(model, inputs)
    assert list(found) == list(expected)
    assert {name: value.shape for name, value in found.items()} == {
        name: value.shape for name, value in expected.items()
    }
    return max(float(np.abs(found[name] - expected[name]).max()) for name in expected)


def differences(run, model, head):
    """Return the largest absolute difference over all sizes."""
    lengths = LENGTHS if "input_ids" in head.inputs() else LENGTHS[:1]
    return max(
        difference(run, model, sized_inputs(head, batch_size, length))
        for batch_size in BATCH_SIZES
        for length in lengths
    )
