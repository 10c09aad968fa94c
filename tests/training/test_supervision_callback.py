"""The callback of intermediate supervision: when it ends."""

import math

import pytest
from transformers import TrainerCallback

from acn_hf import IntermediateSupervisionCallback
from tests.support.training import same_weights, trainer, weights as weights_of


@pytest.mark.parametrize(("weights", "until"), [("linear", 0.5), ("uniform", 1 / 3), ([0.0, 0.5, 0.0, 0.0, 0.5], 0.4)])
@pytest.mark.parametrize("attached", [True, False])
def test_supervision_ends_where_it_is_told(tmp_path, weights, until, attached):
    """The steps after it are those of a plain run that starts from there, and a resumed run knows it."""
    callback = IntermediateSupervisionCallback(weights, until=until)
    first = math.ceil(until * 6)
    seen = []

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            seen.append(set(callback.supervision.chosen()))

    run = trainer(tmp_path / "whole", callbacks=[Watch()])
    callback.attach(run) if attached else run.add_callback(callback)
    run.train()
    assert [len(depths) > 1 for depths in seen] == [True] * first + [False] * (6 - first)
    resumed = trainer(tmp_path / "resumed")
    IntermediateSupervisionCallback(weights, until=until).attach(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert same_weights(weights_of(resumed.model), weights_of(run.model))


@pytest.mark.parametrize("until", [0, 1.5, math.nan, True, "half"])
def test_an_end_of_supervision_out_of_range_is_refused(until):
    with pytest.raises(ValueError, match=rf"until must lie in \(0, 1\]; got {until!r}"):
        IntermediateSupervisionCallback(until=until)
