"""What is uploaded is what `save_pretrained` would have written; the Hub itself is played by a folder."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification

from acn_hf import DepthError, truncate
from tests.families import NUM_LAYERS, by_name

CLASSIFIER = by_name("bert-ForSequenceClassification")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Replace the three calls by which transformers reaches the Hub; return the folder that plays it."""

    root = tmp_path / "hub"
    root.mkdir()

    def upload(self, folder, repo_id, *args, **kwargs):
        shutil.copytree(folder, root / repo_id)

    api = SimpleNamespace(create_repo=lambda repo_id, **kwargs: SimpleNamespace(repo_id=repo_id))
    monkeypatch.setattr("transformers.utils.hub.hf_api", lambda: api, raising=False)
    monkeypatch.setattr("transformers.modeling_utils.hf_api", lambda: api, raising=False)
    monkeypatch.setattr("transformers.utils.hub.create_repo", api.create_repo, raising=False)
    monkeypatch.setattr("transformers.modeling_utils.create_repo", api.create_repo, raising=False)
    monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *a, **k: ModelCard("# card"))
    monkeypatch.setattr("transformers.utils.hub.PushToHubMixin._upload_modified_files", upload)
    return root


@pytest.mark.parametrize("depth", [None, *range(NUM_LAYERS + 1)])
def test_the_uploaded_prefix_is_the_truncated_model(build, hub, depth):
    model, inputs = build(CLASSIFIER), CLASSIFIER.inputs()
    model.push_to_hub("someone/short", depth=depth)
    loaded = AutoModelForSequenceClassification.from_pretrained(hub / "someone" / "short")
    expected = model if depth is None else truncate(model, depth)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, expected(**inputs).logits)
    assert model.config.num_hidden_layers == NUM_LAYERS


def test_saving_can_upload_too(build, hub, tmp_path):
    model = build(CLASSIFIER)
    model.save_pretrained(tmp_path / "local", depth=1, push_to_hub=True)
    uploaded = AutoModelForSequenceClassification.from_pretrained(hub / "local")
    assert uploaded.config.num_hidden_layers == 1


def test_a_depth_that_does_not_exist_uploads_nothing(build, hub):
    with pytest.raises(DepthError, match="got 9"):
        build(CLASSIFIER).push_to_hub("someone/short", depth=9)
    assert list(hub.iterdir()) == []
