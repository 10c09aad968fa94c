"""What one process pushed or saved, others load by name: with acn_hf, and by `trust_remote_code` without it.

One process publishes everything, two read everything, one after the other, so that no model may disturb the next.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from transformers import BertTokenizerFast, Trainer, TrainingArguments

from acn_hf import compress, truncate, write_model_card
from tests.publishing.test_model_card import snippet
from tests.support.families import by_name
from tests.support.hub_server import OWNER_TOKEN, playing_hub

READER = Path(__file__).parents[1] / "support" / "hub_reader.py"
BERT, VIT = by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")
MASKED = by_name("bert-ForMaskedLM")

# By huggingface_hub's own call to httpx.
pytestmark = [pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"), pytest.mark.slow]


def short(head, depth):
    """Return the result of a compression to that depth."""
    batch = head.inputs(batch_size=4, labels=True)
    return compress(head.build(), [batch], metric="loss", depths=[depth], tolerance=1e9)


def publish(folder):
    """Push and save in every way; return by name how to read each model, and the model that must come back."""
    jobs, models = {}, {}

    def add(name, head, source, model, **options):
        jobs[name] = {"source": str(source), "auto": head.auto, "inputs": head.inputs(), "options": options}
        models[name] = model

    for name, head, depth in (("bert", BERT, 1), ("vit", VIT, 2)):
        result = short(head, depth)
        result.push_to_hub(f"someone/{name}", token=OWNER_TOKEN)
        add(name, head, f"someone/{name}", result.model)
        result.save_pretrained(folder / name / "short")  # folders of the same name
        add(f"{name} folder", head, folder / name / "short", result.model)
        add(f"{name} checkpoint", head, *checkpoint(folder / name, head, result.model))
    long = MASKED.build()
    long.push_to_hub("someone/long", token=OWNER_TOKEN)
    long.push_to_hub("someone/prefix", depth=1, token=OWNER_TOKEN)
    add("prefix", MASKED, "someone/prefix", truncate(long, 1))
    add("prefix of long", MASKED, "someone/long", truncate(long, 2), num_hidden_layers=2)
    short(VIT, 1).push_to_hub("someone/private", private=True, token=OWNER_TOKEN)
    # Before the one with the right token: what that one fetched would be read from the cache.
    add("private without token", VIT, "someone/private", None)
    add("private with wrong token", VIT, "someone/private", None, token="hf_wrong")
    add("private", VIT, "someone/private", truncate(VIT.build(), 1), token=OWNER_TOKEN)
    add("missing", VIT, "someone/missing", None)
    jobs["card"] = with_a_card(folder / "card")
    return jobs, models


def with_a_card(folder):
    """Save a model with its tokenizer and its card; return the job to do what the card says."""
    BERT.build().save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    BertTokenizerFast(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)
    write_model_card(folder)
    return {"source": str(folder), "snippet": snippet(folder)}


def checkpoint(folder, head, model):
    """Train a copy of a compressed model for one step; return the checkpoint's folder and the model in it."""
    batch = head.inputs(batch_size=2, labels=True)
    rows = [{name: value[row] for name, value in batch.items()} for row in range(2)]
    arguments = TrainingArguments(
        str(folder), max_steps=1, save_steps=1, report_to="none", use_cpu=True, disable_tqdm=True,
        dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(truncate(model, model.config.num_hidden_layers), arguments, train_dataset=rows)
    trainer.train()
    return folder / "checkpoint-1", trainer.model.eval()


def read_in_new_process(folder, address, jobs, acn_hf_is):
    """Return what a new process says of every job, and which modules of acn_hf it imported."""
    home = folder / f"home-{acn_hf_is}"
    torch.save(jobs, folder / "jobs.pt")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))},
        "HF_HOME": str(home), "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    command = [sys.executable, str(READER), str(folder / "jobs.pt"), str(home) + ".pt", acn_hf_is]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(f"{home}.pt"), json.loads(done.stdout.splitlines()[-1])


class Published(NamedTuple):
    """How to read what is published, the models that must come back, and what reads all in a process of its own."""

    jobs: dict
    models: dict
    read: Callable


each_process = pytest.mark.parametrize("acn_hf_is", [pytest.param("with", marks=pytest.mark.slow), "without"])
"""With acn_hf, the tests of the Hub read in their own process, too."""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    with playing_hub(folder / "home") as hub:
        jobs, models = publish(folder)
        yield Published(jobs, models, cache(partial(read_in_new_process, folder, hub.address, jobs)))


NAMES = ["bert", "vit", "bert folder", "vit folder", "bert checkpoint", "vit checkpoint"]
NAMES += ["prefix", "prefix of long", "private"]


@each_process
@pytest.mark.parametrize("name", NAMES)
def test_it_comes_back_as_it_was(published, name, acn_hf_is):
    answer, model = published.read(acn_hf_is)[0][name], published.models[name]
    assert "error" not in answer, answer["error"]
    assert answer["class"] == type(model).__name__
    where = "acn_hf." if acn_hf_is == "with" else "transformers_modules."
    assert answer["module"].startswith(where)
    with torch.no_grad():
        assert torch.equal(answer["output"], model(**published.jobs[name]["inputs"])[0])


@each_process
def test_what_a_card_says_loads_the_model_and_the_tokenizer(published, acn_hf_is):
    answer = published.read(acn_hf_is)[0]["card"]
    assert answer["module"].startswith("acn_hf." if acn_hf_is == "with" else "transformers_modules.")
    assert answer["class"] == BERT.acn.__name__
    assert "BertTokenizer" in answer["processor"]


@each_process
def test_one_process_had_acn_hf_and_one_had_not(published, acn_hf_is):
    modules = published.read(acn_hf_is)[1]
    assert "acn_hf.modeling.modeling_acn_bert" in modules if acn_hf_is == "with" else modules == []


@each_process
@pytest.mark.parametrize("name", ["private without token", "missing"])
def test_a_private_name_is_refused_like_one_that_is_missing(published, name, acn_hf_is):
    error = published.read(acn_hf_is)[0][name]["error"]
    source = published.jobs[name]["source"]
    assert f"{source} is not a local folder and is not a valid model identifier" in error
    assert "hf auth login" in error


@each_process
def test_a_wrong_token_is_an_error_that_names_the_repository(published, acn_hf_is):
    assert "someone/private" in published.read(acn_hf_is)[0]["private with wrong token"]["error"]
