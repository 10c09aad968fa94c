"""A checkpoint works by `trust_remote_code` where acn_hf cannot be imported.

One process reads all of them, one after the other, so that none may disturb the next.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

import acn_hf
from tests.support.families import HEADS, by_name, each_head

WRITTEN_BEFORE = Path(__file__).parents[1] / "fixtures" / "checkpoint-0.1.0"
"""A folder that acn_hf 0.1.0 wrote when all its modules lay side by side: weights, code, card, and what it answered."""
READER = Path(__file__).parents[1] / "support" / "remote_code_reader.py"
OPTIONS = {"residual_scale": [1.0, 0.25, 0.0], "readout": "sum", "learn_residual_scale": True}


def place(folder: Path, name: str) -> Path:
    """Return where a model is saved: in folders of the same name, which its code's classes must not confuse.

    Upstream remembers one class an Auto class for all of them; DeiT has two that one Auto class serves.
    """
    return folder / name / (name if name.endswith("WithTeacher") else "model")


def first_output(model, inputs):
    with torch.no_grad():
        return model(**inputs)[0]


def answered_before():
    """Return the inputs and the logits at full depth that lie beside the old checkpoint."""
    told = json.loads((WRITTEN_BEFORE / "expected.json").read_text())
    return {"input_ids": torch.tensor(told["input_ids"])}, torch.tensor(told["depth_logits"])[-1]


def save_everything(folder: Path):
    """Save one model a head and some in other ways; return the reader's jobs and the outputs that they must have."""
    jobs, expected = [], {}

    def add(name, head, model, *, options=None, depth=None, **how):
        model.save_pretrained(place(folder, name), depth=depth, **how)
        cut = acn_hf.truncate(model, (options or {}).get("num_hidden_layers", 3) if depth is None else depth)
        inputs = head.inputs()
        expected[name] = first_output(cut, inputs)
        path = str(place(folder, name))
        jobs.append({"name": name, "folder": path, "auto": head.auto, "inputs": inputs, "options": options or {}})

    for head in HEADS:
        add(head.name, head, head.build(**OPTIONS))
    bert, vit = by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")
    add("cut", vit, vit.build(**OPTIONS), depth=1)
    add("prefix", bert, bert.build(**OPTIONS), options={"num_hidden_layers": 2})
    add("shards", vit, vit.build(**OPTIONS), max_shard_size="4KB")
    inputs, expected["before"] = answered_before()
    path, auto = str(WRITTEN_BEFORE), bert.auto
    jobs.append({"name": "before", "folder": path, "auto": auto, "inputs": inputs, "options": {}})
    return jobs, expected


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Return what the other process said, and what it should have said."""
    folder = tmp_path_factory.mktemp("remote")
    jobs, expected = save_everything(folder)
    torch.save(jobs, folder / "jobs.pt")
    (folder / "answers").mkdir()
    environment = {**os.environ, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_MODULES_CACHE", None)
    command = [sys.executable, str(READER), str(folder / "jobs.pt"), str(folder / "answers")]
    result = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    facts = json.loads((folder / "answers" / "facts.json").read_text())
    outputs = {job["name"]: load_file(folder / "answers" / f"{job['name']}.safetensors") for job in jobs}
    return {"facts": facts, "outputs": outputs, "expected": expected, "folder": folder, "stderr": result.stderr}


def test_the_other_process_cannot_import_acn_hf(answers):
    assert answers["facts"]["acn_hf imported"] is False


@each_head()
def test_every_auto_class(answers, head):
    facts = answers["facts"][head.name]
    assert facts["class"] == head.acn.__name__
    assert facts["module"].startswith("transformers_modules.")
    assert torch.equal(answers["outputs"][head.name]["output"], answers["expected"][head.name])


@pytest.mark.parametrize("name", ["cut", "prefix", "shards"])
def test_other_ways_to_save_and_load(answers, name):
    assert torch.equal(answers["outputs"][name]["output"], answers["expected"][name])


def test_a_checkpoint_of_an_earlier_layout_works_by_its_own_code(answers):
    facts = answers["facts"]["before"]
    assert facts["class"] == "AcnBertForSequenceClassification"
    assert facts["module"].startswith("transformers_modules.")
    # Not to the bit: the folder was written on another processor.
    torch.testing.assert_close(answers["outputs"]["before"]["output"], answers["expected"]["before"])


def test_a_checkpoint_of_an_earlier_layout_works_by_the_installed_code():
    model = transformers.AutoModelForSequenceClassification.from_pretrained(WRITTEN_BEFORE)
    assert type(model) is acn_hf.AcnBertForSequenceClassification
    inputs, logits = answered_before()
    torch.testing.assert_close(first_output(model.eval(), inputs), logits)
    assert acn_hf.truncate(model, 1).config.original_num_hidden_layers == 4


def test_records_of_an_earlier_layout_are_read(tmp_path):
    profile = acn_hf.DepthProfile.load(WRITTEN_BEFORE / "depth_profile.json")
    assert profile.depths == (0, 1, 2, 3, 4)
    folder = shutil.copytree(WRITTEN_BEFORE, tmp_path / "copy")
    facts = acn_hf.write_model_card(folder, description="Read again.")
    assert (facts.dataset, facts.license, facts.profile) == ("four sentences", "apache-2.0", profile)


@each_head()
def test_a_model_that_was_loaded_by_remote_code_is_saved_with_its_code(answers, head):
    assert torch.equal(answers["outputs"][head.name]["again"], answers["expected"][head.name])
    code = {path.name for path in place(answers["folder"], head.name).glob("*.py")}
    assert code
    assert code <= set(answers["facts"][head.name]["again"])


@each_head()
def test_acn_hf_reads_what_remote_code_saved(answers, head):
    loaded = head.acn.from_pretrained(answers["folder"] / "answers" / f"{head.name}-again")
    assert torch.equal(first_output(loaded, head.inputs()), answers["expected"][head.name])


def test_downloaded_code_lies_in_hf_home(answers):
    assert list((answers["folder"] / "home").rglob("modeling_acn_bert.py"))


def test_nothing_is_reported_on_standard_error(answers):
    assert "Traceback" not in answers["stderr"]
    assert "newly initialized" not in answers["stderr"]


@each_head()
def test_where_acn_hf_is_imported_the_installed_class_is_used(answers, head):
    folder = place(answers["folder"], head.name)
    loaded = getattr(transformers, head.auto).from_pretrained(folder)
    assert type(loaded) is head.acn
    assert torch.equal(first_output(loaded, head.inputs()), answers["expected"][head.name])


@each_head()
def test_saved_code_is_the_installed_code(answers, head):
    source = Path(acn_hf.__file__).parent / "modeling"
    for path in place(answers["folder"], head.name).glob("*.py"):
        assert path.read_bytes() == (source / path.name).read_bytes()
