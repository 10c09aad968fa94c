"""Commands that publish a checkpoint: card and push."""

import json

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForImageClassification

from acn_hf import DepthProfile, depth_logits
from tests.support.command_line import (
    DAMAGES,
    IMAGES,
    checkpoint,
    damage,
    gpt2,
    names_in,
    not_ours,
    one_line,
    pictures,
    run,
    wrong_usage,
)
from tests.support.families import NUM_LAYERS
from tests.support.hub_server import OTHER_TOKEN, OWNER_TOKEN

__all__ = ["checkpoint", "gpt2", "pictures", "run"]
REPO = "someone/pushed"


# --- card


def test_card_writes_and_adds(run, checkpoint, pictures, tmp_path):
    run("profile", checkpoint, pictures, "--out", tmp_path / "p.json")
    facts = ("--license", "mit", "--dataset", "Pictures", "--split", "validation", "--name", "Grey")
    result = run("card", checkpoint, *facts, "--profile", tmp_path / "p.json")
    assert result.exit_code == 0, result.output
    assert f"Grey, AcnViTForImageClassification, {NUM_LAYERS} layers" in result.output
    added = ("--result", "accuracy=0.5", "--result", "f1_macro=0.25", "--results-split", "test", "--language", "en")
    assert run("card", checkpoint, *added).exit_code == 0
    card = ModelCard.load(checkpoint / "README.md")
    assert (card.data.license, card.data.language) == ("mit", "en")
    measured = {(one.metric_name, one.dataset_split): one.metric_value for one in card.data.eval_results}
    full = DepthProfile.load(tmp_path / "p.json").values[-1]
    assert measured == {("accuracy", "test"): 0.5, ("f1_macro", "test"): 0.25, ("accuracy", "validation"): full}


def test_what_has_no_card_is_refused(run, checkpoint, gpt2, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.json").write_text("{}")
    for place in ("missing", "wrong.json"):
        assert "the checkpoint must be a folder" in wrong_usage(run("card", tmp_path / place))
    one_line(run("card", tmp_path / "empty"))
    for wrong in ("accuracy", "accuracy=nan", "accuracy=inf", "=1"):
        text = wrong_usage(run("card", checkpoint, "--result", wrong))
        assert f"--result must read METRIC=VALUE, e.g. accuracy=0.93; got '{wrong}'" in text
    assert "holds no DepthProfile" in one_line(run("card", checkpoint, "--profile", tmp_path / "wrong.json"))
    one_line(run("card", checkpoint, "--profile", tmp_path / "missing.json"))
    assert "README.md" not in names_in(checkpoint) | names_in(gpt2) | names_in(tmp_path / "empty")


# --- push


@not_ours
def test_push_uploads_what_is_published_in_one_commit(run, hub, build, checkpoint):
    for secret in ("training_args.bin", "optimizer.pt", "notes.txt"):
        (checkpoint / secret).write_text(OWNER_TOKEN)
    (checkpoint / "checkpoint-1").mkdir()
    before = names_in(checkpoint)
    result = run("push", checkpoint, "pushed", "--token", OWNER_TOKEN, "--private")
    assert result.exit_code == 0, result.output
    assert f"{REPO}/commit/" in result.output
    assert list(hub.repos) == [REPO]
    assert len(hub.repos[REPO].commits) == 2  # the first is the empty repository
    assert hub.repos[REPO].private
    names = set(hub.repos[REPO].files)
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "README.md", "model_card.json"} <= names
    assert not names & {"training_args.bin", "optimizer.pt", "notes.txt"}
    assert names_in(checkpoint) == before
    model = AutoModelForImageClassification.from_pretrained(REPO, token=OWNER_TOKEN)
    inputs = IMAGES.inputs()
    assert torch.equal(depth_logits(model, **inputs), depth_logits(build(IMAGES), **inputs))
    assert f'path = "{REPO}"' in hub.repos[REPO].files["README.md"].decode()


@not_ours
def test_push_of_a_compressed_model_brings_its_evidence(run, hub, checkpoint, pictures, tmp_path):
    run("compress", checkpoint, pictures, tmp_path / "short", "--depth", 1)
    result = run("push", tmp_path / "short", REPO, "--token", OWNER_TOKEN)
    assert result.exit_code == 0, result.output
    assert {"result.json", "depth_profile.json", "depth_profile.png"} <= set(hub.repos[REPO].files)
    facts = json.loads(hub.repos[REPO].files["model_card.json"])
    assert (facts["repo_id"], facts["profile"]["num_examples"]) == (REPO, 6)


@not_ours
def test_branches_pull_requests_and_cards(run, hub, build, checkpoint):
    push = ("push", checkpoint, REPO, "--token", OWNER_TOKEN)
    (checkpoint / "README.md").write_text("---\nlicense: mit\n---\nFirst words.\n")
    assert run(*push).exit_code == 0
    assert b"First words." in hub.repos[REPO].files["README.md"]
    first = hub.repos[REPO].branches["main"]
    assert run(*push, "--revision", "two").exit_code == 0
    build(IMAGES).save_pretrained(checkpoint, depth=2)
    assert "discussions/1" in run(*push, "--create-pr", "--commit-message", "Mine").output
    assert hub.repos[REPO].branches["main"] == first
    assert {"two", "refs/pr/1"} <= set(hub.repos[REPO].branches)
    (checkpoint / "README.md").write_text("Other words.\n")
    assert run(*push).exit_code == 0
    assert b"First words." in hub.repos[REPO].files["README.md"]
    assert run(*push, "--replace-card").exit_code == 0
    card = hub.repos[REPO].files["README.md"]
    assert b"Other words." in card
    assert b"First words." not in card


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_folder_without_a_whole_checkpoint_is_not_pushed(run, hub, checkpoint, kind):
    damage(checkpoint, kind)
    assert DAMAGES[kind] in one_line(run("push", checkpoint, REPO, "--token", OWNER_TOKEN))
    assert hub.repos == {}


@not_ours
def test_a_checkpoint_of_transformers_is_pushed_with_its_card(run, hub, gpt2):
    done = run("push", gpt2, REPO, "--token", OWNER_TOKEN)
    assert done.exit_code == 0, done.output
    assert {"README.md", "config.json", "model.safetensors"} <= set(hub.repos[REPO].files)
    assert "an ordinary checkpoint of transformers" in hub.repos[REPO].files["README.md"].decode()


def test_what_is_no_whole_checkpoint_is_not_pushed(run, hub, checkpoint, build, tmp_path):
    (tmp_path / "file").write_text("mine")
    push = ("--token", OWNER_TOKEN)
    for place in ("missing", "file"):
        text = wrong_usage(run("push", tmp_path / place, REPO, *push))
        assert "the place to upload from must be a folder" in text
    run("card", checkpoint)
    build(IMAGES).save_pretrained(checkpoint, depth=1)
    assert "it is about a AcnViTForImageClassification of 3" in one_line(run("push", checkpoint, REPO, *push))
    assert hub.repos == {}


@pytest.mark.parametrize("token", ["hf_wrong", OTHER_TOKEN])
def test_who_may_not_write_is_one_line(run, hub, checkpoint, token):
    one_line(run("push", checkpoint, REPO, "--token", token))
    assert hub.repos == {}
