"""Early exit, for tests: heads that it is for, a policy with a plan, and who leaves when, by a plain loop."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from acn_hf import ExitPolicy, depth_logits
from acn_hf.exits import early_exit
from acn_hf.support.auto_classes import auto_class_for
from tests.support.families import HEADED

OF_EXAMPLES = [head for head in HEADED if auto_class_for(head.acn) in early_exit.OF_EXAMPLES]
OF_TOKENS = [head for head in HEADED if auto_class_for(head.acn) in early_exit.OF_TOKENS]
CLASSIFIERS = OF_EXAMPLES + OF_TOKENS


@dataclass(frozen=True)
class PlannedExit(ExitPolicy):
    """Example `i` of a batch leaves at depth `plan[i]`, whatever the model says; all have as many tokens."""

    plan: tuple[int, ...]
    bound: ClassVar[float] = 0.0

    def score(self, logits, depth, memory):
        if memory is None:
            memory = torch.tensor(self.plan).repeat_interleave(len(logits) // len(self.plan))
        return depth - memory, memory


@torch.no_grad()
def expected_depths(model, inputs, sure, counted=None, min_depth=0):
    """Return the exit depths by a plain loop.

    Args:
        sure: Maps the logits of one prediction, at all depths from `min_depth` so far, to whether it is final.
        counted: For heads of tokens, which tokens count.
    """
    logits = depth_logits(model, **{name: value for name, value in inputs.items() if name != "labels"})[min_depth:]
    last = len(logits) - 1
    depths = []
    for example in range(logits.shape[1]):
        places = [()] if counted is None else [(place,) for place in counted[example].nonzero().flatten().tolist()]
        of_example = [logits[(slice(None), example, *place)] for place in places]
        leaves = (depth for depth in range(last) if all(sure(seen[: depth + 1]) for seen in of_example))
        depths.append(next(leaves, last))
    return torch.tensor(depths) + min_depth


def padded(inputs):
    """Return inputs of which every third example has three tokens of padding, and the first has none."""
    if "attention_mask" not in inputs:
        return inputs
    mask = inputs["attention_mask"].clone()
    mask[1::3, 4:] = 0
    return {**inputs, "attention_mask": mask}


def with_two_tokens(inputs):
    """Return inputs of which two tokens are no padding."""
    if "attention_mask" not in inputs:
        return inputs
    return {**inputs, "attention_mask": (torch.arange(7) < 2).long().expand(len(inputs["attention_mask"]), 7).clone()}
