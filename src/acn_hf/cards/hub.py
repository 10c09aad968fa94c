"""A folder to a repository on the Hub, in one commit."""

import contextlib
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError

from ..modeling.checkpoint import weight_files
from .facts import RECORD_FILE
from .writing import CARD_FILE


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
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
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
