"""A config belongs to whoever made it: what is done to one model changes no other that was made from its config."""

import copy
import json

import datasets
import peft
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import acn_hf
from acn_hf import AcnBertConfig, AcnBertForSequenceClassification
from tests.support.adapted import quiet
from tests.support.any_models import texts
from tests.training.test_shedding import Scripted

FIELDS = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 3}
FIELDS |= {"vocab_size": 60, "max_position_embeddings": 40, "pad_token_id": 0}
# What a head writes into its config at its first loss, and what a Trainer writes.
FIELDS |= {"problem_type": "single_label_classification", "use_cache": False}
CLASSES = {
    "acn": (AcnBertForSequenceClassification, AcnBertConfig, {"residual_scale": [0.5, 0.5, 0.5]}),
    "plain": (BertForSequenceClassification, BertConfig, {}),
}


def rows():
    ids = texts()["input_ids"].repeat(4, 1)
    return datasets.Dataset.from_dict({"input_ids": ids, "labels": (ids[:, 0] > 27).long()}).with_format("torch")


def train(model, folder, *callbacks, resume=None, **options):
    settings = {"max_steps": 3, "per_device_train_batch_size": 4, "save_strategy": "no", "use_cpu": True}
    settings |= {"report_to": "none", "disable_tqdm": True, "dataloader_pin_memory": False}
    run = Trainer(
        model, TrainingArguments(str(folder), **{**settings, **options}), train_dataset=rows(), eval_dataset=rows()
    )
    for callback in callbacks:
        callback.attach(run)
    run.train(resume_from_checkpoint=resume)
    return run


def shed(model, folder):
    run = train(model, folder / "first", Scripted(1, patience=1, margin=0), save_strategy="steps", save_steps=3)
    assert model.config.num_hidden_layers == 1
    return run


def shed_and_resume(model, folder):
    shed(copy.deepcopy(model), folder)
    train(model, folder, Scripted(1, patience=1, margin=0), resume=str(folder / "first" / "checkpoint-3"), max_steps=4)
    assert model.config.num_hidden_layers == 1


def shed_adapted(model, folder):
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["query"]))
    train(adapted, folder, Scripted(1, patience=1, margin=0))
    assert adapted.config is model.config
    assert model.config.num_hidden_layers == 1


def anneal(model, folder):
    train(model, folder, acn_hf.ResidualAnnealingCallback(1.0, 0.0, 1.0))
    assert model.config.residual_scale == 0.0


def export(model, folder):
    acn_hf.export_program(model, folder / "program")


def save(model, folder):
    acn_hf.save_truncated(model, folder / "short", 2)


FEATURES = {
    "shedding": shed,
    "resumed after shedding": shed_and_resume,
    "shedding of an adapted model": shed_adapted,
    "annealing": anneal,
    "gradual pruning": lambda model, folder: train(model, folder, acn_hf.PruningCallback(0.5)),
    "supervision": lambda model, folder: train(model, folder, acn_hf.IntermediateSupervisionCallback("uniform")),
    "profile": lambda model, folder: train(model, folder, acn_hf.DepthProfileCallback(rows())),
    "pruning": lambda model, folder: acn_hf.prune_model(model, 0.5),
    "width": lambda model, folder: acn_hf.prune_width(model, 8),
    "bf16": lambda model, folder: acn_hf.quantize(model, "bf16"),
    "int8": lambda model, folder: acn_hf.quantize(model, "int8"),
    "export": export,
    "compress": lambda model, folder: acn_hf.compress(model, rows(), depth=1),
    "conversion": lambda model, folder: acn_hf.from_residual(model),
    "truncation": lambda model, folder: acn_hf.truncate(model, 1),
    "a short checkpoint": save,
    "gradient flow": lambda model, folder: acn_hf.measure_gradient_flow(model, rows(), batch_size=4),
    "cost": lambda model, folder: acn_hf.measure_cost(model, repeats=2),
}
OF_ACNS_ALONE = {"annealing", "gradient flow", "export"}
OF_OTHERS_ALONE = {"conversion"}
CASES = [
    pytest.param(kind, name, id=f"{kind}-{name}")
    for kind in CLASSES
    for name in FEATURES
    if name not in (OF_OTHERS_ALONE if kind == "acn" else OF_ACNS_ALONE)
]


def output(model):
    with torch.no_grad():
        return copy.deepcopy(model).eval()(**texts()).logits


def said(config):
    """Return what a config says, but for what `save_pretrained` of transformers writes into it."""
    written = ("architectures", "dtype", "auto_map")
    fields = {name: value for name, value in config.to_dict().items() if name not in written}
    return json.dumps(fields, sort_keys=True, default=str)


def built(model_class, config, seed):
    torch.manual_seed(seed)
    return model_class(config)


@quiet
@pytest.mark.filterwarnings("ignore")  # of exporters and torchao; what is asked here is another thing
@pytest.mark.parametrize(("kind", "feature"), CASES)
def test_other_models_of_the_same_config_do_not_notice(kind, feature, tmp_path):
    if feature == "int8":
        pytest.importorskip("torchao")
    model_class, config_class, options = CLASSES[kind]
    config = config_class(**FIELDS, **options)
    first, second, third = (built(model_class, config, seed) for seed in range(3))
    before = said(config), output(second), output(third)
    FEATURES[feature](first, tmp_path)
    assert second.config is config
    assert {id(vars(m)["config"]) for m in second.modules() if "config" in vars(m)} == {id(config)}
    assert said(config) == before[0]
    assert torch.equal(output(second), before[1])
    assert torch.equal(output(built(model_class, config, 2)), before[2])
