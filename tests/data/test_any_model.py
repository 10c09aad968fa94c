"""Texts and images become what any model takes, as its own tokenizer or processor makes them."""

from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, CLIPImageProcessor, GPT2Tokenizer, RobertaTokenizer, ViTImageProcessorPil

from acn_hf.data import Columns, DataError, load_tokenizer, longest_text, prepare
from acn_hf.data.pixels import pixels
from acn_hf.depth.cost import longest_text as longest_of
from tests.support.any_models import any_model

SENTENCE = ["the", "film", "was", "a", "film"]
PICTURES = [Image.fromarray(np.random.default_rng(0).integers(0, 255, (22, 30, 3), dtype=np.uint8)) for _ in range(2)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Vocabulary and merges of a tokenizer of bytes that knows each word with the space before it."""
    folder = tmp_path_factory.mktemp("bytes")
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator([" ".join(SENTENCE)] * 9, vocab_size=300, special_tokens=special)
    tokenizer.save_model(str(folder))
    return {"vocab": str(folder / "vocab.json"), "merges": str(folder / "merges.txt")}


def test_words_of_a_list_are_the_tokens_that_they_are_in_a_text(files):
    tokenizer = RobertaTokenizer(**files)
    model = any_model("BertForTokenClassification").build(vocab_size=300)
    data = datasets.Dataset.from_dict({"text": [SENTENCE, ["film"]], "label": [[0, 1, 0, 0, 1], [1]]})
    rows, _ = prepare(model, tokenizer, data, Columns())
    assert rows["input_ids"][:] == tokenizer([" ".join(SENTENCE), "film"])["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(rows["input_ids"][0])
    labelled = [token for token, label in zip(tokens, rows["labels"][0], strict=True) if label == 1]
    assert labelled == ["Ġfilm", "Ġfilm"]


def test_a_tokenizer_that_does_not_pad_gets_a_token_for_it(files, tmp_path):
    ends = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    GPT2Tokenizer(**files, **ends).save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token is None
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.pad_token == "</s>"
    model = any_model("BertForTokenClassification").build(vocab_size=300)
    data = datasets.Dataset.from_dict({"text": [SENTENCE, ["film"]], "label": [[0, 1, 0, 0, 1], [1]]})
    rows, collate = prepare(model, tokenizer, data, Columns())
    assert collate(list(rows))["attention_mask"].sum(1).tolist() == [len(row) for row in rows["input_ids"]]


@pytest.mark.parametrize(
    ("name", "padding", "expected"),
    [
        ("BertForSequenceClassification", 0, 40),
        ("DistilBertForSequenceClassification", 0, 40),
        ("DebertaV2ForSequenceClassification", 0, 40),
        ("GPT2LMHeadModel", 0, 40),
        ("LlamaForCausalLM", 0, 40),
        ("RobertaForSequenceClassification", 0, 39),
        ("RobertaForSequenceClassification", 1, 38),
        ("XLMRobertaForMaskedLM", 3, 36),
        ("MPNetForSequenceClassification", 1, 38),
    ],
)
def test_the_longest_text_is_the_longest_that_the_model_takes(files, name, padding, expected):
    model = any_model(name).build(pad_token_id=padding)
    assert longest_of(model) == expected
    mask = torch.ones(1, expected, dtype=torch.long)
    model(input_ids=5 * mask, attention_mask=mask)  # and upstream takes it
    tokenizer = RobertaTokenizer(**files)
    assert longest_text(model, tokenizer, None) == longest_text(model, tokenizer, expected) == expected
    with pytest.raises(
        DataError, match=rf"max_length must lie in \[3, {expected}\] for this model; got {expected + 1}"
    ):
        longest_text(model, tokenizer, expected + 1)


def test_where_nobody_says_how_long_a_text_may_be_it_is_512_tokens(files):
    model = any_model("BertForSequenceClassification").build()
    model.config.max_position_embeddings = -1
    assert longest_text(model, RobertaTokenizer(**files), None) == 512
    assert longest_text(model, RobertaTokenizer(**files), 600) == 600
    assert longest_text(model, RobertaTokenizer(**files, model_max_length=20), None) == 20


def pictures():
    return datasets.Dataset.from_dict({"image": PICTURES}).cast_column("image", datasets.Image())


def square(side):
    return ViTImageProcessorPil(size={"height": side, "width": side})


def pixels_of(model, processor):
    rows, _ = prepare(model, processor, pictures().add_column("label", [0, 1]), Columns())
    return rows["pixel_values"][:]


@pytest.mark.parametrize(
    "name", ["CLIPForImageClassification", "ViTForImageClassification", "Dinov2ForImageClassification"]
)
def test_images_are_cropped_as_their_processor_does_it(name):
    """Also to another size than that of the config, where a model was trained on larger images and takes any."""
    size = 24 if name.startswith("Dinov2") else 16
    changed = {"image_size": size} if "CLIP" not in name else {}
    model = any_model(name).build(**changed)
    processor = CLIPImageProcessor(size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16})
    own = processor(PICTURES, return_tensors="pt")["pixel_values"]
    assert torch.equal(torch.as_tensor(pixels_of(model, processor)), own)
    assert model(own).logits.shape == (2, 2)


@pytest.mark.parametrize("side", [16, 20])
def test_without_a_crop_images_get_the_size_of_the_model(side):
    model = any_model("ViTForImageClassification").build()
    expected = square(16)(PICTURES, return_tensors="pt")["pixel_values"]
    assert torch.equal(torch.as_tensor(pixels_of(model, square(side))), expected)


def test_a_size_that_nobody_names_is_refused():
    processor = CLIPImageProcessor(size={"shortest_edge": 20}, do_center_crop=False)
    with pytest.raises(DataError, match="must make images of one size, since the config of the model names none"):
        pixels(SimpleNamespace(num_channels=3), processor, pictures(), "image")
    rows = pixels(SimpleNamespace(num_channels=3), square(8), pictures(), "image")
    assert rows["pixel_values"][:].shape == (2, 3, 8, 8)
