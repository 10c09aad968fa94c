"""Makes timm importable beside a torch without CUDA."""

import importlib
import importlib.util
import sys

import torch

OPERATORS = ("nms", "qnms")
"""Those of torchvision to which it adds something when it is imported; its wheels have them for a torch with CUDA."""


def import_timm() -> None:
    """Import timm, which imports torchvision; where that misses its operators, declare them. No Mixer calls one."""
    try:
        importlib.import_module("timm")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] in ("timm", "torchvision")]:
            del sys.modules[name]
        for name in OPERATORS:
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("timm")


if importlib.util.find_spec("timm") is not None:
    import_timm()
