"""Causal language models at every depth: their metrics count tokens, and caches are neither filled nor read twice."""

import copy
import inspect

import pytest
import torch
import transformers

from acn_hf import depth_logits, measure_depth_profile, save_truncated, truncate
from acn_hf.depth import depth_outputs
from acn_hf.depth.layers import layers_of
from acn_hf.depth.predicted_labels import predicts_next_token
from tests.support.any_models import NUM_LAYERS, AnyModel, any_model, texts

CAUSAL = [
    any_model("GPT2LMHeadModel"),
    any_model("LlamaForCausalLM"),
    any_model("Qwen3ForCausalLM"),
    AnyModel("Gemma3ForCausalLM", {**any_model("Gemma3ForCausalLM").fields, "sliding_window": 4}),
]
each_model = pytest.mark.parametrize("entry", CAUSAL, ids=lambda entry: entry.name)


class Poet(transformers.LlamaForCausalLM):
    """A class of a user's, whose name says nothing."""


class Novelist(transformers.GPT2LMHeadModel):
    """Another, of a class whose name says nothing either."""


def labelled_batches():
    """Return batches of several lengths: padded on both sides, of one text, and with beginnings that do not count."""
    padded = texts()
    padded["labels"] = padded["input_ids"].masked_fill(padded["attention_mask"] == 0, -100)
    ids = torch.randint(5, 50, (4, 7), generator=torch.Generator().manual_seed(1))
    answers = ids.clone()
    answers[0, :5] = answers[1, :1] = answers[2, 3] = answers[3] = -100
    return [
        padded,
        {"input_ids": ids[:1, :3], "labels": ids[:1, :3]},
        {"input_ids": ids[1:2, :2], "labels": answers[:1, :2]},  # nothing counts
        {"input_ids": ids, "labels": answers},
    ]


def token_by_token(model, batches):
    """Return mean loss and accuracy over all tokens that are predicted, added up one by one."""
    losses, hits = [], []
    for batch in batches:
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"], attention_mask=batch.get("attention_mask")).logits
        for row, labels in zip(logits.double().log_softmax(dim=-1), batch["labels"], strict=True):
            for place in range(len(labels) - 1):
                if labels[place + 1] != -100:
                    losses.append(-row[place, labels[place + 1]].item())
                    hits.append(bool(row[place].argmax() == labels[place + 1]))
    return sum(losses) / len(losses), sum(hits) / len(hits)


@each_model
def test_metrics_are_those_of_all_predicted_tokens(entry):
    model, batches = entry.build(initializer_range=0.3), labelled_batches()
    profiles = {
        metric: measure_depth_profile(model, batches, metric=metric) for metric in ("loss", "perplexity", "accuracy")
    }
    for depth in range(NUM_LAYERS + 1):
        loss, accuracy = token_by_token(truncate(model, depth), batches)
        assert profiles["loss"].values[depth] == pytest.approx(loss, rel=1e-5)
        assert profiles["perplexity"].values[depth] == pytest.approx(torch.tensor(loss).exp().item(), rel=1e-4)
        assert profiles["accuracy"].values[depth] == accuracy
    assert len({*profiles["loss"].values}) == NUM_LAYERS + 1


def test_batches_do_not_matter():
    model, whole = any_model("LlamaForCausalLM").build(), labelled_batches()[0]
    one_by_one = [{name: value[row : row + 1] for name, value in whole.items()} for row in range(3)]
    together, apart = (measure_depth_profile(model, data, metric="loss") for data in ([whole], one_by_one))
    assert apart.values == pytest.approx(together.values, rel=1e-6)


def test_what_predicts_the_next_token():
    small = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32}
    llama = transformers.LlamaConfig(**small, vocab_size=60)
    gpt2 = transformers.GPT2Config(n_embd=32, n_head=2, n_layer=1, vocab_size=60)
    bert = transformers.BertConfig(**small, vocab_size=60)
    t5 = transformers.T5Config(d_model=32, num_layers=1, num_heads=2, d_ff=32, d_kv=16, vocab_size=60)
    for model_class, config in (
        (transformers.LlamaForCausalLM, llama),
        (Poet, llama),
        (transformers.GPT2LMHeadModel, gpt2),
        (Novelist, gpt2),
        (transformers.BertLMHeadModel, transformers.BertConfig(**small, vocab_size=60, is_decoder=True)),
    ):
        assert predicts_next_token(model_class(config)), model_class
    for model_class, config in (
        (transformers.BertForMaskedLM, bert),
        (transformers.BertForPreTraining, bert),
        (transformers.BertForTokenClassification, bert),
        (transformers.GPT2ForSequenceClassification, gpt2),
        (transformers.LlamaForTokenClassification, llama),
        (transformers.T5ForConditionalGeneration, t5),
    ):
        assert not predicts_next_token(model_class(config)), model_class


@pytest.mark.parametrize("name", ["XLMRobertaForMaskedLM", "BertForTokenClassification"])
def test_where_labels_stand_in_their_places_all_of_them_count(name):
    model = any_model(name).build(initializer_range=0.3)
    batches = [{**batch, "labels": batch["labels"] % 2} for batch in labelled_batches()[1:2]]
    with torch.no_grad():
        logits = model(input_ids=batches[0]["input_ids"]).logits
    hits = (logits.argmax(dim=-1) == batches[0]["labels"]).double().mean().item()
    assert measure_depth_profile(model, batches).values[-1] == pytest.approx(hits)


def sizes(cache):
    """Return how many tokens each layer of a cache holds."""
    return [0 if layer.keys is None else layer.keys.shape[-2] for layer in cache.layers]


@each_model
def test_reading_fills_no_cache(entry, monkeypatch):
    model, inputs = entry.build(), entry.inputs()
    plain = depth_logits(model, **inputs)  # the class is checked, in passes of the model itself
    filled = []
    for cache_class in (transformers.DynamicCache, transformers.StaticCache):
        monkeypatch.setattr(cache_class, "update", lambda *args, **kwargs: filled.append(args))
    for options in ({}, {"use_cache": True}, {"use_cache": False}):
        outputs = [output for _, output in depth_outputs(model, {**inputs, **options})]
        assert torch.equal(torch.stack([output.logits for output in outputs]), plain)
        assert not any(isinstance(value, transformers.Cache) for output in outputs for value in output.values())
    assert not filled
    assert model.config.use_cache


CACHE = "cache" if "cache" in inspect.signature(transformers.LlamaForCausalLM.forward).parameters else "past_key_values"
"""What this version of transformers calls the argument."""


@each_model
@pytest.mark.parametrize("seen", [False, True], ids=["new_to_us", "seen"])
def test_a_cache_is_read_at_every_depth_and_left_as_it_is(entry, seen):
    model, ids = entry.build(initializer_range=0.02 + 0.001 * seen), entry.inputs()["input_ids"][:1]
    if seen:
        depth_logits(model, input_ids=ids)
    with torch.no_grad():
        cache = model(ids[:, :6], use_cache=True)[1]
        before = sizes(cache)
        read = list(depth_outputs(model, {"input_ids": ids[:, 6:8], CACHE: cache}))
        assert sizes(cache) == before
        for depth, output in read:
            cut = truncate(model, depth)(ids[:, 6:8], **{CACHE: copy.deepcopy(cache)})
            assert torch.equal(output.logits, cut.logits)
    assert len(read) == NUM_LAYERS + 1


def greedy(model, **options):
    """Return the tokens that a model adds to a prompt."""
    prompt = texts()["input_ids"][:1, :6]
    chosen = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 10, "do_sample": False, **options}
    return model.generate(prompt, **chosen)[0].tolist()


def endless(entry):
    """Return a model that never ends a text by itself, and whose tokens differ."""
    return entry.build(eos_token_id=None, bos_token_id=None, initializer_range=0.3)


@each_model
def test_a_cut_model_generates_with_every_cache(entry, tmp_path):
    model = endless(entry)
    short = truncate(model, 2)
    expected = greedy(short, use_cache=False)
    assert greedy(short, use_cache=True) == expected
    assert greedy(short, cache_implementation="static") == expected
    save_truncated(model, tmp_path, 2)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert greedy(again) == expected
    assert len(expected) == 16
    assert expected != greedy(model)


@each_model
def test_a_cut_model_drafts_for_the_whole_one(entry):
    model = endless(entry)
    assert greedy(model, assistant_model=truncate(model, 2)) == greedy(model)


@pytest.mark.parametrize("entry", CAUSAL[1:], ids=lambda entry: entry.name)
@pytest.mark.parametrize("depth", [1, 3])
def test_the_first_layers_draft_for_all(entry, depth):
    model, runs = endless(entry), [0] * NUM_LAYERS
    expected = greedy(model)
    for index, layer in enumerate(layers_of(model)):

        def count(*_, index=index):
            runs[index] += 1

        layer.register_forward_hook(count)
    assert greedy(model, assistant_early_exit=depth) == expected
    assert len(set(runs[:depth])) == len(set(runs[depth:])) == 1
    assert runs[0] > runs[-1] > 0
    assert model.config.num_hidden_layers == NUM_LAYERS
