"""A checkpoint goes to the Hub together with the Space that shows it."""

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi, SpaceInfo
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from ..publishing.checkpoints import push_checkpoint
from ..publishing.model_card import CARD_FILE
from ..support.stopping import on_stop
from .checkpoint import load_checkpoint
from .space import APP_FILE, OURS, license_of, needs_of, read_card, write_files

OTHERWISE = " (another name makes another Space)"


@dataclass(frozen=True)
class Pushed:
    """A checkpoint and its Space on the Hub.

    Args:
        model (`CommitInfo`): The commit of the checkpoint.
        space (`CommitInfo`): The commit of the Space.
        space_url (`str`): Where the Space runs.
        is_private (`bool`): Whether the model is private, so that the Space needs a token to read it.
    """

    model: CommitInfo
    space: CommitInfo
    space_url: str
    is_private: bool


def push_with_space(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    space_id: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    **options: Any,
) -> Pushed:
    """Upload a checkpoint, and a Space that runs the app for it.

    The Space is as private as the model. One that is there is kept: its card stays, and its program is replaced if it
    is one of ours. All that can be refused is refused before anything is uploaded.

    Args:
        folder (`str` or `os.PathLike`): The folder of the checkpoint; it is left as it is.
        repo_id (`str`): The repository of the model; it is made if it does not exist.
        space_id (`str`, *optional*): The Space; it is made if it does not exist. Defaults to the name of the model.
        private (`bool`, *optional*): Whether new repositories are private.
        token (`str` or `bool`, *optional*): Defaults to the one of `hf auth login`.
        options: Passed on to [`push_checkpoint`]. A Space shows what `main` holds, so `revision` and `create_pr` are
            not among them.

    Returns:
        `Pushed`: Where both lie.

    Raises:
        DataError: No tokenizer or image processor lies beside the checkpoint.
        DepthError: Its layers are not a plain stack, or it lacks weights of some layer.
        HfHubHTTPError: The Hub refuses. A note says what is done by then.
        HFValidationError: A name is none.
        NotADirectoryError: `folder` is no folder.
        OSError: It holds no checkpoint.
        UnsupportedError: The app has no answer of its head.
        ValueError: The Space that is there is not ours to replace, or is public although the model is private, or its
            card cannot be read, or an option is not allowed.

    Example:

    ```python
    >>> from acn_hf.app import push_with_space

    >>> push_with_space("no-such-folder", "someone/acn")
    Traceback (most recent call last):
    NotADirectoryError: the place to upload from must be a folder; no-such-folder is none

    ```
    """
    for name in ("revision", "create_pr"):
        if options.get(name):
            raise ValueError(f"a Space shows what main holds, so {name} must not be given; got {options[name]!r}")
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"the place to upload from must be a folder; {folder} is none")
    api = HfApi(token=token)
    repo_id, space_id = _full_names(api, repo_id, repo_id if space_id is None else space_id)
    needs = needs_of(folder)
    load_checkpoint(folder)  # what the app cannot show is refused
    with tempfile.TemporaryDirectory() as scratch:
        there = _existing_space(api, space_id, Path(scratch))
        if there is not None:
            _check(there, Path(scratch), is_private=_is_private(api, repo_id, private))
        model = push_checkpoint(folder, repo_id, private=private, token=token, **options)
        said = f"the model was pushed, {model.commit_url}, but not its Space {space_id}: the same command does it"
        try:
            with on_stop(said):
                is_private = _is_private(api, repo_id, private)
                if there is None:
                    api.create_repo(space_id, repo_type="space", space_sdk="gradio", private=is_private)
                else:
                    _check(there, Path(scratch), is_private=is_private)
                card = Path(api.hf_hub_download(repo_id, CARD_FILE, revision=model.oid)).read_text(encoding="utf-8")
                write_files(Path(scratch), repo_id, license_of(card), needs)
                space = api.upload_folder(
                    repo_id=space_id,
                    folder_path=scratch,
                    repo_type="space",
                    commit_message=f"Show {repo_id}",
                    ignore_patterns=".cache/**",
                )
        except Exception as error:
            error.add_note(said)
            raise
    return Pushed(model, space, f"{api.endpoint}/spaces/{space_id}", is_private)


def _full_names(api: HfApi, *names: str) -> list[str]:
    """Return names of repositories with their owner, who is the user where none is named."""
    for name in names:
        validate_repo_id(name)
    if all("/" in name for name in names):
        return list(names)
    user = api.whoami()["name"]
    return [name if "/" in name else f"{user}/{name}" for name in names]


def _existing_space(api: HfApi, space_id: str, folder: Path) -> SpaceInfo | None:
    """Return what the Hub says of a Space, with its card and program in a folder, or `None` if there is none."""
    try:
        info = api.space_info(space_id)
    except RepositoryNotFoundError:
        return None
    for name in (CARD_FILE, APP_FILE):
        with contextlib.suppress(EntryNotFoundError):
            api.hf_hub_download(space_id, name, repo_type="space", revision=info.sha, local_dir=folder)
    return info


def _check(space: SpaceInfo, folder: Path, *, is_private: bool) -> None:
    """Refuse a Space of somebody's own, a card that cannot be read, and to name a private model in public."""
    if space.sdk != "gradio":
        raise ValueError(
            f"the Space {space.id} must be one of gradio to show a model; it is one of {space.sdk}{OTHERWISE}"
        )
    program, card = folder / APP_FILE, folder / CARD_FILE
    if program.is_file() and OURS not in program.read_text(encoding="utf-8"):
        raise ValueError(
            f"the {APP_FILE} of the Space {space.id} must be one by acn-hf to be replaced; it does not import {OURS}"
            f"{OTHERWISE}"
        )
    if card.is_file():
        read_card(card.read_text(encoding="utf-8"))
    if is_private and not space.private:
        raise ValueError(f"the Space {space.id} must be private as its model is; it is public{OTHERWISE}")


def _is_private(api: HfApi, repo_id: str, private: bool | None) -> bool:
    """Return whether a model is private; of one that is not there yet, whether it will be."""
    try:
        return bool(api.model_info(repo_id).private)
    except RepositoryNotFoundError:
        return bool(private)
