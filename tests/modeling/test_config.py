"""The configs: what they accept, what they refuse and with which words, and that they keep what the user said."""

import json

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, BertConfig, DeiTConfig, ViTConfig

from acn_hf import AcnBertConfig, AcnBertModel, AcnDeiTConfig, AcnDeiTModel, AcnViTConfig, AcnViTModel, truncate
from acn_hf.modeling.configuration_acn import NOT_UPSTREAM
from tests.support.families import BASES, by_name, each_head

NAN, INFINITE = float("nan"), float("inf")
RANGE, LENGTH = r"residual_scale must lie in \[0, 1\]; got {}", "one number for each of the 3 layers; got {}"
TYPE = "'residual_scale' with value {} doesn't match any type"

REFUSED_SCALES = [
    (-0.1, RANGE.format("-0.1")),
    (1.5, RANGE.format("1.5")),
    (2, RANGE.format("2")),
    (NAN, RANGE.format("nan")),
    (INFINITE, RANGE.format("inf")),
    (-INFINITE, RANGE.format("-inf")),
    ([0.0, 2.0, 0.0], RANGE.format("2.0")),
    ([0.0, NAN, 0.0], RANGE.format("nan")),
    ([0.0, 1.0], LENGTH.format(r"2: \[0.0, 1.0\]")),
    ([0.0] * 4, LENGTH.format(r"4: \[0.0, 0.0, 0.0, 0.0\]")),
    ([], LENGTH.format(r"0: \[\]")),
    ("0.5", TYPE.format("'0.5'")),
    (True, TYPE.format("True")),
    (None, TYPE.format("None")),
    ([[0.0], [0.0], [0.0]], TYPE.format(r"\[\[0.0\], \[0.0\], \[0.0\]\]")),
    ([0.0, True, 0.0], TYPE.format(r"\[0.0, True, 0.0\]")),
    ([0.0, "1", 0.0], TYPE.format(r"\[0.0, '1', 0.0\]")),
]
REFUSED_FIELDS = [
    ("num_hidden_layers", -1, "num_hidden_layers must be a whole number >= 0; got -1"),
    ("num_hidden_layers", 2.5, "'num_hidden_layers' expected int, got float .*2.5"),
    ("num_hidden_layers", "3", "'num_hidden_layers' expected int, got str .*'3'"),
    ("num_hidden_layers", True, "'num_hidden_layers' expected int, got bool .*True"),
    ("readout", "mean", r"'readout' expected one of \('auto', 'sum'\), got mean"),
    ("attention_residual", "yes", "'attention_residual' expected bool, got str .*'yes'"),
    ("learn_residual_scale", 1, "'learn_residual_scale' expected bool, got int .*1"),
    ("original_num_hidden_layers", 2.5, "'original_num_hidden_layers' with value 2.5 doesn't match"),
]


@pytest.mark.parametrize(("scale", "text"), REFUSED_SCALES, ids=[repr(scale) for scale, _ in REFUSED_SCALES])
@each_head(BASES)
def test_refused_residual_scales(head, scale, text):
    with pytest.raises(StrictDataclassError, match=text):
        head.config(residual_scale=scale)


@pytest.mark.parametrize(("scale", "text"), REFUSED_SCALES, ids=[repr(scale) for scale, _ in REFUSED_SCALES])
@each_head(BASES)
def test_no_model_is_built_from_a_config_that_was_set_to_a_refused_scale(head, scale, text):
    def set_and_build():
        config = head.config()
        config.residual_scale = scale
        head.acn(config)

    with pytest.raises(StrictDataclassError, match=text):
        set_and_build()


@pytest.mark.parametrize(("name", "value", "text"), REFUSED_FIELDS)
@each_head(BASES)
def test_refused_fields(head, name, value, text):
    with pytest.raises(StrictDataclassError, match=text):
        head.config(**{name: value})


@pytest.mark.parametrize("field", ["is_decoder", "add_cross_attention"])
def test_bert_refuses_to_be_a_decoder(field):
    with pytest.raises(StrictDataclassError, match=f"AC-BERT is an encoder: .*{field}=True"):
        AcnBertConfig(**{field: True})


@pytest.mark.parametrize("kind", [AcnBertConfig, AcnViTConfig])
def test_an_unknown_pooling_is_refused(kind):
    with pytest.raises(StrictDataclassError, match=r"'pooling' expected one of \('cls', 'mean'\), got max"):
        kind(pooling="max")


@pytest.mark.parametrize("scale", [0, 1, 0.0, 0.5, 1.0, [0, 1, 0.5], [0.0, 0.5, 1.0]], ids=repr)
@each_head(BASES)
def test_a_config_keeps_the_scale_as_it_was_said(head, scale, tmp_path):
    head.config(residual_scale=scale).save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is head.acn.config_class
    assert loaded.residual_scale == scale


@pytest.mark.parametrize(
    ("ours", "upstream"), [(AcnBertConfig, BertConfig), (AcnViTConfig, ViTConfig), (AcnDeiTConfig, DeiTConfig)]
)
def test_upstream_fields_keep_their_defaults(ours, upstream):
    changed = {"model_type", "use_cache", "architectures"}
    theirs = {name: value for name, value in upstream().to_dict().items() if name not in changed}
    assert {name: value for name, value in ours().to_dict().items() if name in theirs} == theirs


@pytest.mark.parametrize("config_class", [AcnBertConfig, AcnViTConfig, AcnDeiTConfig])
def test_the_default_is_the_network_of_the_paper(config_class):
    config = config_class()
    assert (config.residual_scale, config.readout, config.learn_residual_scale) == (0.0, "auto", False)
    assert config.original_num_hidden_layers is None


def test_a_cut_config_remembers_the_first_depth_and_cuts_the_list():
    model = by_name("bert-Model").build(residual_scale=[0.0, 0.5, 1.0])
    short = truncate(truncate(model, 2), 1).config
    assert (short.num_hidden_layers, short.original_num_hidden_layers, short.residual_scale) == (1, 3, [0.0])
    assert truncate(model, 3).config.original_num_hidden_layers is None


@pytest.mark.parametrize("depth", [0, 1, 3])
@each_head(BASES)
def test_a_loaded_prefix_has_the_config_of_the_truncated_model(build, head, depth, tmp_path):
    model = build(head, residual_scale=[0.0, 0.5, 1.0])
    model.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path, num_hidden_layers=depth)
    assert loaded.to_diff_dict() == truncate(model, depth).config.to_diff_dict()


@pytest.mark.parametrize("value", [-1, 2.5, "3", True], ids=repr)
@each_head(BASES)
def test_refused_overrides_of_the_depth(build, head, value, tmp_path):
    build(head).save_pretrained(tmp_path)
    with pytest.raises(StrictDataclassError, match="num_hidden_layers"):
        head.acn.from_pretrained(tmp_path, num_hidden_layers=value)


@each_head(BASES)
def test_only_what_differs_from_a_default_and_no_derived_value_is_stored(head, tmp_path):
    config = head.config()
    config.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    known = {*config.to_dict(), "auto_map", NOT_UPSTREAM}
    assert set(stored) <= known
    assert stored["model_type"] == config.model_type


def test_a_config_is_not_changed_by_the_model_it_makes():
    config = by_name("bert-Model").config(residual_scale=[0.0, 0.5, 1.0])
    before = config.to_dict()
    AcnBertModel(config)
    assert {name: config.to_dict()[name] for name in ("residual_scale", "num_hidden_layers")} == {
        name: before[name] for name in ("residual_scale", "num_hidden_layers")
    }


def test_the_attention_residual_is_on_where_it_was_measured_to_help():
    assert AcnBertConfig().attention_residual
    assert not AcnViTConfig().attention_residual
    assert not AcnDeiTConfig().attention_residual


@pytest.mark.parametrize(
    ("model_class", "config"),
    [(AcnBertModel, BertConfig()), (AcnViTModel, ViTConfig()), (AcnDeiTModel, DeiTConfig())],
    ids=["bert", "vit", "deit"],
)
def test_an_upstream_config_is_refused(model_class, config):
    with pytest.raises(
        TypeError, match=f"config must be an {model_class.config_class.__name__}; got {type(config).__name__}"
    ):
        model_class(config)
