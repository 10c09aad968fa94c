"""The scripts train upstream's own classes, whatever they need: positions, padding, prefixes, sizes of images."""

import json

import pytest
import transformers
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    BitImageProcessor,
    CLIPImageProcessor,
    DeiTImageProcessor,
    GPT2Tokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    SiglipImageProcessor,
)

from acn_hf import DepthProfile
from acn_hf.data import train_tokenizer
from tests.examples.test_scripts import QUICK, SENTENCES, image_folder, script, tables
from tests.examples.test_scripts_of_tasks import questions
from tests.support.any_models import any_model

__all__ = ["image_folder", "questions", "script", "tables"]
SIZE = {"height": 16, "width": 16}
CROPS = {"size": {"shortest_edge": 20}, "crop_size": SIZE}
PROCESSORS = {
    "Beit": lambda: transformers.BeitImageProcessor(size=SIZE, do_center_crop=False),
    "CLIP": lambda: CLIPImageProcessor(**CROPS),
    "DeiT": lambda: DeiTImageProcessor(size={"height": 20, "width": 20}, crop_size=SIZE),
    "Dinov2": lambda: BitImageProcessor(**CROPS),
    "Siglip": lambda: SiglipImageProcessor(size=SIZE),
}


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory):
    """Tokenizers by the family of the model: of bytes, with padding and without, or of word pieces without segments."""
    folder = tmp_path_factory.mktemp("bytes")
    byte_level = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    byte_level.train_from_iterator(SENTENCES, vocab_size=290, special_tokens=special)
    byte_level.save_model(str(folder))
    files = {"vocab": str(folder / "vocab.json"), "merges": str(folder / "merges.txt")}
    pieces = train_tokenizer(SENTENCES, 200, max_length=10**6)
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    plain = PreTrainedTokenizerFast(
        tokenizer_object=pieces._tokenizer, model_input_names=["input_ids", "attention_mask"], **named
    )
    ends = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return {"Roberta": RobertaTokenizer(**files), "GPT2": GPT2Tokenizer(**files, **ends), "": plain}


IDS = {"Roberta": {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}}
IDS |= {"MPNet": {"pad_token_id": 1}, "Dinov2": {"image_size": 24}}


@pytest.fixture
def checkpoint(tokenizers, tmp_path):
    """Return a function that saves a small random model with what belongs to it."""

    def save(name):
        entry = any_model(name)
        family = next((family for family in (*PROCESSORS, "Roberta", "MPNet", "GPT2") if family in name), "")
        is_text = "input_ids" in entry.inputs()
        changed = {**IDS.get(family, {}), **({"vocab_size": 300} if is_text else {})}
        entry.build(**changed).save_pretrained(tmp_path / "start")
        processor = tokenizers.get(family, tokenizers[""]) if is_text else PROCESSORS[family]()
        processor.save_pretrained(tmp_path / "start")
        return tmp_path / "start"

    return save


def trained(script, folder, name, start, *options):
    """Return the class that a script trained, and the depths that were measured."""
    script(name, *QUICK, "--model_name_or_path", start, "--output_dir", folder, *options)
    (architecture,) = json.loads((folder / "config.json").read_text())["architectures"]
    return architecture, DepthProfile.load(folder / "depth_profile.json").depths


def full(*values):
    """Return a case that `make test-all` runs."""
    return pytest.param(*values, marks=pytest.mark.full)


@pytest.mark.parametrize(
    ("name", "lowest"),
    [
        ("RobertaForSequenceClassification", 0),
        ("ModernBertForSequenceClassification", 1),
        full("DistilBertForSequenceClassification", 0),
        full("DebertaV2ForSequenceClassification", 1),
        full("ElectraForSequenceClassification", 0),
        full("MPNetForSequenceClassification", 0),
        full("NomicBertForSequenceClassification", 0),
    ],
)
def test_sentences_that_are_too_long_are_cut_for_a_prefix_of_any_encoder(
    script, checkpoint, tables, tmp_path, name, lowest
):
    (tmp_path / "long.csv").write_text("text,label\n" + f"{' '.join(SENTENCES[:20])},yes\nparis,no\n")
    files = ("--train_file", tmp_path / "long.csv", "--validation_file", tables / "validation.csv")
    start = checkpoint(name)
    found = trained(script, tmp_path / "out", "run_text_classification", start, *files, "--num_hidden_layers", 2)
    assert found == (name, tuple(range(lowest, 3)))


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", full("LlamaForCausalLM")])
def test_language_models_without_padding_become_classifiers(script, checkpoint, tables, tmp_path, name):
    files = ("--train_file", tables / "train.csv", "--validation_file", tables / "validation.csv")
    architecture, depths = trained(script, tmp_path / "out", "run_text_classification", checkpoint(name), *files)
    assert architecture == name.removesuffix("LMHeadModel").removesuffix("ForCausalLM") + "ForSequenceClassification"
    assert depths == (0, 1, 2, 3, 4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert config.pad_token_id == tokenizer.pad_token_id is not None


@pytest.mark.parametrize(
    "name", ["RobertaForSequenceClassification", full("ModernBertForMaskedLM"), full("GPT2LMHeadModel")]
)
def test_words_are_classified_by_any_model(script, checkpoint, tables, tmp_path, name):
    files = ("--train_file", tables / "train.json", "--validation_file", tables / "validation.json")
    architecture, depths = trained(script, tmp_path / "out", "run_token_classification", checkpoint(name), *files)
    assert architecture.endswith("ForTokenClassification")
    assert depths[-1] == 4


@pytest.mark.parametrize("name", ["XLMRobertaForMaskedLM", full("ModernBertForMaskedLM")])
def test_any_masked_language_model_is_trained_on_blocks_as_long_as_it_takes(script, checkpoint, tables, tmp_path, name):
    (tmp_path / "text.txt").write_text("\n".join(SENTENCES))
    files = ("--train_file", tmp_path / "text.txt", "--validation_sequences", 3)
    assert trained(script, tmp_path / "out", "run_mlm", checkpoint(name), *files)[0] == name


@pytest.mark.parametrize(
    "name",
    [
        "Dinov2ForImageClassification",
        "CLIPForImageClassification",
        full("BeitForImageClassification"),
        full("DeiTForImageClassification"),
        full("SiglipForImageClassification"),
    ],
)
def test_images_are_classified_by_any_model(script, checkpoint, image_folder, tmp_path, name):
    options = ("--dataset_name", image_folder, "--ignore_mismatched_sizes", "True")
    found = trained(script, tmp_path / "out", "run_image_classification", checkpoint(name), *options)
    assert found == (name, (0, 1, 2, 3, 4))


@pytest.fixture
def rows(tables, image_folder, questions, tmp_path):
    """Return a function that returns the flags of the data that a script reads."""

    def flags(name):
        if "image" in name:
            return ("--dataset_name", image_folder)
        if "multiple_choice" in name:
            lines = [{"context": text, "choices": [text, text[::-1]], "label": 0} for text in SENTENCES[:16]]
            (tmp_path / "choices.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
            return ("--train_file", tmp_path / "choices.json", "--validation_file", tmp_path / "choices.json")
        if "mlm" in name:
            (tmp_path / "text.txt").write_text("\n".join(SENTENCES))
            return ("--train_file", tmp_path / "text.txt", "--validation_sequences", 3, "--max_seq_length", 16)
        folder, kind = {"text": (tables, "csv"), "token": (tables, "json"), "question": (questions, "json")}[
            name.split("_")[1]
        ]
        return ("--train_file", folder / f"train.{kind}", "--validation_file", folder / f"validation.{kind}")

    return flags


@pytest.mark.parametrize(
    ("script_name", "name"),
    [
        ("run_text_classification", "DistilBertForSequenceClassification"),
        ("run_question_answering", "RobertaForSequenceClassification"),
        ("run_multiple_choice", "RobertaForSequenceClassification"),
        full("run_token_classification", "ModernBertForMaskedLM"),
        full("run_image_classification", "Dinov2ForImageClassification"),
        full("run_mlm", "XLMRobertaForMaskedLM"),
    ],
)
def test_a_copy_of_any_model_is_taught_with_one_flag(script, checkpoint, rows, tmp_path, script_name, name):
    options = (*rows(script_name), "--ignore_mismatched_sizes", "True")
    tuned = trained(script, tmp_path / "tuned", script_name, checkpoint(name), *options)
    epochs = ("--max_steps", -1, "--num_train_epochs", 2, "--per_device_train_batch_size", 16)
    assert (
        trained(script, tmp_path / "taught", script_name, tmp_path / "tuned", *options, *epochs, "--teach", "self")
        == tuned
    )
    state = json.loads((tmp_path / "taught" / "trainer_state.json").read_text())
    assert state["epoch"] == 2


def test_a_head_that_transformers_does_not_have_is_named(script, image_folder, tmp_path):
    any_model("DINOv3ViTModel").build().save_pretrained(tmp_path / "start")
    options = ("--model_name_or_path", tmp_path / "start", "--dataset_name", image_folder, "--output_dir", tmp_path)
    with pytest.raises(ValueError, match="transformers has no AutoModelForImageClassification for the dinov3_vit in"):
        script("run_image_classification", *QUICK, *options)
