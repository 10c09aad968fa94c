"""Every model of transformers with one stack of layers is exported as it is, at every depth, and computes the same."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import peft
import pytest
import torch
from transformers import (
    AutoConfig,
    BertTokenizer,
    CLIPImageProcessorPil,
    RobertaTokenizer,
    ViTImageProcessorPil,
    Wav2Vec2FeatureExtractor,
)

import acn_hf
from acn_hf.depth.layers import layers_of
from acn_hf.export.inputs import input_shapes, random_inputs
from tests.support.adapted import quiet
from tests.support.any_models import ALL, MORE_KINDS, NUM_LAYERS, any_model
from tests.support.exporting import difference, outputs, run_onnx, run_program, session, tried

TOLERANCE = 1e-4
EXPORTS = {"onnx": (acn_hf.export_onnx, run_onnx), "program": (acn_hf.export_program, run_program)}
PADDING = ("none", "right", "left")
BATCH, LENGTH = "batch_size", "sequence_length"


def varied(entry, **changed):
    """Return a small model none of whose weights is as it was initialised, so that every part of it shows."""
    model = entry.build(**changed)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def exported(entry, depth, kind, paddings, folder, sizes):
    """Export one depth of a model, and compare it with the truncated model at sizes that were not traced."""
    export, runner = EXPORTS[kind]
    model = varied(entry)
    short = acn_hf.truncate(model, depth)
    report = export(model, folder, depth=depth)
    assert report.depth == depth
    assert report.max_difference < TOLERANCE
    run = runner(report.path)
    shapes = input_shapes(short)
    for padding, (batch_size, length) in product(paddings, sizes):
        inputs = tried(short, shapes, batch_size, length, padding)
        assert difference(run, short, inputs, relative=True) < TOLERANCE
    if kind == "onnx":
        named = {given.name: given.shape for given in session(report.path).get_inputs()}
        assert named == {name: list(shape) for name, shape in shapes.items()}
    config = AutoConfig.from_pretrained(folder)
    assert type(config) is type(model.config)
    assert config.architectures == [entry.name]
    assert len(layers_of(type(model)(config))) == depth
    return short, run


KINDS_OF_MODELS = {
    ("BertForSequenceClassification", 1, "onnx", "right"),
    ("ViTForImageClassification", 0, "program", "none"),
    ("LlamaForCausalLM", 1, "onnx", "left"),
    ("Wav2Vec2ForSequenceClassification", 1, "program", "none"),
}


@pytest.mark.parametrize(("name", "depth", "kind", "padding"), sorted(KINDS_OF_MODELS))
def test_models_of_four_kinds(name, depth, kind, padding, tmp_path):
    short, run = exported(any_model(name), depth, kind, [padding], tmp_path, [(1, 5), (3, 7)])
    inputs = tried(short, input_shapes(short), 3, 7, padding)
    other = acn_hf.truncate(varied(any_model(name)), 2)
    assert difference(run, other, inputs) > 100 * TOLERANCE  # another depth shows


SIZES = [(1, 1), (5, 13), (2, 19)]
LAYERS_DIFFER = ("ModernBertForMaskedLM", "Gemma3ForCausalLM")
"""Some layers of these see the whole text and others a part of it."""


def paddings_of(entry):
    """Return the paddings that there are: only texts have any."""
    return PADDING if "input_ids" in entry.inputs() else PADDING[:1]


def two_depths():
    """Return every model at two depths: the lowest and 2, or 1 and all layers, in turn."""
    for number, entry in enumerate(ALL):
        for depth in (1, NUM_LAYERS) if number % 2 else (entry.lowest, 2):
            yield pytest.param(entry, depth, id=f"{entry.name}-{depth}")


def one_depth():
    """Return every model at one depth, a low one: ONNX takes long for each layer, and all have the same operators.

    Every fourth has none, where that can be.
    """
    for number, entry in enumerate(ALL):
        depth = 2 if entry.name in LAYERS_DIFFER else max(entry.lowest, min(number % 4, 1))
        yield pytest.param(entry, depth, id=f"{entry.name}-{depth}")


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "depth"), list(two_depths()))
def test_programs_of_every_model_at_two_depths(entry, depth, tmp_path):
    exported(entry, depth, "program", paddings_of(entry), tmp_path, SIZES)


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "depth"), list(one_depth()))
def test_onnx_of_every_model(entry, depth, tmp_path):
    exported(entry, depth, "onnx", paddings_of(entry), tmp_path, SIZES)


NAMES = {
    "BertForSequenceClassification": {"input_ids", "attention_mask", "token_type_ids"},
    "DistilBertForSequenceClassification": {"input_ids", "attention_mask"},
    "DebertaV2ForSequenceClassification": {"input_ids", "attention_mask"},
    "MPNetForSequenceClassification": {"input_ids", "attention_mask"},
    "LayoutLMForSequenceClassification": {"input_ids", "attention_mask", "token_type_ids", "bbox"},
    "GPT2LMHeadModel": {"input_ids", "attention_mask"},
    "ASTForAudioClassification": {"input_values"},
    "Wav2Vec2ForSequenceClassification": {"input_values"},
}
SHAPES = {
    "BertForSequenceClassification": (BATCH, LENGTH),
    "SiglipForImageClassification": (BATCH, 3, 16, 16),
    "VideoMAEForVideoClassification": (BATCH, 4, 3, 16, 16),
    "ASTForAudioClassification": (BATCH, 32, 16),
    "Wav2Vec2ForSequenceClassification": (BATCH, "num_samples"),
}


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.name)
def test_the_model_says_what_it_takes(entry):
    model = varied(entry)
    shapes = input_shapes(model)
    assert set(shapes) == NAMES.get(entry.name, set(shapes))
    assert entry.inputs().keys() <= set(shapes)
    assert shapes[model.main_input_name] == SHAPES.get(entry.name, shapes[model.main_input_name])
    inputs = random_inputs(model, shapes, 2, 5)
    for name, value in inputs.items():
        assert value.dtype == (torch.float32 if value.is_floating_point() else torch.int64), name
    with torch.no_grad():
        whole = model(**inputs)[0]
        for name in inputs.keys() - {model.main_input_name}:  # each of them counts
            assert not torch.equal(whole, model(**{key: inputs[key] for key in inputs.keys() - {name}})[0]), name


WORDS = {"vocab": {word: index for index, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])}, "merges": []}
PROCESSORS = {
    "a tokenizer without token types": (
        "RobertaForSequenceClassification",
        {},
        lambda: RobertaTokenizer(**WORDS),
        {"input_ids": (BATCH, LENGTH), "attention_mask": (BATCH, LENGTH)},
    ),
    "a tokenizer with token types": (
        "DistilBertForSequenceClassification",
        {},
        lambda: BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1}),
        {"input_ids": (BATCH, LENGTH), "attention_mask": (BATCH, LENGTH)},
    ),
    "images of another size": (
        "Dinov2ForImageClassification",
        {},
        lambda: CLIPImageProcessorPil(crop_size={"height": 12, "width": 24}),
        {"pixel_values": (BATCH, 3, 12, 24)},
    ),
    "images beside texts": (
        "Dinov2ForImageClassification",
        {},
        lambda: SimpleNamespace(image_processor=ViTImageProcessorPil(size={"height": 12, "width": 24})),
        {"pixel_values": (BATCH, 3, 12, 24)},
    ),
    "images of several sizes": (
        "Dinov2ForImageClassification",
        {},
        lambda: CLIPImageProcessorPil(do_center_crop=False),
        {"pixel_values": (BATCH, 3, 16, 16)},
    ),
    "sound with a mask": (
        "Wav2Vec2ForSequenceClassification",
        {"feat_extract_norm": "layer"},
        lambda: SimpleNamespace(feature_extractor=Wav2Vec2FeatureExtractor(return_attention_mask=True)),
        {"input_values": (BATCH, "num_samples"), "attention_mask": (BATCH, "num_samples")},
    ),
    "sound without a mask": (
        "Wav2Vec2ForSequenceClassification",
        {},
        lambda: Wav2Vec2FeatureExtractor(return_attention_mask=False),
        {"input_values": (BATCH, "num_samples")},
    ),
}


@pytest.mark.parametrize("case", PROCESSORS)
def test_the_processor_says_what_it_makes(case):
    name, changed, processor, expected = PROCESSORS[case]
    model = any_model(name).build(**changed)
    shapes = input_shapes(model, processor())
    assert shapes == expected
    with torch.no_grad():
        assert model(**random_inputs(model, shapes, 2, 5))[0].shape == (2, 2)


@pytest.mark.parametrize("kind", [pytest.param("onnx", marks=pytest.mark.slow), "program"])
def test_images_have_the_size_that_the_processor_makes(kind, tmp_path):
    model, (export, runner) = varied(any_model("Dinov2ForImageClassification")), EXPORTS[kind]
    processor = CLIPImageProcessorPil(crop_size={"height": 12, "width": 24})
    report = export(model, tmp_path, depth=1, processor=processor)
    inputs = {"pixel_values": torch.randn(3, 3, 12, 24)}
    assert difference(runner(report.path), acn_hf.truncate(model, 1), inputs) < TOLERANCE


def test_images_of_a_size_that_the_model_does_not_take(tmp_path):
    processor = CLIPImageProcessorPil(crop_size={"height": 12, "width": 24})
    with pytest.raises(acn_hf.ExportError, match=r"ViTFor\S+ must run on {.*, 3, 12, 24\)} to be exported"):
        acn_hf.export_program(any_model("ViTForImageClassification").build(), tmp_path / "vit", processor=processor)
    assert not (tmp_path / "vit").exists()


@pytest.mark.slow
def test_a_sound_and_its_mask(tmp_path):
    model = varied(any_model("Wav2Vec2ForSequenceClassification"), feat_extract_norm="layer")
    processor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    report = acn_hf.export_program(model, tmp_path, depth=1, processor=processor)
    batch = processor([np.ones(900), np.ones(400)], sampling_rate=16_000, padding=True, return_tensors="pt")
    inputs = {**batch, "attention_mask": batch["attention_mask"].long()}
    run = run_program(report.path)
    assert difference(run, acn_hf.truncate(model, 1), inputs) < TOLERANCE
    assert (tmp_path / "preprocessor_config.json").is_file()


def test_padding_before_a_text_changes_nothing(tmp_path):
    model = varied(any_model("LlamaForCausalLM"))
    run = run_program(acn_hf.export_program(model, tmp_path, depth=1).path)
    ids = torch.randint(5, 50, (2, 6), generator=torch.Generator().manual_seed(0))
    whole = run({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["logits"]
    padding = torch.zeros(2, 3, dtype=torch.long)
    mask = torch.cat([padding, torch.ones_like(ids)], 1)
    padded = run({"input_ids": torch.cat([padding, ids], 1), "attention_mask": mask})["logits"]
    np.testing.assert_allclose(padded[:, 3:], whole, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("ModernBertForMaskedLM", {"local_attention": 4}),
        pytest.param("Gemma3ForCausalLM", {"sliding_window": 4}, marks=pytest.mark.slow),
    ],
)
def test_windows_of_attention_hold_for_longer_texts(name, changed, tmp_path):
    model = varied(any_model(name), **changed)
    run = run_program(acn_hf.export_program(model, tmp_path, depth=2).path)
    short = acn_hf.truncate(model, 2)
    for length in (3, 12, 33):
        assert difference(run, short, tried(short, input_shapes(short), 2, length, "none")) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changed", "kind"),
    [
        ("LlamaForCausalLM", {"num_attention_heads": 4}, "onnx"),  # two for each head of keys
        (
            "LlamaForCausalLM",
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}},
            "program",
        ),
        ("LlamaForCausalLM", {"tie_word_embeddings": True}, "onnx"),
        ("GPT2LMHeadModel", {"scale_attn_by_inverse_layer_idx": True}, "program"),
        ("RobertaForSequenceClassification", {"type_vocab_size": 1}, "program"),
        (
            "Wav2Vec2ForSequenceClassification",
            {"do_stable_layer_norm": True, "feat_extract_norm": "layer"},
            "onnx",
        ),
        ("BertForSequenceClassification", {"attn_implementation": "eager", "chunk_size_feed_forward": 4}, "program"),
    ],
    ids=str,
)
def test_configs_that_real_checkpoints_have(name, changed, kind, tmp_path):
    """In one format each: what a config changes is traced in the same way for both."""
    model, (export, runner) = varied(any_model(name), **changed), EXPORTS[kind]
    depth = 2 if kind == "program" else 1
    run = runner(export(model, tmp_path, depth=depth).path)
    short = acn_hf.truncate(model, depth)
    shapes = input_shapes(short)
    assert difference(run, short, tried(short, shapes, 3, 12, "left"), relative=True) < TOLERANCE


NAMES_OF_MORE = {
    "BertForMultipleChoice": {"input_ids": (BATCH, "num_choices", LENGTH)},
    "ViTForMaskedImageModeling": {"pixel_values": (BATCH, 3, 16, 16), "bool_masked_pos": (BATCH, 16)},
    "WhisperForAudioClassification": {"input_features": (BATCH, 8, 40)},
    "Wav2Vec2BertForSequenceClassification": {"input_features": (BATCH, "num_frames", 16)},
}


IN_ONNX = {"LlamaForSequenceClassification", "ViTForMaskedImageModeling", "Wav2Vec2BertForSequenceClassification"}
"""The others become programs: inputs and heads are traced in the same way for both."""


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        pytest.param(entry, kind, id=f"{entry.name}-{kind}", marks=pytest.mark.slow if number else ())
        for number, entry in enumerate(MORE_KINDS)
        for kind in ("onnx" if entry.name in IN_ONNX else "program",)
    ],
)
def test_heads_and_inputs_of_other_kinds(entry, kind, tmp_path):
    model, (export, runner) = varied(entry), EXPORTS[kind]
    shapes = input_shapes(model)
    assert NAMES_OF_MORE.get(entry.name, {}).items() <= shapes.items()
    run = runner(export(model, tmp_path, depth=1).path)
    short = acn_hf.truncate(model, 1)
    assert difference(run, short, tried(short, shapes, 3, 6, "right"), relative=True) < TOLERANCE


def test_config_json_is_that_of_upstream(tmp_path):
    entry = any_model("SiglipForImageClassification")
    model = entry.build(id2label={0: "cat", 1: "dog"})
    model.config.vision_config._name_or_path = str(tmp_path)
    before = model.config.to_dict()
    acn_hf.export_program(model, tmp_path / "out", depth=2)
    assert model.config.to_dict() == before
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.vision_config.num_hidden_layers == 2
    assert config.text_config.num_hidden_layers == NUM_LAYERS
    assert config.id2label == {0: "cat", 1: "dog"}
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()


def test_an_upstream_model_is_left_as_it_is(tmp_path):
    entry, calls = any_model("LlamaForCausalLM"), []
    model = entry.build(attn_implementation="eager").train()
    before, config = outputs(model, entry.inputs())["logits"], model.config.to_dict()
    model.model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    acn_hf.truncate(model, 1)  # the class is checked
    calls.clear()
    acn_hf.export_program(model, tmp_path, depth=1)
    assert not calls
    assert model.training
    assert model.config.to_dict() == config
    assert model.config._attn_implementation == "eager"
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert np.array_equal(before, outputs(model, entry.inputs())["logits"])
    assert calls


@pytest.mark.slow
@quiet
def test_adapters_of_an_upstream_model_are_merged(tmp_path):
    entry = any_model("LlamaForCausalLM")
    adapted = peft.get_peft_model(
        varied(entry), peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    merged = acn_hf.truncate(adapted, 1, merge_adapter=True)
    run = run_program(acn_hf.export_program(adapted, tmp_path, depth=1).path)
    assert difference(run, merged, entry.inputs() | {"attention_mask": torch.ones(3, 9).long()}) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LlamaForCausalLM", "DistilBertForSequenceClassification"])
def test_int8_of_an_upstream_model(name, tmp_path):
    model = varied(any_model(name), vocab_size=2000)
    weights = 4 * acn_hf.truncate(model, 1).num_parameters()  # the bytes of float32
    report = acn_hf.export_onnx(model, tmp_path, depth=1, quantize="int8")
    assert report.size_bytes < 0.5 * weights
    assert TOLERANCE < report.max_difference < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_onnx_of_half_precision_is_float32(dtype, tmp_path):
    entry = any_model("ViTForImageClassification")
    model = varied(entry).to(dtype)
    report = acn_hf.export_onnx(model, tmp_path, depth=1)
    assert model.dtype == dtype
    short = acn_hf.truncate(model, 1).float()
    assert difference(run_onnx(report.path), short, entry.inputs()) < TOLERANCE


@pytest.mark.slow
def test_a_program_keeps_half_precision(tmp_path):
    entry = any_model("BertForSequenceClassification")
    model = varied(entry).bfloat16()
    report = acn_hf.export_program(model, tmp_path, depth=1)
    short = acn_hf.truncate(model, 1)
    assert difference(run_program(report.path), short, tried(short, input_shapes(short), 3, 6, "left")) == 0
