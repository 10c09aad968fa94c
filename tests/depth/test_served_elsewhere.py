"""A real checkpoint, cut by half, is served by what people serve with, where acn_hf cannot be imported."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from acn_hf import compress, export_onnx
from tests.support.checkpoints import SENTENCES, sentence_encoder

SERVER = Path(__file__).parents[1] / "support" / "plain_server.py"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*Importing from:DeprecationWarning")]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Return all-MiniLM-L6-v2 with a new head, cut to three layers, its tokens of some texts, and its folder."""
    source, folder = sentence_encoder(), tmp_path_factory.mktemp("served") / "short"
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=3)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokens = dict(tokenizer(SENTENCES, padding=True, return_tensors="pt"))
    result = compress(model.eval(), [{**tokens, "labels": torch.tensor([0, 1, 2])}], depth=3)
    result.save_pretrained(folder, processor=tokenizer)
    export_onnx(result.model, folder / "onnx", processor=tokenizer)
    return result.model, tokens, folder


def served(way, folder):
    answers = folder.parent / f"{way}.json"
    command = [sys.executable, str(SERVER), str(folder), str(answers), way, *SENTENCES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.tensor(json.loads(answers.read_text()))


@torch.no_grad()
def test_by_a_pipeline(short):
    model, tokens, folder = short
    torch.testing.assert_close(served("pipeline", folder), model(**tokens).logits.softmax(-1), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_by_onnxruntime(short):
    model, tokens, folder = short
    torch.testing.assert_close(served("onnx", folder), model(**tokens).logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="sentence-transformers is not installed"
)
def test_by_sentence_transformers(short):
    model, tokens, folder = short
    states, mask = model.base_model(**tokens).last_hidden_state, tokens["attention_mask"].unsqueeze(-1)
    expected = (states * mask).sum(1) / mask.sum(1)
    torch.testing.assert_close(served("sentence-transformers", folder), expected, rtol=1e-4, atol=1e-4)
