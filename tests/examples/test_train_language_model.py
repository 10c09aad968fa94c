"""The script that trains language models: what it counts while a model drafts for itself, and a whole run."""

import gzip
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from acn_hf import DepthProfile
from tests.support.programs import run_program

SCRIPT = Path(__file__).parents[2] / "examples" / "train_language_model.py"
SPEC = importlib.util.spec_from_file_location("train_language_model", SCRIPT)
train_language_model = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(train_language_model)


def llama(upper_layers_add):
    """Return a small model whose layers above the first add something to what they read, or nothing."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_attention_heads=2,
        num_hidden_layers=3,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    for layer in model.model.layers[1:]:
        for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
            projection.weight.data.mul_(10 if upper_layers_add else 0)
    return model


def test_every_draft_is_kept_where_the_upper_layers_do_nothing():
    prompts = torch.randint(0, 40, (1, 6), generator=torch.Generator().manual_seed(0))
    for row in train_language_model.generate(llama(upper_layers_add=False), prompts):
        assert row["kept"] == row["drafted"] > 0
        assert row["kept"] + row["passes"] == train_language_model.NEW_TOKENS
        assert row["same_text"] == row["num_prompts"] == 1


def test_drafts_of_layers_that_say_something_else_are_thrown_away():
    prompts = torch.randint(0, 40, (1, 6), generator=torch.Generator().manual_seed(0))
    model = llama(upper_layers_add=True)
    row = train_language_model.generate(model, prompts)[0]
    assert row["kept"] < row["drafted"]
    assert row["kept"] + row["passes"] == train_language_model.NEW_TOKENS
    assert row["same_text"] == 1
    assert not any(layer._forward_hooks for layer in model.model.layers)


@pytest.mark.slow
def test_a_run_from_texts_to_tables(tmp_path):
    lines = [f"the {a} {b} saw the {b} {a} and was glad of it, as {a} often is\n" for a in "abcde" for b in "klmno"]
    with gzip.open(tmp_path / "corpus.txt.gz", "wt") as file:
        file.writelines(lines * 250)
    arguments = ("--train_file", tmp_path / "corpus.txt.gz", "--output_dir", tmp_path / "runs", "--max_steps", 12)
    few = ("--vocab_size", 300, "--num_hidden_layers", 2, "--num_prompts", 1, "--record", tmp_path / "record.json")
    done = run_program(SCRIPT, *arguments, *few)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert [one["name"] for one in record] == ["none-2", "uniform-2"]
    assert str(tmp_path) not in (tmp_path / "record.json").read_text()
    folder = tmp_path / "runs" / "uniform-2-seed0"
    assert AutoModelForCausalLM.from_pretrained(folder).config.num_hidden_layers == 2
    profile = DepthProfile.load(folder / "depth_profile.json")
    assert list(profile.values) == record[1]["perplexity"]
    assert profile.values[1] < profile.values[0]
    written = (folder / "model.safetensors").stat().st_mtime_ns
    again = run_program(SCRIPT, *arguments, *few)
    assert again.stdout.count("Perplexity at every depth") == 1
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
