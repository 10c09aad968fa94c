"""The files of a Space: what they say, and that what is written runs."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard
from huggingface_hub.errors import HFValidationError
from packaging.version import Version

import acn_hf
from acn_hf.app import space, write_space
from tests.support.command_line import residual

__all__ = ["residual"]

REPO = "someone/short"
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "space"


def checkpoint(tmp_path, card):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text(card)
    return tmp_path / "model"


def distribution(monkeypatch, versions, origin=None):
    """Let these versions be installed and no other, acn-hf from where it is said."""

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    class Installed:
        read_text = staticmethod(lambda name: origin)

    monkeypatch.setattr(space.metadata, "version", version)
    monkeypatch.setattr(space.metadata, "distribution", lambda name: Installed)


def test_three_files_are_written_and_the_head_says_what_the_hub_needs(folder, monkeypatch):
    distribution(monkeypatch, {"gradio": "6.31.0"})
    data = write_space(folder, REPO)
    assert {path.name for path in folder.iterdir()} == {"README.md", "app.py", "requirements.txt"}
    read = SpaceCard.load(folder / "README.md")
    assert read.data.to_dict() == data.to_dict()
    assert (data.sdk, data.sdk_version, data.app_file, data.models) == ("gradio", "6.31.0", "app.py", [REPO])
    assert data.title == "short at every depth"
    assert len(data.short_description) <= 60
    assert data.license is None
    assert f"https://huggingface.co/{REPO}" in read.text


def test_the_python_of_the_space_is_one_that_acn_hf_takes(folder):
    version = write_space(folder, REPO).python_version
    assert isinstance(version, str)
    oldest = tuple(map(int, re.findall(r"\d+", PROJECT["requires-python"])))
    assert tuple(map(int, version.split("."))) >= oldest


def test_the_program_shows_the_model(folder):
    write_space(folder, REPO)
    tree = ast.parse((folder / "app.py").read_text())
    ((imported,), (shown,)) = tree.body[0].names, tree.body[1].value.func.value.args
    assert (tree.body[0].module, imported.name) == ("acn_hf.app", "build_app")
    assert ast.literal_eval(shown) == [REPO]
    assert tree.body[1].value.func.attr == "launch"


def test_without_gradio_it_is_the_oldest_that_the_extra_allows(folder, monkeypatch):
    (wanted,) = (one for one in PROJECT["optional-dependencies"]["app"] if one.startswith("gradio"))
    distribution(monkeypatch, {})
    oldest = wanted.split(",")[0].removeprefix("gradio>=")
    assert Version(write_space(folder, REPO).sdk_version) == Version(oldest)


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        (None, f"acn-hf[app]~={acn_hf.__version__}"),
        ('{"url": "file:///a/clone", "dir_info": {"editable": true}}', f"acn-hf[app]~={acn_hf.__version__}"),
        (
            '{"url": "https://example.org/acn.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}',
            "acn-hf[app] @ git+https://example.org/acn.git@abc",
        ),
        (
            '{"url": "ssh://git@example.org/acn.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}',
            f"acn-hf[app]~={acn_hf.__version__}",
        ),
    ],
    ids=["index", "clone", "repository", "for members only"],
)
def test_acn_hf_is_installed_as_it_was_here(folder, monkeypatch, origin, requirement):
    distribution(monkeypatch, {"gradio": "6.31.0"}, origin)
    write_space(folder, REPO)
    assert (folder / "requirements.txt").read_text().splitlines() == [requirement, "torch"]


def test_a_model_of_sentence_transformers_brings_its_extra(folder, tmp_path):
    model = checkpoint(tmp_path, "")
    (model / "modules.json").write_text("[]")
    (model / "config_sentence_transformers.json").write_text("{}")
    write_space(folder, REPO, checkpoint=model)
    assert (folder / "requirements.txt").read_text().startswith("acn-hf[app,embeddings]")


def test_the_license_of_the_model_is_that_of_the_space(folder, tmp_path):
    head = "license: other\nlicense_name: mine\nlicense_link: LICENSE\nbase_model: x/y\n"
    data = write_space(folder, REPO, checkpoint=checkpoint(tmp_path, f"---\n{head}---\n"))
    assert (data.license, data.license_name, data.license_link) == ("other", "mine", "LICENSE")
    assert "base_model" not in data.to_dict()


@pytest.mark.parametrize("shown", ["models:\n- other/model", "models: other/model"], ids=["list", "one"])
def test_a_card_that_is_there_is_kept(folder, shown):
    folder.mkdir()
    head = f"title: My title\nemoji: 🌍\nsdk: docker\nsdk_version: 1.0.0\n{shown}\n"
    (folder / "README.md").write_text(f"---\n{head}---\nMy words.\n")
    for _ in range(2):
        data = write_space(folder, REPO)
    assert (data.title, data.emoji, data.sdk, data.models) == ("My title", "🌍", "gradio", ["other/model", REPO])
    text = (folder / "README.md").read_text()
    assert text.count("My words.") == text.count("acn-hf: begin") == text.count("title:") == 1


def test_what_cannot_be_written_leaves_the_folder_as_it_was(folder):
    folder.mkdir()
    (folder / "README.md").write_text("---\ntitle: [\n---\n")
    with pytest.raises(ValueError, match="the metadata of the Space's card that is there cannot be read"):
        write_space(folder, REPO)
    for wrong in ("short", "a/b/c", 'someone/"]).launch()#', "someone/<script>"):
        with pytest.raises((HFValidationError, ValueError), match=re.escape(wrong)):
            write_space(folder, wrong)
    assert [path.name for path in folder.iterdir()] == ["README.md"]


@pytest.mark.slow  # a process of its own, since gradio leaves event loops open
def test_the_program_builds_the_app(folder, residual, tmp_path):
    pytest.importorskip("gradio")
    write_space(folder, REPO, checkpoint=residual)
    program = (folder / "app.py").read_text().replace(REPO, str(residual))
    not_launched = "import gradio\ngradio.Blocks.launch = lambda blocks: print('built:', blocks.title)\n"
    (tmp_path / "app.py").write_text(not_launched + program)
    done = subprocess.run([sys.executable, tmp_path / "app.py"], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["built: bert at every depth"], done.stderr
