"""Layers leave from any model of transformers as from an ACN: the run goes on as if they had never been there."""

import datasets
import peft
import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from acn_hf import IntermediateSupervisionCallback, LayerSheddingCallback, PruningCallback, depth_logits, truncate
from acn_hf.depth.layers import grow_layers, layers_of, shed_layers
from acn_hf.support.wrappers import unwrap
from tests.support.adapted import quiet
from tests.support.any_models import ALL, NUM_LAYERS, any_model
from tests.support.training import same_weights, weights
from tests.training.test_shedding import Scripted, depths

each_model = pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.name)
SOME = ("BertForSequenceClassification", "ModernBertForSequenceClassification", "GPT2LMHeadModel", "LlamaForCausalLM")


def rows(name):
    ids = torch.randint(3, 9, (48, 8), generator=torch.Generator().manual_seed(0))
    labels = ids if "LM" in name else (ids[:, 0] > 5).long()
    return datasets.Dataset.from_dict({"input_ids": ids, "labels": labels}).with_format("torch")


def trainer(name, folder, model, **options):
    settings = {"max_steps": 4, "per_device_train_batch_size": 8, "per_device_eval_batch_size": 16}
    settings |= {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "learning_rate": 1e-2, "save_steps": 1}
    arguments = TrainingArguments(str(folder), **{**settings, "dataloader_pin_memory": False, **options})
    return Trainer(model, arguments, train_dataset=rows(name), eval_dataset=rows(name))


def config_of(model, module_name):
    return vars(model.get_submodule(module_name)).get("config")


@each_model
def test_the_model_itself_becomes_the_one_that_is_cut(entry):
    model, expected = entry.build(), truncate(entry.build(), 2)
    layers, names = layers_of(model), [name for name, _ in model.named_modules()]
    before = {name: config_of(model, name) for name in names}
    removed = shed_layers(model, 2)
    assert len(removed) == NUM_LAYERS - 2
    assert layers_of(model) is layers
    assert same_weights(weights(model), weights(expected))
    with torch.no_grad():
        assert torch.equal(model(**entry.inputs())[0], expected(**entry.inputs())[0])
    for name, module in model.named_modules():
        if before[name] is not None:
            held = config_of(model, name)
            assert held is not before[name]
            assert held.to_dict() == config_of(expected, name).to_dict()
        assert module in set(model.modules())
    assert model.config.to_dict() == expected.config.to_dict()


@each_model
def test_layers_come_back_as_those_of_the_config(entry):
    model, config = entry.build(), entry.build().config
    layers = layers_of(model)
    shed_layers(model, 2)
    state = torch.random.get_rng_state()
    added = grow_layers(model, config)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [id(layer) for layer in layers_of(model)[2:]] == [id(layer) for layer in added]
    assert layers_of(model) is layers
    assert len({id(held) for name, _ in model.named_modules() if (held := config_of(model, name))} - {
        id(held) for held in (model.config, *vars(model.config).values())
    }) == 0  # fmt: skip
    model.load_state_dict(entry.build().state_dict())
    with torch.no_grad():
        assert torch.equal(model(**entry.inputs())[0], entry.build()(**entry.inputs())[0])
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("name", SOME)
def test_the_shorter_network_trains_as_if_it_had_always_been_short(name, tmp_path):
    model = any_model(name).build()
    run = trainer(name, tmp_path / "shed", model, eval_strategy="no")
    Scripted(2, patience=1, margin=0).attach(run)
    run.train()
    assert depths(run) == {0: 4, 1: 2, 2: 2, 3: 2, 4: 2}
    checkpoint = tmp_path / "shed" / "checkpoint-1"
    short = type(model).from_pretrained(checkpoint)
    assert short.config.num_hidden_layers == 2
    rest = trainer(name, tmp_path / "rest", short, eval_strategy="no")
    rest.train(resume_from_checkpoint=str(checkpoint))
    assert same_weights(weights(model), weights(short))


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("built", ["long", "from the checkpoint"])
def test_a_resumed_run_ends_with_the_same_weights(name, built, tmp_path):
    whole = any_model(name).build()
    for model, resume in ((whole, None), (any_model(name).build(), str(tmp_path / "checkpoint-3"))):
        if resume is not None and built != "long":
            model = type(whole).from_pretrained(resume)
        run = trainer(name, tmp_path, model, eval_strategy="no")
        Scripted(3, 2, 1, patience=1, margin=0).attach(run)
        run.train(resume_from_checkpoint=resume)
    assert len(layers_of(model)) == 1
    assert same_weights(weights(model), weights(whole))


class Allocating(TrainerCallback):
    """Lets an AdaLoRA give ranks to its weights, as its documentation asks for."""

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


@quiet
@pytest.mark.filterwarnings("ignore:The following rank_pattern keys:RuntimeWarning")  # which peft looks for as LoRA's
@pytest.mark.parametrize("name", ["LoRA", "AdaLoRA"])
def test_layers_leave_together_with_their_adapters(name, tmp_path):
    entry = any_model("BertForSequenceClassification")
    config = {
        "LoRA": lambda: peft.LoraConfig(r=2, target_modules=["query"], layers_to_transform=[0, 3]),
        "AdaLoRA": lambda: peft.AdaLoraConfig(
            init_r=4, target_r=2, total_step=10, tinit=1, tfinal=2, target_modules=["query"]
        ),
    }[name]()
    model = peft.get_peft_model(entry.build(), config)
    run = trainer(entry.name, tmp_path, model, eval_strategy="no", max_steps=10, save_steps=10)
    Scripted(4, 4, 4, 2, patience=1, margin=0).attach(run)
    if name == "AdaLoRA":
        run.add_callback(Allocating())
    run.train()
    assert len(layers_of(unwrap(model))) == model.config.num_hidden_layers == 2
    assert all("layer.0." in target or "layer.1." in target for target in model.targeted_module_names)
    again = peft.PeftModel.from_pretrained(truncate(entry.build(), 2), tmp_path / "checkpoint-10").eval()
    with torch.no_grad():
        logits = [each(**entry.inputs()).logits for each in (model.eval(), again)]
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-6)
    assert config.peft_type == model.peft_config["default"].peft_type
    assert config is not model.peft_config["default"]


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "ModernBertForSequenceClassification"])
def test_real_measurements_shed_layers_of_a_supervised_and_pruned_model(name, tmp_path):
    entry = any_model(name)
    model = entry.build()
    run = trainer(name, tmp_path, model, eval_strategy="steps", eval_steps=1, save_strategy="no")
    IntermediateSupervisionCallback("uniform").attach(run)
    PruningCallback(0.5, start=0.0, end=0.5).attach(run)
    LayerSheddingCallback(tolerance=1.0, margin=0, patience=2, start=0.0).attach(run)
    run.train()
    assert len(layers_of(model)) == entry.lowest
    assert len(depth_logits(model.eval(), **entry.inputs())) == 1
    saved = [entry for entry in run.state.log_history if "eval_shedding_saved_layer_steps" in entry]
    left = 1 - (4 + 4 + entry.lowest * 2) / 16
    assert saved[-1]["eval_shedding_saved_layer_steps"] == pytest.approx(left)
