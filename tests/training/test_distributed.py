"""Two processes do what one does with twice the batch; and a run that was killed goes on as if it had not been."""

import signal
import subprocess
import sys

import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import load_config_from_file
from transformers import AutoModelForImageClassification, TrainerCallback

from acn_hf import DepthProfile, IntermediateSupervisionCallback, ResidualAnnealingCallback, truncate
from acn_hf.modeling.depth import encoder_layers
from acn_hf.training.supervision import depth_weights
from tests.modeling.test_conformance_training import gradients
from tests.support import distributed_worker
from tests.support.any_models import NUM_LAYERS, without_chance
from tests.support.distributed_worker import TAUGHT, TAUGHT_FIRST, whole_texts
from tests.support.families import BASES, TRAINED, each_head
from tests.support.processes import ROOT
from tests.support.training import doubled, same_weights, trainer, weights

pytestmark = pytest.mark.slow  # two processes that train all of this take as long as a thousand other tests


def alone(folder, callback=None):
    """The same run in this process, with batches of twice the size."""
    run = trainer(folder, **{**distributed_worker.RUN, "per_device_train_batch_size": 16})
    if callback is not None:
        callback.attach(run)
    return distributed_worker.finished(run)


def assert_same_run(one, other):
    # Sums over 8 + 8 instead of 16 examples differ by rounding, which Adam's first steps of the size of the learning
    # rate may turn over for a gradient near zero.
    assert one["losses"] == pytest.approx(other["losses"], rel=1e-4)
    for name, tensor in one["weights"].items():
        torch.testing.assert_close(tensor, other["weights"][name], rtol=1e-3, atol=2e-4, msg=name)


def test_the_same_as_one_process_with_the_doubled_batch(two, tmp_path):
    assert_same_run(two("plain"), alone(tmp_path))


@pytest.mark.full
def test_the_main_job_ends_with_one_model(two, tmp_path):
    """Two processes choose the same depth, store each stage once, and go on from there without training again."""
    result = two("compressed")
    depth = result["depths"][0][0]
    assert result["depths"] == [[depth, depth], [depth, depth]]
    assert "work/taught/weights.safetensors" in result["stored"]
    assert result["answers"] == 1
    assert same_weights(result["weights"], result["again"])
    alone = distributed_worker.compressed_run(tmp_path, batch_size=16)
    assert result["values"] == pytest.approx(alone.profile.values, abs=0.05)


def test_one_checkpoint_that_the_auto_class_loads(two):
    folder = two.folder / "plain"
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert [path.name for path in (folder / "checkpoint-4").glob("*.safetensors")] == ["model.safetensors"]
    loaded = AutoModelForImageClassification.from_pretrained(folder / "checkpoint-4")
    assert same_weights(weights(loaded), two("plain")["weights"])


def test_supervision(two, tmp_path):
    together = two("supervised")
    assert_same_run(together, alone(tmp_path, IntermediateSupervisionCallback("linear", num_depths=2)))
    assert together["losses"] != two("plain")["losses"]


def test_annealing(two, tmp_path):
    together = two("annealed")
    assert_same_run(together, alone(tmp_path, ResidualAnnealingCallback(fraction=0.7, order="top_down")))
    assert together["scale"] == 0.0
    assert together["losses"] != two("plain")["losses"]


@pytest.mark.parametrize("way", distributed_worker.OWN_LOSSES)
def test_supervision_of_the_loss_of_a_trainer(two, tmp_path, way):
    run = distributed_worker.own_loss_run(tmp_path, way, per_device_train_batch_size=16)
    expected = distributed_worker.finished(run)
    for together in two("own_losses")[way]:
        assert_same_run(together, expected)


def test_one_profile_over_the_whole_set(two):
    result = two("profiled")
    # 80 examples in batches of 32: process 0 read the first and the third, process 1 the second.
    assert result["together"]["num_examples"] == 80
    assert result["together"] == result["alone"]
    saved = DepthProfile.load(two.folder / "profiled" / "checkpoint-4" / "depth_profile.json")
    assert saved == DepthProfile.from_dict(result["alone"])
    assert same_weights(result["weights"], two("plain")["weights"])


def test_an_error_of_one_process_stops_both(two):
    assert two("failing") == "the logits must be finite numbers; got nan or infinity"


@pytest.mark.parametrize("name", ["shedding", "shedding_where_all_are_used", "shedding_with_checkpointing"])
def test_layers_leave_in_both(two, name):
    result = two(name)
    assert list(result["depths"].values()) == [4, 4, 3, 3, 1]
    assert result["same"]
    torch.testing.assert_close(result["weights"], two("shedding")["weights"], rtol=1e-4, atol=1e-5)


def test_the_best_checkpoint_of_a_plain_model_comes_back_in_both(two):
    result = two("best_of_a_plain_model")
    assert list(result["depths"].values()) == [4, 4, 2, 2, 2, 2, 2]
    assert result["layers"] == 4
    assert result["same"]


def test_a_run_goes_on_after_layers_left(two):
    resumed, whole = two("resumed_after_shedding"), two("shedding")
    if "unsupported" in resumed:
        pytest.skip(resumed["unsupported"])
    assert resumed["depths"] == whole["depths"]
    assert same_weights(resumed["weights"], whole["weights"])


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(head, id=head.name, marks=[] if head.name in distributed_worker.ACCUMULATED else pytest.mark.full)
        for head in TRAINED
    ],
)
def test_accumulated_gradients_are_those_of_the_whole_batch(two, build, head):
    """Two processes of four batches of two examples, against one batch of sixteen; in float64."""
    expected = gradients(head, build(head).double(), doubled(head.inputs(16, labels=True)))
    for name, moved in two("accumulated")[head.name].items():
        torch.testing.assert_close(moved, -expected[name], rtol=1e-6, atol=1e-10, msg=name)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=entry.name, marks=[] if entry.name in TAUGHT_FIRST else pytest.mark.full)
        for entry in TAUGHT
    ],
)
def test_supervised_gradients_of_any_model_are_those_of_the_cut_models(two, entry):
    model, inputs = without_chance(entry).double(), doubled(whole_texts(entry))
    weights, expected = depth_weights("linear", NUM_LAYERS), {}
    for depth in range(1, NUM_LAYERS + 1):
        short = truncate(model, depth)
        (weights[depth] * short(**inputs).loss).backward()
        for name, parameter in short.named_parameters():
            if parameter.grad is not None:
                expected[name] = expected.get(name, 0) + parameter.grad
    for name, moved in two("supervised_any_models")[entry.name].items():
        gradient = expected.get(name, torch.zeros_like(moved))
        # Norms and rotary embeddings compute in float32, whatever the weights are in.
        torch.testing.assert_close(
            moved, -gradient, rtol=1e-4, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("name", distributed_worker.LABELLED)
def test_the_head_on_tokens_with_a_label_in_both(two, name):
    whole, few = two("labelled")[name]
    torch.testing.assert_close(few, whole, rtol=1e-6, atol=1e-10)


def test_sharded_gradients_are_those_of_the_whole_model(two):
    result = two("sharded")
    assert result["units"] == 5  # the embeddings and four layers
    torch.testing.assert_close(result["sharded"], result["whole"], rtol=1e-4, atol=1e-6)


def test_sharded_models_are_not_measured(two):
    assert "must be whole, and FSDP shards them over processes" in two("sharded")["refusal"]


@each_head(BASES)
def test_the_configuration_of_fsdp_wraps_every_layer(build, head):
    settings = load_config_from_file(str(ROOT / "examples" / "fsdp.yaml")).fsdp_config
    # The page's comment says what to write for an AC-ViT.
    layers = {"bert-Model": settings["fsdp_transformer_layer_cls_to_wrap"], "mixer-Model": "AcnMixerLayer"}
    layer = {**layers, "mixer-Model-paper": "AcnMixerPaperLayer"}.get(head.name, "AcnViTLayer")
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=settings["fsdp_version"],
        auto_wrap_policy=settings["fsdp_auto_wrap_policy"],
        transformer_cls_names_to_wrap=[layer],
    )
    model = build(head)
    plugin.set_auto_wrap_policy(model)
    wrapped = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]
    assert [module for module in model.modules() if type(module) in wrapped] == list(encoder_layers(model))
    assert layer in model._no_split_modules


KILLED = """
import os, signal, sys
from transformers import TrainerCallback
from tests.support.training import trainer

class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

trainer(sys.argv[1], callbacks=[Kill()]).train()
"""


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(tmp_path):
    whole = trainer(tmp_path / "whole")
    whole.train()
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "killed"], cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["checkpoint-2", "checkpoint-4"]
    first = []

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            first.append(state.global_step)

    resumed = trainer(tmp_path / "killed", callbacks=[Watch()])
    resumed.train(resume_from_checkpoint=True)
    assert first == [5, 6]
    assert same_weights(weights(resumed.model), weights(whole.model))
