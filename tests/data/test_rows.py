"""The command line's data: every kind is read, and what does not fit is named."""

import copy
import gzip
import io
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import BertWordPieceTokenizer
from torch.utils.data import DataLoader
from transformers import BertTokenizerFast, ViTImageProcessorPil

from acn_hf import measure_depth_profile
from acn_hf.conversion.loader import NotAnAcnError, load_model
from acn_hf.data.files import load_data
from acn_hf.data.labels import find_classes
from acn_hf.data.masking import MaskingCollator, PatchMaskingCollator, mask_once, pack
from acn_hf.data.pixels import image_size
from acn_hf.data.rows import Columns, DataError, load_processor, prepare
from tests.data.test_idx import write_split
from tests.support.families import by_name

SEQUENCES, TOKENS = by_name("bert-ForSequenceClassification"), by_name("bert-ForTokenClassification")
MASKED, IMAGES = by_name("bert-ForMaskedLM"), by_name("vit-ForImageClassification")
GREY = ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.5], image_std=[0.5])
WORDS = ["good film", "bad film", "good good", "bad"]


@pytest.fixture(scope="module")
def tokenizer():
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(WORDS * 5, vocab_size=40, show_progress=False)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer)


def table(**columns):
    return datasets.Dataset.from_dict(columns)


TEXTS = {"text": WORDS, "label": [1, 0, 1, 0]}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".json", ".jsonl"])
def test_files_are_read(tmp_path, suffix):
    path = tmp_path / f"data{suffix}"
    frame = table(**TEXTS).to_pandas()
    write = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        ".parquet": lambda: frame.to_parquet(path),
        ".json": lambda: frame.to_json(path, orient="records"),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
    }
    write[suffix]()
    assert load_data(str(path)).to_dict() == TEXTS


def test_saved_data_sets_are_read_and_splits_are_chosen(tmp_path):
    table(**TEXTS).save_to_disk(tmp_path / "one")
    assert load_data(str(tmp_path / "one")).to_dict() == TEXTS
    splits = {"train": table(text=["train"]), "test": table(text=["test"]), "validation": table(text=["validation"])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "all")
    assert load_data(str(tmp_path / "all"))["text"] == ["validation"]
    assert load_data(str(tmp_path / "all"), split="train")["text"] == ["train"]
    with pytest.raises(DataError, match="split must be one of train, test, validation; got 'dev'"):
        load_data(str(tmp_path / "all"), split="dev")


def picture(path, shade, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), shade, np.uint8)).convert(mode).save(path)


def png():
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "png")
    return content.getvalue()


@pytest.fixture
def folder(tmp_path):
    for index, label in enumerate(["a", "b", "c", "a"]):
        picture(tmp_path / "images" / label / f"{index}.png", 60 * index)
    return tmp_path / "images"


def test_image_folders_are_measured(build, folder):
    model = build(IMAGES, id2label={0: "c", 1: "b", 2: "a"}, label2id={"c": 0, "b": 1, "a": 2})
    rows, collate = prepare(model, GREY, load_data(str(folder)), Columns())
    assert rows["labels"][:].tolist() == [2, 2, 1, 0]  # by name: the model's ids are not the folders' order
    batch = next(iter(DataLoader(rows, batch_size=4, collate_fn=collate)))
    assert batch["pixel_values"].shape == (4, 1, 8, 8)  # grey and of the model's size, as the config says
    assert measure_depth_profile(model, rows, collate_fn=collate).num_examples == 4


def test_sequences_are_tokenised_and_padded(build, tokenizer):
    rows, collate = prepare(build(SEQUENCES), tokenizer, table(**TEXTS), Columns())
    batch = collate([rows[0], rows[3]])
    assert tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True) == ["good film", "bad"]
    assert batch["attention_mask"].sum(1).tolist() == [4, 3]
    assert batch["labels"].tolist() == [1, 0]


def test_pairs_are_tokenised_together(build, tokenizer):
    data = table(text=["good"], other=["bad film"], label=[0])
    rows, _ = prepare(build(SEQUENCES), tokenizer, data, Columns(text_pair="other"))
    assert rows[0]["token_type_ids"] == [0, 0, 0, 1, 1, 1]


def test_names_of_labels_become_the_models_ids(build, tokenizer):
    model = build(SEQUENCES, id2label={0: "no", 1: "yes", 2: "maybe"}, label2id={"no": 0, "yes": 1, "maybe": 2})
    rows, _ = prepare(model, tokenizer, table(text=WORDS[:2], label=["maybe", "no"]), Columns())
    assert rows["labels"][:] == [2, 0]


def test_regression_takes_numbers(build, tokenizer):
    rows, _ = prepare(build(SEQUENCES, num_labels=1), tokenizer, table(text=WORDS[:2], label=[0.5, 3]), Columns())
    assert rows["labels"][:] == [0.5, 3.0]


def test_words_are_labelled_at_their_first_token(build, tokenizer):
    data = table(text=[["good", "film"], ["bxd"]], label=[[2, 0], [1]])
    rows, collate = prepare(build(TOKENS), tokenizer, data, Columns())
    assert rows[0]["labels"] == [-100, 2, 0, -100]
    assert rows[1]["labels"][:2] == [-100, 1]
    assert set(rows[1]["labels"][2:]) <= {-100}
    assert collate([rows[0], rows[1]])["labels"].shape[0] == 2


def test_masked_language_models_get_the_same_masks_every_time(build, tokenizer):
    model = build(MASKED)
    values = set()
    for _ in range(2):
        rows, collate = prepare(model, tokenizer, table(text=WORDS * 10), Columns())
        values.add(measure_depth_profile(model, rows, metric="loss", collate_fn=collate).values)
    assert len(values) == 1


# --- refusals


@pytest.mark.parametrize(
    ("columns", "missing"),
    [(Columns(text="review"), "review"), (Columns(label="stars"), "stars")],
    ids=["text", "label"],
)
def test_a_column_that_does_not_exist_is_named(build, tokenizer, columns, missing):
    with pytest.raises(DataError, match=f"must have a column '{missing}'; got text, label"):
        prepare(build(SEQUENCES), tokenizer, table(**TEXTS), columns)


@pytest.mark.parametrize("label", [3, -1, "other"])
def test_a_label_that_the_model_does_not_know_is_named(build, tokenizer, label):
    with pytest.raises(DataError, match=f"a label must be one of LABEL_0, LABEL_1, LABEL_2; got {label!r}"):
        prepare(build(SEQUENCES), tokenizer, table(text=["good"], label=[label]), Columns())


@pytest.mark.parametrize("length", [2, 17])
def test_a_length_that_the_model_does_not_have_is_named(build, tokenizer, length):
    with pytest.raises(DataError, match=rf"max_length must lie in \[3, 16\] for this model; got {length}"):
        prepare(build(SEQUENCES), tokenizer, table(**TEXTS), Columns(), max_length=length)


def test_an_image_that_cannot_be_decoded_is_refused(build, folder):
    (folder / "a" / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"every image must be readable: .*a/broken\.png: cannot identify image"):
        prepare(build(IMAGES), GREY, load_data(str(folder)), Columns())


def test_an_image_inside_a_table_that_cannot_be_decoded_is_named_by_its_row(build):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    cells = [{"bytes": content, "path": None} for content in (png(), b"no image")]
    data = datasets.Dataset.from_dict({"image": cells, "label": [0, 1]}, features=features)
    with pytest.raises(DataError, match="every image must be readable: row 2: cannot identify image"):
        prepare(build(IMAGES), GREY, data, Columns())


def test_files_of_another_format_are_refused(tmp_path):
    (tmp_path / "data.xlsx").write_text("x")
    with pytest.raises(DataError, match=r"must end in \.csv, .*; got data\.xlsx"):
        load_data(str(tmp_path / "data.xlsx"))


def test_a_data_set_that_does_not_exist_is_refused():
    with pytest.raises((DataError, OSError), match="no-such-data-set"):
        load_data("someone/no-such-data-set")


def test_heads_that_need_more_are_referred_to_python(build, tokenizer):
    with pytest.raises(DataError, match="for AcnBertForNextSentencePrediction use measure_depth_profile in Python"):
        prepare(build(by_name("bert-ForNextSentencePrediction")), tokenizer, table(**TEXTS), Columns())


def test_a_missing_tokenizer_is_named(build, tmp_path):
    model = build(SEQUENCES)
    model.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="must hold the tokenizer of the model: its vocabulary is empty"):
        load_processor(model, str(tmp_path))


def test_a_missing_image_processor_is_named(build, tmp_path):
    model = build(IMAGES)
    model.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="must hold the image processor of the model"):
        load_processor(model, str(tmp_path))


def test_a_tokenizer_of_another_vocabulary_is_named(build, tokenizer, tmp_path):
    model = build(SEQUENCES, vocab_size=10)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(DataError, match=rf"{len(tokenizer)} tokens and the model 10"):
        load_processor(model, str(tmp_path))


def test_models_are_loaded_with_the_head_they_were_saved_with(build, tmp_path):
    for head in (SEQUENCES, MASKED, IMAGES):
        build(head).save_pretrained(tmp_path / head.name)
        assert type(load_model(str(tmp_path / head.name))) is head.acn


def test_a_checkpoint_of_transformers_is_loaded_as_it_is(tmp_path):
    upstream = SEQUENCES.build_upstream(SEQUENCES.build())
    upstream.save_pretrained(tmp_path)
    assert type(load_model(str(tmp_path))) is type(upstream)


def test_a_checkpoint_of_transformers_without_head_is_refused(tmp_path):
    upstream = SEQUENCES.build_upstream(SEQUENCES.build())
    upstream.base_model.save_pretrained(tmp_path)
    hint = r"it was saved as BertModel\. `acn-hf compress .* DATA OUT --teach TRAIN` puts one on it"
    for scale in (None, 1.0):
        with pytest.raises(NotAnAcnError, match=f"must hold a model with a head; {hint}"):
            load_model(str(tmp_path), residual_scale=scale)


def test_a_checkpoint_without_head_is_refused(build, tmp_path):
    build(by_name("bert-Model")).save_pretrained(tmp_path)
    with pytest.raises(NotAnAcnError, match="must hold a model with a head; it was saved as AcnBertModel"):
        load_model(str(tmp_path))


def test_pixels_reach_the_model_as_floats(build, folder):
    rows, _ = prepare(build(IMAGES), GREY, load_data(str(folder)), Columns())
    assert rows[0]["pixel_values"].dtype == torch.float32


def test_a_class_that_the_model_does_not_know_is_named_even_if_the_number_would_fit(build, folder):
    model = build(IMAGES, id2label={0: "a", 1: "b", 2: "d"}, label2id={"a": 0, "b": 1, "d": 2})
    with pytest.raises(DataError, match="a label must be one of a, b, d; got 'c'"):
        prepare(model, GREY, load_data(str(folder)), Columns())


@pytest.mark.parametrize("value", [None, 3], ids=str)
def test_a_text_that_is_none_is_named_with_its_row(build, tokenizer, value):
    data = datasets.Dataset.from_dict({"text": [value, value], "label": [0, 1]})
    with pytest.raises(DataError, match=f"row 1: column 'text' must hold text; got {value}"):
        prepare(build(SEQUENCES), tokenizer, data, Columns())


def test_labels_may_be_truth_values_or_whole_floats(build, tokenizer):
    for labels in ([True, False], [1.0, 0.0]):
        rows, _ = prepare(build(SEQUENCES), tokenizer, table(text=WORDS[:2], label=labels), Columns())
        assert rows["labels"][:] == [1, 0]


def test_a_missing_label_is_named_with_its_row(build, tokenizer):
    data = table(text=WORDS[:2], label=[1, None])
    with pytest.raises(DataError, match=r"row 2, column 'label': a label must be one of .*; got None"):
        prepare(build(SEQUENCES), tokenizer, data, Columns())


def test_a_missing_file_is_named():
    with pytest.raises(DataError, match=r"there must be a file no\.csv; there is none"):
        load_data("no.csv")


# --- what training asks for beside the command line


def test_classes_are_found_in_the_order_of_their_ids():
    assert find_classes(table(label=["b", "a", "b"]), "label") == ["a", "b"]
    assert find_classes(table(label=[3, 1, 10]), "label") == ["1", "3", "10"]
    assert find_classes(table(label=[1.0, 0.0]), "label") == ["0", "1"]
    assert find_classes(table(label=[True, False]), "label") == ["0", "1"]
    assert find_classes(table(label=[["O", "X"], [], ["A"]]), "label") == ["A", "O", "X"]
    named = datasets.Features({"label": datasets.ClassLabel(names=["z", "y"])})
    assert find_classes(datasets.Dataset.from_dict({"label": [0, 0]}, features=named), "label") == ["z", "y"]


@pytest.mark.parametrize(
    ("labels", "row"),
    [(["a", None], 2), ([["a"], None], 2), ([None, ["a"]], 1), ([["a", None], ["b"]], 1), ([None, None], 1)],
    ids=str,
)
def test_a_missing_class_is_named(labels, row):
    with pytest.raises(DataError, match=rf"row {row}: every row of column 'label' must have a label; got .*None"):
        find_classes(table(label=labels), "label")


@pytest.mark.parametrize("labels", [[5, 7, 5, 9], ["5", "7", "5", "9"]], ids=["numbers", "names"])
def test_classes_found_in_the_data_become_their_ids(build, tokenizer, labels):
    data = table(text=WORDS, label=labels)
    names = find_classes(data, "label")
    model = build(SEQUENCES, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
    rows, _ = prepare(model, tokenizer, data, Columns())
    assert rows["labels"][:] == [0, 1, 0, 2]
    with pytest.raises(DataError, match="a label must be one of 5, 7, 9; got 1"):
        prepare(model, tokenizer, table(text=WORDS[:1], label=[1]), Columns())


@pytest.mark.parametrize("labels", [[1], [], None], ids=str)
def test_words_without_a_label_are_named(build, tokenizer, labels):
    data = table(text=[["good", "film"], ["bad", "film"]], label=[[0, 1], labels])
    rule = f"every word must have a label; got {len(labels or ())} labels for 2 words"
    with pytest.raises(DataError, match=f"row 2: {rule}"):
        prepare(build(TOKENS), tokenizer, data, Columns())


@pytest.mark.parametrize("words", [None, [None, "film"]], ids=str)
def test_words_that_are_none_are_named_with_their_row(build, tokenizer, words):
    data = table(text=[["good", "film"], words], label=[[0, 1], [0, 1]])
    with pytest.raises(DataError, match=r"row 2: column 'text' must hold lists of words; got \[?None"):
        prepare(build(TOKENS), tokenizer, data, Columns())


def test_texts_where_words_are_wanted_are_named(build, tokenizer):
    data = table(text=["go", "no"], label=[[0, 1], [0, 1]])
    with pytest.raises(DataError, match="row 1: column 'text' must hold lists of words; got 'go'"):
        prepare(build(TOKENS), tokenizer, data, Columns())


def test_images_of_other_channels_are_refused(build, folder):
    with pytest.raises(DataError, match=r"num_channels must be 1 or 3, .*; got 2"):
        prepare(build(IMAGES, num_channels=2), GREY, load_data(str(folder)), Columns())


@pytest.mark.parametrize("patch_size", [0, -2, 3])
def test_patches_that_do_not_cover_an_image_are_refused(patch_size):
    with pytest.raises(DataError, match=f"patch_size must divide image_size, 8; got {patch_size}"):
        image_size(SimpleNamespace(image_size=8, patch_size=patch_size))


def test_texts_are_joined_and_no_token_is_lost(tokenizer):
    blocks = pack(tokenizer, table(text=WORDS * 3), "text", length=7)["input_ids"][:]
    assert {len(block) for block in blocks[:-1]} == {7}
    assert all((block[0], block[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id) for block in blocks)
    inside = [token for block in blocks for token in block[1:-1]]
    assert tokenizer.decode(inside) == " ".join(WORDS * 3)


def test_the_tokenizer_says_how_long_a_block_is(build, tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = 5
    rows, _ = prepare(build(MASKED), tokenizer, table(text=WORDS), Columns())
    assert max(map(len, rows["input_ids"])) == 5


def test_a_block_is_masked_alike_wherever_it_stands(build, tokenizer):
    model, data = build(MASKED), table(text=[" ".join(WORDS)] * 5)
    collate = MaskingCollator(tokenizer, mlm_probability=0.5)
    blocks = pack(tokenizer, data, "text", length=10)
    masked = mask_once(blocks, collate)
    turned = mask_once(blocks.select(range(len(blocks) - 1, -1, -1)), collate)
    assert masked["input_ids"][:] == turned["input_ids"][::-1]
    assert any(label != -100 for labels in masked["labels"] for label in labels)
    batch = collate([masked[0], masked[1]])
    assert batch["input_ids"][0].tolist() == masked[0]["input_ids"]  # what has labels is not masked again
    assert model(**batch).loss.isfinite()
    assert collate([blocks[0]])["labels"].ne(-100).any()


def test_idx_folders_are_measured(build, tmp_path):
    write_split(tmp_path, "train", np.arange(3 * 64).reshape(3, 8, 8), np.array([0, 2, 1]))
    rows, collate = prepare(build(IMAGES), GREY, load_data(str(tmp_path)), Columns())
    expected = (np.arange(3 * 64).reshape(3, 1, 8, 8) / 255 - 0.5) / 0.5
    assert np.allclose(rows["pixel_values"][:].numpy(), expected, atol=1e-6)
    assert measure_depth_profile(build(IMAGES), rows, collate_fn=collate).num_examples == 3


def test_many_images_are_decoded_when_they_are_asked_for(build, folder, monkeypatch):
    model = build(IMAGES, id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2})
    at_once, collate = prepare(model, GREY, load_data(str(folder)), Columns())
    monkeypatch.setattr("acn_hf.data.pixels.LARGEST_IN_MEMORY", 100)
    later, _ = prepare(model, GREY, load_data(str(folder)), Columns())
    assert torch.equal(later[:]["pixel_values"], at_once["pixel_values"][:])
    profiles = [measure_depth_profile(model, rows, collate_fn=collate) for rows in (at_once, later)]
    assert profiles[0] == profiles[1]


def test_masked_images_get_the_same_masks_every_time(build, folder):
    model = build(by_name("vit-ForMaskedImageModeling"))
    values = set()
    for _ in range(2):
        rows, collate = prepare(model, GREY, load_data(str(folder)), Columns())
        values.add(measure_depth_profile(model, rows, metric="loss", collate_fn=collate).values)
    assert len(values) == 1
    drawn = collate([{"pixel_values": torch.zeros(1, 8, 8)}] * 50)["bool_masked_pos"]
    assert drawn.sum(dim=1).tolist() == [2] * 50
    assert len({tuple(row.tolist()) for row in drawn}) == 6  # every two of the four patches


@pytest.mark.parametrize("ratio", [0.0, 1.0, 0.1])
def test_a_mask_that_hides_nothing_or_all_is_refused(ratio):
    with pytest.raises(ValueError, match=f"must hide some of the 4 patches and not all; got {ratio}"):
        PatchMaskingCollator(4, ratio)


def test_gzipped_files_are_read(tmp_path):
    with gzip.open(tmp_path / "data.csv.gz", "wt") as file:
        file.write(table(**TEXTS).to_pandas().to_csv(index=False))
    with gzip.open(tmp_path / "lines.txt.gz", "wt") as file:
        file.write("\n".join(WORDS))
    assert load_data(str(tmp_path / "data.csv.gz")).to_dict() == TEXTS
    assert load_data(str(tmp_path / "lines.txt.gz"))["text"][:] == WORDS
