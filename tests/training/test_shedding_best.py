"""The best checkpoint of a run in which layers left comes back at its own depth, whatever the model is."""

import copy

import datasets
import pytest
import torch
from transformers import Trainer, TrainingArguments

from acn_hf import DepthError, LayerSheddingCallback, lora_config
from acn_hf.depth.layers import is_acn, layers_of
from acn_hf.training.shedding import _hand_over
from tests.support.adapted import quiet
from tests.support.any_models import any_model
from tests.support.families import by_name
from tests.support.training import same_weights, some_of, weights
from tests.training.test_shedding import DEPTH, Scripted

PLAIN = ("BertForSequenceClassification", "ModernBertForSequenceClassification", "GPT2LMHeadModel", "LlamaForCausalLM")
ACN = "bert-ForSequenceClassification"
KINDS = (ACN, *PLAIN)
each_kind = pytest.mark.parametrize("kind", KINDS)
STAYS, LEAVES = [4, 4, 4, 4, 4, 4], [4, 2, 2, 2, 2, 2]  # with patience 1 and margin 0: two layers leave at step 2


def build(kind):
    return by_name(kind).build(num_hidden_layers=DEPTH) if kind == ACN else any_model(kind).build()


def rows(kind):
    ids = torch.randint(3, 9, (48, 8), generator=torch.Generator().manual_seed(0))
    labels = ids if "LM" in kind else (ids[:, 0] > 5).long()
    return datasets.Dataset.from_dict({"input_ids": ids, "labels": labels}).with_format("torch")


class BestAt:
    """Says at every evaluation how good a checkpoint is, whatever it is: the best is that of one step."""

    def __init__(self, step):
        self.step = step

    def __call__(self, trainer, *args, **kwargs):
        value = float(trainer.state.global_step == self.step)
        metrics = {"eval_said": value, "eval_runtime": 0.0}
        trainer.log(metrics)
        trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, metrics)
        return metrics


class SaidTrainer(Trainer):
    best_at: BestAt

    def evaluate(self, *args, **kwargs):
        return self.best_at(self)


def run(kind, folder, model, best_at, effective, *, steps=6, resume=None, **options):
    arguments = TrainingArguments(
        str(folder), max_steps=steps, per_device_train_batch_size=8, eval_strategy="steps", eval_steps=1,
        save_strategy="steps", save_steps=1, load_best_model_at_end=True, metric_for_best_model="said",
        greater_is_better=True, use_cpu=True, report_to="none", disable_tqdm=True, learning_rate=1e-2,
        dataloader_pin_memory=False, **options,
    )  # fmt: skip
    trainer = SaidTrainer(model, arguments, train_dataset=rows(kind), eval_dataset=rows(kind))
    trainer.best_at = BestAt(best_at)
    callback = Plain(*effective, patience=1, margin=0)
    callback.attach(trainer)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


class Plain(Scripted):
    """Finds the depths that it was told in any model."""


def said(model):
    """Return what the config of a model says; whether to cache, the Trainer of some releases says for one run."""
    fields = model.config.to_dict()
    return {name: value for name, value in fields.items() if name not in ("_name_or_path", "use_cache")}


def check_is_checkpoint(model, folder, depth):
    """Check that a model is what a checkpoint holds, and that it computes and is saved as such."""
    read = type(model).from_pretrained(folder)
    assert len(layers_of(model)) == len(layers_of(read)) == depth
    assert same_weights(weights(model), weights(read))
    assert said(model) == said(read)
    ids = torch.randint(3, 9, (2, 8))
    with torch.no_grad():
        assert torch.equal(model.eval()(input_ids=ids).logits, read.eval()(input_ids=ids).logits)


@each_kind
@pytest.mark.parametrize(("best_at", "depth"), [(1, 4), (5, 2)], ids=["deeper", "as deep"])
def test_the_best_checkpoint_comes_back_at_its_own_depth(kind, best_at, depth, tmp_path):
    model = build(kind)
    trainer = run(kind, tmp_path, model, best_at, LEAVES)
    assert type(model).from_pretrained(tmp_path / "checkpoint-6").config.num_hidden_layers == 2
    check_is_checkpoint(model, tmp_path / f"checkpoint-{best_at}", depth)
    configs = {id(module.config) for module in model.modules() if "config" in vars(module)}
    assert len(configs) == 1
    assert not model._load_state_dict_pre_hooks
    trained = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in model.parameters()}


BUILT, BEST = ("long", "from the checkpoint"), (1, 3, 5)


@pytest.mark.parametrize(
    ("kind", "built", "best_at"),
    some_of(
        [(ACN, BUILT[1], 1), (ACN, BUILT[0], 5), *((kind, BUILT[1], 1) for kind in PLAIN), (PLAIN[0], BUILT[0], 3)],
        KINDS,
        BUILT,
        BEST,
    ),
)
def test_of_a_resumed_run_too(kind, built, best_at, tmp_path):
    run(kind, tmp_path, build(kind), best_at, LEAVES, steps=4)
    checkpoint = tmp_path / "checkpoint-4"
    model = build(kind)
    if built != "long":
        model = type(model).from_pretrained(checkpoint)
        assert len(layers_of(model)) == 2
    run(kind, tmp_path, model, best_at, LEAVES, resume=str(checkpoint))
    check_is_checkpoint(model, tmp_path / f"checkpoint-{best_at}", LEAVES[best_at - 1])


@pytest.mark.parametrize("kind", [ACN, PLAIN[0]])
def test_a_run_goes_on_with_the_layers_that_came_back(kind, tmp_path):
    model = build(kind)
    trainer = run(kind, tmp_path, model, 1, LEAVES)
    before = weights(model)
    trainer.callback_handler.callbacks = [c for c in trainer.callback_handler.callbacks if not isinstance(c, Scripted)]
    trainer.args.load_best_model_at_end = False
    trainer.train()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name for name, _ in model.named_parameters()} <= changed | {n for n in before if "key.bias" in n}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_deeper_checkpoint_is_not_loaded_into_a_shorter_model(kind, tmp_path):
    run(kind, tmp_path, build(kind), 1, STAYS, steps=1)
    short = any_model(kind).build(num_hidden_layers=2)
    before = weights(short)
    with pytest.raises(DepthError, match="the weights are those of 4 layers and this model has 2"):
        run(kind, tmp_path, short, 1, STAYS, resume=str(tmp_path / "checkpoint-1"))
    assert same_weights(weights(short), before)


@quiet
@pytest.mark.parametrize("kind", [ACN, PLAIN[0]])
def test_checkpoints_of_adapters_do_not_hold_the_layers(kind, tmp_path):
    import peft

    model = build(kind)
    adapted = peft.get_peft_model(model, lora_config(model, r=2))
    with pytest.raises(ValueError, match="load_best_model_at_end must be False where layers of an adapted model leave"):
        run(kind, tmp_path, adapted, 1, LEAVES)


@pytest.mark.parametrize("kind", [ACN, PLAIN[0]])
def test_a_copy_made_before_training_is_loaded_as_any_other(kind, tmp_path):
    model, short = build(kind), build(kind)
    del layers_of(short)[2:]
    arguments = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    LayerSheddingCallback().attach(Trainer(model, arguments))
    other = copy.deepcopy(model)
    if is_acn(model):
        with pytest.raises(DepthError):
            other.load_state_dict(short.state_dict(), strict=False)
    else:
        other.load_state_dict(short.state_dict(), strict=False)
    assert len(layers_of(other)) == DEPTH


def test_new_layers_are_trained_as_the_first_one_is():
    model = build(PLAIN[0])
    layers, decayed, others = layers_of(model), [], []
    for name, parameter in layers[:2].named_parameters():
        (others if "bias" in name or "LayerNorm" in name else decayed).append(parameter)
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}])
    _hand_over(list(layers[2:]), layers[:2], optimizer)
    expected = [id(p) for n, p in layers.named_parameters() if "bias" not in n and "LayerNorm" not in n]
    assert {id(parameter) for parameter in optimizer.param_groups[0]["params"]} == set(expected)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(layers.parameters()))
