"""Whatever loss a Trainer computes, it is computed at every depth: one step is the weighted sum of those of the models
cut there."""

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback

import acn_hf
from acn_hf import DistillationLoss, IntermediateSupervisionCallback, ResidualAnnealingCallback, truncate
from acn_hf.training.supervision import depth_weights
from tests.support.any_models import BODY, TOKENS
from tests.support.covering import covering
from tests.support.training import CHECKPOINTING, arguments, same_weights, weights

NUM_LAYERS = 3
FIELDS = {
    **BODY,
    **TOKENS,
    "num_hidden_layers": NUM_LAYERS,
    "num_labels": 3,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
NAMES = (
    "AcnBertForSequenceClassification",
    "BertForSequenceClassification",
    "AcnBertForTokenClassification",
    "BertForTokenClassification",
)
CLASS_WEIGHTS = torch.tensor([0.2, 3.0, 1.0], dtype=torch.float64)


def build(name, seed=0, **fields):
    """Return a model in float64, in which sums of the same numbers in another order agree."""
    torch.manual_seed(seed)
    model_class = getattr(acn_hf, name, None) or getattr(transformers, name)
    return model_class(model_class.config_class(**{**FIELDS, **fields})).double()


def rows(name, number=16):
    """Return rows of texts with padding, and of labels some of which do not count."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 50, (number, 6), generator=generator)
    mask = torch.ones_like(ids)
    mask[::3, 4:] = 0
    labels = ids % 3
    labels[mask == 0] = -100
    labels[1] = -100  # the batches have different numbers of labels
    labels = labels if "Token" in name else ids[:, 0] % 3
    return [
        {"input_ids": i, "attention_mask": m, "labels": y} for i, m, y in zip(ids * mask, mask, labels, strict=True)
    ]


def weighted(logits, labels, reduction="mean"):
    weight = CLASS_WEIGHTS.to(logits.dtype)
    return functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), weight, reduction=reduction)


def loss_function(outputs, labels, num_items_in_batch=None):
    return weighted(outputs.logits, labels, "sum") / num_items_in_batch


class Popping(Trainer):
    """Takes the labels out of the inputs, in which the caller may not look for them any more."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = weighted(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


class Keeping(Trainer):
    """Gives the model its labels, and does not use the loss that it returns."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        loss = weighted(outputs.logits, inputs["labels"])
        return (loss, outputs) if return_outputs else loss


class Adding(Trainer):
    """Adds to the usual loss."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss = loss + outputs.logits.square().mean()
        return (loss, outputs) if return_outputs else loss


class Tuples(Trainer):
    """Reads the outputs by their places."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs, return_dict=False)
        loss = weighted(outputs[1], inputs["labels"]) + 0.5 * outputs[0]
        return (loss, outputs) if return_outputs else loss


class Twice(Trainer):
    """Asks for the model to agree with itself, where another input stands beside the first (R-Drop)."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        one, other = model(**inputs), model(**{**inputs, "input_ids": inputs["input_ids"].roll(1, 0)})
        loss = weighted(one.logits, labels) + (one.logits - other.logits).square().mean()
        return (loss, one) if return_outputs else loss


class Pausing(Trainer):
    """Asks the model what it says in eval mode and without gradients too."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        model.eval()
        with torch.no_grad():
            target = model(**inputs).logits.softmax(-1)
        model.train()
        outputs = model(**inputs)
        loss = weighted(outputs.logits, labels) - (target * outputs.logits.log_softmax(-1)).sum(-1).mean()
        return (loss, outputs) if return_outputs else loss


class Quiet(Popping):
    """Trains without dropout, in eval mode."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        model.eval()
        returned = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        model.train()
        return returned


class Mixing(Trainer):
    """Draws random numbers before and after the model runs."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        order = torch.randperm(len(labels))
        outputs = model(**{name: value[order] for name, value in inputs.items()})
        loss = weighted(outputs.logits + torch.rand_like(outputs.logits), labels[order])
        return (loss, outputs) if return_outputs else loss


class Looking(Trainer):
    """Reads what every layer returned."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs, output_hidden_states=True)
        loss = weighted(outputs.logits, labels) + sum(state.square().mean() for state in outputs.hidden_states)
        loss = loss + len(outputs.hidden_states) * outputs.hidden_states[-1].std()
        return (loss, outputs) if return_outputs else loss


OWN = {kind.__name__: (kind, {}, {}) for kind in (Popping, Keeping, Adding, Tuples, Twice, Pausing, Quiet, Mixing)}
WAYS = {
    "usual": (Trainer, {}, {}),
    "smoothing": (Trainer, {"label_smoothing_factor": 0.2}, {}),
    "function": (Trainer, {}, {"compute_loss_func": loss_function}),
    **OWN,
}
LOOKING = {"Looking": (Looking, {}, {})}
"""Not at depth 0, where upstream's models have no hidden states to show."""


def make(way, model, folder, callbacks=(), batch_size=8, **options):
    """Return a Trainer for one step of SGD over 16 rows, which moves every weight by its gradient."""
    kind, settings, parts = {**WAYS, **LOOKING}[way]
    defaults = {
        "max_steps": 1,
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": 16 // batch_size,
        "optim": "sgd",
        "learning_rate": 1.0,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "eval_strategy": "no",
        "save_strategy": "no",
    }
    args = arguments(folder, **{**defaults, **settings, **options})
    data = rows(type(model).__name__)
    return kind(model, args, train_dataset=data, eval_dataset=data, callbacks=list(callbacks), **parts)


def step_of(run):
    """Return how far training moves every weight, and the logged loss."""
    before = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}
    run.train()
    moved = {name: weight.detach() - before[name] for name, weight in run.model.named_parameters()}
    return moved, next(entry["loss"] for entry in run.state.log_history if "loss" in entry)


def naive_sum(model, weights, run_of):
    """Return the weighted sum of what a step does to the models cut at every depth."""
    moved, loss = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}, 0.0
    for depth, weight in enumerate(weights):
        if weight:
            step, part = step_of(run_of(truncate(model, depth)))
            loss += weight * part
            for name, tensor in step.items():
                moved[name] += weight * tensor
    return moved, loss


def assert_same_step(one, other, way):
    # Upstream's label smoother adds up in float32.
    close = {"rtol": 1e-4, "atol": 1e-6} if way == "smoothing" else {"rtol": 1e-8, "atol": 1e-12}
    assert one[1] == pytest.approx(other[1], rel=1e-6)
    assert one[0].keys() == other[0].keys()
    for name, tensor in one[0].items():
        torch.testing.assert_close(tensor, other[0][name], **close, msg=name)


@covering(
    name=NAMES,
    way=list(WAYS),
    weights={"linear": "linear", "own": (0.5, 0.0, 2.0, 1.0), "lower": (0.5, 1.0, 0.0, 0.0)},
    batch_size=[4, 16],
    options={"plain": {}, "checkpointing": CHECKPOINTING},
    whole=False,
)
def test_a_step_is_the_weighted_sum_of_those_of_the_cut_models(tmp_path, name, way, weights, batch_size, options):
    model = build(name)
    expected = naive_sum(
        model, depth_weights(weights, NUM_LAYERS), lambda short: make(way, short, tmp_path, (), batch_size)
    )
    run = make(way, model, tmp_path, (), batch_size, **options)
    IntermediateSupervisionCallback(weights).attach(run)
    assert_same_step(step_of(run), expected, way)


@pytest.mark.parametrize("name", [*NAMES, "ModernBertForSequenceClassification"])
def test_what_every_layer_returned_is_there_too(tmp_path, name):
    fields = {"cls_token_id": 1, "sep_token_id": 2, "classifier_dropout": 0.0} if "Modern" in name else {}
    model = build(name, **fields)
    expected = naive_sum(
        model, depth_weights("linear", NUM_LAYERS), lambda short: make("Looking", short, tmp_path, (), 16)
    )
    run = make("Looking", model, tmp_path, (), 16)
    IntermediateSupervisionCallback("linear").attach(run)
    # ModernBERT turns its queries and keys in float32.
    assert_same_step(step_of(run), expected, "smoothing" if "Modern" in name else "Looking")


@covering(batch_size=[4, 16], name=NAMES, way=["usual", "smoothing", "function", "Popping", "Adding"])
def test_a_teacher_adds_its_part_at_every_depth(tmp_path, name, way, batch_size):
    model, teacher = build(name), build(name, seed=1)
    kind, _, parts = WAYS[way]

    class Taught(kind):
        """Adds soft labels and states to a loss, by the formula; of the usual loss the labels make a mean."""

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            given = dict(inputs)
            loss, outputs = super().compute_loss(model, dict(inputs), True, num_items_in_batch)
            labels = given.pop("labels")
            with torch.no_grad():
                target = teacher.eval()(**given)
                target_state = teacher.base_model(**given).last_hidden_state
            state = model.base_model(**given).last_hidden_state
            share = 1.0 if num_items_in_batch is None else (labels != -100).sum() / num_items_in_batch
            counted, mask = labels != -100, given["attention_mask"] != 0
            soft = functional.kl_div(
                (outputs.logits[counted] / 3).log_softmax(-1),
                (target.logits[counted] / 3).log_softmax(-1),
                reduction="batchmean",
                log_target=True,
            )
            distance = ((state - target_state).square().sum(-1) / target_state.square().sum(-1))[mask].mean()
            return 0.6 * loss + share * (0.4 * 9 * soft + 0.5 * distance)

    def naive(short):
        args = make(way, short, tmp_path, (), batch_size).args
        return Taught(short, args, train_dataset=rows(name), **parts)

    expected = naive_sum(model, depth_weights("linear", NUM_LAYERS), naive)
    run = make(way, model, tmp_path, (), batch_size)
    lesson = DistillationLoss(teacher, soft_labels=0.4, temperature=3.0, depth_states=0.5)
    IntermediateSupervisionCallback(distillation=lesson).attach(run)
    assert_same_step(step_of(run), expected, "smoothing")  # distillation compares in float32


@pytest.mark.parametrize("way", ["usual", "smoothing", "Popping"])
def test_annealing_with_a_teacher_takes_the_loss_of_the_trainer(tmp_path, way):
    moved = []
    for callback in (IntermediateSupervisionCallback, ResidualAnnealingCallback):
        model = build("AcnBertForSequenceClassification", residual_scale=0.0)
        run = make(way, model, tmp_path)
        lesson = DistillationLoss(build("AcnBertForSequenceClassification", seed=1), soft_labels=0.5)
        options = {"weights": "full"} if callback is IntermediateSupervisionCallback else {"start": 0.0}
        callback(**options, distillation=lesson).attach(run)
        moved.append(step_of(run))
    assert moved[0][1] == moved[1][1]
    assert all(torch.equal(moved[0][0][name], tensor) for name, tensor in moved[1][0].items())


@pytest.mark.parametrize("way", ["usual", "smoothing", "function"])
@pytest.mark.parametrize("batch_size", [4, 16])
def test_language_models_that_shift_their_labels(tmp_path, way, batch_size):
    """The smoother asks the model for its name, and the model takes the number of labels of the whole step."""
    fields = {"num_key_value_heads": 2, "head_dim": 16, "attention_dropout": 0.0}
    fields |= {name: value for name, value in FIELDS.items() if "dropout" not in name and name != "num_labels"}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**fields)).double()
    data = rows("Token")
    for row in data:
        row["labels"] = torch.where(row["labels"] == -100, -100, row["input_ids"])
    functions = {"function": {"compute_loss_func": next_token_loss}}

    def run_of(model):
        settings = make(way if way == "smoothing" else "usual", model, tmp_path, (), batch_size).args
        return Trainer(model, settings, train_dataset=data, **functions.get(way, {}))

    expected = naive_sum(model, depth_weights("uniform", NUM_LAYERS), run_of)
    run = run_of(model)
    IntermediateSupervisionCallback("uniform").attach(run)
    assert_same_step(step_of(run), expected, "smoothing")  # upstream's loss is in float32


def next_token_loss(outputs, labels, num_items_in_batch=None):
    logits, targets = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.3) / num_items_in_batch


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # peft asks by the old name
@pytest.mark.parametrize("way", ["smoothing", "Popping"])
def test_an_adapted_model(tmp_path, way):
    def adapted(short):
        torch.manual_seed(1)
        layers = LoraConfig(r=2, target_modules=["query"], init_lora_weights=False, task_type="SEQ_CLS")
        return get_peft_model(short, layers)

    moved = {}
    for kind in ("expected", "got"):
        run = make(way, build("BertForSequenceClassification"), tmp_path, batch_size=16)
        run = type(run)(adapted(run.model), run.args, train_dataset=run.train_dataset)
        if kind == "got":
            IntermediateSupervisionCallback((0.0, 0.0, 0.0, 2.0)).attach(run)
        moved[kind] = step_of(run)[0]
    trained = [name for name, step in moved["expected"].items() if step.abs().sum() > 0]
    assert trained
    for name in trained:
        torch.testing.assert_close(moved["got"][name], 2 * moved["expected"][name], rtol=1e-4, atol=1e-6)
    model = adapted(build("BertForSequenceClassification"))
    run = make(way, build("BertForSequenceClassification"), tmp_path, batch_size=16)
    run = type(run)(model, run.args, train_dataset=run.train_dataset)
    IntermediateSupervisionCallback((0.0, 1.0, 0.0, 0.0)).attach(run)
    lower = {name for name, step in step_of(run)[0].items() if step.abs().sum() > 0}
    assert lower == {name for name in trained if "layer.1" not in name and "layer.2" not in name}


@pytest.mark.parametrize("problem", ["several labels", "numbers"])
def test_the_teacher_sees_what_kind_the_labels_are(tmp_path, problem):
    """No loss of the model was computed, so upstream has not written the kind into the config."""
    several = problem == "several labels"
    model = build("BertForSequenceClassification", num_labels=3 if several else 1)
    teacher = build("BertForSequenceClassification", seed=1, num_labels=3 if several else 1).eval()

    class Own(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs.pop("labels")
            return (model(**inputs).logits.squeeze(-1) - labels).square().mean()

    class Taught(Own):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            own = super().compute_loss(model, dict(inputs))
            inputs.pop("labels")
            logits = model(**inputs).logits
            with torch.no_grad():
                target = teacher(**inputs).logits
            if several:
                return 0.5 * own + 0.5 * functional.binary_cross_entropy_with_logits(logits, target.sigmoid())
            return 0.5 * own + 0.5 * functional.mse_loss(logits, target)

    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(16, 3, generator=generator).round() if several else torch.rand(16, generator=generator)
    data = [{**row, "labels": label} for row, label in zip(rows("Sequence"), labels, strict=True)]

    def run_of(kind, model):
        return kind(model, make("usual", model, tmp_path, batch_size=16).args, train_dataset=data)

    expected = naive_sum(model, depth_weights("linear", NUM_LAYERS), lambda short: run_of(Taught, short))
    run = run_of(Own, model)
    IntermediateSupervisionCallback(distillation=DistillationLoss(teacher, soft_labels=0.5)).attach(run)
    assert_same_step(step_of(run), expected, "smoothing")  # distillation compares in float32


# --- what is not trained is noticed


UNSEEN = {"smoothing": "no labels", "function": "no labels", "Popping": "no labels", "Keeping": "another one"}


@pytest.mark.parametrize("batch_size", [4, 16])
@pytest.mark.parametrize("way", UNSEEN)
@pytest.mark.parametrize("kind", ["supervision", "annealing"])
def test_a_callback_that_cannot_see_the_loss_says_so_before_a_weight_changes(tmp_path, kind, way, batch_size):
    model = build("AcnBertForSequenceClassification", residual_scale=1.0)
    if kind == "supervision":
        callback = IntermediateSupervisionCallback()
    else:
        callback = ResidualAnnealingCallback(distillation=DistillationLoss(build("BertForSequenceClassification")))
    before = weights(model)
    with pytest.raises(ValueError, match=rf"must be what is trained, and .*{UNSEEN[way]}.*attach\(trainer\)"):
        make(way, model, tmp_path, [callback], batch_size).train()
    assert same_weights(weights(model), before)


@pytest.mark.parametrize("way", ["usual", "Adding", "Tuples"])
def test_where_the_loss_of_the_model_is_trained_nothing_is_refused(tmp_path, way):
    model = build("BertForSequenceClassification")
    plain = step_of(make(way, build("BertForSequenceClassification"), tmp_path))
    moved = step_of(make(way, model, tmp_path, [IntermediateSupervisionCallback()]))
    assert not torch.equal(moved[0]["classifier.weight"], plain[0]["classifier.weight"])


class OwnStep(Trainer):
    """Makes its steps by itself."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        loss = self.loss_of_step(model, self._prepare_inputs(inputs))
        loss.backward()
        return loss.detach()

    def loss_of_step(self, model, inputs):
        return model(**inputs).loss


class Ignoring(OwnStep):
    def loss_of_step(self, model, inputs):
        self.compute_loss(model, dict(inputs))
        return weighted(model(**inputs).logits, inputs["labels"])


class Evaluating(OwnStep):
    def loss_of_step(self, model, inputs):
        return model.eval()(**inputs).loss


def own(kind, folder, model=None, **options):
    """Return a Trainer of a class, like those of `make`."""
    model = build("BertForSequenceClassification") if model is None else model
    args = make("usual", model, folder, **options).args
    return kind(model, args, train_dataset=rows(type(model).__name__))


def test_a_step_of_ones_own_is_supervised_too(tmp_path):
    run = make("usual", build("BertForSequenceClassification"), tmp_path, batch_size=16)
    IntermediateSupervisionCallback().attach(run)
    other = own(OwnStep, tmp_path, batch_size=16)
    IntermediateSupervisionCallback().attach(other)
    assert_same_step(step_of(other), step_of(run), "usual")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("kind", "why"), [(Ignoring, "another one"), (Evaluating, "in train mode")])
def test_a_step_that_trains_another_loss_is_refused(tmp_path, kind, why, smoothing):
    run = own(kind, tmp_path, label_smoothing_factor=smoothing)
    IntermediateSupervisionCallback().attach(run)
    with pytest.raises(ValueError, match=f"must be what is trained, and .*{why}.*: train with what compute_loss"):
        run.train()


class LaterUnlabelled(OwnStep):
    """Sees labels in the first step alone, and trains without them in the second."""

    def loss_of_step(self, model, inputs):
        labels = inputs.pop("labels")
        if self.state.global_step == 0:
            return model(**inputs, labels=labels).loss
        return model(**inputs).logits.square().mean()


class LaterUnused(OwnStep):
    """Trains what the model returns in the first step alone."""

    def loss_of_step(self, model, inputs):
        output = model(**inputs)
        return output.loss if self.state.global_step == 0 else output.logits.square().mean()


def test_a_later_step_without_labels_is_one_without_supervision(tmp_path):
    run = own(LaterUnlabelled, tmp_path, max_steps=3)
    IntermediateSupervisionCallback().attach(run)
    run.train()
    assert run.state.global_step == 3


def test_a_later_step_that_trains_another_loss_is_refused(tmp_path):
    run = own(LaterUnused, tmp_path, max_steps=3)
    IntermediateSupervisionCallback().attach(run)
    with pytest.raises(ValueError, match="another one than the model returned was trained"):
        run.train()
    assert run.state.global_step == 1


def test_a_teacher_that_teaches_nothing_is_refused():
    with pytest.raises(ValueError, match="soft_labels or depth_states must be > 0; got 0 for both"):
        DistillationLoss(build("BertForSequenceClassification"), soft_labels=0.0)


# --- losses that are no function of what the model returns


def is_unhooked(model):
    """Return whether model and body have no hooks; upstream's own, which record hidden states, lie further below."""
    return not any(part._forward_hooks or part._forward_pre_hooks for part in (model, model.bert))


class Around(Popping):
    """Calls the model that the Trainer holds, not the one that it is given."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return super().compute_loss(self.model, inputs, return_outputs, num_items_in_batch)


class Below(Popping):
    """Calls the parts of the model."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        return weighted(model.classifier(model.bert(**inputs).pooler_output), labels)


class Beside(Popping):
    """Calls the model, and a part of it too."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        state = model.bert(input_ids=inputs["input_ids"]).pooler_output
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch) + state.mean()


class InPlace(Popping):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs["labels"] -= 0
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


class Counting(Popping):
    """Is another function every time."""

    number = 0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.number += 1
        inputs["input_ids"] = inputs["input_ids"] % (10 * self.number)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


class More(Counting):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.number += 1
        labels = inputs.pop("labels")
        return sum(weighted(model(**inputs).logits, labels) for _ in range(self.number))


class Fewer(Counting):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.number += 1
        labels = inputs.pop("labels")
        return sum(weighted(model(**inputs).logits, labels) for _ in range(4 - self.number))


class Detached(Popping):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        with torch.no_grad():
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


@pytest.mark.parametrize("name", ["AcnBertForSequenceClassification", "BertForSequenceClassification"])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Around, "compute_loss must call the model that it is given, .* it called this (Acn)?BertForS.* itself"),
        (Below, r"compute_loss must call the model as a whole, as model\(\*\*inputs\), .*; it did not"),
        (Beside, "compute_loss must call the model that it is given, .* or a part of it"),
        (InPlace, "must not change its inputs in place, .*; it changed labels: clone"),
        (Counting, "the same inputs for every depth; input_ids changed at depth 1"),
        (More, "equally often for every depth; got more calls at depth 1"),
        (Fewer, "equally often for every depth; got fewer calls at depth 1"),
        (Detached, "and with gradients, to have a loss at every depth; it did not"),
    ],
)
def test_a_loss_that_cannot_be_asked_again_is_refused(tmp_path, name, kind, text):
    run = own(kind, tmp_path, build(name), batch_size=16)
    IntermediateSupervisionCallback().attach(run)
    with pytest.raises(ValueError, match=text):
        run.train()
    assert "compute_loss" not in run.__dict__
    assert is_unhooked(run.model)


@pytest.mark.parametrize(("way", "error", "text"), [("Twice", ValueError, "one pass"), ("Tuples", TypeError, "names")])
def test_a_teacher_needs_one_pass_and_names(tmp_path, way, error, text):
    model = build("BertForSequenceClassification")
    run = make(way, model, tmp_path)
    lesson = DistillationLoss(build("BertForSequenceClassification", seed=1))
    IntermediateSupervisionCallback(distillation=lesson).attach(run)
    with pytest.raises(error, match=text):
        run.train()


# --- the Trainer is left as it was


class Interrupt(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["end", "interrupt"])
@pytest.mark.parametrize("callback", [IntermediateSupervisionCallback, ResidualAnnealingCallback])
def test_model_and_trainer_are_left_as_they_were(tmp_path, callback, how):
    model = build("AcnBertForSequenceClassification")
    run = make("Popping", model, tmp_path)
    lesson = DistillationLoss(build("AcnBertForSequenceClassification"))
    callback(distillation=lesson).attach(run).attach(run)
    assert sum(isinstance(one, callback) for one in run.callback_handler.callbacks) == 1
    seen = []

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            seen.append("compute_loss" in run.__dict__)

    run.add_callback(Watch)
    if how == "interrupt":
        run.add_callback(Interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.train()
    else:
        run.train()
    assert seen == [True]
    assert "compute_loss" not in run.__dict__
    assert is_unhooked(model)


def test_a_loss_that_was_put_into_a_trainer_comes_back(tmp_path):
    run = make("usual", build("BertForSequenceClassification"), tmp_path)

    def mine(model, inputs, return_outputs=False, num_items_in_batch=None):
        return weighted(model(**inputs).logits, inputs["labels"])

    run.compute_loss = mine
    IntermediateSupervisionCallback().attach(run)
    expected = make("Keeping", build("BertForSequenceClassification"), tmp_path)
    IntermediateSupervisionCallback().attach(expected)
    assert_same_step(step_of(run), step_of(expected), "Keeping")
    assert run.compute_loss is mine


def test_another_trainer_keeps_its_loss(tmp_path):
    callback = IntermediateSupervisionCallback()
    attached = make("Popping", build("BertForSequenceClassification"), tmp_path)
    callback.attach(attached)
    other = make("smoothing", build("BertForSequenceClassification"), tmp_path, [callback])
    with pytest.raises(ValueError, match=r"attach\(trainer\).*; label_smoothing_factor is 0\.2"):
        other.train()
    callback.attach(other)
    other.train()
    attached.train()


@pytest.mark.parametrize("way", ["smoothing", "Popping", "function"])
def test_evaluation_while_training_is_left_alone(tmp_path, way):
    run = make(way, build("BertForSequenceClassification"), tmp_path, eval_strategy="steps", eval_steps=1)
    if way == "function":  # which the Trainer does not tell the number of items when it evaluates
        run.compute_loss_func = lambda outputs, labels, num_items_in_batch=None: weighted(outputs.logits, labels)
    IntermediateSupervisionCallback().attach(run)
    run.train()
    (logged,) = (entry["eval_loss"] for entry in run.state.log_history if "eval_loss" in entry)
    assert logged == pytest.approx(run.evaluate()["eval_loss"])


class Drawing(Popping):
    """Notes what it draws before and after the model runs, and what the model gives."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels, before = inputs.pop("labels"), torch.rand(1).item()
        logits = model(**inputs).logits
        self.seen = [*getattr(self, "seen", []), (before, torch.rand(1).item(), logits.dtype)]
        return weighted(logits, labels)


def test_random_numbers_are_the_same_at_every_depth(tmp_path):
    """Dropout draws between the two numbers, once; and the run goes on as one without other depths does."""
    drawn = {}
    for kind in ("full", "uniform"):
        model = build("BertForSequenceClassification", hidden_dropout_prob=0.1, classifier_dropout=0.0)
        run = own(Drawing, tmp_path, model, batch_size=16, max_steps=2)
        IntermediateSupervisionCallback(kind).attach(run)
        run.train()
        drawn[kind] = run.seen
    assert len(set(drawn["full"])) == 2
    assert drawn["uniform"] == [numbers for numbers in drawn["full"] for _ in range(NUM_LAYERS)]


def test_the_depths_rotate(tmp_path):
    model = build("BertForSequenceClassification")
    share = 1 / NUM_LAYERS
    # In the first step depth 1 has its turn, with the weight of both others.
    expected = naive_sum(model, (0, 2 * share, 0, share), lambda short: make("Popping", short, tmp_path))
    run = make("Popping", model, tmp_path)
    IntermediateSupervisionCallback("uniform", num_depths=1).attach(run)
    assert_same_step(step_of(run), expected, "Popping")


@pytest.mark.parametrize("name", ["AcnBertForTokenClassification", "BertForTokenClassification"])
def test_autocast_gives_float32_at_every_depth(tmp_path, name):
    run = own(Drawing, tmp_path, build(name).float(), batch_size=16, bf16=True)
    IntermediateSupervisionCallback().attach(run)
    run.train()
    assert [dtype for _, _, dtype in run.seen] == [torch.float32] * NUM_LAYERS


@pytest.mark.parametrize("way", ["smoothing", "Popping", "Tuples", "Twice"])
@pytest.mark.parametrize("name", ["AcnBertForTokenClassification", "BertForTokenClassification"])
def test_bfloat16_autocast(tmp_path, name, way):
    """Outside of the model the Trainer's loss is in float32, at every depth."""
    seen = []
    for low in (False, True):
        model = build(name).float()
        run = make(way, model, tmp_path, batch_size=16, bf16=low)
        IntermediateSupervisionCallback().attach(run)
        seen.append(step_of(run))
    assert seen[0][1] == pytest.approx(seen[1][1], rel=0.02)
    one, other = (moved["classifier.weight"] for moved, _ in seen)
    assert not torch.equal(one, other)
    assert functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.99


# Where a graph ends, dynamo itself looks at the gradients of what comes out.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize("way", ["usual", "smoothing", "Popping"])
def test_compiled_models(tmp_path, way):
    moved = []
    for options in ({}, {"torch_compile": True, "torch_compile_backend": "aot_eager"}):
        torch.compiler.reset()
        run = make(way, build("AcnBertForSequenceClassification"), tmp_path, batch_size=16, **options)
        IntermediateSupervisionCallback().attach(run)
        moved.append(step_of(run))
    assert_same_step(*moved, way)
