"""What is saved is what is loaded: every head, tied weights, shards, dtypes, and saves that fail half-way."""

import errno
import json

import pytest
import torch
import transformers
from safetensors import safe_open
from transformers import modeling_utils

from acn_hf import truncate
from tests.support.families import NUM_LAYERS, SOME_CONNECTIONS, by_name, each_head

MLM_HEADS = [by_name("bert-ForMaskedLM"), by_name("bert-ForPreTraining")]


def same_weights(one, other) -> bool:
    """Return whether two models hold the same tensors in the same dtypes under the same names."""
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys()
    return all(one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one)


def stored_names(folder) -> list[str]:
    """Return the names of the tensors in all weight files of a folder."""
    names = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            names += file.keys()
    return names


@each_head(options=SOME_CONNECTIONS)
def test_save_and_load(build, head, options, tmp_path):
    model = build(head, **options)
    model.save_pretrained(tmp_path)
    loaded, info = head.acn.from_pretrained(tmp_path, output_loading_info=True)
    assert same_weights(model, loaded)
    assert not any(info.values()), info
    assert loaded.config.to_diff_dict() == model.config.to_diff_dict()


@each_head()
def test_a_loaded_model_saves_the_same_weights(build, head, tmp_path):
    build(head).save_pretrained(tmp_path / "first")
    head.acn.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second


@each_head()
def test_half_precision_checkpoint(build, head, tmp_path):
    model = build(head, learn_residual_scale=True).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    assert same_weights(model, head.acn.from_pretrained(tmp_path, dtype="auto"))
    assert same_weights(truncate(model, 1), head.acn.from_pretrained(tmp_path, dtype="auto", num_hidden_layers=1))


@each_head()
def test_shards(build, head, tmp_path):
    model = build(head)
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    assert same_weights(model, head.acn.from_pretrained(tmp_path))
    for depth in range(NUM_LAYERS + 1):
        assert same_weights(truncate(model, depth), head.acn.from_pretrained(tmp_path, num_hidden_layers=depth))


@each_head()
def test_shards_of_a_depth(build, head, tmp_path):
    model = build(head)
    model.save_pretrained(tmp_path, max_shard_size="4KB", depth=2)
    assert same_weights(truncate(model, 2), head.acn.from_pretrained(tmp_path))
    assert not any(f"{model.layers_name}.2." in name for name in stored_names(tmp_path))


@each_head()
def test_a_save_replaces_every_weight_file_of_the_save_before(build, head, tmp_path):
    model = build(head)
    depths = {None: NUM_LAYERS, 1: 1}
    for size, depth in [("4KB", None), ("4KB", 1), ("1GB", None), ("4KB", None), ("1GB", 1)]:
        model.save_pretrained(tmp_path, max_shard_size=size, depth=depth)
        assert same_weights(truncate(model, depths[depth]), head.acn.from_pretrained(tmp_path))
        names = stored_names(tmp_path)
        assert len(names) == len(set(names))
        index = tmp_path / "model.safetensors.index.json"
        assert index.exists() == (size == "4KB")
        if index.exists():
            files = set(json.loads(index.read_text())["weight_map"].values())
            assert files == {path.name for path in tmp_path.glob("*.safetensors")}


def test_a_save_keeps_other_files_of_the_folder(build, tmp_path):
    kept = ["notes.txt", "model.fp16.safetensors", "adapter_model.safetensors", "tokenizer.json"]
    for name in kept:
        (tmp_path / name).write_text("mine")
    model = build(by_name("vit-Model"))
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    model.save_pretrained(tmp_path)
    assert {name: (tmp_path / name).read_text() for name in kept} == dict.fromkeys(kept, "mine")


@pytest.mark.parametrize("size", ["1GB", "4KB"])
def test_variants_live_side_by_side(build, tmp_path, size):
    head = by_name("bert-ForSequenceClassification")
    whole, half = build(head), build(head).to(torch.bfloat16)
    half.save_pretrained(tmp_path, variant="half", max_shard_size="4KB")
    whole.save_pretrained(tmp_path, max_shard_size=size)
    assert same_weights(half, head.acn.from_pretrained(tmp_path, dtype=torch.bfloat16, variant="half"))
    half.save_pretrained(tmp_path, variant="half")
    assert same_weights(half, head.acn.from_pretrained(tmp_path, dtype=torch.bfloat16, variant="half"))
    assert same_weights(whole, head.acn.from_pretrained(tmp_path, dtype=torch.float32))


def test_a_state_dict_of_the_long_model_is_cut(build, tmp_path):
    """`Trainer` and accelerate hand over the state dict that they gathered."""
    head = by_name("vit-ForImageClassification")
    model = build(head)
    gathered = {name: value + 1 for name, value in model.state_dict().items()}
    model.save_pretrained(tmp_path, depth=1, state_dict=gathered)
    loaded = head.acn.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, gathered[name]) for name, value in loaded.items())
    assert len(gathered) == len(model.state_dict())


@each_head(MLM_HEADS)
def test_tied_weights_are_one_tensor_and_are_stored_once(build, head, tmp_path):
    model = build(head)
    model.save_pretrained(tmp_path / "all")
    model.save_pretrained(tmp_path / "cut", depth=1)
    for folder in (tmp_path / "all", tmp_path / "cut"):
        names = stored_names(folder)
        assert "bert.embeddings.word_embeddings.weight" in names
        assert not {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"} & set(names)
        loaded = head.acn.from_pretrained(folder)
        decoder = loaded.cls.predictions.decoder
        assert decoder.weight is loaded.bert.embeddings.word_embeddings.weight
        assert decoder.bias is loaded.cls.predictions.bias


@each_head(MLM_HEADS)
def test_untied_weights_stay_apart(build, head, tmp_path):
    model = build(head, tie_word_embeddings=False)
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight
    model.save_pretrained(tmp_path)
    assert same_weights(model, head.acn.from_pretrained(tmp_path))


@each_head()
def test_learned_scales_start_at_the_configured_ones_and_stay_with_their_layers(head, tmp_path):
    start = [1.0, 0.25, 0.0]
    model = head.acn(head.config(residual_scale=start, learn_residual_scale=True))

    def scales(model):
        return [value.item() for name, value in model.named_parameters() if name.endswith("residual_scale")]

    assert scales(model) == start
    with torch.no_grad():
        for index, layer in enumerate(model.base_model.get_submodule(model.layers_name)):
            layer.short_connection.residual_scale.fill_(index / 8)
    model.save_pretrained(tmp_path)
    assert scales(head.acn.from_pretrained(tmp_path)) == [0.0, 0.125, 0.25]
    assert scales(head.acn.from_pretrained(tmp_path, num_hidden_layers=2)) == [0.0, 0.125]
    assert scales(truncate(model, 2)) == [0.0, 0.125]


@each_head()
def test_learned_scales_of_a_checkpoint_without_any_start_at_the_configured_ones(build, head, tmp_path):
    build(head).save_pretrained(tmp_path)
    options = {"learn_residual_scale": True, "residual_scale": [1.0, 0.25, 0.5]}
    model, info = head.acn.from_pretrained(tmp_path, **options, output_loading_info=True)
    added = {name: value.item() for name, value in model.named_parameters() if name.endswith("residual_scale")}
    assert list(added.values()) == [1.0, 0.25, 0.5]
    assert info["missing_keys"] == set(added)


@each_head(
    [by_name("bert-ForMaskedLM"), by_name("vit-ForImageClassification")],
    earlier=["nothing", "a checkpoint"],
    max_shard_size=["1GB", "4KB"],
    error=[OSError(errno.ENOSPC, "No space left on device"), PermissionError("no")],
)
def test_a_failed_save_leaves_the_folder_as_it_was(
    build, head, tmp_path, files, monkeypatch, earlier, max_shard_size, error
):
    model, folder = build(head), tmp_path / "model"
    if earlier == "a checkpoint":
        model.save_pretrained(folder)
    before = files(tmp_path)
    write, calls = modeling_utils.safe_save_file, []

    def fail_at_the_last_moment(*args, **kwargs):
        write(*args, **kwargs)
        calls.append(args)
        if max_shard_size == "1GB" or len(calls) == 2:
            raise error

    monkeypatch.setattr(modeling_utils, "safe_save_file", fail_at_the_last_moment)
    with pytest.raises(type(error), match=str(error.args[-1])):
        truncate(model, 1).save_pretrained(folder, max_shard_size=max_shard_size)
    assert calls
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["model"] if before else [])
    if before:
        assert same_weights(model, head.acn.from_pretrained(folder))


def test_saving_into_a_file_is_refused(build, tmp_path):
    place = tmp_path / "file"
    place.write_text("mine")
    with pytest.raises(NotADirectoryError, match=f"the place to save to must be a folder; {place} is a file"):
        build(by_name("vit-Model")).save_pretrained(place)
    assert place.read_text() == "mine"


def test_saving_creates_the_folders_above(build, tmp_path):
    model = build(by_name("vit-Model"))
    model.save_pretrained(tmp_path / "a" / "b")
    assert same_weights(model, transformers.AutoModel.from_pretrained(tmp_path / "a" / "b"))


@each_head()
def test_saving_a_depth_leaves_the_model_alone(build, head, tmp_path):
    model = build(head)
    config, weights = model.config.to_dict(), {name: value.clone() for name, value in model.state_dict().items()}
    model.save_pretrained(tmp_path, depth=1)
    assert {name: model.config.to_dict()[name] for name in config} == config
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert model.num_parameters() > head.acn.from_pretrained(tmp_path).num_parameters()
