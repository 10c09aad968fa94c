"""Every input that is refused: the type of its error, the rule it breaks and the value that broke it."""

import json
import re

import numpy as np
import pytest
import torch
import transformers

from acn_hf import DepthError, depth_logits, truncate
from tests.support.families import NUM_LAYERS, by_name, each_head, heads_in_turn

OUT_OF_RANGE = [-1, NUM_LAYERS + 1, 100]
NO_WHOLE_NUMBER = [2.5, 2.0, True, False, "3", [1], float("nan")]


def text_of(depth) -> str:
    """Return the beginning of the error text for a depth."""
    if type(depth) is int:
        return f"depth must lie in [0, {NUM_LAYERS}] for this model; got {depth}"
    return f"depth must be a whole number in [0, {NUM_LAYERS}]; got {depth!r}"


@pytest.mark.parametrize("depth", [*OUT_OF_RANGE, *NO_WHOLE_NUMBER, None], ids=repr)
@each_head()
def test_truncate_refuses_the_depth(build, head, depth):
    with pytest.raises(DepthError, match=f"^{re.escape(text_of(depth))}$"):
        truncate(build(head), depth)


@pytest.mark.parametrize("depth", [*OUT_OF_RANGE, *NO_WHOLE_NUMBER], ids=repr)
@each_head()
def test_save_refuses_the_depth_and_writes_nothing(build, head, depth, tmp_path):
    with pytest.raises(DepthError, match=f"^{re.escape(text_of(depth))}$"):
        build(head).save_pretrained(tmp_path / "model", depth=depth)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("depth", [*OUT_OF_RANGE, *NO_WHOLE_NUMBER], ids=repr)
def test_push_to_hub_refuses_the_depth(build, depth):
    with pytest.raises(DepthError, match=f"^{re.escape(text_of(depth))}$"):
        build(by_name("vit-Model")).push_to_hub("name", depth=depth)


def test_a_depth_error_is_a_value_error():
    assert issubclass(DepthError, ValueError)


@heads_in_turn(number={"int64": np.int64, "int8": np.int8, "uint16": np.uint16, "tensor": torch.tensor})
def test_whole_numbers_of_other_libraries_are_depths(build, head, number, tmp_path):
    model = build(head)
    assert truncate(model, number(2)).config.num_hidden_layers == 2
    model.save_pretrained(tmp_path, depth=number(2))
    assert head.acn.from_pretrained(tmp_path).config.num_hidden_layers == 2
    assert type(json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"]) is int


@pytest.mark.parametrize("thing", [None, torch.nn.Linear(1, 1), "a name"], ids=["None", "Linear", "str"])
def test_only_models_have_depths(thing):
    with pytest.raises(TypeError, match=f"^only models of transformers have depth; got {type(thing).__name__}$"):
        truncate(thing, 1)


@each_head([by_name("bert-Model"), by_name("vit-Model")])
def test_depth_logits_need_a_head(build, head):
    text = (
        f"logits at a depth need a model with a head, and {head.acn.__name__} has none; its depth states are in "
        "output_hidden_states=True"
    )
    with pytest.raises(TypeError, match=f"^{text}$"):
        depth_logits(build(head), **head.inputs())


@pytest.mark.parametrize("save", ["save_pretrained", "push_to_hub"])
@each_head()
def test_a_model_whose_layers_were_sliced_by_hand_is_not_saved(build, head, save, tmp_path):
    model = build(head)
    parent, _, name = model.layers_name.rpartition(".")
    base = model.base_model.get_submodule(parent)
    setattr(base, name, getattr(base, name)[:2])
    text = (
        "the model holds 2 layers and its config says num_hidden_layers=3; "
        "cut a model with acn_hf.truncate(model, depth), which keeps them equal"
    )
    for depth in ({}, {"depth": 1}):
        with pytest.raises(DepthError, match=f"^{re.escape(text)}$"):
            getattr(model, save)(str(tmp_path / "model"), **depth)
    assert not list(tmp_path.iterdir())


def ask_for_five_layers(folder, way):
    """Return the options of a load that asks for five layers, by an override or by an edited config."""
    if way == "override":
        return {"num_hidden_layers": 5}
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": 5}))
    return {}


@heads_in_turn(way=["override", "edited config"], max_shard_size=["1GB", "4KB"])
def test_more_layers_than_the_checkpoint_holds_are_not_loaded(build, head, way, max_shard_size, tmp_path):
    build(head).save_pretrained(tmp_path, max_shard_size=max_shard_size)
    options = ask_for_five_layers(tmp_path, way)
    text = (
        f"{tmp_path} cannot fill the 5 layers that the config asks for: it holds 3 complete layers, "
        "and weights of layers 4 to 5 would stay random"
    )
    for load in (head.acn.from_pretrained, getattr(transformers, head.auto).from_pretrained):
        with pytest.raises(DepthError, match=f"^{re.escape(text)}$"):
            load(tmp_path, **options)


@each_head()
def test_a_cut_checkpoint_does_not_grow_back(build, head, tmp_path):
    build(head).save_pretrained(tmp_path, depth=1)
    with pytest.raises(DepthError, match="it holds 1 complete layers"):
        head.acn.from_pretrained(tmp_path, num_hidden_layers=NUM_LAYERS)


@each_head()
def test_a_checkpoint_of_another_architecture_is_not_loaded(build, head, tmp_path):
    sizes = {"vocab_size": 40, "max_position_embeddings": 16, "dim": 16, "n_heads": 2, "hidden_dim": 24}
    config = transformers.DistilBertConfig(**sizes, n_layers=3)
    transformers.DistilBertModel(config).save_pretrained(tmp_path)
    build(head).config.save_pretrained(tmp_path)
    text = "layers .*do not have the names of this architecture, and weights of layers 1 to 3 would stay random"
    with pytest.raises(DepthError, match=text):
        head.acn.from_pretrained(tmp_path)


@each_head()
def test_a_damaged_weight_file_is_not_loaded(build, head, tmp_path):
    build(head).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Exception, match=r"(?i)incomplete metadata|file not fully covered|InvalidHeader"):
        head.acn.from_pretrained(tmp_path)


@each_head()
def test_a_missing_shard_is_not_loaded(build, head, tmp_path):
    build(head).save_pretrained(tmp_path, max_shard_size="4KB")
    sorted(tmp_path.glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(OSError, match="model-00002-of-"):
        head.acn.from_pretrained(tmp_path)


@each_head()
def test_a_folder_without_a_checkpoint_is_not_loaded(build, head, tmp_path):
    build(head).config.save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        head.acn.from_pretrained(tmp_path)
