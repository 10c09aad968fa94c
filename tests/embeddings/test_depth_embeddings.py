"""The embeddings of every depth, from one pass: those of the model that is cut, bit for bit."""

import sys

import numpy as np
import pytest
import torch

from acn_hf import DepthError, depth_embeddings, truncate
from acn_hf.depth import ProfileError, layers_of
from acn_hf.embeddings.memory import DepthMemory
from tests.embeddings.test_truncate import MODELS, build, static
from tests.support.adapted import any_peft, quiet, with_adapter  # noqa: F401 (a fixture)
from tests.support.sentence_models import PROMPTS, texts

TEXTS = texts(21)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("how", [{}, {"prompt_name": "query", "normalize_embeddings": True, "truncate_dim": 5}])
def test_every_depth_is_the_one_that_is_cut(name, how, tmp_path):
    model = build(tmp_path, name, prompts=PROMPTS)
    every = depth_embeddings(model, TEXTS, batch_size=8, **how)
    lowest = 4 - len(every)
    assert lowest == (1 if name == "final-norm" else 0)
    for depth, embeddings in enumerate(every, lowest):
        assert np.array_equal(embeddings, truncate(model, depth).encode(TEXTS, batch_size=8, **how))


def test_half_precision(model):
    model.to(torch.bfloat16)
    for depth, embeddings in enumerate(depth_embeddings(model, TEXTS)):
        assert embeddings.dtype == torch.bfloat16
        assert torch.equal(embeddings, truncate(model, depth).encode(TEXTS, convert_to_tensor=True))


@quiet
def test_adapters_stay_active(model, any_peft):  # noqa: F811
    model[0].model = with_adapter(model[0].model)
    for depth, embeddings in enumerate(depth_embeddings(model, TEXTS)):
        assert np.array_equal(embeddings, truncate(model, depth).encode(TEXTS))


def test_only_the_depths_that_are_asked_for(model):
    every = depth_embeddings(model, TEXTS)
    assert torch.equal(depth_embeddings(model, TEXTS, depths=[1]), every[[1, 3]])


def test_the_model_is_left_as_it_was(model):
    model.train()
    model[1].eval()
    hooks = []
    model.register_forward_hook(lambda *_: hooks.append("ran"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    depth_embeddings(model, TEXTS)
    assert not hooks
    assert model.training
    assert not model[1].training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert type(model).__name__ == type(model).__qualname__ == "SentenceTransformer"


def test_each_text_is_embedded_once(model):
    seen, preprocess = [], model.preprocess
    model.preprocess = lambda inputs, *args, **how: seen.extend(inputs) or preprocess(inputs, *args, **how)
    memory = DepthMemory(model)
    one = memory.at(1).encode([*TEXTS, *TEXTS[:5]], convert_to_tensor=True)
    assert torch.equal(one[:5], one[21:])
    again = memory.at(3).encode(TEXTS[:4], convert_to_tensor=True)
    assert sorted(seen) == sorted(TEXTS)
    assert memory.num_texts == 21
    memory.at(3).encode_query(TEXTS[:4])
    assert len(seen) == 25, "with a prompt it is another text"
    assert again.shape == (4, 16)


def test_memory_holds_the_embeddings_and_nothing_else(model):
    memory = DepthMemory(model)
    memory.at(0).encode(TEXTS, batch_size=8)
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in memory._kept.values()}
    assert sum(storages.values()) == len(TEXTS) * 4 * 16 * 4


@pytest.mark.parametrize("name", ["mean", "final-norm", "acn"])
def test_the_layers_run_once_for_all_depths(name, tmp_path):
    model, calls = build(tmp_path, name), []
    for layer in layers_of(model.transformers_model):
        linear = next(part for part in layer.modules() if isinstance(part, torch.nn.Linear))
        linear.register_forward_hook(lambda module, *_: calls.append(module))
    model.encode(TEXTS, batch_size=8)
    once = [*calls]
    DepthMemory(model)  # computes one depth in both ways
    calls.clear()
    depth_embeddings(model, TEXTS, batch_size=8)
    assert len(once) == 9
    assert calls == once


def test_a_view_is_a_sentence_transformer_in_all_else(model):
    view = DepthMemory(model).at(2, 8)
    assert isinstance(view, type(model))
    assert view.get_embedding_dimension() == 8
    assert view.encode(TEXTS[0]).shape == (8,)
    assert view.similarity(*view.encode(TEXTS[:2])).shape == (1, 1)
    assert view.encode(TEXTS, precision="int8").dtype == np.int8
    assert view.encode([]).size == 0
    assert model.truncate_dim is None


def test_what_is_no_text_is_refused(model):
    with pytest.raises(ProfileError, match="what is embedded must be texts; got int"):
        depth_embeddings(model, [1, 2])
    with pytest.raises(ProfileError, match="only embeddings of texts can be read at every depth; token_embeddings"):
        depth_embeddings(model, TEXTS, output_value="token_embeddings")


def test_embeddings_that_are_no_numbers_are_refused(model):
    layer = model[0].model.encoder.layer[1]
    with torch.no_grad():
        layer.output.dense.bias.fill_(torch.nan)
    with pytest.raises(ProfileError, match="embeddings must be finite numbers; got nan or infinity at depth 2"):
        depth_embeddings(model, TEXTS)


def test_models_without_depth_are_refused(model, tmp_path):
    with pytest.raises(TypeError, match="StaticEmbedding holds none"):
        depth_embeddings(static(tmp_path), TEXTS)
    with pytest.raises(TypeError, match="model must be a SentenceTransformer; got BertModel"):
        depth_embeddings(model[0].model, TEXTS)
    with pytest.raises(DepthError, match=r"depth must lie in \[0, 3\].*got 4"):
        depth_embeddings(model, TEXTS, depths=[4])


def test_a_missing_package_names_the_extra(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match=r"embeddings need sentence-transformers: pip install 'acn-hf\[embeddings\]'"):
        depth_embeddings(model, TEXTS)
