"""Problems that people reported about other models and libraries, and that stay impossible here.

One section a report. What a report shares with a rule of the conformance suite is tested there for every head;
here stands the story as it was told.
"""

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments
from transformers.utils import ModelOutput

from acn_hf import DepthError, depth_logits, truncate
from tests.support.families import BASES, HEADED, NUM_LAYERS, TRAINED, by_name, each_head
from tests.support.training import some_of

CLASSIFIERS = [by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")]
MLM_HEADS = [by_name("bert-ForMaskedLM"), by_name("bert-ForPreTraining")]


def trainer_of(model, folder, arguments=None, **options):
    arguments = TrainingArguments(
        **(arguments or {}),
        output_dir=str(folder),
        per_device_eval_batch_size=3,
        remove_unused_columns=False,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    return Trainer(model, arguments, **options)


def examples_of(head, number=5):
    inputs = head.inputs(batch_size=number, labels=True)
    return [{name: value[index] for name, value in inputs.items()} for index in range(number)]


# "I removed layers, saved the model, and from_pretrained gave me random layers."


@each_head()
def test_layers_removed_by_hand_are_not_saved_under_the_old_config(build, head, tmp_path):
    model = build(head)
    del model.base_model.get_submodule(model.layers_name)[2]
    with pytest.raises(DepthError, match="holds 2 layers and its config says num_hidden_layers=3"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@each_head()
def test_a_config_that_asks_for_more_layers_is_not_filled_with_random_ones(build, head, tmp_path):
    build(head).save_pretrained(tmp_path, depth=1)
    with pytest.raises(DepthError, match="layers 2 to 4 would stay random"):
        head.acn.from_pretrained(tmp_path, num_hidden_layers=4)


# "hidden_states[k] is off by one: is it the input or the output of layer k?"


@each_head(BASES)
@torch.no_grad()
def test_depth_is_a_count_and_indexes_the_hidden_states(build, head):
    """Depth k keeps layers 0 to k-1, and `hidden_states[k]` is what they give; depth 0 is the embeddings."""
    model, inputs = build(head), head.inputs()
    output = model(**inputs, output_hidden_states=True)
    embeddings = model.embeddings(inputs[model.main_input_name])
    for depth in range(NUM_LAYERS + 1):
        short = truncate(model, depth)
        assert len(short.get_submodule(short.layers_name)) == depth
        assert torch.equal(short(**inputs, output_hidden_states=True).hidden_states[-1], output.hidden_states[depth])
    if not head.name.startswith("bert"):
        assert torch.equal(output.hidden_states[0], embeddings)


@pytest.mark.skipif(
    not hasattr(transformers.utils.output_capturing, "selected_hidden_states"),
    reason="this transformers cannot select hidden states by index",
)
@pytest.mark.parametrize("index", [1, 3, -1, -2, -4, [0, -1]], ids=repr)
@each_head([*BASES, *CLASSIFIERS])
@torch.no_grad()
def test_hidden_states_are_selected_by_the_same_index(build, head, index):
    model, inputs = build(head), head.inputs()
    everything = model(**inputs, output_hidden_states=True).hidden_states
    selected = model(**inputs, output_hidden_states=index).hidden_states
    for each in index if isinstance(index, list) else [index]:
        assert selected[each] is not None
        assert torch.equal(selected[each], everything[each])


# "All weights of my ViT are newly initialised."


@each_head()
@torch.no_grad()
def test_upstream_checkpoints_load_completely(build, head, tmp_path):
    model = build(head, residual_scale=1.0)
    head.build_upstream(model).save_pretrained(tmp_path)
    options = {**head.own_fields, "residual_scale": 1.0}
    loaded, info = head.acn.from_pretrained(tmp_path, **options, output_loading_info=True)
    assert not any(info.values()), info
    inputs = head.inputs()
    assert torch.equal(loaded(**inputs)[0], model(**inputs)[0])


def test_upstream_vit_checkpoints_are_stored_under_other_names(build, tmp_path):
    """The check above means something for ViT."""
    head = by_name("vit-Model")
    model = build(head, residual_scale=1.0)
    head.build_upstream(model).save_pretrained(tmp_path)
    assert not set(load_file(tmp_path / "model.safetensors")) & {
        name for name in model.state_dict() if name.startswith("layers.")
    }


@each_head()
def test_upstream_reads_our_weights(build, head, tmp_path):
    model = build(head, residual_scale=1.0)
    model.save_pretrained(tmp_path)
    config = head.upstream.config_class(**head.fields)
    loaded, info = head.upstream.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert not any(info.values()), info
    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())


# "The tied MLM head is lost after loading", "the tied weight is stored twice."


@each_head(MLM_HEADS)
@torch.no_grad()
def test_the_tied_head_follows_the_embeddings_after_loading(build, head, tmp_path):
    build(head).save_pretrained(tmp_path)
    for model in (head.acn.from_pretrained(tmp_path), head.acn.from_pretrained(tmp_path, num_hidden_layers=1)):
        model.bert.embeddings.word_embeddings.weight.fill_(0.25)
        assert (model.cls.predictions.decoder.weight == 0.25).all()
    names = [
        name for name in load_file(tmp_path / "model.safetensors") if "word_embeddings" in name or "decoder" in name
    ]
    assert names == ["bert.embeddings.word_embeddings.weight"]


# "hidden_states[-1] is the last_hidden_state, after the final norm."


@torch.no_grad()
def test_the_last_hidden_state_of_vit_is_before_the_final_norm(build):
    head = by_name("vit-Model")
    model = build(head)
    output = model(**head.inputs(), output_hidden_states=True)
    assert not torch.equal(output.hidden_states[-1], output.last_hidden_state)
    assert torch.equal(model.layernorm(output.hidden_states[-1]), output.last_hidden_state)


# "evaluate() runs out of memory: Trainer collects the hidden states of the whole data set."


@each_head(CLASSIFIERS)
def test_the_trainer_collects_logits_only(build, head, tmp_path):
    model, seen = build(head, output_hidden_states=True), []
    assert model(**head.inputs()).hidden_states is not None

    def compute_metrics(prediction):
        seen.append(prediction.predictions.shape)
        return {}

    trainer = trainer_of(model, tmp_path, compute_metrics=compute_metrics)
    trainer.evaluate(examples_of(head))
    assert trainer.predict(examples_of(head)).predictions.shape == (5, 3)
    assert seen == [(5, 3), (5, 3)]


# "Trainer.predict fails: the model output holds an int."


@each_head(HEADED)
def test_the_trainer_predicts_what_it_predicts_with_upstream(build, head, tmp_path):
    model = build(head, residual_scale=1.0)
    ours, theirs = (
        trainer_of(each, tmp_path).predict(examples_of(head)).predictions
        for each in (model, head.build_upstream(model))
    )
    assert type(ours) is type(theirs)
    pairs = zip(ours, theirs, strict=True) if isinstance(ours, tuple) else [(ours, theirs)]
    assert all(np.array_equal(*pair) for pair in pairs)


@each_head()
@torch.no_grad()
def test_every_output_is_a_tensor_or_a_tuple_of_tensors(build, head):
    everything = {"output_hidden_states": True, "output_attentions": True}
    model = build(head)
    model.set_attn_implementation("eager")
    output = model(**head.inputs(labels=True), **everything)
    assert isinstance(output, ModelOutput)
    for value in output.values():
        assert all(isinstance(each, torch.Tensor) for each in (value if isinstance(value, tuple) else (value,)))


# "Gradient accumulation multiplies the loss."


@each_head(TRAINED)
def test_the_step_of_one_of_two_batches_has_half_its_loss(build, head, tmp_path):
    trainer, inputs = trainer_of(build(head), tmp_path), head.inputs(labels=True)
    trainer.current_gradient_accumulation_steps = 2
    expected = trainer.model(**inputs).loss.item() / 2
    counted = inputs["labels"].ne(-100).sum() * 2 if "labels" in inputs else None
    assert trainer.training_step(trainer.model, inputs, counted).item() == pytest.approx(expected, rel=1e-6)


# "Training that resumes from a checkpoint starts with other weights", "the best model is not loaded at the end."


def train_two_steps(model, examples, folder, resume_from=None, compute_metrics=None, **arguments):
    """Train with a checkpoint and an evaluation after every step."""
    trainer = trainer_of(
        model,
        folder,
        train_dataset=examples,
        eval_dataset=examples,
        compute_metrics=compute_metrics,
        arguments={
            "per_device_train_batch_size": len(examples),
            "max_steps": 2,
            "save_steps": 1,
            "eval_steps": 1,
            "eval_strategy": "steps",
            "learning_rate": 0.1,
            **arguments,
        },
    )
    trainer.train(resume_from_checkpoint=resume_from)
    return trainer


RESUMED = [
    (by_name(f"{family}-{head}"),)
    for family, head in (
        ("bert", "ForSequenceClassification"),
        ("vit", "ForImageClassification"),
        ("mixer", "ForImageClassification"),
    )
]


@pytest.mark.parametrize("head", some_of(RESUMED, TRAINED), ids=lambda head: head.name)
def test_resumed_training_ends_with_the_same_weights(build, head, tmp_path):
    trained, resumed = build(head, learn_residual_scale=True), build(head, learn_residual_scale=True)
    train_two_steps(trained, examples_of(head), tmp_path)
    train_two_steps(resumed, examples_of(head), tmp_path, resume_from=str(tmp_path / "checkpoint-1"))
    expected = trained.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


@each_head(CLASSIFIERS)
def test_the_best_model_is_loaded_at_the_end(build, head, tmp_path):
    model, scores = build(head), iter([1.0, 0.0])
    options = {"load_best_model_at_end": True, "metric_for_best_model": "score"}
    trainer = train_two_steps(
        model, examples_of(head), tmp_path, compute_metrics=lambda prediction: {"score": next(scores)}, **options
    )
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-1")
    expected = head.acn.from_pretrained(tmp_path / "checkpoint-1").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


# "AcnX does not support gradient checkpointing."


@each_head()
def test_gradient_checkpointing_is_supported(head):
    assert head.acn.supports_gradient_checkpointing


# "I changed num_labels, and the head is silently random", "ignore_mismatched_sizes does not help."


@each_head(CLASSIFIERS)
def test_another_number_of_labels_needs_to_be_asked_for(build, head, tmp_path):
    model = build(head)
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        head.acn.from_pretrained(tmp_path, num_labels=5)
    loaded, info = head.acn.from_pretrained(
        tmp_path, num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {entry[0] for entry in info["mismatched_keys"]} == {"classifier.weight", "classifier.bias"}
    assert loaded(**head.inputs()).logits.shape == (2, 5)
    before, after = model.base_model.state_dict(), loaded.base_model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


# "resize_token_embeddings forgets the MLM head."


@each_head(MLM_HEADS)
@pytest.mark.parametrize("size", [30, 50])
@torch.no_grad()
def test_resizing_the_vocabulary_resizes_the_head(build, head, size, tmp_path):
    model, inputs = build(head), head.inputs()
    inputs["input_ids"] = inputs["input_ids"] % 30
    before = depth_logits(model, **inputs)
    model.resize_token_embeddings(size, mean_resizing=False)
    after = depth_logits(model, **inputs)
    shared = min(size, 40)
    assert after.shape[-1] == size
    torch.testing.assert_close(after[..., :shared], before[..., :shared])
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.save_pretrained(tmp_path)
    assert torch.equal(depth_logits(head.acn.from_pretrained(tmp_path), **inputs), after)


# "A newer transformers has a model of the same name, and mine cannot be registered any more."

LATER_UPSTREAM = """
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

for name in ("acn_bert", "acn_vit", "acn_deit"):
    CONFIG_MAPPING_NAMES[name] = "BertConfig"
    transformers.CONFIG_MAPPING._mapping[name] = "BertConfig"

import acn_hf

for name, config_class, model_class in (
    ("acn_bert", acn_hf.AcnBertConfig, acn_hf.AcnBertForSequenceClassification),
    ("acn_vit", acn_hf.AcnViTConfig, acn_hf.AcnViTModel),
    ("acn_deit", acn_hf.AcnDeiTConfig, acn_hf.AcnDeiTModel),
):
    assert type(transformers.AutoConfig.for_model(name)) is config_class, name
small = dict(hidden_size=8, num_attention_heads=2, intermediate_size=8, num_hidden_layers=1)
model = transformers.AutoModelForSequenceClassification.from_config(acn_hf.AcnBertConfig(**small))
assert type(model) is acn_hf.AcnBertForSequenceClassification
assert type(transformers.AutoModel.from_config(acn_hf.AcnViTConfig(**small))) is acn_hf.AcnViTModel
"""


@pytest.mark.slow
def test_a_later_upstream_model_of_the_same_name_changes_nothing():
    result = subprocess.run([sys.executable, "-c", LATER_UPSTREAM], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]


# "The model 'X' is not supported for text-classification."


def test_the_pipeline_knows_the_class(build, caplog):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    tokenizer = transformers.BertTokenizer(vocab={word: index for index, word in enumerate(words)}, model_max_length=16)
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        model = build(by_name("bert-ForSequenceClassification"))
        result = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")("a b")
    finally:
        logger.removeHandler(caplog.handler)
    assert set(result[0]) == {"label", "score"}
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
