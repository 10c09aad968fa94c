"""The ACN inside what compilers, data parallelism and PEFT wrap around it."""

from typing import Any

from peft import PeftModel
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from transformers import PreTrainedModel

from .modeling.depth import check_acn


def unwrap(model: Any) -> PreTrainedModel:
    """Return the ACN inside `torch.compile`, data parallelism and PEFT; it shares every weight with `model`.

    Inside a `PeftModel` the adapters stay active: they live in the layers.

    Raises:
        TypeError: There is no ACN inside, or its weights are sharded over processes.
    """
    while True:
        if isinstance(model, PeftModel):
            model = model.get_base_model()
        elif isinstance(model, (DataParallel, DistributedDataParallel)):
            model = model.module
        elif isinstance(model, nn.Module) and "_orig_mod" in model._modules:  # what torch.compile returns
            model = model._modules["_orig_mod"]
        else:
            check_acn(model)
            return model
