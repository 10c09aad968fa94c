"""A checkpoint and its Space go to the Hub, which is played by a server on this machine."""

import ast

import pytest
from huggingface_hub import HfApi, SpaceCard

from acn_hf import ConfidenceExit, ExitCalibration
from acn_hf.app import load_checkpoint, push_with_space, write_space
from tests.support.command_line import checkpoint, gpt2, not_ours, one_line, run, wrong_usage
from tests.support.families import NUM_LAYERS
from tests.support.hub_server import OTHER_TOKEN, OWNER_TOKEN, File
from tests.support.sentence_models import sentence_model

__all__ = ["checkpoint", "gpt2", "run"]
REPO, SPACE = "someone/short", "spaces/someone/short"
PUSH = ("--token", OWNER_TOKEN, "--space")
pytestmark = not_ours


def card_of(hub, name=SPACE):
    return SpaceCard(hub.repos[name].files["README.md"].decode())


def make_space(files=(), **options):
    api = HfApi(token=OWNER_TOKEN)
    api.create_repo(REPO, repo_type="space", **{"space_sdk": "gradio", **options})
    for name, text in dict(files).items():
        api.upload_file(path_or_fileobj=text.encode(), path_in_repo=name, repo_id=REPO, repo_type="space")


def test_space_uploads_a_space_of_the_name_of_the_model(run, hub, checkpoint):
    run("card", checkpoint, "--license", "mit")
    done = run("push", checkpoint, "short", *PUSH)
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    assert f"{REPO}/commit/" in done.output
    assert f"its Space is {hub.address}/{SPACE}" in " ".join(done.output.split())
    assert "HF_TOKEN" not in done.output
    assert hub.repos.keys() == {REPO, SPACE}
    repo = hub.repos[SPACE]
    assert (repo.sdk, repo.private, len(repo.commits)) == ("gradio", False, 2)
    assert set(repo.files) == {".gitattributes", "README.md", "app.py", "requirements.txt"}
    data = card_of(hub).data
    assert (data.models, data.license, data.title) == ([REPO], "mit", "short at every depth")
    assert f'build_app(["{REPO}"])' in repo.files["app.py"].decode()
    assert "config.json" in hub.repos[REPO].files


def test_what_is_uploaded_is_what_write_space_writes(hub, checkpoint, tmp_path):
    push_with_space(checkpoint, REPO, token=OWNER_TOKEN)
    write_space(tmp_path / "space", REPO, checkpoint=checkpoint)
    for path in (tmp_path / "space").iterdir():
        assert hub.repos[SPACE].files[path.name] == path.read_bytes()


def test_a_space_of_another_name_has_the_license_of_the_card_on_the_hub(run, hub, checkpoint):
    api = HfApi(token=OWNER_TOKEN)
    api.create_repo(REPO)
    card = b"---\nlicense: apache-2.0\n---\nMine.\n"
    api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=REPO)
    assert run("push", checkpoint, REPO, *PUSH, "--space-name", "try").exit_code == 0
    data = card_of(hub, "spaces/someone/try").data
    assert (data.license, data.models) == ("apache-2.0", [REPO])
    assert hub.repos.keys() == {REPO, "spaces/someone/try"}


@pytest.mark.parametrize(
    "is_said", [pytest.param(True, marks=pytest.mark.slow), False], ids=["--private", "is private already"]
)
def test_private_stays_private(run, hub, checkpoint, is_said):
    if not is_said:
        HfApi(token=OWNER_TOKEN).create_repo(REPO, private=True)
    done = run("push", checkpoint, REPO, *PUSH, *(["--private"] if is_said else []))
    assert done.exit_code == 0, done.output
    assert hub.repos[REPO].private
    assert hub.repos[SPACE].private
    assert "as the secret HF_TOKEN in its settings" in done.output
    assert not any(OWNER_TOKEN.encode() in content for content in hub.repos[SPACE].files.values())


def test_a_public_space_does_not_name_a_private_model(run, hub, checkpoint):
    make_space()
    before = hub.repos[SPACE].files
    line = one_line(run("push", checkpoint, REPO, *PUSH, "--private"))
    assert f"the Space {REPO} must be private as its model is; it is public" in line
    assert (list(hub.repos), hub.repos[SPACE].files) == ([SPACE], before)


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        ({"app.py": "import gradio"}, {}, "the app.py of the Space someone/short must be one by acn-hf to be replaced"),
        ({}, {"space_sdk": "docker"}, "must be one of gradio to show a model; it is one of docker"),
        ({"README.md": "---\n- no\n---\n"}, {}, "the metadata of the Space's card that is there cannot be read"),
    ],
    ids=["of somebody's own", "docker", "damaged"],
)
def test_a_space_that_is_not_ours_is_left_alone(run, hub, checkpoint, files, options, said):
    make_space(**options)
    there = {name: File(text.encode(), False) for name, text in files.items()}  # which the Hub need not have checked
    hub.repos[SPACE].commit("main", there)
    before = hub.repos[SPACE].files
    assert said in one_line(run("push", checkpoint, REPO, *PUSH))
    assert (list(hub.repos), hub.repos[SPACE].files) == ([SPACE], before)


def test_a_space_of_ours_is_brought_up_to_date_and_keeps_its_card(run, hub, checkpoint):
    program = "from acn_hf.app import build_app\nbuild_app(['someone/before']).launch()\n"
    card = "---\ntitle: Mine\nemoji: 🌍\nsdk: gradio\nsdk_version: 1.0.0\nmodels: [someone/before]\n---\nMy words.\n"
    make_space({"app.py": program, "README.md": card, "notes.txt": "mine"})
    assert run("push", checkpoint, REPO, *PUSH).exit_code == 0
    read = card_of(hub)
    assert (read.data.title, read.data.models, read.text.count("My words.")) == ("Mine", ["someone/before", REPO], 1)
    assert read.data.sdk_version != "1.0.0"
    files = hub.repos[SPACE].files
    assert files["notes.txt"] == b"mine"
    tree = ast.parse(files["app.py"].decode())
    assert ast.literal_eval(tree.body[1].value.func.value.args[0]) == [REPO]


@pytest.mark.parametrize("name", ["a/b/c", "no name", "someone/../x"])
def test_a_name_that_is_none_uploads_nothing(run, hub, checkpoint, name):
    before = {path: path.read_bytes() for path in checkpoint.iterdir()}
    for names in ([name], [REPO, "--space-name", name]):
        line = one_line(run("push", checkpoint, *names, *PUSH))
        assert "HFValidationError" in line
        assert name in line
    assert hub.repos == {}
    assert {path: path.read_bytes() for path in checkpoint.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--space-name", "other"), "--space-name is for --space"),
        (("--space", "--create-pr"), "--create-pr and --space do not go together"),
        (("--space", "--revision", "two"), "--revision and --space do not go together"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_wrong_usage(run, hub, checkpoint, options, said):
    assert said in wrong_usage(run("push", checkpoint, REPO, "--token", OWNER_TOKEN, *options))
    assert hub.repos == {}


@pytest.mark.parametrize("options", [{"revision": "two"}, {"create_pr": True}], ids=str)
def test_a_space_of_another_branch_is_refused(hub, checkpoint, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"a Space shows what main holds, so {name} must not be given"):
        push_with_space(checkpoint, REPO, token=OWNER_TOKEN, **options)
    assert hub.repos == {}


def test_what_the_app_cannot_show_is_not_pushed(run, hub, gpt2, checkpoint):
    line = one_line(run("push", gpt2, REPO, *PUSH))
    assert "UnsupportedError: the app answers with models that classify" in line
    (checkpoint / "preprocessor_config.json").unlink()
    assert "DataError" in one_line(run("push", checkpoint, REPO, *PUSH))
    assert hub.repos == {}


def test_the_policy_of_early_exit_goes_with_the_model(hub, checkpoint):
    policy = ExitCalibration(ConfidenceExit(0.75), 0.01, 0.9, 0.895, 1.5, 3)
    policy.save(checkpoint / "exits.json")
    push_with_space(checkpoint, REPO, token=OWNER_TOKEN)
    assert hub.repos[REPO].files["exits.json"] == (checkpoint / "exits.json").read_bytes()
    shown = load_checkpoint(REPO)
    assert (shown.policy, shown.name, len(shown.depths)) == (ConfidenceExit(0.75), REPO, NUM_LAYERS + 1)


@pytest.mark.slow  # imports sentence-transformers
def test_a_model_of_sentence_transformers_has_a_space(run, hub, tmp_path):
    sentence_model(tmp_path / "transformer").save_pretrained(str(tmp_path / "model"))
    done = run("push", tmp_path / "model", REPO, *PUSH)
    assert done.exit_code == 0, done.output
    assert hub.repos[SPACE].files["requirements.txt"].startswith(b"acn-hf[app,embeddings]")
    assert load_checkpoint(REPO).kind == "similarity"


# --- what fails


@pytest.mark.parametrize("token", [pytest.param("hf_wrong", marks=pytest.mark.slow), OTHER_TOKEN])
def test_who_may_not_write_uploads_nothing(run, hub, checkpoint, token):
    one_line(run("push", checkpoint, REPO, "--token", token, "--space"))
    assert hub.repos == {}


def test_a_space_that_the_hub_refuses_leaves_the_model_and_says_so(run, hub, checkpoint):
    hub.refused_kinds.add("space")
    line = one_line(run("push", checkpoint, REPO, *PUSH))
    assert "402" in line
    assert f"{REPO}/commit/" in line
    assert f"but not its Space {REPO}: the same command does it" in line
    assert list(hub.repos) == [REPO]


@pytest.mark.parametrize("is_there", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["there", "new"])
def test_an_upload_that_is_cut_off_leaves_the_space_as_it_was(run, hub, checkpoint, monkeypatch, is_there):
    if is_there:
        make_space({"app.py": "import acn_hf.app"})
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits longer and longer before it gives up
    hub.cut_at = f"/api/{SPACE}/commit"
    line = one_line(run("push", checkpoint, REPO, *PUSH))
    assert hub.cuts > 0
    assert f"but not its Space {REPO}" in line
    assert "config.json" in hub.repos[REPO].files
    assert hub.repos[SPACE].files.get("app.py") == (b"import acn_hf.app" if is_there else None)
    assert "requirements.txt" not in hub.repos[SPACE].files


def test_a_model_that_fails_makes_no_space(run, hub, checkpoint, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.cut_at = f"/api/models/{REPO}/commit"
    line = one_line(run("push", checkpoint, REPO, *PUSH))
    assert hub.cuts > 0
    assert "its Space" not in line
    assert list(hub.repos) == [REPO]
