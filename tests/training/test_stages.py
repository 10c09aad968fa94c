"""Stages of a long job: stored when they are done, read when it goes on, refused where they are another job's."""

import json
import re

import pytest
import torch

from acn_hf import truncate
from acn_hf.training.stages import StageError, Stages
from tests.support.any_models import ALL
from tests.support.training import same_weights, weights

MODEL = next(one for one in ALL if one.name == "BertForSequenceClassification")


def plus_one(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    return model


def fails(model):
    raise AssertionError("the stage is trained again")


def test_a_stage_that_is_done_is_read(tmp_path):
    first = Stages.begin(tmp_path / "job", False, {"model": "a"})
    trained = first.trained("taught", MODEL.build(), plus_one)
    again = Stages.begin(tmp_path / "job", True, {"model": "a"})
    read = again.trained("taught", MODEL.build(), fails)
    assert same_weights(weights(read), weights(trained))
    assert not same_weights(weights(read), weights(MODEL.build()))
    assert again.seconds == first.seconds
    assert set(again.seconds) == {"taught"}


def test_what_was_noted_of_a_stage_is_stored_with_it(tmp_path):
    first = Stages.begin(tmp_path, False, {})

    def train(model):
        first.note("taught", epochs=4.0)
        first.note("taught", seed=7)
        return model

    first.trained("taught", MODEL.build(), train)
    again = Stages.begin(tmp_path, True, {})
    assert not again.notes
    again.trained("taught", MODEL.build(), fails)
    assert again.notes == first.notes == {"taught": {"epochs": 4.0, "seed": 7}}


def test_a_stage_that_was_stored_without_notes_is_read(tmp_path):
    Stages.begin(tmp_path, False, {}).trained("taught", MODEL.build(), plus_one)
    facts = json.loads((tmp_path / "taught" / "stage.json").read_text())
    del facts["notes"]
    (tmp_path / "taught" / "stage.json").write_text(json.dumps(facts))
    again = Stages.begin(tmp_path, True, {})
    again.trained("taught", MODEL.build(), fails)
    assert again.notes == {"taught": {}}


def test_layers_may_have_left_in_a_stage(tmp_path):
    Stages.begin(tmp_path, False, {}).trained("finetuned", MODEL.build(), lambda model: plus_one(truncate(model, 2)))
    read = Stages.begin(tmp_path, True, {}).trained("finetuned", MODEL.build(), fails)
    assert read.config.num_hidden_layers == 2
    assert same_weights(weights(read), weights(plus_one(truncate(MODEL.build(), 2))))


def test_tied_weights_stay_tied(tmp_path):
    kind = next(one for one in ALL if one.name == "XLMRobertaForMaskedLM")
    Stages.begin(tmp_path, False, {}).trained("taught", kind.build(), plus_one)
    read = Stages.begin(tmp_path, True, {}).trained("taught", kind.build(), fails)
    assert read.get_output_embeddings().weight is read.get_input_embeddings().weight


def test_without_a_folder_nothing_is_stored():
    stages = Stages.begin(None, False, {"model": "a"})
    assert same_weights(weights(stages.trained("taught", MODEL.build(), plus_one)), weights(plus_one(MODEL.build())))
    assert stages.folder is None


def test_an_error_in_a_stage_leaves_those_before(tmp_path):
    stages = Stages.begin(tmp_path, False, {})
    stages.trained("tuned", MODEL.build(), plus_one)
    with pytest.raises(AssertionError, match="again"):
        stages.trained("taught", MODEL.build(), fails)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.json", "tuned"]


@pytest.mark.parametrize("broken", ["weights", "facts", "both"])
def test_half_of_a_stage_is_refused(tmp_path, broken):
    Stages.begin(tmp_path, False, {}).trained("taught", MODEL.build(), plus_one)
    if broken in ("weights", "both"):
        path = tmp_path / "taught" / "weights.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
    if broken in ("facts", "both"):
        (tmp_path / "taught" / "stage.json").write_text("{}")
    with pytest.raises(StageError, match=re.escape(f"{tmp_path / 'taught'} must hold a whole stage of this job")):
        Stages.begin(tmp_path, True, {}).trained("taught", MODEL.build(), fails)


DIGEST = 64 * "a"
BEGAN = {"--teach-epochs": 4.0, "stages": ["teach", "heal"], "--max-length": None, "--seed": 0}


@pytest.mark.parametrize(
    ("change", "contents", "text"),
    [
        ({"--teach-epochs": 3.0}, {}, "--teach-epochs was 4 and is 3"),
        ({"stages": ["teach"]}, {}, "stages was teach, heal and is teach"),
        ({"--max-length": 64}, {}, "--max-length was not given and is 64"),
        ({"--seed": None}, {}, "--seed was 0 and is not given"),
        ({}, {"train": ("train.csv", 64 * "b")}, "train.csv has changed"),
        ({}, {"train": ("other.csv", DIGEST), "test": ("test.csv", DIGEST)}, "test.csv was not given"),
        ({"--seed": 1}, {"train": ("train.csv", 64 * "b")}, "--seed was 0 and is 1"),
        ({"--seed": 1, "--teach-epochs": 2.5}, {}, "--teach-epochs was 4 and is 2.5, and --seed was 0 and is 1"),
    ],
)
def test_another_job_is_refused_with_what_differs_in_words(tmp_path, change, contents, text):
    Stages.begin(tmp_path, False, BEGAN, {"train": ("train.csv", DIGEST)})
    stored = (tmp_path / "job.json").read_text()
    with pytest.raises(StageError) as refused:
        Stages.begin(tmp_path, True, {**BEGAN, **change}, {"train": ("train.csv", DIGEST), **contents})
    advice = "give what was given then, or begin anew in another folder"
    assert str(refused.value) == f"a job goes on as it began, but {text}: {advice}"
    assert (tmp_path / "job.json").read_text() == stored
    assert Stages.begin(tmp_path, True, BEGAN, {"train": ("renamed.csv", DIGEST)}).folder == tmp_path
    with pytest.raises(StageError, match="but train was given and is not: "):
        Stages.begin(tmp_path, True, BEGAN)
    with pytest.raises(StageError, match="holds the stages of a job: resume=True goes on with it"):
        Stages.begin(tmp_path, False, BEGAN)


def test_a_job_that_has_not_begun_begins(tmp_path):
    assert Stages.begin(tmp_path / "new", True, {}).folder == tmp_path / "new"
    with pytest.raises(StageError, match="resume=True needs a work_dir"):
        Stages.begin(None, True, {})
