"""Every model of transformers has depth: read from one pass, cut, and saved, it is the same, bit for bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

import acn_hf
from acn_hf import DepthError, depth_logits, save_truncated, truncate
from acn_hf.depth import depth_outputs
from acn_hf.depth.layers import layers_of
from tests.support.any_models import ALL, BODY, IMAGES, NUM_LAYERS, TEXT, TOWERS, AnyModel, any_model, texts

READER = Path(__file__).parents[1] / "support" / "plain_reader.py"
each_model = pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.name)


def first(model, inputs):
    with torch.no_grad():
        return model(**inputs)[0]


@each_model
def test_what_is_read_is_what_the_cut_model_computes(entry):
    model, inputs = entry.build(), entry.inputs()
    with torch.no_grad():
        read = {depth: output[0] for depth, output in depth_outputs(model, inputs)}
    assert sorted(read) == list(range(entry.lowest, NUM_LAYERS + 1))
    assert torch.equal(read[NUM_LAYERS], first(model, inputs))
    for depth in entry.depths:
        short = truncate(model, depth)
        assert type(short) is type(model)
        assert len(layers_of(short)) == depth
        assert torch.equal(read[depth], first(short, inputs))


@each_model
def test_the_model_is_left_as_it_was(entry):
    model, inputs = entry.build(), entry.inputs()
    before, config, modules = first(model, inputs), model.config.to_dict(), dict(model.named_modules())
    own = {path: set(vars(module)) | set(module._forward_hooks) for path, module in modules.items()}
    with torch.no_grad():
        list(depth_outputs(model, inputs))
    truncate(model, 1)
    assert torch.equal(before, first(model, inputs))
    assert model.config.to_dict() == config
    assert dict(model.named_modules()) == modules
    assert {path: set(vars(module)) | set(module._forward_hooks) for path, module in modules.items()} == own


def test_a_cut_model_shares_nothing():
    model = any_model("BertForSequenceClassification").build()
    short = truncate(model, 2)
    assert not {weight.data_ptr() for weight in model.parameters()} & {w.data_ptr() for w in short.parameters()}
    configs = {id(module.config) for module in short.modules() if hasattr(module, "config")}
    assert configs == {id(short.config)}
    assert short.config.num_hidden_layers == 2


@pytest.fixture(scope="module")
def read_elsewhere(tmp_path_factory):
    """Return what a process without acn_hf says of each model, cut to 2 layers and saved; and what it should say."""
    folder, jobs, expected = tmp_path_factory.mktemp("plain"), [], {}
    for entry in ALL:
        model, inputs = entry.build(), entry.inputs()
        save_truncated(model, folder / entry.name, 2)
        expected[entry.name] = first(truncate(model, 2), inputs)
        jobs.append(
            {"name": entry.name, "folder": str(folder / entry.name), "reader": entry.reader, "inputs": entry.inputs()}
        )
    torch.save(jobs, folder / "jobs.pt")
    command = [sys.executable, str(READER), str(folder / "jobs.pt"), str(folder / "answers")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads((folder / "answers.json").read_text())
    return {"told": told, "outputs": load_file(folder / "answers.safetensors"), "expected": expected}


@pytest.mark.slow
@each_model
def test_upstream_alone_reads_what_was_cut(read_elsewhere, entry):
    told = read_elsewhere["told"][entry.name]
    assert (told["class"], told["module"]) == (entry.name, "transformers")
    assert told["not in order"] == {}
    assert not [name for name in told["layers"] if name in ("auto_map", "original_num_hidden_layers", "residual_scale")]
    assert torch.equal(read_elsewhere["outputs"][entry.name], read_elsewhere["expected"][entry.name])


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "LlamaForCausalLM", "Dinov2ForImageClassification"])
def test_gradients_at_a_depth_are_those_of_the_cut_model(name):
    entry = any_model(name)
    model, inputs = entry.build(), entry.inputs()
    for depth, output in depth_outputs(model, inputs, [1, 2]):
        model.zero_grad()
        output[0].square().mean().backward(retain_graph=True)
        short = truncate(model, depth)
        short(**inputs)[0].square().mean().backward()
        learned = dict(model.named_parameters())
        for path, weight in short.named_parameters():
            if weight.grad is None:
                assert learned[path].grad is None
            else:
                torch.testing.assert_close(learned[path].grad, weight.grad, rtol=1e-5, atol=1e-7)


def test_a_depth_does_not_pay_for_the_embeddings_again(monkeypatch):
    entry, passes = any_model("BertForSequenceClassification"), []
    model = entry.build()
    inputs = entry.inputs()
    depth_logits(model, **inputs)  # the check of the class is made
    forward = transformers.models.bert.modeling_bert.BertEmbeddings.forward
    monkeypatch.setattr(
        transformers.models.bert.modeling_bert.BertEmbeddings,
        "forward",
        lambda self, *args, **kwargs: passes.append(1) or forward(self, *args, **kwargs),
    )
    assert depth_logits(model, **inputs).shape == (NUM_LAYERS + 1, 3, 2)
    assert len(passes) == 1


def test_the_class_is_checked_once():
    entry = any_model("RobertaForSequenceClassification")
    model, passes = entry.build(hidden_size=64), []
    layers_of(model)[0].register_forward_hook(lambda *_: passes.append(1))
    for number in (3, 1, 1):  # the pass that is read, and the one of the cut model, and the pass itself
        passes.clear()
        depth_logits(model, **entry.inputs())
        assert len(passes) == number


REFUSED = {
    "AlbertForSequenceClassification": (
        {**TEXT, "embedding_size": 16},
        "one list of as many layers .* AlbertForSequenceClassification has none",
    ),
    "SwinForImageClassification": (
        {"image_size": 32, "embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2], "window_size": 2},
        "are not a plain stack|does not run with its first",
    ),
    "T5ForConditionalGeneration": (
        {"d_model": 32, "num_layers": 3, "num_heads": 2, "d_ff": 32, "d_kv": 16, "vocab_size": 60},
        r"T5ForConditionalGeneration has 2: encoder\.block, decoder\.block",
    ),
    "BartForSequenceClassification": (
        {
            **{f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")},
            "d_model": 32,
            "vocab_size": 60,
        },
        r"has 2: model\.encoder\.layers, model\.decoder\.layers",
    ),
    "CLIPModel": (TOWERS, r"CLIPModel has 2: text_model\.encoder\.layers, vision_model\.encoder\.layers"),
    "DebertaV2ForSequenceClassification": (
        {**TEXT, "conv_kernel_size": 3, "type_vocab_size": 0, "relative_attention": True, "pos_att_type": ["p2c"]},
        "not a plain stack: at depth 3 of 4, .* Something happens between its layers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_plain_stack_is_refused(name):
    fields, text = REFUSED[name]
    model = AnyModel(name, fields).build()
    inputs = texts() if model.main_input_name == "input_ids" else {"pixel_values": torch.zeros(1, 3, 32, 32)}
    with pytest.raises(DepthError, match=text):
        depth_logits(model, **inputs)
    with pytest.raises(DepthError, match=text):
        truncate(model, 1)


class Encoder(torch.nn.Module):
    """A stack of linear layers that run in a given order."""

    def __init__(self, config):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(config.num_hidden_layers))

    def forward(self, states, order):
        for index in order(range(len(self.layers))):
            states = self.layers[index](states)
        return states


class Ordered(transformers.PreTrainedModel):
    """A model whose forward runs its layers in an order of its own."""

    config_class = transformers.BertConfig

    def __init__(self, config, order=iter):
        super().__init__(config)
        self.encoder, self.order = Encoder(config), order
        self.post_init()

    def forward(self, input_ids, **kwargs):
        states = self.encoder(input_ids.float().unsqueeze(-1).expand(-1, -1, 4), self.order)
        return transformers.modeling_outputs.BaseModelOutput(last_hidden_state=states)


@pytest.mark.parametrize(
    ("order", "text"),
    [
        (reversed, "must run once each, one after the other; layer 4 ran when 0 layers had run"),
        (lambda layers: [*layers, *layers], "must run once each, one after the other; layer 1 ran when 4 layers had"),
        (lambda layers: layers[1:], "must run once each, one after the other; layer 2 ran when 0 layers had run"),
        (lambda layers: layers[:-1], "each of the first 4 layers of Ordered must run once; 3 did"),
    ],
    ids=["backwards", "twice", "not-the-first", "not-the-last"],
)
def test_layers_in_another_order_are_refused(order, text):
    model = Ordered(transformers.BertConfig(**TEXT, initializer_range=len(text) / 1000), order).eval()
    with pytest.raises(DepthError, match=text):
        list(depth_outputs(model, {"input_ids": texts()["input_ids"]}))


def test_a_list_of_layers_that_is_too_short_is_refused():
    model = any_model("Gemma3ForCausalLM").build()
    model.config.layer_types = model.config.layer_types[:2]
    with pytest.raises(DepthError, match="layer_types must hold one entry for each of the 4 layers; got 2"):
        truncate(model, 3)


def test_every_list_with_an_entry_a_layer_is_cut_and_no_other():
    entry = any_model("Gemma3ForCausalLM")
    model = entry.build(id2label={0: "a", 1: "b", 2: "c", 3: "d"})
    model.config.suppress_tokens = [7, 8, 9, 10]  # as many as layers, and nothing of layers
    short = truncate(model, 2)
    assert short.config.layer_types == model.config.layer_types[:2]
    assert short.config.suppress_tokens == [7, 8, 9, 10]
    assert len(short.config.id2label) == 4


def test_backbones_keep_the_stages_that_are_left():
    model = AnyModel("Dinov2Backbone", {**BODY, **IMAGES, "out_features": ["stage1", "stage4"]}).build()
    short = truncate(model, 2)
    assert short.config.stage_names == ["stem", "stage1", "stage2"]
    assert (short.config.out_features, short.config.out_indices) == (["stage1"], [1])


def test_lists_that_are_as_long_by_chance_are_not_taken_for_layers():
    entry = any_model("Wav2Vec2ForSequenceClassification")
    model = entry.build(feat_extract_norm="layer", num_hidden_layers=2)
    assert len(model.wav2vec2.feature_extractor.conv_layers) == 2
    assert layers_of(model) is model.wav2vec2.encoder.layers
    assert depth_logits(model, **entry.inputs()).shape[0] == 3


def test_what_upstream_cannot_do_with_fewer_layers_is_refused():
    fields = {"hidden_size": 32, "vocab_size": 60, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    model = AnyModel("ProphetNetForCausalLM", fields).build()
    with pytest.raises(DepthError, match="a ProphetNetConfig must take any number of layers as num_hidden_layers"):
        depth_logits(model, input_ids=texts()["input_ids"])


@pytest.mark.parametrize("depth", [-1, 5, 1.5, True, "2"])
def test_depths_that_a_model_does_not_have(depth):
    model = any_model("BertForSequenceClassification").build()
    with pytest.raises(DepthError, match=r"depth must (lie in|be a whole number in) \[0, 4\]"):
        truncate(model, depth)
    with pytest.raises(DepthError, match=r"depth must (lie in|be a whole number in) \[0, 4\]"):
        list(depth_outputs(model, texts(), [depth]))


def test_a_class_that_needs_a_layer_says_so():
    model = any_model("ModernBertForSequenceClassification").build()
    with pytest.raises(DepthError, match=r"depth must lie in \[1, 4\] for ModernBertForSequenceClassification"):
        list(depth_outputs(model, texts(), [0, 1]))


def test_a_profile_a_cost_and_a_short_model_of_an_upstream_class():
    entry = any_model("BertForSequenceClassification")
    model = entry.build()
    batches = [{**entry.inputs(), "labels": torch.tensor([0, 1, 1])}]
    profile = acn_hf.measure_depth_profile(model, batches, metric="loss")
    for depth in range(NUM_LAYERS + 1):
        assert (
            acn_hf.measure_depth_profile(truncate(model, depth), batches, metric="loss").values[-1]
            == (profile.values[depth])
        )
        assert profile.num_parameters[depth] == truncate(model, depth).num_parameters()
    result = acn_hf.compress(model, batches, depth=2)
    assert type(result.model) is transformers.BertForSequenceClassification
    assert torch.equal(first(result.model, entry.inputs()), depth_logits(model, **entry.inputs())[2])
    cost = acn_hf.measure_depth_cost(model, depths=[2], repeats=2, warmup=0)
    assert cost.costs[0].flops == acn_hf.measure_cost(truncate(model, 2), repeats=2, warmup=0).flops
