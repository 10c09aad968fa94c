"""Every kind of adapter that peft has: cut with its layers, saved, and read where only these layers are."""

import copy

import peft
import pytest
import torch

from acn_hf import DepthError, LayerSheddingCallback, depth_logits, truncate
from acn_hf.depth.tuners import JOINT_TYPES
from acn_hf.support.wrappers import unwrap
from tests.support.adapted import any_peft, quiet
from tests.support.any_models import NUM_LAYERS, any_model
from tests.support.families import by_name

__all__ = ["any_peft"]
pytestmark = [
    quiet,
    pytest.mark.usefixtures("any_peft"),
    pytest.mark.filterwarnings("ignore"),  # each tuner warns of something of its own
]
TARGETS = ["query", "value"]
TOKENS = list(range(3, 20))
TOP_QUERY = "layer.3.attention.self.query"

LORA = {
    "LoRA": {},
    "LoRA, rank_pattern": {"rank_pattern": {TOP_QUERY: 4, "layer.0.attention.self.query": 3}},
    "LoRA, alpha_pattern": {"alpha_pattern": {TOP_QUERY: 4, "layer.1.attention.self.value": 3}},
    "LoRA, layers_to_transform": {"layers_to_transform": [0, 1, 3], "layers_pattern": "layer"},
    "LoRA, layer_replication": {"layer_replication": [(0, 2), (1, 4)]},
    "LoRA, DoRA": {"use_dora": True},
    "LoRA, rslora": {"use_rslora": True},
    "LoRA, biases": {"bias": "all"},
    "LoRA, pissa": {"init_lora_weights": "pissa"},
    "LoRA, tokens": {"trainable_token_indices": TOKENS},
    "LoRA, all-linear": {"target_modules": "all-linear"},
    "LoRA, pattern": {"target_modules": r".*layer\.\d\.attention\.self\.(query|value)"},
    "LoRA, parameters": {"target_modules": [], "target_parameters": ["query.weight", "value.weight"]},
    "LoRA, a parameter above": {"target_modules": ["value"], "target_parameters": [f"{TOP_QUERY}.weight"]},
    "LoRA, modules_to_save": {"modules_to_save": ["classifier", "layer.3.output.dense"]},
}
OTHERS = {
    "AdaLoRA": ("AdaLoraConfig", {"init_r": 4, "target_r": 2, "total_step": 10}),
    "AdaMSS": ("AdamssConfig", {}),
    "BEFT": ("BeftConfig", {}),
    "BOFT": ("BOFTConfig", {"boft_block_size": 4}),
    "C3A": ("C3AConfig", {"block_size": 4}),
    "DEFT": ("DeftConfig", {}),
    "DeLoRA": ("DeloraConfig", {"r": 2}),
    "FourierFT": ("FourierFTConfig", {"n_frequency": 5, "n_frequency_pattern": {TOP_QUERY: 7}}),
    "GLoRA": ("GloraConfig", {}),
    "GraLoRA": ("GraloraConfig", {"r": 4, "gralora_k": 2}),
    "HiRA": ("HiraConfig", {"r": 2}),
    "HRA": ("HRAConfig", {"r": 2}),
    "IA3": ("IA3Config", {"target_modules": ["key", "output.dense"], "feedforward_modules": ["output.dense"]}),
    "Lily": ("LilyConfig", {}),
    "LN tuning": ("LNTuningConfig", {"target_modules": ["LayerNorm"]}),
    "LoHa": ("LoHaConfig", {"r": 2, "rank_pattern": {TOP_QUERY: 3}}),
    "LoKr": ("LoKrConfig", {"r": 2}),
    "MiSS": ("MissConfig", {"r": 2}),
    "OFT": ("OFTConfig", {"oft_block_size": 4}),
    "OSF": ("OSFConfig", {}),
    "PEANuT": ("PeanutConfig", {}),
    "PSOFT": ("PsoftConfig", {}),
    "PVeRA": ("PveraConfig", {}),
    "RandLoRA": ("RandLoraConfig", {"r": 2}),
    "RoAd": ("RoadConfig", {"group_size": 4}),
    "SHiRA": ("ShiraConfig", {"r": 2}),
    "TinyLoRA": ("TinyLoraConfig", {}),
    "trainable tokens": ("TrainableTokensConfig", {"target_modules": ["word_embeddings"], "token_indices": TOKENS}),
    "UniLoRA, stored": ("UniLoraConfig", {"save_indices": True}),
    "VB-LoRA": ("VBLoRAConfig", {"r": 2, "num_vectors": 8, "vector_length": 4, "topk": 2}),
    "VeRA": ("VeraConfig", {"r": 2}),
    "WaveFT": ("WaveFTConfig", {"n_frequency": 5}),
}
CONFIGS = {name: ("LoraConfig", {"r": 2, **options}) for name, options in LORA.items()} | OTHERS
JOINT = {"FROD": "FrodConfig", "UNILORA": "UniLoraConfig"}
BUILDERS = {
    "plain": any_model("BertForSequenceClassification").build,
    "acn": lambda: (
        by_name("bert-ForSequenceClassification")
        .build(num_hidden_layers=NUM_LAYERS, hidden_size=32, intermediate_size=48)
        .eval()
    ),
}
ENTRIES = {"plain": any_model("BertForSequenceClassification"), "acn": by_name("bert-ForSequenceClassification")}
each_kind = pytest.mark.parametrize("kind", ["plain", pytest.param("acn", marks=pytest.mark.slow)])


def build(kind):
    torch.manual_seed(0)
    return BUILDERS[kind]()


def config_of(class_name, options):
    if not hasattr(peft, class_name):
        pytest.skip(f"this peft has no {class_name}")
    return getattr(peft, class_name)(**{"target_modules": TARGETS, **options})


def adapted(kind, config):
    """Return a model with an adapter in which everything that is trained is random."""
    model = peft.get_peft_model(build(kind), config).eval()
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def batch(kind):
    inputs = ENTRIES[kind].inputs()
    return {**inputs, "labels": torch.zeros(len(inputs["input_ids"]), dtype=torch.long)}


def allocate(model, kind, steps=range(10)):
    """Train an AdaLoRA so far that its budget is allocated."""
    for step in steps:
        model.zero_grad()
        model(**batch(kind)).loss.backward()
        model.base_model.update_and_allocate(step)
    return model


def logits(model, kind):
    with torch.no_grad():
        return model(**ENTRIES[kind].inputs()).logits


@each_kind
@pytest.mark.parametrize("name", CONFIGS)
def test_a_cut_adapter_computes_and_is_read_as_at_that_depth(kind, name, tmp_path):
    model = adapted(kind, config_of(*CONFIGS[name]))
    if name == "AdaLoRA":
        allocate(model, kind)
    whole = logits(model, kind)
    expected = depth_logits(model, **ENTRIES[kind].inputs())
    assert torch.equal(expected[-1], whole)
    assert not torch.equal(whole, logits(build(kind), kind))
    before = copy.deepcopy(model.peft_config)
    short = truncate(model, 2)
    assert torch.equal(logits(short, kind), expected[2])
    short.save_pretrained(tmp_path)
    assert model.peft_config == before
    again = peft.PeftModel.from_pretrained(truncate(build(kind), 2), tmp_path).eval()
    # Of an AdaLoRA whose budget was allocated, peft stores only the ranks that are left: the same sum, in fewer parts.
    rounding = 1e-5 if name == "AdaLoRA" else 0.0
    torch.testing.assert_close(logits(again, kind), expected[2], rtol=rounding, atol=rounding)
    assert torch.equal(logits(model, kind), whole)


@each_kind
@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in ("Lily", "LoRA, layer_replication")])
def test_what_it_learned_is_merged(kind, name):
    model = adapted(kind, config_of(*CONFIGS[name]))
    merged = truncate(model, 2, merge_adapter=True)
    assert type(merged) is type(build(kind))
    assert merged.state_dict().keys() == truncate(build(kind), 2).state_dict().keys()
    torch.testing.assert_close(logits(merged, kind), logits(truncate(model, 2), kind), rtol=1e-3, atol=1e-4)


@each_kind
@pytest.mark.parametrize("allocated", [2, 10])
def test_an_adalora_goes_on_with_the_layers_that_are_left(kind, allocated):
    config = config_of(*CONFIGS["AdaLoRA"])
    model = adapted(kind, config)
    config.tinit, config.tfinal, config.deltaT = 1, 2, 1
    allocate(model, kind, range(allocated))
    short = truncate(model, 2)
    held, allocator = short.peft_config["default"], short.base_model.rankallocator
    assert allocator.peft_config is held
    assert allocator.init_bgt == 4 * 2 * len(TARGETS)
    assert allocator.target_bgt == 2 * 2 * len(TARGETS)
    names = {name for name, _ in unwrap(short).named_parameters()}
    assert {*allocator.ipt, *allocator.exp_avg_ipt} <= names
    assert held.rank_pattern is None or set(held.rank_pattern) == {name for name in names if "lora_E" in name}
    allocate(short, kind, range(allocated, 12))
    ranks = [sum(pattern) for pattern in short.peft_config["default"].rank_pattern.values()]
    assert len(ranks) == 2 * len(TARGETS)
    assert sum(ranks) <= allocator.init_bgt
    assert model.base_model.rankallocator.init_bgt == 4 * NUM_LAYERS * len(TARGETS)


@each_kind
@pytest.mark.parametrize("joint", JOINT)
def test_what_belongs_to_all_layers_together_is_merged_or_refused(kind, joint):
    model = adapted(kind, config_of(JOINT[joint], {}))
    with pytest.raises(ValueError, match=rf"an adapter of type {joint} belongs to all of its layers together"):
        truncate(model, 2)
    assert torch.equal(logits(truncate(model, NUM_LAYERS), kind), logits(model, kind))
    merged = truncate(model, 2, merge_adapter=True)
    expected = depth_logits(model, **ENTRIES[kind].inputs())[2]
    torch.testing.assert_close(logits(merged, kind), expected, rtol=1e-4, atol=1e-4)
    assert set(JOINT) == JOINT_TYPES
    with pytest.raises(ValueError, match="belongs to all of its layers together"):
        LayerSheddingCallback([batch(kind)]).on_train_begin(None, None, None, model=model)


@each_kind
def test_replicated_layers_are_not_merged(kind):
    model = adapted(kind, config_of(*CONFIGS["LoRA, layer_replication"]))
    assert truncate(model, 3).peft_config["default"].layer_replication == [(0, 2), (1, 2)]
    assert truncate(model, 0).peft_config["default"].layer_replication is None
    with pytest.raises(ValueError, match="layers of layer_replication share their weights"):
        truncate(model, 2, merge_adapter=True)


@each_kind
@pytest.mark.parametrize("options", [{}, {"trainable_token_indices": TOKENS}], ids=["nothing else", "tokens"])
def test_an_adapter_of_layers_above_alone(kind, options, tmp_path):
    model = adapted(kind, config_of("LoraConfig", {"r": 2, "target_modules": [TOP_QUERY], **options}))
    expected = depth_logits(model, **ENTRIES[kind].inputs())[2]
    short = truncate(model, 2)
    assert torch.equal(logits(short, kind), expected)
    assert torch.equal(expected, logits(truncate(build(kind), 2), kind)) == (not options)
    short.save_pretrained(tmp_path)
    base = truncate(build(kind), 2)
    if kind == "acn":
        with pytest.raises(DepthError, match="the adapter is one for 0 layers and this model has 2"):
            peft.PeftModel.from_pretrained(base, tmp_path)
    else:
        assert torch.equal(logits(peft.PeftModel.from_pretrained(base, tmp_path).eval(), kind), expected)


@each_kind
@pytest.mark.parametrize(("class_name", "name"), [("PolyConfig", "POLY"), ("ShadowConfig", "SHADOW")])
def test_what_needs_a_pass_of_its_own_is_refused(kind, class_name, name):
    model = peft.get_peft_model(build(kind), config_of(class_name, {})).eval()
    for function in (lambda: depth_logits(model, **ENTRIES[kind].inputs()), lambda: truncate(model, 2)):
        with pytest.raises(TypeError, match=f"must be in the layers .*; one of type {name} needs a forward pass"):
            function()
