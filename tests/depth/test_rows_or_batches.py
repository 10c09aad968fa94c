"""Whatever a Trainer evaluates on is measured, and a list says by what is in it whether it holds rows or batches."""

import dataclasses

import datasets
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import DefaultDataCollator, Trainer, TrainingArguments

from acn_hf import (
    AcnBertConfig,
    AcnBertForSequenceClassification,
    ConfidenceExit,
    DepthProfileCallback,
    LayerSheddingCallback,
    calibrate_exit,
    compress,
    measure_depth_profile,
    measure_early_exit,
    measure_gradient_flow,
)
from acn_hf.depth.metrics import ProfileError
from acn_hf.depth.rows_or_batches import batches, is_row
from tests.support.any_models import any_model
from tests.support.covering import covering

NUMBER = 10
FIELDS = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}


def model_of(num_labels=2, **fields):
    torch.manual_seed(0)
    return AcnBertForSequenceClassification(
        AcnBertConfig(num_hidden_layers=2, num_labels=num_labels, **FIELDS, **fields)
    ).eval()


IDS = torch.randint(5, 50, (NUMBER, 6), generator=torch.Generator().manual_seed(0))
LABELS = IDS[:, 0] % 2
BATCH = {"input_ids": IDS, "labels": LABELS}
ROWS = [{"input_ids": ids.tolist(), "labels": int(label)} for ids, label in zip(IDS, LABELS, strict=True)]


class MapStyle:
    """What has a length and items, and is of no class that anybody knows; it does not say where it ends."""

    def __len__(self):
        return NUMBER

    def __getitem__(self, index):
        return ROWS[index % NUMBER]


class OfTorch(torch.utils.data.Dataset):
    def __len__(self):
        return NUMBER

    def __getitem__(self, index):
        return ROWS[index]


class Streamed(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(ROWS)


@dataclasses.dataclass
class Features:
    input_ids: list[int]
    label: int


AS_ROWS = {
    "lists and numbers": ROWS,
    "a tuple": tuple(ROWS),
    "tensors": [{"input_ids": torch.tensor(row["input_ids"]), "labels": torch.tensor(row["labels"])} for row in ROWS],
    "arrays": [{"input_ids": np.array(row["input_ids"]), "labels": np.int64(row["labels"])} for row in ROWS],
    "numpy's label": [{"input_ids": row["input_ids"], "label": np.int32(row["labels"])} for row in ROWS],
    "truth values": [{"input_ids": row["input_ids"], "label": bool(row["labels"])} for row in ROWS],
    "more than is needed": [{**row, "text": "a film", "id": 3, "nothing": None} for row in ROWS],
    "a label first": [{"labels": row["labels"], "input_ids": row["input_ids"]} for row in ROWS],
    "dataclasses": [Features(row["input_ids"], row["labels"]) for row in ROWS],
    "map style": MapStyle(),
    "torch": OfTorch(),
    "streamed by torch": Streamed(),
    "datasets": datasets.Dataset.from_list(ROWS),
    "datasets as numpy": datasets.Dataset.from_list(ROWS).with_format("numpy"),
    "streamed by datasets": datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
}


@pytest.mark.parametrize("data", AS_ROWS.values(), ids=AS_ROWS)
def test_rows_of_every_kind_are_measured(data):
    model = model_of()
    expected = measure_depth_profile(model, [BATCH], metric="loss")
    measured = measure_depth_profile(model, data, metric="loss", batch_size=4)
    assert measured.values == pytest.approx(expected.values, abs=1e-6)
    assert measured.num_examples == NUMBER


@pytest.mark.parametrize(
    "measure",
    [
        lambda model, data: compress(model, data, tolerance=1.0).profile,
        lambda model, data: calibrate_exit(ConfidenceExit(0.9), model, data, tolerance=1.0),
        lambda model, data: measure_early_exit(model, data, ConfidenceExit(0.5)),
        lambda model, data: measure_gradient_flow(model, data).num_examples,
    ],
    ids=["compress", "calibrate_exit", "measure_early_exit", "measure_gradient_flow"],
)
def test_all_that_measures_takes_rows(measure):
    assert measure(model_of(), ROWS) == measure(model_of(), [BATCH])


def test_a_generator_of_rows_is_read_once_and_whole():
    model = model_of()
    sizes = [len(batch["labels"]) for batch in batches(model, (row for row in ROWS), batch_size=4)]
    assert sizes == [4, 4, 2]


@covering(
    name=[name for name in AS_ROWS if name not in ("numpy's label", "dataclasses")],
    attached=[False, True],
    kind=["eval_dataset", "data"],
)
def test_what_a_trainer_evaluates_on_is_measured(tmp_path, name, attached, kind):
    model, data = model_of(), AS_ROWS[name]
    args = TrainingArguments(
        str(tmp_path), max_steps=1, eval_strategy="steps", eval_steps=1, save_strategy="no", report_to="none",
        use_cpu=True, disable_tqdm=True, learning_rate=0.0, per_device_eval_batch_size=4,
    )  # fmt: skip
    run = Trainer(model, args, train_dataset=ROWS, eval_dataset=ROWS if kind == "data" else data)
    callback = DepthProfileCallback(data if kind == "data" else None, metric="loss")
    callback.attach(run) if attached else run.add_callback(callback)
    run.train()
    expected = measure_depth_profile(model_of(), [BATCH], metric="loss")
    assert callback.profile.values == pytest.approx(expected.values, abs=1e-6)


def test_layers_leave_by_what_a_list_of_rows_says(tmp_path):
    args = TrainingArguments(
        str(tmp_path), max_steps=2, eval_strategy="steps", eval_steps=1, save_strategy="no", report_to="none",
        use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    run = Trainer(model_of(), args, train_dataset=ROWS, eval_dataset=ROWS)
    LayerSheddingCallback(tolerance=1.0, patience=1, margin=1, start=0.0).attach(run)
    run.train()
    assert run.model.config.num_hidden_layers == 1


def test_what_a_function_makes_batches_of_is_rows():
    def words(rows):
        ids = torch.tensor([row if isinstance(row, list) else row["words"] for row in rows])
        return {"input_ids": ids, "labels": ids[:, 0] % 2}

    model = model_of()
    expected = measure_depth_profile(model, [BATCH])
    assert measure_depth_profile(model, [{"words": ids.tolist()} for ids in IDS], collate_fn=words) == expected
    assert measure_depth_profile(model, IDS.tolist(), collate_fn=words) == expected
    assert measure_depth_profile(model, [BATCH], collate_fn=words) == expected  # it is a batch already


# --- row or batch


def images(**labels):
    return {"pixel_values": torch.zeros(3, 16, 16), **labels}


TOKENS = any_model("BertForTokenClassification")
PIXELS = dataclasses.replace(any_model("ViTForImageClassification"), name="ViTForMaskedImageModeling")
IMAGES, SOUND = any_model("ViTForImageClassification"), any_model("ASTForAudioClassification")
BATCHES = [
    (TOKENS, {"input_ids": torch.zeros(2, 3), "labels": torch.zeros(2, 3)}),
    (TOKENS, {"input_ids": [[1, 2], [3, 4]], "labels": [[1, 0], [0, 1]]}),
    (TOKENS, {"input_ids": torch.zeros(2, 3)}),
    (TOKENS, {"input_ids": torch.zeros(2, 3), "position_ids": torch.zeros(1, 3), "output_attentions": False}),
    (TOKENS, {"inputs_embeds": torch.zeros(2, 3, 8), "labels": torch.zeros(2, 3)}),
    (IMAGES, {"pixel_values": torch.zeros(3, 3, 16, 16), "labels": torch.zeros(3, dtype=torch.long)}),
    (PIXELS, {"pixel_values": torch.zeros(1, 3, 16, 16), "bool_masked_pos": torch.zeros(1, 16)}),
    (SOUND, {"input_values": torch.zeros(2, 32, 16), "labels": torch.zeros(2, dtype=torch.long)}),
]
SINGLE = [
    (TOKENS, {"input_ids": [1, 2, 3], "labels": [0, 1, 0]}),
    (TOKENS, {"input_ids": torch.zeros(3), "labels": torch.zeros(3)}),
    (TOKENS, {"inputs_embeds": torch.zeros(3, 8), "labels": torch.zeros(3)}),
    (IMAGES, images(labels=1)),
    (IMAGES, images(label=torch.tensor(1))),
    (IMAGES, images(labels=np.int64(1))),
    (IMAGES, images(labels=[0.0, 1.0])),  # of several labels at once
    (IMAGES, images(labels=torch.zeros(2))),
    (PIXELS, images(bool_masked_pos=torch.zeros(16))),
    (SOUND, {"input_values": torch.zeros(32, 16), "labels": 1}),
]


@pytest.mark.parametrize(("entry", "item"), BATCHES)
def test_a_batch_is_seen(entry, item):
    assert not is_row(entry.build(), item)


@pytest.mark.parametrize(("entry", "item"), SINGLE)
def test_a_row_is_seen(entry, item):
    assert is_row(entry.build(), item)


@pytest.mark.parametrize(
    "label", [1, 1.0, True, np.float32(1), torch.tensor(1)], ids=lambda label: type(label).__name__
)
def test_choices_make_a_row_of_two_dimensions(label):
    assert is_row(any_model("BertForSequenceClassification").build(), {"input_ids": [[1, 2], [3, 4]], "labels": label})


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (images(labels=torch.zeros(2, dtype=torch.long)), r"pixel_values \(3, 16, 16\), labels \(2,\)"),
        ({"pixel_values": torch.zeros(4, 3, 16, 16), "labels": [0, 1]}, r"pixel_values \(4, .*labels \(2,\)"),
    ],
)
def test_what_may_be_both_is_refused(item, text):
    with pytest.raises(
        ProfileError, match=f"give a torch.utils.data.Dataset of rows or a DataLoader of .*; got {text}"
    ):
        measure_depth_profile(IMAGES.build(), [item])


def test_a_loader_gives_batches_whatever_they_look_like():
    loader = DataLoader(ROWS, batch_size=4, collate_fn=DefaultDataCollator())
    assert [len(batch["labels"]) for batch in batches(model_of(), loader)] == [4, 4, 2]
