"""What is uploaded is what was meant, whole or not at all; the Hub is played by a server on this machine."""

import json
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
    ViTImageProcessorPil,
)

from acn_hf import (
    CardFacts,
    CardTrainer,
    DepthError,
    compress,
    depth_logits,
    push_checkpoint,
    truncate,
    write_model_card,
)
from tests.support.families import NUM_LAYERS, by_name
from tests.support.hub_server import OTHER_TOKEN, OWNER_TOKEN

CLASSIFIER, IMAGES = by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")
REPO = "someone/short"

# By huggingface_hub's own call to httpx.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def result():
    return compress(IMAGES.build(), [IMAGES.inputs(batch_size=4, labels=True)], tolerance=1.0)


def load(auto=AutoModelForImageClassification, repo=REPO, **options):
    return auto.from_pretrained(repo, **options)


def logits(model, head):
    with torch.no_grad():
        return model(**head.inputs()).logits


# --- a model alone


@pytest.mark.parametrize("depth", [None, 0, 2])
def test_the_uploaded_prefix_is_the_truncated_model(build, hub, depth):
    model = build(CLASSIFIER)
    model.push_to_hub(REPO, depth=depth, token=OWNER_TOKEN)
    expected = model if depth is None else truncate(model, depth)
    assert torch.equal(logits(load(AutoModelForSequenceClassification), CLASSIFIER), logits(expected, CLASSIFIER))
    assert model.config.num_hidden_layers == NUM_LAYERS


def test_a_depth_that_does_not_exist_uploads_nothing(build, hub):
    with pytest.raises(DepthError, match="got 9"):
        build(CLASSIFIER).push_to_hub(REPO, depth=9, token=OWNER_TOKEN)
    assert hub.repos == {}


def test_saving_can_upload_too(build, hub, tmp_path):
    build(CLASSIFIER).save_pretrained(tmp_path / "local", depth=1, push_to_hub=True, token=OWNER_TOKEN)
    uploaded = load(AutoModelForSequenceClassification, "someone/local")
    assert uploaded.config.num_hidden_layers == 1


def test_a_model_alone_is_tagged_and_leaves_a_card_as_it_is(build, hub, result):
    build(IMAGES).push_to_hub("someone/plain", token=OWNER_TOKEN)
    assert set(ModelCard.load("someone/plain").data.tags) == {"acn", "auto-compressing-network"}
    result.push_to_hub(REPO, token=OWNER_TOKEN)
    card = hub.repos[REPO].files["README.md"]
    result.model.push_to_hub(REPO, token=OWNER_TOKEN)
    assert hub.repos[REPO].files["README.md"] == card


def test_tags_of_one_model_are_not_those_of_another(build, hub):
    build(IMAGES).push_to_hub("someone/first", token=OWNER_TOKEN, tags=["mine"])
    IMAGES.build().push_to_hub("someone/second", token=OWNER_TOKEN)
    assert "mine" in ModelCard.load("someone/first").data.tags
    assert "mine" not in ModelCard.load("someone/second").data.tags


# --- a compressed model with all that belongs to it


def test_a_result_is_one_commit_and_loads_by_its_name(hub, build, result):
    info = result.push_to_hub(
        "short", processor=ViTImageProcessorPil(size={"height": 8, "width": 8}), token=OWNER_TOKEN, license="mit"
    )
    assert list(hub.repos) == [REPO]
    assert len(hub.repos[REPO].commits) == 2  # the first is the empty repository
    assert hub.repos[REPO].branches["main"] == info.oid
    model = load()
    assert torch.equal(logits(model, IMAGES), depth_logits(build(IMAGES), **IMAGES.inputs())[result.depth])
    assert ViTImageProcessorPil.from_pretrained(REPO).size == {"height": 8, "width": 8}


def test_card_picture_and_evidence_are_served(hub, result):
    result.push_to_hub(REPO, token=OWNER_TOKEN, license="mit", dataset="data", split="validation")
    card = ModelCard.load(REPO)
    assert (card.data.license, card.data.pipeline_tag) == ("mit", "image-classification")
    assert f'path = "{REPO}"' in card.text
    assert "![accuracy at every depth](depth_profile.png)" in card.text
    assert Path(hf_hub_download(REPO, "depth_profile.png")).read_bytes().startswith(b"\x89PNG")
    facts = CardFacts.load(hf_hub_download(REPO, "model_card.json"))
    assert (facts.repo_id, facts.name, facts.profile) == (REPO, "short", result.profile)
    evidence = Path(hf_hub_download(REPO, "result.json")).read_text()
    assert json.loads(evidence) == json.loads(json.dumps(result.to_dict()))


def test_a_card_on_the_hub_is_kept(hub, result):
    api, card = HfApi(token=OWNER_TOKEN), b"---\ntags:\n- mine\n---\n# By hand\n\nMy words.\n"
    api.create_repo(REPO)
    api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=REPO)
    for _ in range(2):
        result.push_to_hub(REPO, token=OWNER_TOKEN)
    card = ModelCard.load(REPO)
    assert card.text.count("My words.") == card.text.count("## Every depth") == 1
    assert card.data.tags == ["mine", "acn", "auto-compressing-network"]


def test_a_branch_and_a_pull_request(hub, build, result):
    result.push_to_hub(REPO, token=OWNER_TOKEN)
    before = hub.repos[REPO].branches["main"]
    longer = compress(build(IMAGES), [IMAGES.inputs(labels=True)], metric="loss", depths=[2], tolerance=1e9)
    longer.push_to_hub(REPO, token=OWNER_TOKEN, revision="two")
    info = longer.push_to_hub(REPO, token=OWNER_TOKEN, create_pr=True)
    assert hub.repos[REPO].branches["main"] == before
    assert load().config.num_hidden_layers == result.depth
    for revision in ("two", info.pr_revision):
        assert load(revision=revision).config.num_hidden_layers == 2


def test_weights_of_another_number_of_shards_do_not_stay(hub, build, result):
    build(IMAGES).push_to_hub(REPO, token=OWNER_TOKEN, max_shard_size="4KB")
    result.push_to_hub(REPO, token=OWNER_TOKEN)
    assert [name for name in hub.repos[REPO].files if "safetensors" in name] == ["model.safetensors"]
    assert torch.equal(logits(load(), IMAGES), logits(result.model, IMAGES))


def test_a_fact_that_no_card_knows_makes_no_repository(hub, result):
    with pytest.raises(TypeError, match="got licence"):
        result.push_to_hub(REPO, token=OWNER_TOKEN, licence="mit")
    assert hub.repos == {}


@pytest.mark.parametrize("is_asked_for", [True, False])
def test_page_and_picture_go_with_the_card_that_links_them(hub, build, result, tmp_path, monkeypatch, is_asked_for):
    build(IMAGES).save_pretrained(tmp_path / "model")
    write_model_card(tmp_path / "model", profile=result.profile)
    (tmp_path / "model" / "report.html").write_text("a page")
    picture = (tmp_path / "model" / "depth_profile.png").read_bytes()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # what draws another one
    push_checkpoint(tmp_path / "model", REPO, token=OWNER_TOKEN, report=is_asked_for)
    files = hub.repos[REPO].files
    assert files["depth_profile.png"] == picture == (tmp_path / "model" / "depth_profile.png").read_bytes()
    assert ("report.html" in files) == is_asked_for
    link = "[![accuracy at every depth](depth_profile.png)](report.html)"
    assert (link in files["README.md"].decode()) == is_asked_for
    assert "![accuracy at every depth](depth_profile.png)" in files["README.md"].decode()


# --- by Trainer


def test_trainer_pushes_both_cards(hub, build, tmp_path):
    batch = IMAGES.inputs(batch_size=4, labels=True)
    rows = [{name: value[row] for name, value in batch.items()} for row in range(4)]
    arguments = TrainingArguments(
        str(tmp_path / "run"), max_steps=1, report_to="none", use_cpu=True, save_strategy="no", disable_tqdm=True,
        dataloader_pin_memory=False, hub_model_id=REPO, hub_token=OWNER_TOKEN,
    )  # fmt: skip
    trainer = CardTrainer(build(IMAGES), arguments, train_dataset=rows)
    trainer.train()
    write_model_card(tmp_path / "run", result=compress(trainer.model, [batch], tolerance=1.0), training=arguments)
    trainer.push_to_hub()
    text = ModelCard.load(REPO).text
    assert text.count("## Every depth") == text.count("## Training procedure") == 1
    for name in ("README.md", "model_card.json"):
        assert OWNER_TOKEN.encode() not in hub.repos[REPO].files[name]
    assert torch.equal(logits(load(), IMAGES), logits(trainer.model.eval(), IMAGES))


def test_a_plain_trainer_tags_its_card(hub, build, tmp_path):
    arguments = TrainingArguments(
        str(tmp_path / "run"), report_to="none", use_cpu=True, hub_model_id=REPO, hub_token=OWNER_TOKEN
    )
    Trainer(build(IMAGES), arguments).push_to_hub()
    assert {"acn", "auto-compressing-network", "generated_from_trainer"} <= set(ModelCard.load(REPO).data.tags)


# --- refused


def test_a_private_repository_is_for_its_owner(hub, result):
    result.push_to_hub(REPO, private=True, token=OWNER_TOKEN)
    assert hub.repos[REPO].private
    with pytest.raises(OSError, match=f"{REPO} is not a local folder and is not a valid model identifier") as without:
        load()
    assert isinstance(without.value.__cause__, RepositoryNotFoundError)
    assert "hf auth login" in str(without.value)
    with pytest.raises(OSError, match="is not a valid model identifier"):
        load(token=OTHER_TOKEN)
    with pytest.raises(OSError, match=REPO) as wrong:
        load(token="hf_wrong")
    assert "401" in str(wrong.value) or "401" in str(wrong.value.__cause__)
    assert load(token=OWNER_TOKEN).config.num_hidden_layers == result.depth


@pytest.mark.parametrize(
    ("token", "status"), [(False, 401), ("hf_wrong", 401), (OTHER_TOKEN, 403)], ids=["none", "wrong", "of another"]
)
def test_who_may_not_write_uploads_nothing(hub, result, token, status):
    with pytest.raises(HfHubHTTPError) as refused:
        result.push_to_hub(REPO, token=token)
    assert refused.value.response.status_code == status
    assert hub.repos == {}


@pytest.mark.parametrize("place", ["large-files", "commit"])
def test_an_upload_that_is_cut_off_leaves_the_old_revision(hub, build, result, place, monkeypatch):
    build(IMAGES).push_to_hub(REPO, token=OWNER_TOKEN)
    before = hub.repos[REPO].branches["main"], dict(hub.repos[REPO].commits)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits longer and longer before it gives up
    hub.cut_at = place
    with pytest.raises(Exception, match=r"disconnect|reset|Error while uploading"):
        result.push_to_hub(REPO, token=OWNER_TOKEN)
    assert hub.cuts > 0
    assert (hub.repos[REPO].branches["main"], hub.repos[REPO].commits) == before
    assert torch.equal(logits(load(), IMAGES), logits(build(IMAGES), IMAGES))
    hub.cut_at = None
    result.push_to_hub(REPO, token=OWNER_TOKEN)
    assert torch.equal(logits(load(force_download=True), IMAGES), logits(result.model, IMAGES))


def test_a_name_that_is_not_there_says_so(hub):
    with pytest.raises(OSError, match="someone/missing is not a local folder and is not a valid model identifier"):
        load(repo="someone/missing")
