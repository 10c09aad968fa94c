"""A SentenceTransformer that is cut: what is saved and loaded is what was cut, and everything else is kept."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Router
from sentence_transformers.sentence_transformer.modules import BoW, Pooling, StaticEmbedding, WordEmbeddings
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPModel,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
)

import acn_hf
from acn_hf import AcnBertConfig, AcnBertModel, DepthError, truncate
from tests.support.adapted import any_peft, quiet, with_adapter, with_peft  # noqa: F401 (a fixture)
from tests.support.sentence_models import PROMPTS, SIZES, WORDS, sentence_model, texts, transformer_folder

TEXTS = texts(12)
READER = Path(__file__).parents[1] / "support" / "sentence_reader.py"


def modern():
    return ModernBertModel(
        ModernBertConfig(
            **SIZES, num_hidden_layers=3, pad_token_id=0, cls_token_id=2, sep_token_id=3, global_attn_every_n_layers=2
        )
    )


MODELS = {
    "mean": {},
    "cls-and-dense": {"pooling": "cls", "more": lambda: [Dense(16, 12)]},
    "final-norm": {"model": modern},
    "distilbert": {
        "model": lambda: DistilBertModel(
            DistilBertConfig(vocab_size=len(WORDS), dim=16, hidden_dim=32, n_heads=2, n_layers=3)
        )
    },
    "acn": {"model": lambda: AcnBertModel(AcnBertConfig(**SIZES, num_hidden_layers=3))},
}


def build(folder, name, **options):
    made = {key: value() if callable(value) else value for key, value in MODELS[name].items()}
    return sentence_model(folder, **made, **options)


def read_elsewhere(folder):
    """Return the embeddings that a process computes in which acn_hf cannot be imported."""
    command = [sys.executable, str(READER), str(folder), str(folder / "answers.npy"), *TEXTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(folder / "answers.npy")


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_is_what_was_cut(name, tmp_path):
    model = build(tmp_path / "long", name)
    before = model.encode(TEXTS)
    assert np.array_equal(truncate(model, 3).encode(TEXTS), before)
    short = truncate(model, 2)
    short.save_pretrained(str(tmp_path / "short"))
    loaded = SentenceTransformer(str(tmp_path / "short"), device="cpu")
    expected = short.encode(TEXTS)
    assert np.array_equal(loaded.encode(TEXTS), expected)
    assert not np.allclose(expected, before)
    assert np.array_equal(model.encode(TEXTS), before)


@pytest.mark.slow
def test_a_process_without_acn_hf_reads_it(tmp_path):
    short = truncate(build(tmp_path / "long", "cls-and-dense", prompts=PROMPTS, truncate_dim=8), 2)
    short.save_pretrained(str(tmp_path / "short"))
    assert np.array_equal(read_elsewhere(tmp_path / "short"), short.encode(TEXTS))
    files = json.loads((tmp_path / "short" / "modules.json").read_text())
    assert [entry["path"] for entry in files] == ["", "1_Pooling", "2_Dense", "3_Normalize"]


def test_everything_else_is_kept(tmp_path):
    how = {"prompts": PROMPTS, "default_prompt_name": "query", "similarity_fn_name": "dot", "truncate_dim": 8}
    model = build(tmp_path, "cls-and-dense", **how)
    model.max_seq_length = 7
    short = truncate(model.train(), 1)
    assert type(short) is SentenceTransformer
    assert {name: getattr(short, name) for name in how} == how
    assert short.max_seq_length == 7
    assert short.training
    assert [type(module) for module in short] == [type(module) for module in model]
    assert short[0].model.config.num_hidden_layers == 1
    assert model[0].model.config.num_hidden_layers == 3


def test_what_is_cut_shares_nothing(tmp_path):
    model = build(tmp_path, "cls-and-dense")
    short = truncate(model, 2)
    assert not {id(weight) for weight in model.parameters()} & {id(weight) for weight in short.parameters()}
    assert short.tokenizer is not model.tokenizer
    assert short.model_card_data.model is short
    assert model.model_card_data.model is model
    before = model.encode(TEXTS)
    with torch.no_grad():
        for weight in short.parameters():
            weight.zero_()
    assert np.array_equal(model.encode(TEXTS), before)


def test_hooks_and_scores_stay_behind(tmp_path):
    model, heard = build(tmp_path, "mean"), []
    model.register_forward_hook(lambda *_: heard.append("model"))
    model[0].register_forward_pre_hook(lambda *_: heard.append("transformer"))
    model.model_card_data.eval_results_dict["an evaluator"] = {"score": 1.0}
    short = truncate(model, 1)
    short.encode(TEXTS)
    assert not heard
    assert not short.model_card_data.eval_results_dict
    model.encode(TEXTS)
    assert heard == ["transformer", "model"]


def test_a_card_of_the_long_model_is_not_the_card_of_the_short_one(tmp_path):
    build(tmp_path / "bare", "mean").save_pretrained(str(tmp_path / "long"))
    (tmp_path / "long" / "README.md").write_text("# The best of six layers\n")
    truncate(SentenceTransformer(str(tmp_path / "long"), device="cpu"), 1).save_pretrained(str(tmp_path / "short"))
    card = (tmp_path / "short" / "README.md").read_text()
    assert "The best of six layers" not in card
    assert "library_name: sentence-transformers" in card


CARD = (
    "---\nlicense: mit\nlanguage:\n- en\nbase_model:\n- someone/longer\ntags:\n- onnx\n---\n# The best of six layers\n"
)


def metadata_of(folder):
    return ModelCard((folder / "README.md").read_text()).data


def test_licence_language_and_base_model_are_kept(tmp_path):
    build(tmp_path / "bare", "mean").save_pretrained(str(tmp_path / "long"))
    (tmp_path / "long" / "README.md").write_text(CARD)
    model = SentenceTransformer(str(tmp_path / "long"), device="cpu")
    short = truncate(truncate(model, 2), 1)
    short.save_pretrained(str(tmp_path / "short"))
    data = metadata_of(tmp_path / "short")
    assert (data.license, data.language, data.base_model) == ("mit", ["en"], "someone/longer")
    assert "onnx" not in data.tags
    assert {"sentence-transformers", "feature-extraction"} <= set(data.tags)
    assert model.model_card_data.license is None
    short.model_card_data.license = "apache-2.0"  # what a user says counts
    truncate(short, 1).save_pretrained(str(tmp_path / "shorter"))
    assert metadata_of(tmp_path / "shorter").license == "apache-2.0"


@pytest.mark.parametrize("text", ["---\nlicense: [\n---\n", "no metadata", "---\nlicense: [mit, other]\n---\n"])
def test_a_card_that_says_no_licence_is_no_obstacle(tmp_path, text):
    build(tmp_path / "bare", "mean").save_pretrained(str(tmp_path / "long"))
    (tmp_path / "long" / "README.md").write_text(text)
    short = truncate(SentenceTransformer(str(tmp_path / "long"), device="cpu"), 1)
    assert short.model_card_data.license is None


def test_a_training_of_the_copy_adds_nothing_to_the_card_of_the_model(tmp_path):
    model = build(tmp_path, "mean")
    truncate(model, 1).model_card_data.add_tags("generated_from_trainer")
    assert "generated_from_trainer" not in model.model_card_data.tags


def test_a_cross_encoder(tmp_path):
    classifier = BertForSequenceClassification(
        BertConfig(**SIZES, num_hidden_layers=3, num_labels=1, initializer_range=0.5)
    )
    model = CrossEncoder(transformer_folder(tmp_path / "long", classifier), device="cpu")
    pairs = list(zip(TEXTS[:6], TEXTS[6:], strict=True))
    short = truncate(model, 2)
    expected = short.predict(pairs)
    short.save_pretrained(str(tmp_path / "short"))
    assert np.array_equal(CrossEncoder(str(tmp_path / "short"), device="cpu").predict(pairs), expected)
    assert not np.allclose(model.predict(pairs), expected)
    inside = truncate(model[0].model, 2)
    tokens = model.tokenizer(pairs[0][0], pairs[0][1], return_tensors="pt")
    assert torch.equal(inside.eval()(**tokens).logits, short[0].model.eval()(**tokens).logits)


@quiet
@pytest.mark.parametrize("adapt", [with_adapter, with_peft])
def test_adapters_are_cut_too(adapt, tmp_path, any_peft):  # noqa: F811
    model = build(tmp_path, "mean")
    plain = truncate(model, 2).encode(TEXTS)
    model[0].model = adapt(model[0].model)
    short = truncate(model, 2)
    assert not np.allclose(short.encode(TEXTS), plain)
    merged = truncate(model, 2, merge_adapter=True)
    np.testing.assert_allclose(merged.encode(TEXTS), short.encode(TEXTS), atol=1e-5)
    merged.save_pretrained(str(tmp_path / "short"))
    loaded = SentenceTransformer(str(tmp_path / "short"), device="cpu")
    assert np.array_equal(loaded.encode(TEXTS), merged.encode(TEXTS))


def word_embeddings():
    words = WordEmbeddings(WhitespaceTokenizer(WORDS), torch.rand(len(WORDS), 16))
    return SentenceTransformer(modules=[words, Pooling(16)], device="cpu")


def static(folder):
    tokenizer = sentence_model(folder).tokenizer
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=4)], device="cpu")


def routed(folder):
    modules = list(sentence_model(folder))
    router = Router.for_query_document(query_modules=modules, document_modules=modules)
    return SentenceTransformer(modules=[router], device="cpu")


def two_towers(folder):
    model = sentence_model(folder)
    small = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2}
    model[0].model = CLIPModel(
        CLIPConfig(text_config=small, vision_config={**small, "image_size": 8, "patch_size": 4}, projection_dim=4)
    )
    return model


def sparse(folder):
    from sentence_transformers.base.modules import Transformer

    path = transformer_folder(folder, BertForMaskedLM(BertConfig(**SIZES, num_hidden_layers=2)))
    return SparseEncoder(modules=[Transformer(path, transformer_task="fill-mask"), SpladePooling()], device="cpu")


REFUSED = {
    "words": (lambda _: word_embeddings(), TypeError, "itself to have depth; WordEmbeddings holds none"),
    "bags": (lambda _: SentenceTransformer(modules=[BoW(WORDS)]), TypeError, "BoW holds none"),
    "static": (static, TypeError, "StaticEmbedding holds none"),
    "routes": (routed, TypeError, "first module of a SentenceTransformer must hold one model .* Router holds none"),
    "towers": (two_towers, DepthError, "one stack of layers to have depth; CLIPModel has 2"),
    "sparse": (sparse, TypeError, "must be a SentenceTransformer or a CrossEncoder to have depth; got SparseEncoder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_depth_is_refused(name, tmp_path):
    make, error, text = REFUSED[name]
    with pytest.raises(error, match=text):
        truncate(make(tmp_path), 1)


def test_depths_that_the_model_has_not_are_refused(tmp_path):
    model = build(tmp_path, "mean")
    with pytest.raises(DepthError, match=r"depth must lie in \[0, 3\].*got 4"):
        truncate(model, 4)


def test_what_takes_no_sentence_transformer_says_what_to_give(tmp_path):
    model = build(tmp_path, "mean")
    with pytest.raises(TypeError, match=r"of a SentenceTransformer give the one inside \(model\.transformers_model\)"):
        acn_hf.measure_depth_profile(model, [])
