"""The callbacks with models that PEFT adapted or torch.compile wraps."""

import pytest
import torch
from peft import PeftModel, get_peft_model

from acn_hf import (
    DepthProfile,
    DepthProfileCallback,
    IntermediateSupervisionCallback,
    depth_logits,
    lora_config,
    measure_depth_profile,
    truncate,
)
from acn_hf.modeling.depth import encoder_layers
from tests.support.training import CHECKPOINTING, build_model, same_weights, trainer, weights
from tests.training.test_shedding import Scripted, depths

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),  # peft asks by the old name
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]
COMPILED = {"torch_compile": True, "torch_compile_backend": "aot_eager"}


def adapted(seed: int = 0) -> PeftModel:
    """Return the model of the tests with a LoRA adapter; the weights below are the same for every seed."""
    base = build_model()
    torch.manual_seed(seed)
    return get_peft_model(base, lora_config(base, r=2))


@pytest.mark.parametrize("options", [{}, CHECKPOINTING])
def test_the_profile_of_an_adapted_model(tmp_path, options):
    run = trainer(tmp_path, adapted(), **options)
    callback = DepthProfileCallback().attach(run)
    run.train()
    saved = DepthProfile.load(tmp_path / "checkpoint-6" / "depth_profile.json")
    assert saved.values == callback.profile.values == measure_depth_profile(run.model, run.eval_dataset).values
    assert not (tmp_path / "checkpoint-6" / "model.safetensors").exists()  # an adapter, as ever


@pytest.mark.parametrize("options", [{}, CHECKPOINTING])
def test_layers_leave_an_adapted_model(tmp_path, options):
    run = trainer(tmp_path, adapted(), eval_strategy="no", **options)
    Scripted(4, 2, 2, 2, 2, 2).attach(run)
    run.train()
    assert list(depths(run).values()) == [4, 4, 4, 3, 3, 3, 3]
    held = {id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in run.model.parameters() if parameter.requires_grad}
    loaded = PeftModel.from_pretrained(truncate(build_model(), 3), tmp_path / "checkpoint-6")
    assert same_weights(weights(loaded), weights(run.model))


@pytest.mark.parametrize("step", [2, 4])
def test_an_adapted_run_goes_on_after_layers_left(tmp_path, step):
    effective = [4, 2, 2, 2, 2, 2]
    whole = trainer(tmp_path, adapted(), eval_strategy="no")
    Scripted(*effective).attach(whole)
    whole.train()
    resumed = trainer(tmp_path / "resumed", adapted(seed=7), eval_strategy="no")
    Scripted(*effective).attach(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert same_weights(weights(whole.model), weights(resumed.model))
    assert depths(whole) == depths(resumed)


def test_supervision_of_an_adapted_model(tmp_path):
    plain = trainer(tmp_path / "plain", adapted())
    plain.train()
    supervised = trainer(tmp_path / "supervised", adapted())
    IntermediateSupervisionCallback().attach(supervised)
    supervised.train()
    frozen = {name for name, parameter in supervised.model.named_parameters() if not parameter.requires_grad}
    for name, tensor in weights(supervised.model).items():
        assert torch.equal(tensor, plain.model.state_dict()[name]) == (name in frozen), name


@pytest.mark.slow
def test_compiled_training_sheds_and_measures(tmp_path):
    torch.compiler.reset()
    run = trainer(tmp_path, **COMPILED, eval_steps=6, save_steps=6)
    callback = DepthProfileCallback().attach(run)
    Scripted(4, 2, 2, 2, 2, 2).attach(run)
    run.train()
    assert list(depths(run).values()) == [4, 4, 4, 3, 3, 3, 3]
    assert len(encoder_layers(run.model)) == 3
    assert callback.profile.depths == (0, 1, 2, 3)
    assert callback.profile.values == measure_depth_profile(run.model, run.eval_dataset).values
    plain = trainer(tmp_path / "plain")
    Scripted(4, 2, 2, 2, 2, 2).attach(plain)
    plain.train()
    # What the compiler fuses rounds otherwise, and Adam's first steps turn that over for gradients near zero.
    images = run.eval_dataset[:8]["pixel_values"]
    with torch.no_grad():
        torch.testing.assert_close(
            depth_logits(run.model.eval(), pixel_values=images),
            depth_logits(plain.model.eval(), pixel_values=images),
            rtol=1e-3,
            atol=1e-3,
        )
