"""Tags, answers and choices at every depth of transformers' own classes: what the model that is cut there says."""

import datasets
import pytest
import torch
import transformers
from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizerFast

from acn_hf import measure_depth_profile, truncate
from acn_hf.data import Columns, prepare

TEXT = "paris is in the rome of oslo , what is lima in cairo of quito"
TAGS = {0: "O", 1: "B-LOC", 2: "I-LOC"}
PLACES = ("paris", "rome", "oslo", "lima", "cairo", "quito")
SIZES = {
    "vocab_size": 80,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "max_position_embeddings": 26,
}


@pytest.fixture(scope="module")
def tokenizer():
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator([TEXT] * 20, vocab_size=80, show_progress=False)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer)


def small(name, **options):
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    names = kind.config_class.attribute_map
    config = kind.config_class(**{names.get(field, field): value for field, value in SIZES.items()}, **options)
    model = kind(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def questions():
    words = TEXT.split()
    contexts = [" ".join(words[number:] + words) for number in range(10)]
    answers = [{"text": ["lima"], "answer_start": [text.index("lima")]} for text in contexts]
    answers[3] = {"text": [], "answer_start": []}
    return {"question": ["what is in"] * 10, "context": contexts, "answers": answers}


def choices():
    return {"context": [TEXT] * 10, "choices": [["rome", place] for place in PLACES[:5] * 2], "label": [0, 1] * 5}


def words():
    texts = [TEXT.split()[number:] for number in range(10)]
    return {"text": texts, "label": [["B-LOC" if word in PLACES else "O" for word in text] for text in texts]}


@pytest.mark.parametrize(
    ("name", "columns", "metric"),
    [
        ("BertForQuestionAnswering", questions(), "answer_f1"),
        ("DistilBertForQuestionAnswering", questions(), "exact_match"),
        ("ElectraForMultipleChoice", choices(), "accuracy"),
        ("BertForTokenClassification", words(), "entity_f1"),
        ("DistilBertForTokenClassification", words(), "entity_recall"),
    ],
)
def test_a_depth_is_the_model_that_is_cut_there(tokenizer, name, columns, metric):
    tags = {"id2label": TAGS, "label2id": {tag: number for number, tag in TAGS.items()}, "num_labels": 3}
    model = small(name, **(tags if "Token" in name else {}))
    rows, collate = prepare(model, tokenizer, datasets.Dataset.from_dict(columns), Columns())
    measured = measure_depth_profile(model, rows, metric=metric, collate_fn=collate)
    alone = [
        measure_depth_profile(truncate(model, depth), rows, metric=metric, collate_fn=collate, depths=[]).values[-1]
        for depth in measured.depths
    ]
    assert measured.values == pytest.approx(alone)
    assert measured.depths == (0, 1, 2, 3)
