"""A profile says of every depth what measuring the truncated model alone would say, from one pass."""

import re

import datasets
import evaluate
import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch.utils.data import DataLoader
from transformers import BatchEncoding

from acn_hf import DepthProfile, depth_logits, measure_depth_profile, truncate
from acn_hf.depth.metrics import ProfileError
from acn_hf.depth.profile import batches
from tests.support.families import HEADED, NUM_LAYERS, TRAINED, by_name, each_head

CLASSIFIER = by_name("bert-ForSequenceClassification")


def split(batch, size):
    """Cut one batch into several."""
    count = len(next(iter(batch.values())))
    return [{name: value[i : i + size] for name, value in batch.items()} for i in range(0, count, size)]


def profile(values, metric="accuracy", greater_is_better=True):
    depths = tuple(range(len(values)))
    return DepthProfile(depths, tuple(values), metric, greater_is_better, 100, tuple(100 * d for d in depths))


@each_head(TRAINED)
def test_loss_at_each_depth_is_that_of_the_truncated_model(head, build):
    model, batch = build(head), head.inputs(batch_size=4, labels=True)
    measured = measure_depth_profile(model, [batch], metric="loss")
    with torch.no_grad():
        expected = [float(truncate(model, depth)(**batch).loss) for depth in range(NUM_LAYERS + 1)]
    assert measured.values == pytest.approx(expected, abs=1e-6)
    assert measured.depths == tuple(range(NUM_LAYERS + 1))


@each_head([head for head in HEADED if "labels" in head.inputs(labels=True) and "PreTraining" not in head.name])
def test_accuracy_counts_labels_that_are_not_ignored(head, build):
    model, batch = build(head), head.inputs(batch_size=6, labels=True)
    measured = measure_depth_profile(model, split(batch, 4))
    features = {name: value for name, value in batch.items() if name != "labels"}
    valid = batch["labels"] != -100
    with torch.no_grad():
        right = depth_logits(model, **features).argmax(-1)[:, valid] == batch["labels"][valid]
    assert measured.values == pytest.approx(right.double().mean(1).tolist())


def test_accuracy_of_question_answering_wants_start_and_end(build):
    head = by_name("bert-ForQuestionAnswering")
    model, batch = build(head), head.inputs(batch_size=8, labels=True)
    with torch.no_grad():
        output = model(**batch)
    batch["start_positions"] = output.start_logits.argmax(-1)
    batch["end_positions"] = output.end_logits.argmax(-1)
    batch["end_positions"][:2] = (batch["end_positions"][:2] + 1) % 7
    assert measure_depth_profile(model, [batch]).values[-1] == 6 / 8


@pytest.mark.parametrize("size", [1, 3, 5, 8])
def test_batches_of_any_size_give_the_same_loss(build, size):
    head = by_name("bert-ForMaskedLM")
    model, batch = build(head), head.inputs(batch_size=8, labels=True)
    batch["labels"][0] = -100  # the examples hold different numbers of targets, one holds none
    whole = measure_depth_profile(model, [batch], metric="loss").values
    assert measure_depth_profile(model, split(batch, size), metric="loss").values == pytest.approx(whole, abs=1e-6)


def test_perplexity_is_the_exponential_of_the_loss(build):
    head = by_name("bert-ForMaskedLM")
    model, batch = build(head), head.inputs(labels=True)
    loss = measure_depth_profile(model, [batch], metric="loss").values
    perplexity = measure_depth_profile(model, [batch], metric="perplexity")
    assert perplexity.values == pytest.approx(np.exp(loss))
    assert not perplexity.greater_is_better


def rows(head, count=10):
    batch = head.inputs(batch_size=count, labels=True)
    columns = {name: value.tolist() for name, value in batch.items()}
    return datasets.Dataset.from_dict({**columns, "unused": ["x"] * count})


class TorchRows(torch.utils.data.Dataset):
    def __init__(self, data):
        self.data = data.remove_columns("unused")

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index]


def collate(batch):
    return {name: torch.tensor([row[name] for row in batch]) for name in batch[0] if name != "unused"}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: data,
        lambda data: data.rename_column("labels", "label"),
        TorchRows,
        lambda data: DataLoader(data, batch_size=4, collate_fn=collate),
        lambda data: [collate([data[i] for i in range(5)]), collate([data[i] for i in range(5, 10)])],
        lambda data: (collate([row]) for row in data),
        lambda data: [BatchEncoding(collate([data[i] for i in range(10)]))],
        lambda data: data.to_iterable_dataset(),
    ],
    ids=[
        *("Dataset", "label column", "torch Dataset", "DataLoader", "list", "generator", "of a tokenizer"),
        "IterableDataset",
    ],
)
def test_every_kind_of_data_gives_the_same_profile(build, wrap):
    model, data = build(CLASSIFIER), rows(CLASSIFIER)
    expected = measure_depth_profile(model, [collate([data[i] for i in range(10)])])
    measured = measure_depth_profile(model, wrap(data), batch_size=3)
    assert measured == expected
    assert measured.num_examples == 10


def test_labels_of_tokens_may_be_called_label_ids(build):
    """As the collator of transformers names them, which makes labels of them."""
    head = by_name("bert-ForTokenClassification")
    model, data = build(head), rows(head)
    expected = measure_depth_profile(model, data)
    assert measure_depth_profile(model, data.rename_column("labels", "label_ids")) == expected


@pytest.mark.parametrize(("options", "sizes"), [({}, [32, 8]), ({"batch_size": 16}, [16, 16, 8])], ids=str)
def test_batches_of_rows_are_as_large_as_asked_for_and_collated_as_asked_for(build, options, sizes):
    model, data, seen = build(CLASSIFIER), rows(CLASSIFIER, 40), []

    def padded(batch):
        seen.append(len(batch))
        return collate(batch)

    measured = measure_depth_profile(model, data, collate_fn=padded, **options)
    assert seen == sizes
    assert measured.num_examples == 40
    assert [len(batch["labels"]) for batch in batches(model, data, **options)] == sizes


def test_batches_are_on_the_device_of_the_model(build):
    (batch,) = batches(build(CLASSIFIER).to("meta"), [CLASSIFIER.inputs(labels=True)])
    assert {value.device.type for value in batch.values()} == {"meta"}


def test_the_model_visits_the_device_that_is_asked_for(build, monkeypatch):
    model, visited = build(CLASSIFIER), []
    monkeypatch.setattr(model, "to", visited.append)
    measure_depth_profile(model, [CLASSIFIER.inputs(labels=True)], device="elsewhere")
    assert visited == ["elsewhere", torch.device("cpu")]


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("f1_macro", lambda y, p: sk.f1_score(y, p, average="macro")),
        ("mcc", sk.matthews_corrcoef),
        ("balanced_accuracy", sk.balanced_accuracy_score),
    ],
)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_named_metrics_are_those_of_scikit_learn(build, name, function):
    model, batch = build(CLASSIFIER), CLASSIFIER.inputs(batch_size=20, labels=True)
    with torch.no_grad():
        logits = depth_logits(model, **{key: value for key, value in batch.items() if key != "labels"})
    expected = [function(batch["labels"].numpy(), at.argmax(-1).numpy()) for at in logits]
    assert measure_depth_profile(model, split(batch, 6), metric=name).values == pytest.approx(expected)


class Agreement(evaluate.Metric):
    """An evaluate module as `evaluate.load` returns one, without the download."""

    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        return {"agreement": float(np.mean(np.equal(predictions, references)))}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("combined", [False, True], ids=["module", "combine"])
def test_an_evaluate_module_is_a_metric(build, combined, tmp_path):
    model, batch = build(CLASSIFIER), CLASSIFIER.inputs(batch_size=8, labels=True)
    module = Agreement(cache_dir=str(tmp_path))
    measured = measure_depth_profile(model, split(batch, 3), metric=evaluate.combine([module]) if combined else module)
    assert measured.values == measure_depth_profile(model, [batch]).values
    assert measured.greater_is_better


def test_a_callable_is_a_metric(build):
    def errors(predictions, references):
        return int((predictions != references).sum())

    model, batch = build(CLASSIFIER), CLASSIFIER.inputs(batch_size=8, labels=True)
    measured = measure_depth_profile(model, split(batch, 3), metric=errors, greater_is_better=False)
    accuracy = measure_depth_profile(model, [batch]).values
    assert measured.values == pytest.approx([8 * (1 - value) for value in accuracy])
    assert (measured.metric, measured.greater_is_better) == ("errors", False)


def test_regression_is_measured_on_numbers(build):
    model = build(CLASSIFIER, num_labels=1)
    batch = CLASSIFIER.inputs(batch_size=6)
    batch["labels"] = torch.rand(6)
    measured = measure_depth_profile(model, split(batch, 4), metric="mse")
    with torch.no_grad():
        expected = [float(truncate(model, depth)(**batch).loss) for depth in range(NUM_LAYERS + 1)]
    assert measured.values == pytest.approx(expected, rel=1e-5)


def test_multi_label_accuracy_wants_every_label(build):
    model = build(CLASSIFIER, problem_type="multi_label_classification")
    batch = CLASSIFIER.inputs(batch_size=6)
    with torch.no_grad():
        batch["labels"] = (model(**batch).logits > 0).float()
    batch["labels"][0, 0] = 1 - batch["labels"][0, 0]
    assert measure_depth_profile(model, [batch]).values[-1] == pytest.approx(5 / 6)


@pytest.mark.parametrize("depths", [[], [0], [2, 0], [NUM_LAYERS]], ids=str)
def test_the_depths_asked_for_and_full_depth_are_measured(build, depths):
    batches = split(CLASSIFIER.inputs(batch_size=8, labels=True), 3)
    some = measure_depth_profile(build(CLASSIFIER), batches, depths=depths)
    everything = measure_depth_profile(build(CLASSIFIER), batches)
    assert some.depths == tuple(sorted({*depths, NUM_LAYERS}))
    assert some.values == tuple(everything.value_at(depth) for depth in some.depths)
    assert some.num_parameters == tuple(everything.num_parameters[depth] for depth in some.depths)


def test_parameters_are_those_of_the_truncated_models(build):
    for name in ("bert-ForMaskedLM", "vit-ForImageClassification"):
        head = by_name(name)
        model = build(head)
        measured = measure_depth_profile(model, [head.inputs(labels=True)])
        assert measured.num_parameters == tuple(truncate(model, d).num_parameters() for d in range(NUM_LAYERS + 1))


def test_the_model_is_left_as_it_was_found(build):
    model, batch = build(CLASSIFIER).train(), CLASSIFIER.inputs(labels=True)
    model.bert.pooler.eval()
    before = {name: module.training for name, module in model.named_modules()}
    measure_depth_profile(model, [batch], device="cpu")
    with pytest.raises(ProfileError):
        measure_depth_profile(model, [CLASSIFIER.inputs()])
    assert {name: module.training for name, module in model.named_modules()} == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_dropout_is_off_while_measuring(build):
    model, batch = build(CLASSIFIER, hidden_dropout_prob=0.5), CLASSIFIER.inputs(batch_size=16, labels=True)
    values = {measure_depth_profile(model.train(), [batch], metric="loss").values for _ in range(3)}
    assert len(values) == 1


def test_layers_run_once_a_batch(build):
    model, batch = build(CLASSIFIER), CLASSIFIER.inputs(batch_size=4, labels=True)
    calls = []
    for layer in model.bert.encoder.layer:
        layer.register_forward_hook(lambda *_: calls.append(1))
    measure_depth_profile(model, split(batch, 2))
    assert len(calls) == 2 * NUM_LAYERS


def test_logits_of_earlier_batches_are_not_kept(build):
    head = by_name("bert-ForMaskedLM")
    batch = head.inputs(batch_size=4, labels=True)
    measured = measure_depth_profile(build(head), [batch] * 5, metric="loss")
    kept, weights = measured.evidence.arrays(0)
    assert kept.shape == weights.shape == (5,)


# --- records


def test_a_profile_saves_and_loads(tmp_path):
    saved = profile([0.1, 0.5, 0.9])
    saved.save(tmp_path / "new" / "profile.json")
    assert DepthProfile.load(tmp_path / "new" / "profile.json") == saved
    assert DepthProfile.from_dict(saved.to_dict()) == saved
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["profile.json"]


def test_a_profile_prints_as_a_table():
    title, *lines = str(
        DepthProfile((0, 2, 3), (0.1, 0.51236, 0.9), "f1", True, 100, (5, 1_000, 2_500_000))
    ).splitlines()
    assert title.strip() == "Depth profile over 100 examples"
    cells = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in lines]
    assert [row for row in cells if row] == [
        ["depth", "f1", "parameters"],
        ["0", "0.1000", "5"],
        ["2", "0.5124", "1,000"],
        ["3", "0.9000", "2,500,000"],
    ]


def test_a_value_is_that_of_its_depth():
    some = DepthProfile((0, 2), (0.1, 0.9), "accuracy", True, 100, (5, 6))
    assert (some.value_at(0), some.value_at(2)) == (0.1, 0.9)
    with pytest.raises(ProfileError, match=r"^depth must be one of those measured, \(0, 2\); got 1$"):
        some.value_at(1)


def test_a_transform_sees_the_columns_that_the_model_does_not_take(build):
    def labels_from_words(batch):
        return {"input_ids": batch["input_ids"], "labels": [len(word) for word in batch["unused"]]}

    data = rows(CLASSIFIER).with_transform(labels_from_words)
    assert measure_depth_profile(build(CLASSIFIER), data).num_examples == 10


def test_batches_may_hold_lists_and_arrays(build):
    batch = CLASSIFIER.inputs(batch_size=4, labels=True)
    expected = measure_depth_profile(build(CLASSIFIER), [batch])
    for kind in (torch.Tensor.tolist, torch.Tensor.numpy):
        converted = {name: kind(value) for name, value in batch.items()}
        assert measure_depth_profile(build(CLASSIFIER), [converted]) == expected


def test_an_option_may_stand_before_the_inputs(build):
    head = by_name("vit-ForImageClassification")
    batch = {"interpolate_pos_encoding": True, **head.inputs(batch_size=4, labels=True)}
    assert measure_depth_profile(build(head), [batch]).num_examples == 4


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_a_constant_prediction_correlates_with_nothing(build, metric):
    model, batch = build(CLASSIFIER, num_labels=1), CLASSIFIER.inputs(batch_size=6)
    batch["input_ids"][:, 0] = 5
    batch["labels"] = torch.rand(6)
    assert measure_depth_profile(model, [batch], metric=metric).value_at(0) == 0.0  # the [CLS] embedding is constant
