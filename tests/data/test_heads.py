"""Any checkpoint gets the head of a task, and says which of its weights are new."""

import pytest
import torch
import transformers
from transformers import BertConfig, ViTConfig

from acn_hf import DepthError
from acn_hf.conversion.loader import NotAnAcnError
from acn_hf.data.heads import load_for_task
from acn_hf.data.idx import DataError
from acn_hf.data.tasks import Task
from acn_hf.depth.layers import layers_path
from tests.support.any_models import ALL, TEXT
from tests.support.families import by_name

BERT = BertConfig(**TEXT)
VIT = ViTConfig(
    num_hidden_layers=2, hidden_size=16, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=4
)
REVIEWS = Task("text-classification", "texts", ("negative", "positive"))
NAMED = {"id2label": {0: "positive", 1: "negative"}, "label2id": {"positive": 0, "negative": 1}}


def saved(folder, name, config=BERT, **fields):
    """Save a new model of a class, and return it."""
    model = getattr(transformers, name)(type(config).from_dict({**config.to_dict(), **fields}))
    model.save_pretrained(folder)
    return model


def is_loaded(model, source, names):
    """Return whether weights are those of another model."""
    held = source.state_dict()
    return all(torch.equal(model.state_dict()[name], held[name]) for name in names)


@pytest.mark.parametrize(
    ("task", "name", "new"),
    [
        (REVIEWS, "BertForSequenceClassification", {"classifier"}),
        (Task("regression", "texts"), "BertForSequenceClassification", {"classifier"}),
        (Task("multi-label-classification", "texts", ("a", "b", "c")), "BertForSequenceClassification", {"classifier"}),
        (Task("token-classification", "words", ("O", "X", "Y")), "BertForTokenClassification", {"classifier"}),
        (Task("question-answering", "questions"), "BertForQuestionAnswering", {"qa_outputs"}),
        (Task("multiple-choice", "questions"), "BertForMultipleChoice", {"classifier"}),
        (Task("fill-mask", "texts"), "BertForMaskedLM", {"cls"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_checkpoint_without_head_gets_that_of_the_task(tmp_path, task, name, new):
    bare = saved(tmp_path, "BertModel")
    model, names = load_for_task(tmp_path, task)
    assert type(model) is getattr(transformers, name)
    assert {one.partition(".")[0] for one in names} == new
    assert {one for one in model.state_dict() if not one.startswith("bert.")} >= set(names)
    assert is_loaded(model.bert, bare, model.bert.state_dict())
    for field, value in task.config_fields.items():
        assert getattr(model.config, field) == value


def test_images_get_a_head(tmp_path):
    bare = saved(tmp_path, "ViTModel", VIT)
    model, names = load_for_task(str(tmp_path), Task("image-classification", "images", tuple("abc")))
    assert type(model) is transformers.ViTForImageClassification
    assert names == ["classifier.bias", "classifier.weight"]
    assert model.config.num_labels == 3
    assert is_loaded(model.vit, bare, model.vit.state_dict())


def test_a_pooler_that_a_checkpoint_lacks_is_new(tmp_path):
    saved(tmp_path, "BertForMaskedLM")
    _, names = load_for_task(tmp_path, REVIEWS)
    assert names == ["bert.pooler.dense.bias", "bert.pooler.dense.weight", "classifier.bias", "classifier.weight"]


def test_the_head_of_the_task_stays_with_its_classes_in_their_order(tmp_path):
    source = saved(tmp_path, "BertForSequenceClassification", **NAMED)
    model, names = load_for_task(tmp_path, REVIEWS)
    assert names == []
    assert model.config.id2label == NAMED["id2label"]
    assert is_loaded(model, source, source.state_dict())


def test_a_head_that_knows_more_classes_stays(tmp_path):
    more = {0: "neutral", 1: "positive", 2: "negative"}
    saved(tmp_path, "BertForSequenceClassification", id2label=more, label2id={name: id for id, name in more.items()})
    model, names = load_for_task(tmp_path, REVIEWS)
    assert (names, model.config.num_labels) == ([], 3)


@pytest.mark.parametrize("classes", [("negative", "neutral", "positive"), ("cat", "dog")], ids=["more", "others"])
def test_a_head_for_other_classes_is_new_even_of_the_same_shape(tmp_path, classes):
    source = saved(tmp_path, "BertForSequenceClassification", **NAMED)
    model, names = load_for_task(tmp_path, Task("text-classification", "texts", classes))
    assert names == ["classifier.bias", "classifier.weight"]
    assert tuple(model.config.label2id) == classes
    assert model.classifier.weight.shape != source.classifier.weight.shape or not is_loaded(model, source, names[1:])
    assert is_loaded(model, source, [name for name in source.state_dict() if name not in names])


def test_layers_of_a_head_below_the_classes_stay(tmp_path):
    roberta = next(one for one in ALL if one.name == "RobertaForSequenceClassification")
    source = roberta.build()
    source.save_pretrained(tmp_path)
    model, names = load_for_task(tmp_path, REVIEWS)
    assert names == ["classifier.out_proj.bias", "classifier.out_proj.weight"]
    assert is_loaded(model, source, ["classifier.dense.weight"])
    assert not is_loaded(model, source, ["classifier.out_proj.weight"])


@pytest.mark.parametrize(
    ("saved_as", "fields", "task"),
    [
        ("BertForTokenClassification", NAMED, REVIEWS),
        ("BertForSequenceClassification", {"num_labels": 1}, Task("multiple-choice", "questions")),
    ],
    ids=["tags", "choices"],
)
def test_the_head_of_another_task_is_not_taken_for_this_one(tmp_path, saved_as, fields, task):
    if "num_labels" in fields:
        fields = Task("regression", "texts").config_fields
    source = saved(tmp_path, saved_as, **fields)
    model, names = load_for_task(tmp_path, task)
    assert {"classifier.bias", "classifier.weight"} <= set(names)
    assert model.classifier.weight.shape == source.classifier.weight.shape
    assert not is_loaded(model, source, ["classifier.weight"])


def test_what_was_pretrained_keeps_its_head_for_masked_tokens(tmp_path):
    source = saved(tmp_path, "BertForPreTraining")
    model, names = load_for_task(tmp_path, Task("fill-mask", "texts"))
    assert names == []
    assert is_loaded(model, source, model.state_dict())


def test_classes_without_names_are_those_of_ids(tmp_path):
    source = saved(tmp_path, "BertForSequenceClassification")
    for task, kept in (
        (Task("text-classification", "texts", ("0", "1")), True),
        (Task("text-classification", "texts", ("neg", "pos"), has_ids=True), True),
        (Task("text-classification", "texts", ("neg", "pos")), False),
    ):
        model, names = load_for_task(tmp_path, task)
        assert is_loaded(model, source, ["classifier.weight"]) is kept
        assert bool(names) is not kept
        assert model.config.id2label == ({0: "LABEL_0", 1: "LABEL_1"} if "0" in task.classes else {0: "neg", 1: "pos"})


def test_a_head_for_classes_does_not_become_one_for_a_number(tmp_path):
    saved(tmp_path, "BertForSequenceClassification")
    assert load_for_task(tmp_path, Task("regression", "texts"))[1] == ["classifier.bias", "classifier.weight"]
    saved(tmp_path, "BertForSequenceClassification", **Task("regression", "texts").config_fields)
    assert load_for_task(tmp_path, Task("regression", "texts"))[1] == []
    assert load_for_task(tmp_path, REVIEWS)[1] == ["classifier.bias", "classifier.weight"]


@pytest.mark.parametrize("name", ["bert-Model", "vit-Model", "mixer-Model"])
def test_an_acn_stays_one(build, tmp_path, name):
    build(by_name(name)).save_pretrained(tmp_path)
    is_text = name.startswith("bert")
    kind = "text-classification" if is_text else "image-classification"
    model, names = load_for_task(tmp_path, Task(kind, "texts" if is_text else "images", ("a", "b")))
    assert type(model).__name__.startswith("Acn")
    assert {one.partition(".")[0] for one in names} == {"classifier"}


CLASSIFIERS = [one for one in ALL if one.auto.endswith(("ForSequenceClassification", "ForImageClassification"))]


@pytest.mark.parametrize("kind", CLASSIFIERS, ids=lambda one: one.name)
def test_any_model_gets_a_head(tmp_path, kind):
    source = kind.build()
    source.base_model.save_pretrained(tmp_path)
    is_text = source.main_input_name == "input_ids"
    name, inputs = ("text-classification", "texts") if is_text else ("image-classification", "images")
    model, names = load_for_task(tmp_path, Task(name, inputs, tuple("abcde")))
    assert model.config.num_labels == 5
    assert names
    body = {one for one in model.state_dict() if one not in names}
    assert {one for one in body if f"{layers_path(model)}." in one}
    assert not [one for one in names if f"{layers_path(model)}." in one]
    assert is_loaded(model, source, body)


# --- refusals


def test_an_architecture_without_the_head_is_refused(tmp_path):
    saved(tmp_path, "ViTModel", VIT)
    with pytest.raises(DataError, match=r"has a head for token-classification, .*TokenClassification.*; it is a vit"):
        load_for_task(tmp_path, Task("token-classification", "words", ("O", "X")))


def test_layers_that_are_missing_are_refused(tmp_path):
    saved(tmp_path, "BertModel")
    config = BertConfig.from_pretrained(tmp_path)
    config.num_hidden_layers += 1
    config.save_pretrained(tmp_path)
    with pytest.raises(NotAnAcnError, match=r"every weight below the head of a BertFor.*; 16 are missing"):
        load_for_task(tmp_path, REVIEWS)


def test_weights_of_another_shape_are_refused(tmp_path):
    saved(tmp_path, "BertModel")
    config = BertConfig.from_pretrained(tmp_path)
    config.intermediate_size += 1
    config.save_pretrained(tmp_path)
    with pytest.raises(NotAnAcnError, match="are missing or of another shape, and would stay random"):
        load_for_task(tmp_path, REVIEWS)


def test_weights_that_are_not_whole_are_refused(tmp_path):
    saved(tmp_path, "BertModel")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(NotAnAcnError, match="must be whole"):
        load_for_task(tmp_path, REVIEWS)


def test_layers_that_are_shared_are_refused(tmp_path):
    config = transformers.AlbertConfig(
        vocab_size=20, embedding_size=8, hidden_size=8, num_attention_heads=2, intermediate_size=8, num_hidden_layers=3
    )
    transformers.AlbertModel(config).save_pretrained(tmp_path)
    with pytest.raises(DepthError):
        load_for_task(tmp_path, REVIEWS)


def test_a_place_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(OSError, match="must be a checkpoint"):
        load_for_task(tmp_path, REVIEWS)


@pytest.mark.parametrize("dtype", [None, "float32", torch.float32], ids=str)
def test_the_precision_may_be_told(tmp_path, dtype):
    source = saved(tmp_path, "BertForSequenceClassification", **NAMED).bfloat16()
    source.save_pretrained(tmp_path)
    options = {} if dtype is None else {"dtype": dtype}
    model, names = load_for_task(tmp_path, Task("text-classification", "texts", ("cat", "dog")), **options)
    assert names == ["classifier.bias", "classifier.weight"]
    expected = torch.bfloat16 if dtype is None else torch.float32
    assert {weight.dtype for weight in model.parameters()} == {expected}
