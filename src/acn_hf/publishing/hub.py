"""A folder to a repository on the Hub, in one commit."""

import contextlib
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError

from ..depth.layers import layers_of
from ..embeddings.loading import module_folders
from ..modeling.checkpoint import weight_files
from ..support.sentence_models import inner_model
from ..support.wrappers import is_sentence_model
from .facts import RECORD_FILE, collect
from .model_card import CARD_FILE, PAGE_FILE, picture_in, write_into

PUBLISHED = re.compile(
    r"modules\.json|config_sentence_transformers\.json|sentence_\w+_config\.json"
    r"|config\.json|generation_config\.json|\w+\.py|result\.json|compression\.json|depth_profile\.json|exits\.json"
    r"|(?:tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|preprocessor_config|processor_config)\.json"
    r"|vocab\.txt|merges\.txt|.*\.model|chat_template\.jinja"
)
"""What is uploaded of a folder besides weights and card: its config and code, the processor, the policy of early
exit, and what was measured."""


def prepare_repo(
    repo_id: str, folder: Path, *, private: bool | None, token: str | bool | None, revision: str | None
) -> str:
    """Make a repository and a branch if they do not exist, and copy the card that is there into a folder.

    Returns:
        `str`: The repository's id, with its owner.
    """
    api = HfApi()
    repo_id = api.create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
    if revision is not None:
        api.create_branch(repo_id, branch=revision, token=token, exist_ok=True)
    for name in (CARD_FILE, RECORD_FILE):
        with contextlib.suppress(EntryNotFoundError):
            api.hf_hub_download(repo_id, name, revision=revision, token=token, local_dir=folder)
    return repo_id


def upload(
    folder: Path,
    repo_id: str,
    *,
    commit_message: str = "Upload compressed model",
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> CommitInfo:
    """Upload the files of a folder in one commit, so that every revision of the repository is complete.

    Weights of another number of shards go in the same commit: `from_pretrained` might read them first.
    """
    api = HfApi()
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    stale = weight_files(None)
    there = api.list_repo_files(repo_id, revision=revision, token=token)
    gone = [name for name in there if stale(name) and name not in names]
    return api.create_commit(
        repo_id,
        [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names),
            *(CommitOperationDelete(path_in_repo=name) for name in gone),
        ],
        commit_message=commit_message,
        token=token,
        revision=revision,
        create_pr=create_pr,
    )


def push_files(
    folder: Path,
    repo_id: str,
    model: Any,
    *,
    private: bool | None,
    token: str | bool | None,
    revision: str | None,
    commit_message: str,
    create_pr: bool,
    replace_card: bool,
    also: tuple[str, ...] = (),
    facts: dict[str, Any],
) -> CommitInfo:
    """Upload the published files of a folder, whose checkpoint is `model`, with a card that names the repository.

    Files of the names `also` are uploaded too, if they are there.

    Raises:
        HfHubHTTPError: The Hub refuses; the repository is as it was.
        OSError: The weights are not stored as safetensors.
        TypeError: A fact has a name that a card does not know.
        ValueError: The card in the folder is about another model.
    """
    known = collect(folder, None if (folder / RECORD_FILE).is_file() else model, **facts)
    inner = inner_model(model)
    name, number = type(inner).__name__, len(layers_of(inner))
    if (known.architecture, known.depth) != (name, number):
        raise ValueError(
            f"the card in {folder} must be about the checkpoint there, a {name} of "
            f"{number} layers; it is about a {known.architecture} of {known.depth}: remove "
            f"{RECORD_FILE} to have a new one"
        )
    weights = weight_files(None)
    if not any(weights(path.name) for path in folder.iterdir()):
        raise OSError(f"{folder} must hold its weights as safetensors, which save_pretrained writes")
    with tempfile.TemporaryDirectory() as scratch:
        there, new = Path(scratch, "there"), Path(scratch, "new")
        repo_id = prepare_repo(repo_id, there, private=private, token=token, revision=revision)
        new.mkdir()
        places = [".", *(module_folders(folder) if is_sentence_model(model) else ())]
        for path in (path for place in places for path in (folder / place).iterdir()):
            if path.is_file() and (weights(path.name) or PUBLISHED.fullmatch(path.name) or path.name in also):
                _link(path, new / path.relative_to(folder))
        keeps = (there / CARD_FILE).is_file() and not replace_card
        about = collect(new, known, repo_id=repo_id)
        target, has_page = there if keeps else folder, (new / PAGE_FILE).is_file()
        write_into(new, about, target, has_page=has_page, still=picture_in(folder, about))
        return upload(new, repo_id, commit_message=commit_message, token=token, revision=revision, create_pr=create_pr)


def _link(path: Path, target: Path) -> None:
    """Put a file into another folder too; weights are large, so it is copied only where links are not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(path.absolute())
    except OSError:
        shutil.copyfile(path, target)
