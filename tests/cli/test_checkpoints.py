"""The command that writes a checkpoint in another form, convert; conversion on the way; and bench."""

import json

import pytest
import torch
import transformers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    BertModel,
)

from acn_hf import CardFacts, ConversionError, DepthCost, DepthProfile, convert_checkpoint, truncate
from acn_hf.conversion.loader import NotAnAcnError, load_model
from tests.conversion.test_layouts import original
from tests.support.command_line import (
    CLASSIFIER,
    DAMAGES,
    IMAGES,
    WORDS,
    checkpoint,
    damage,
    gpt2,
    names_in,
    not_ours,
    one_line,
    pictures,
    residual,
    reviews,
    run,
    tokenizer,
    wrong_usage,
)
from tests.support.families import BASES, HEADS, NUM_LAYERS, by_name, each_head
from tests.support.hub_server import OWNER_TOKEN

__all__ = ["checkpoint", "gpt2", "pictures", "residual", "reviews", "run"]


# --- convert


@each_head([head for head in HEADS if hasattr(transformers, head.upstream.__name__)])
def test_a_converted_checkpoint_computes_what_it_computed(run, build, head, tmp_path):
    original = head.build_upstream(build(head))
    original.save_pretrained(tmp_path / "residual")
    result = run("convert", tmp_path / "residual", tmp_path / "acn", "--residual-scale", 1)
    assert result.exit_code == 0, result.output
    model = load_model(tmp_path / "acn", needs_head=False)
    assert type(model) is head.acn
    with torch.no_grad():
        for one, other in zip(model(**head.inputs()).to_tuple(), original(**head.inputs()).to_tuple(), strict=True):
            assert torch.equal(one, other)
    assert f"Converted from a `{head.upstream.__name__}`, and computes what that computes." in result.output
    assert "has no tokenizer or image processor" in " ".join(result.output.split())


@pytest.mark.parametrize("scale", [(), (1,), ("1,1,1",)], ids=["default", "one", "a list"])
def test_what_converts_is_exact_by_default(run, residual, reviews, tmp_path, scale):
    options = ("--residual-scale", *scale) if scale else ()
    assert run("convert", residual, tmp_path / "acn", *options).exit_code == 0
    outputs = []
    for source, way in ((tmp_path / "acn", ()), (residual, ("--convert", *options)), (residual, ())):
        result = run("profile", source, reviews, "--metric", "loss", "--out", tmp_path / "p.json", "--overwrite", *way)
        assert result.exit_code == 0, result.output
        outputs.append(DepthProfile.load(tmp_path / "p.json").values)
    assert outputs[0] == outputs[1] == outputs[2]


def test_convert_brings_the_tokenizer_and_a_card(run, residual, tmp_path):
    result = run("convert", residual, tmp_path / "acn", "--residual-scale", 0)
    assert result.exit_code == 0, result.output
    assert "has no tokenizer" not in result.output
    assert "next: train it, AutoModelForSequenceClassification.from_pretrained" in result.output
    assert {"config.json", "model.safetensors", "README.md", "model_card.json"} <= names_in(tmp_path / "acn")
    assert AutoTokenizer.from_pretrained(tmp_path / "acn").get_vocab()["good"] == 5
    facts = CardFacts.load(tmp_path / "acn" / "model_card.json")
    assert (facts.name, facts.base_model, facts.processor) == ("acn", None, "AutoTokenizer")
    assert "has to be trained before it is of use" in (tmp_path / "acn" / "README.md").read_text()
    assert str(tmp_path) not in (tmp_path / "acn" / "README.md").read_text()
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "acn").config.residual_scale == 0.0


def test_convert_takes_options(run, residual, tmp_path):
    options = ("--residual-scale", "1,0.5,0", "--no-attention-residual", "--readout", "sum", "--learn-residual-scale")
    result = run("convert", residual, tmp_path / "acn", *options)
    assert result.exit_code == 0, result.output
    config = load_model(tmp_path / "acn").config
    assert (config.residual_scale, config.attention_residual) == ([1.0, 0.5, 0.0], False)
    assert (config.readout, config.learn_residual_scale) == ("sum", True)
    assert run("convert", residual, tmp_path / "two", "--attention-residual", "--pooling", "mean").exit_code == 0
    config = load_model(tmp_path / "two").config
    assert (config.attention_residual, config.pooling) == (True, "mean")


def test_convert_reads_with_another_class(run, residual, tmp_path):
    result = run("convert", residual, tmp_path / "acn", "--architecture", "BertModel", "--residual-scale", 1)
    assert result.exit_code == 0, result.output
    assert "AcnBertModel" in result.output
    assert "put a head on it" in result.output


@pytest.mark.parametrize("scale", [0, 1])
def test_a_new_head_is_said_to_be_untrained(run, build, tmp_path, scale):
    BASES[0].build_upstream(build(BASES[0])).save_pretrained(tmp_path / "bert")
    head = ("--architecture", "BertForSequenceClassification", "--residual-scale", scale)
    result = run("convert", tmp_path / "bert", tmp_path / "acn", *head)
    assert result.exit_code == 0, result.output
    card = (tmp_path / "acn" / "README.md").read_text()
    for text in ("a `BertModel`", "new head (`classifier.bias`, `classifier.weight`)", "has to be trained"):
        assert text in result.output
        assert text in card
    assert "next: train it, AutoModelForSequenceClassification" in result.output


def test_a_new_pooler_is_said_to_be_untrained(run, build, tmp_path):
    masked = by_name("bert-ForMaskedLM")
    masked.build_upstream(build(masked)).save_pretrained(tmp_path / "bert")
    result = run("convert", tmp_path / "bert", tmp_path / "acn", "--architecture", "BertModel", "--residual-scale", 1)
    assert "but for its new pooler (`pooler.dense.bias`, `pooler.dense.weight`), which is random" in result.output
    head = ("--architecture", "BertForSequenceClassification", "--pooling", "mean")
    result = run("convert", tmp_path / "bert", tmp_path / "two", *head)
    assert "a `BertForMaskedLM`" in result.output
    assert "new head (`classifier.bias`, `classifier.weight`)" in result.output


def test_another_family_is_named_with_its_rule_of_padding(run, reviews, tmp_path):
    original("RobertaForSequenceClassification").save_pretrained(tmp_path / "roberta")
    tokenizer().save_pretrained(tmp_path / "roberta")
    result = run("convert", tmp_path / "roberta", tmp_path / "acn", "--residual-scale", 1)
    said = "Converted from a `RobertaForSequenceClassification`, and computes what that computes."
    for text in (result.output, (tmp_path / "acn" / "README.md").read_text()):
        assert f"{said} Texts must be padded on the right." in text
    settings = json.loads((tmp_path / "roberta" / "tokenizer_config.json").read_text())
    (tmp_path / "roberta" / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": "left"}))
    rule = "the padding_side of the tokenizer of a RobertaForSequenceClassification must be 'right'"
    for command in (("convert", tmp_path / "roberta"), ("compress", tmp_path / "roberta", reviews, "--convert")):
        line = one_line(run(*command, tmp_path / "left"))
        assert rule in line
        assert "got 'left'" in line
    assert not (tmp_path / "left").exists()


def test_a_vocabulary_of_an_unknown_tokenizer_is_left_out(run, residual, tmp_path):
    for path in [*residual.glob("tokenizer*"), *residual.glob("special_tokens_map.json")]:
        path.unlink()
    (residual / "vocab.txt").write_text("\n".join(WORDS))
    config = json.loads((residual / "config.json").read_text())
    del config["model_type"]
    (residual / "config.json").write_text(json.dumps(config))
    result = run("convert", residual, tmp_path / "acn", "--architecture", "BertForSequenceClassification")
    assert result.exit_code == 0, result.output
    assert "has no tokenizer or image processor that says its class" in result.output
    assert not {"vocab.txt", "tokenizer.json"} & names_in(tmp_path / "acn")


@not_ours
def test_convert_keeps_the_name_of_the_hub(run, hub, residual, tmp_path):
    BertForSequenceClassification.from_pretrained(residual).push_to_hub("someone/bert", token=OWNER_TOKEN)
    result = run("convert", "someone/bert", tmp_path / "acn", "--residual-scale", 1)
    assert result.exit_code == 0, result.output
    assert CardFacts.load(tmp_path / "acn" / "model_card.json").base_model == "someone/bert"
    assert "base_model: someone/bert" in (tmp_path / "acn" / "README.md").read_text()


def test_convert_over_another_checkpoint_leaves_nothing_of_it(run, checkpoint, residual, pictures, tmp_path):
    out = tmp_path / "short"
    run("compress", checkpoint, pictures, out, "--tolerance", 1)
    assert "must be empty" in wrong_usage(run("convert", residual, out))
    assert run("convert", residual, out, "--overwrite").exit_code == 0
    assert not {"result.json", "depth_profile.json", "depth_profile.png"} & names_in(out)
    assert type(load_model(out)).__name__ == "AcnBertForSequenceClassification"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--residual-scale", "2"), "residual_scale must lie in [0, 1]; got 2.0"),
        (("--residual-scale", "1,0"), "residual_scale must hold one number for each of the 3 layers; got 2"),
        (("--architecture", "GPT2LMHeadModel"), "got GPT2LMHeadModel"),
    ],
    ids=str,
)
def test_what_cannot_be_converted_is_one_line(run, residual, tmp_path, options, text):
    assert text in one_line(run("convert", residual, tmp_path / "acn", *options))
    assert not (tmp_path / "acn").exists()


def test_checkpoints_that_cannot_be_converted_are_one_line(run, checkpoint, gpt2, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "can be converted" in one_line(run("convert", gpt2, tmp_path / "acn"))
    assert "holds an ACN already, an AcnViTForImageClassification" in one_line(
        run("convert", checkpoint, tmp_path / "acn")
    )
    assert "is a file" in one_line(run("convert", tmp_path / "file", tmp_path / "acn"))
    one_line(run("convert", tmp_path / "missing", tmp_path / "acn"))
    assert not (tmp_path / "acn").exists()


def test_scales_that_are_no_numbers_are_wrong_usage(run, residual, tmp_path):
    text = wrong_usage(run("convert", residual, tmp_path / "acn", "--residual-scale", "much"))
    assert "must be a number or numbers between commas; got 'much'" in text
    assert "readout" in wrong_usage(run("convert", residual, tmp_path / "acn", "--readout", "mean"))


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_residual_checkpoint_that_is_not_whole_is_one_line(run, residual, tmp_path, kind):
    damage(residual, kind)
    one_line(run("convert", residual, tmp_path / "acn"))
    assert not (tmp_path / "acn").exists()


# --- profile and compress of what is converted on the way


def test_a_residual_network_is_cut_as_it_is(run, residual, reviews, tmp_path):
    result = run("compress", residual, reviews, tmp_path / "out", "--convert", "--depth", 2)
    assert result.exit_code == 0, result.output
    original = BertForSequenceClassification.from_pretrained(residual)
    plain = BertForSequenceClassification.from_pretrained(residual, num_hidden_layers=2)
    short = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        assert torch.equal(short(**CLASSIFIER.inputs()).logits, plain(**CLASSIFIER.inputs()).logits)
        assert not torch.equal(short(**CLASSIFIER.inputs()).logits, original(**CLASSIFIER.inputs()).logits)
    assert f"The first 2 of {NUM_LAYERS} layers of a residual network" in (tmp_path / "out" / "README.md").read_text()


def test_a_profile_of_a_residual_network(run, residual, reviews):
    result = run("profile", residual, reviews, "--convert", "--residual-scale", "0.5", "--metric", "loss")
    assert result.exit_code == 0, result.output
    assert f"of {NUM_LAYERS} (tolerance 0.005)" in result.output
    plain = run("profile", residual, reviews, "--convert", "--metric", "loss")
    assert plain.exit_code == 0
    assert plain.output != result.output


def test_what_needs_no_conversion_is_one_line(run, checkpoint, gpt2, build, pictures, tmp_path):
    assert "is an ACN already, acn_vit" in one_line(run("profile", checkpoint, pictures, "--convert"))
    assert "got GPT2LMHeadModel" in one_line(run("profile", gpt2, pictures, "--convert"))
    assert "must hold the tokenizer of the model" in one_line(run("profile", gpt2, pictures))
    bert = BASES[0].build_upstream(build(BASES[0]))
    assert type(bert) is BertModel
    bert.save_pretrained(tmp_path / "bert")
    assert "must hold a model with a head" in one_line(run("profile", tmp_path / "bert", pictures, "--convert"))
    text = wrong_usage(run("profile", checkpoint, pictures, "--residual-scale", 1))
    assert "--residual-scale is for --convert, which must be given too" in text


def test_a_model_without_a_head_or_without_its_weights_is_refused(build, tmp_path):
    build(BASES[0]).save_pretrained(tmp_path / "base")
    with pytest.raises(NotAnAcnError, match="must hold a model with a head; it was saved as AcnBertModel"):
        load_model(tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config["architectures"] = ["AcnBertForSequenceClassification"]
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    with pytest.raises(NotAnAcnError, match=r"it lacks 2, which would stay random: classifier\.bias, classifier\.weig"):
        load_model(tmp_path / "base")
    config["architectures"] = ["AcnBertForSomething"]
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    with pytest.raises(NotAnAcnError, match="must say the class that it was saved as; it says AcnBertForSomething"):
        load_model(tmp_path / "base")


@each_head(HEADS)
def test_every_whole_checkpoint_is_loaded(build, head, tmp_path):
    model = build(head)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, needs_head=False)
    with torch.no_grad():
        assert torch.equal(loaded(**head.inputs())[0], model(**head.inputs())[0])


# --- a source that is the target


@pytest.mark.parametrize("spelling", ["plain", "dotted", "link"])
def test_a_checkpoint_is_not_written_over_itself(run, checkpoint, pictures, tmp_path, spelling):
    (tmp_path / "link").symlink_to(checkpoint)
    same = {"plain": checkpoint, "dotted": tmp_path / "images" / ".." / "model", "link": tmp_path / "link"}[spelling]
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    for command in (("convert", checkpoint), ("compress", checkpoint, pictures), ("export", checkpoint)):
        text = wrong_usage(run(*command, same, "--overwrite"))
        assert "the target must be another folder than the source" in text
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before


def test_a_checkpoint_is_not_converted_onto_itself(residual, files, monkeypatch):
    before = files(residual)
    monkeypatch.chdir(residual.parent)
    with pytest.raises(ConversionError, match="a converted model must lie beside what it was converted from"):
        convert_checkpoint(residual, residual.name)
    assert files(residual) == before


# --- bench


def test_bench_measures_every_depth(run, checkpoint, build, tmp_path):
    result = run("bench", checkpoint, "--repeats", 2, "--warmup", 0, "--batch-size", 3, "--out", tmp_path / "c.json")
    assert result.exit_code == 0, result.output
    cost = DepthCost.load(tmp_path / "c.json")
    assert cost.depths == tuple(range(NUM_LAYERS + 1))
    assert {one.batch_size for one in cost.costs} == {3}
    assert cost.costs[1].num_parameters == truncate(build(IMAGES), 1).num_parameters()
    assert str(cost).splitlines()[0].strip() in result.output
    again = ("bench", checkpoint, "--repeats", 2, "--depth", 1, "--out", tmp_path / "c.json")
    assert "is there already" in wrong_usage(run(*again))
    assert run(*again, "--overwrite").exit_code == 0
    assert DepthCost.load(tmp_path / "c.json").depths == (1, NUM_LAYERS)


def test_bench_of_a_residual_network_and_of_another_precision(run, residual, tmp_path):
    options = ("--convert", "--sequence-length", 5, "--dtype", "bfloat16", "--repeats", 2)
    result = run("bench", residual, *options, "--out", tmp_path / "c.json")
    assert result.exit_code == 0, result.output
    cost = DepthCost.load(tmp_path / "c.json")
    assert (cost.sequence_length, cost.costs[0].dtype) == (5, "bfloat16")


def test_what_cannot_be_measured_is_refused(run, checkpoint, residual, gpt2, tmp_path):
    assert "got 4" in one_line(run("bench", checkpoint, "--depth", 4))
    assert "sequence_length is for models of text; got 8" in one_line(run("bench", checkpoint, "--sequence-length", 8))
    assert "must lie in [1, 16]" in one_line(run("bench", residual, "--convert", "--sequence-length", 17))
    assert "repeats" in wrong_usage(run("bench", checkpoint, "--repeats", 1))
    assert "is a folder" in wrong_usage(run("bench", checkpoint, "--out", tmp_path))
