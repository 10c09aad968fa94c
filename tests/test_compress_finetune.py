"""Cut first, fine-tune then: what is trained, what is measured, and what the card says of it."""

import re

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, default_data_collator

import acn_hf
from acn_hf import CardFacts, CompressionResult, DepthError, FinetuningError, compress, depth_logits, truncate
from acn_hf.depth.metrics import ProfileError
from acn_hf.publishing.facts import config_fields
from acn_hf.publishing.metadata import eval_results
from tests.support import training
from tests.support.adapted import any_peft, each_way, quiet, with_peft
from tests.support.families import NUM_LAYERS, TRAINED, by_name, each_head

__all__ = ["any_peft"]
CLASSIFIER, IMAGES = by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")


def rows_of(head, number=8):
    batch = head.inputs(batch_size=number, labels=True)
    return [{name: value[row] for name, value in batch.items()} for row in range(number)]


def trainer_of(folder, rows, **options):
    """Return a function from the cut model to a Trainer that takes a few steps on rows."""
    settings = {"max_steps": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "remove_unused_columns": False}
    settings |= {"eval_strategy": "no", "save_strategy": "no"}
    arguments = training.arguments(folder, **{**settings, **options})
    return lambda short: Trainer(short, arguments, train_dataset=rows)


# --- what is trained and measured


@each_head(TRAINED)
def test_the_cut_model_is_trained_and_the_long_one_is_not(build, head, tmp_path):
    """The result is what a Trainer makes of the truncated model without compress, to the bit."""
    model, batch = build(head).train(), head.inputs(batch_size=8, labels=True)
    before = training.weights(model)
    rows = rows_of(head)
    result = compress(model, [batch], metric="loss", depth=2, finetune=trainer_of(tmp_path, rows))
    alone = truncate(build(head), 2)
    trainer_of(tmp_path, rows)(alone).train()
    assert training.same_weights(training.weights(result.model), training.weights(alone))
    assert not training.same_weights(training.weights(result.model), training.weights(truncate(build(head), 2)))
    assert training.same_weights(training.weights(model), before)
    assert model.training
    assert not any(module.training for module in result.model.modules())
    with torch.no_grad():
        loss = result.model(**batch).loss.item()
    assert result.finetuned == pytest.approx(loss, rel=1e-5)
    assert result.finetuned < result.profile.value_at(2)


def test_without_fine_tuning_there_is_no_second_value(build):
    result = compress(build(CLASSIFIER), [CLASSIFIER.inputs(labels=True)], depth=2)
    assert (result.depth, result.finetuned, result.to_dict()["finetuned"]) == (2, None, None)
    assert "fine-tuned" not in str(result)


@pytest.mark.parametrize("depth", range(NUM_LAYERS + 1))
def test_a_depth_that_is_given_is_not_chosen(build, depth):
    model = build(CLASSIFIER)
    result = compress(model, [CLASSIFIER.inputs(labels=True)], depth=depth, depths=[1], tolerance=0.0)
    assert result.depth == result.model.config.num_hidden_layers == depth
    assert result.profile.depths == tuple(sorted({1, depth, NUM_LAYERS}))
    inputs = CLASSIFIER.inputs()
    assert torch.equal(result.model(**inputs).logits, depth_logits(model, **inputs)[depth])


def test_the_depth_is_chosen_before_the_training(build, tmp_path):
    rows, seen = rows_of(CLASSIFIER), []

    def finetune(short):
        seen.append(short.config.num_hidden_layers)
        return trainer_of(tmp_path, rows)(short)

    result = compress(build(CLASSIFIER), [CLASSIFIER.inputs(labels=True)], tolerance=1.0, finetune=finetune)
    assert seen == [result.depth] == [0]


def test_options_reach_both_measurements(build, tmp_path):
    """The metric, the batch size and the collator are those of the profile."""
    rows, sizes = rows_of(IMAGES), []

    def collate(batch):
        sizes.append(len(batch))
        return default_data_collator(batch)

    data = DataLoader(rows, batch_size=3, collate_fn=collate)
    options = {"metric": lambda predictions, references: 0.25, "greater_is_better": False}
    result = compress(build(IMAGES), data, depth=1, finetune=trainer_of(tmp_path, rows), **options)
    assert (result.finetuned, result.profile.greater_is_better) == (0.25, False)
    assert sizes == [3, 3, 2, 3, 3, 2]


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(tmp_path):
    """The Trainer's own checkpoints serve: the resumed result is the one of a run that was not stopped."""
    model, data = training.build_model(), training.data()["validation"]

    def finetune(**options):
        return lambda short: training.trainer(tmp_path, short, **{"eval_strategy": "no", **options})

    whole = compress(model, data, depth=2, finetune=finetune())
    assert (tmp_path / "checkpoint-4" / "trainer_state.json").exists()
    stopped = str(tmp_path / "checkpoint-2")
    resumed = compress(model, data, depth=2, finetune=finetune(resume_from_checkpoint=stopped, save_strategy="no"))
    assert training.same_weights(training.weights(whole.model), training.weights(resumed.model))
    assert resumed.finetuned == whole.finetuned
    with pytest.raises(DepthError, match="the weights are those of 2 layers and this model has 3"):
        compress(model, data, depth=3, finetune=finetune(resume_from_checkpoint=stopped))


def test_the_best_checkpoint_is_what_counts(tmp_path):
    model, data = training.build_model(), training.data()["validation"]
    kept = []

    def finetune(short):
        options = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "learning_rate": 3.0}
        kept.append(training.trainer(tmp_path, short, **options))
        return kept[0]

    result = compress(model, data, depth=1, metric="loss", finetune=finetune)
    best = min(entry["eval_loss"] for entry in kept[0].state.log_history if "eval_loss" in entry)
    assert result.finetuned == pytest.approx(best, rel=1e-4)


def test_nothing_of_the_trainer_stays_on_the_model(tmp_path):
    """Under autocast accelerate binds a `forward` to the model that it trains."""
    model, data = training.build_model(), training.data()["validation"]
    kept = []

    def finetune(short):
        kept.append(training.trainer(tmp_path, short, eval_strategy="no", save_strategy="no", bf16=True))
        return kept[0]

    result = compress(model, data, depth=2, finetune=finetune)
    wrapped = {"forward", "_original_forward", "_is_accelerate_prepared"}
    assert wrapped <= set(vars(kept[0].model))
    assert not wrapped & set(vars(result.model))  # else a second training would be one without autocast
    assert not any(parameter.grad is not None for parameter in result.model.parameters())
    assert not {id(p) for p in result.model.parameters()} & {id(p) for p in kept[0].model.parameters()}
    assert training.same_weights(training.weights(result.model), training.weights(kept[0].model))


def test_layers_may_leave_while_it_is_trained(tmp_path):
    model, data = training.build_model(), training.data()["validation"]

    def finetune(short):
        trainer = training.trainer(tmp_path, short, eval_strategy="no", save_strategy="no")
        options = {"tolerance": 1.0, "margin": 1, "patience": 1, "start": 0.0, "every": 1}
        acn_hf.LayerSheddingCallback(data, **options).attach(trainer)
        return trainer

    result = compress(model, data, depth=3, depths=[3], finetune=finetune)
    assert result.depth == result.model.config.num_hidden_layers == 1
    assert result.profile.depths == (1, 3, 4)
    assert result.profile == acn_hf.measure_depth_profile(model, data, depths=[1, 3])
    assert result.cost_after.num_parameters == result.profile.num_parameters[0]
    assert result.finetuned == acn_hf.measure_depth_profile(result.model, data).values[-1]
    assert model.config.num_hidden_layers == 4


# --- adapters


@quiet
@pytest.mark.usefixtures("any_peft")
@each_way
@pytest.mark.parametrize("head", [CLASSIFIER, IMAGES], ids=["bert", "vit"])
def test_a_merged_model_is_trained_whole(build, head, adapt, tmp_path):
    model, batch = adapt(build(head)), head.inputs(batch_size=8, labels=True)
    before = training.weights(model)
    result = compress(model, [batch], metric="loss", depth=2, finetune=trainer_of(tmp_path, rows_of(head)))
    assert type(result.model) is head.acn
    start = truncate(model, 2, merge_adapter=True).state_dict()
    moved = {name for name, weight in result.model.state_dict().items() if not torch.equal(weight, start[name])}
    trained = {name for name, _ in result.model.named_parameters()}
    # The bias of the keys has no gradient: it moves every score of a query alike.
    assert len(trained - moved) <= len([name for name in trained if "key.bias" in name or "k_proj.bias" in name])
    assert training.same_weights(training.weights(model), before)
    assert result.finetuned < result.profile.value_at(2)


@quiet
@pytest.mark.usefixtures("any_peft")
@each_way
def test_adapters_that_are_kept_are_what_is_trained(build, adapt, tmp_path):
    model, batch = adapt(build(CLASSIFIER)), CLASSIFIER.inputs(batch_size=8, labels=True)
    before = training.weights(model)
    finetune = trainer_of(tmp_path, rows_of(CLASSIFIER), learning_rate=1e-2)
    result = compress(model, [batch], metric="loss", depth=2, merge_adapter=False, finetune=finetune)
    assert type(result.model) is type(model)
    start = training.weights(truncate(model, 2))
    moved = {name for name, weight in training.weights(result.model).items() if not torch.equal(weight, start[name])}
    assert any("lora_" in name for name in moved)
    assert all("lora_" in name or "modules_to_save" in name for name in moved)
    assert training.same_weights(training.weights(model), before)
    assert result.finetuned < result.profile.value_at(2)


# --- what is refused


@pytest.mark.parametrize(("depth", "text"), [(4, r"depth must lie in \[0, 3\] .*got 4"), ("2", "got '2'")])
def test_a_depth_that_does_not_exist_is_refused_before_the_data_are_read(build, depth, text):
    with pytest.raises(DepthError, match=text):
        compress(build(CLASSIFIER), (pytest.fail("was read") for _ in range(1)), depth=depth)


@pytest.mark.parametrize("options", [{"relative": True}, {"confidence": 0.9}], ids=str)
def test_a_depth_and_how_to_choose_one_are_refused(build, options):
    with pytest.raises(ProfileError, match=r"relative and confidence choose a depth, .*got depth=1"):
        compress(build(CLASSIFIER), [CLASSIFIER.inputs(labels=True)], depth=1, **options)


@pytest.mark.parametrize(
    "make", [lambda batches: (b for b in batches), iter, lambda b: map(dict, b)], ids=["g", "i", "m"]
)
def test_data_that_can_be_read_once_are_refused(build, make):
    data = make([CLASSIFIER.inputs(labels=True)])
    with pytest.raises(ProfileError, match=rf"the data are read twice, .*got an iterator, {type(data).__name__}"):
        compress(build(CLASSIFIER), data, finetune=lambda short: pytest.fail("was trained"))
    assert next(data), "nothing was read"


def test_data_that_end_sooner_the_second_time_are_refused(build, tmp_path):
    class Shrinking:
        batches = [CLASSIFIER.inputs(batch_size=4, labels=True)] * 2

        def __iter__(self):
            yield from self.batches
            self.batches = self.batches[1:]

    with pytest.raises(ProfileError, match="they held 8 before and 4 after"):
        compress(build(CLASSIFIER), Shrinking(), depth=1, finetune=trainer_of(tmp_path, rows_of(CLASSIFIER)))


def refused(build, error, text, finetune):
    model = build(IMAGES)
    with pytest.raises(error, match=text):
        compress(model, [IMAGES.inputs(batch_size=8, labels=True)], depth=2, finetune=finetune)
    assert training.same_weights(training.weights(model), training.weights(build(IMAGES)))


def test_what_is_no_trainer_is_refused(build, tmp_path):
    text = "must return the Trainer .*got NoneType: let it end with return trainer$"
    refused(build, TypeError, text, lambda short: None)
    make = trainer_of(tmp_path, rows_of(IMAGES))
    refused(build, TypeError, "not yet trained; got TrainOutput", lambda short: make(short).train())


def test_a_trainer_of_another_model_is_refused(build, tmp_path):
    make = trainer_of(tmp_path, rows_of(IMAGES))
    refused(
        build, FinetuningError, "the stage is given, itself; it trains another AcnViT",
        lambda short: make(truncate(short, 2)),
    )  # fmt: skip


def test_a_model_that_is_made_when_training_begins_is_refused(build, tmp_path):
    arguments = training.arguments(tmp_path, max_steps=1, eval_strategy="no", save_strategy="no")

    def finetune(short):
        models = iter([short, IMAGES.build()])
        return Trainer(args=arguments, model_init=lambda: next(models), train_dataset=rows_of(IMAGES))

    refused(build, FinetuningError, "it trains another AcnViTForImageClassification", finetune)


def test_weights_that_are_no_numbers_are_refused(build, tmp_path):
    """Their accuracy would be a number all the same."""
    finetune = trainer_of(tmp_path, rows_of(IMAGES), learning_rate=1e38, optim="sgd", max_grad_norm=0.0)
    refused(build, FinetuningError, r"must be finite numbers; \d+ tensors hold others", finetune)


def test_weights_that_are_sharded_are_refused(build, tmp_path):
    make = trainer_of(tmp_path, rows_of(IMAGES))

    def finetune(short):
        trainer = make(short)
        trainer.is_fsdp_enabled = True
        return trainer

    refused(build, FinetuningError, "must be whole; the Trainer shards them", finetune)


# --- what is said of it


@pytest.fixture
def result(build, tmp_path) -> CompressionResult:
    data, finetune = [IMAGES.inputs(batch_size=8, labels=True)], trainer_of(tmp_path / "run", rows_of(IMAGES))
    return compress(build(IMAGES), data, metric="loss", depth=1, finetune=finetune)


def test_the_table_shows_both_values(result):
    text = re.sub(r"[│┃ ]+", " ", str(result))
    assert f"loss, as cut {result.profile.values[-1]:.4f} {result.profile.value_at(1):.4f}" in text
    assert f"loss, fine-tuned {result.finetuned:.4f}" in text
    assert result.to_dict()["finetuned"] == result.finetuned


def test_the_card_says_that_it_was_fine_tuned(result, tmp_path):
    result.save_pretrained(tmp_path / "short", dataset="data", split="validation")
    text = (tmp_path / "short" / "README.md").read_text()
    assert "changes nothing" not in text
    assert "The other layers were cut off.\n\nIt was then fine-tuned: loss" in text
    cut, full = result.profile.value_at(1), result.profile.values[-1]
    assert (
        f"loss **{result.finetuned:.4f}** on data (validation); it was {cut:.4f} as it was cut, and {full:.4f}" in text
    )
    assert "the depth of this model, before it was fine-tuned, is in bold" in text
    facts = CardFacts.load(tmp_path / "short" / "model_card.json")
    assert facts.finetuned == result.finetuned
    shown = eval_results(facts)
    assert [(one.metric_name, one.metric_value) for one in shown] == [("loss", result.finetuned)]
    again = acn_hf.write_model_card(tmp_path / "short", license="mit")
    assert again.finetuned == result.finetuned


def test_the_card_of_another_compression_forgets_the_fine_tuning(result, build, tmp_path):
    result.save_pretrained(tmp_path, dataset="data")
    plain = compress(build(IMAGES), [IMAGES.inputs(batch_size=8, labels=True)], metric="loss", depth=1)
    plain.save_pretrained(tmp_path, dataset="data")
    text = (tmp_path / "README.md").read_text()
    assert "fine-tuned" not in text
    assert "which changes nothing of what the network computes at this depth" in text
    assert f"{result.finetuned}" not in text


def test_a_model_of_full_depth_may_be_fine_tuned(build, tmp_path):
    data, finetune = [IMAGES.inputs(batch_size=8, labels=True)], trainer_of(tmp_path / "run", rows_of(IMAGES))
    result = compress(build(IMAGES), data, metric="loss", depth=NUM_LAYERS, finetune=finetune)
    result.save_pretrained(tmp_path / "full")
    text = (tmp_path / "full" / "README.md").read_text()
    assert (
        f"It was then fine-tuned: loss **{result.finetuned:.4f}**; it was {result.profile.values[-1]:.4f} before."
        in text
    )
    assert "cut off" not in text


@pytest.mark.parametrize("scale", [1.0, [1.0, 1.0, 1.0]], ids=str)
def test_the_card_of_a_residual_network_calls_it_one(build, tmp_path, scale):
    model = build(CLASSIFIER, residual_scale=scale)
    compress(model, [CLASSIFIER.inputs(labels=True)], depth=2).save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert f"The first 2 of {NUM_LAYERS} layers of a residual network, as an [Auto-Compressing Network]" in text
    assert "contains a network of every depth" not in text


def test_a_value_without_its_metric_is_refused(build):
    with pytest.raises(ValueError, match=r"finetuned needs the profile, .*got 0\.5 without one"):
        CardFacts("x", config_fields(build(IMAGES)), finetuned=0.5)


@quiet
@pytest.mark.usefixtures("any_peft")
def test_adapters_kept_apart_can_be_compressed_without_training(build):
    result = compress(with_peft(build(IMAGES)), [IMAGES.inputs(labels=True)], depth=1, merge_adapter=False)
    assert result.finetuned is None
