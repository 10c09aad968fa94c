"""Logs of runs for the page, made of numbers that follow from step and depth: nothing is trained."""

import json
import math

DEPTHS, STEPS, EVERY = 4, 60, 10


def value_at(step, depth, steps=STEPS):
    """Return a metric that grows with steps and with depth."""
    return round(1 - math.exp(-(depth + 1) * step / steps), 6)


def entries(steps=STEPS, every=EVERY, depths=DEPTHS, metric="accuracy", prefix="eval", losses=1, left=None):
    """Return the log of a run that measures now and then.

    Args:
        steps (`int`): Its length.
        every (`int`): Steps from one measurement to the next.
        depths (`int`): Layers of its model.
        metric (`str`): Its name.
        prefix (`str`): What the log calls the data.
        losses (`int`): Steps from one loss to the next.
        left (`dict[int, int]`, *optional*): After which step how many layers stayed.
    """
    layers, log = depths, []
    if left is not None:
        log.append({"eval_shedding_depth": layers, "step": 0, "epoch": 0})
    for step in range(1, steps + 1):
        when = {"epoch": step / 10, "step": step}
        if step % losses == 0:
            log.append({"loss": 2.5 - step / steps, "residual_scale": max(0.0, 1 - 2 * step / steps), **when})
        if step % every == 0:
            values = {
                f"{prefix}_{metric}_at_depth_{depth}": value_at(step, depth, steps) for depth in range(layers + 1)
            }
            log.append({f"{prefix}_loss": 2.6 - step / steps, f"{prefix}_runtime": 0.1, **when})
            log.append({**values, f"{prefix}_effective_depth": max(1, layers - step // every), **when})
        if left is not None and step % every == 0:
            layers = left.get(step, layers)
            said = {"effective_depth": 1, "depth": layers, "saved_layer_steps": 0.25}
            log.append({**{f"eval_shedding_{name}": value for name, value in said.items()}, **when})
    return log


def write_run(folder, log=None, **fields):
    """Write a log as a Trainer does, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    log = entries() if log is None else log
    state = {"log_history": log, "global_step": STEPS, "max_steps": STEPS, "epoch": 6.0, "num_train_epochs": 6}
    (folder / "trainer_state.json").write_text(json.dumps({**state, **fields}, indent=2))
    return folder
