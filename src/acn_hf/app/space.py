"""The files of a Space of the Hub that runs the app for a checkpoint."""

import json
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml  # type: ignore[import-untyped]
from huggingface_hub import ModelCard, SpaceCard, SpaceCardData
from huggingface_hub.utils import validate_repo_id

from .._version import __version__
from ..embeddings.loading import is_sentence_transformer
from ..modeling.checkpoint import written_beside
from ..publishing.model_card import CARD_FILE

APP_FILE, REQUIREMENTS_FILE = "app.py", "requirements.txt"
OLDEST_GRADIO = "6.0.0"
"""The oldest that the extra `app` allows."""
OURS = "acn_hf.app"
"""What the program of a Space imports that shows a model by this package."""
SHORT_DESCRIPTION = "What a model answers at every depth, side by side"
"""At most 60 characters, which the Hub takes."""
LICENSE_FIELDS = ("license", "license_name", "license_link")
OF_THE_USER = ("title", "short_description")
"""What a card that is there may call otherwise."""
_BLOCK = re.compile(r"<!-- acn-hf: begin -->.*<!-- acn-hf: end -->", re.S)


def write_space(
    folder: str | os.PathLike, repo_id: str, *, checkpoint: str | os.PathLike | None = None
) -> SpaceCardData:
    """Write the files of a Space that runs the app for a model of the Hub.

    `README.md`, `app.py` and `requirements.txt` appear together. A `README.md` that is there is kept: our text is added
    to it or replaces that of an earlier call, and of its metadata those change that decide what runs.

    Args:
        folder (`str` or `os.PathLike`): The folder of the Space.
        repo_id (`str`): The model that is shown, as the Hub calls it: `someone/model`.
        checkpoint (`str` or `os.PathLike`, *optional*): The folder of that model. The license of its card is that of
            the Space too, and a SentenceTransformer is known by it, for which sentence-transformers is installed.

    Returns:
        `SpaceCardData`: The metadata of the Space.

    Raises:
        HFValidationError: `repo_id` is none.
        NotADirectoryError: `folder` is a file.
        ValueError: `repo_id` has no owner, or the metadata of a card that is there cannot be read.

    Example:

    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from acn_hf.app import write_space

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data = write_space(folder, "someone/short")
    ...     print(Path(folder, "app.py").read_text())
    from acn_hf.app import build_app
    <BLANKLINE>
    build_app(["someone/short"]).launch()
    <BLANKLINE>
    >>> data.models
    ['someone/short']

    ```
    """
    card = None if checkpoint is None else Path(checkpoint, CARD_FILE)
    return write_files(
        Path(folder),
        repo_id,
        license_of(None if card is None or not card.is_file() else card.read_text(encoding="utf-8")),
        needs_of(checkpoint),
    )


def write_files(folder: Path, repo_id: str, license: dict[str, Any], needs: list[str]) -> SpaceCardData:
    """Write the files of a Space; see [`write_space`].

    Args:
        folder (`Path`): The folder of the Space, whose card is kept.
        repo_id (`str`): The model that is shown.
        license (`dict`): What metadata say of its license.
        needs (`list[str]`): Extras of acn-hf that are installed.
    """
    validate_repo_id(repo_id)
    if "/" not in repo_id:
        raise ValueError(f"a model that a Space shows must be named with its owner; got {repo_id!r}")
    there = folder / CARD_FILE
    text, data = _card(repo_id, license, there.read_text(encoding="utf-8") if there.is_file() else None)
    with written_beside(folder) as beside:
        (beside / CARD_FILE).write_text(text, encoding="utf-8")
        program = f"from {OURS} import build_app\n\nbuild_app([{json.dumps(repo_id)}]).launch()\n"
        (beside / APP_FILE).write_text(program, encoding="utf-8")
        (beside / REQUIREMENTS_FILE).write_text(f"{_requirement(needs)}\ntorch\n", encoding="utf-8")
    return data


def license_of(card: str | None) -> dict[str, Any]:
    """Return what the metadata of a model card say of the license.

    Args:
        card (`str`, *optional*): Its text.

    Raises:
        ValueError: The metadata cannot be read.
    """
    if card is None:
        return {}
    data = ModelCard(card, ignore_metadata_errors=True).data
    return {name: value for name in LICENSE_FIELDS if (value := data.get(name)) is not None}


def needs_of(checkpoint: str | os.PathLike | None) -> list[str]:
    """Return the extras of acn-hf that a checkpoint in a folder needs to be shown."""
    is_embedder = checkpoint is not None and is_sentence_transformer(checkpoint)
    return ["app", "embeddings"] if is_embedder else ["app"]


def read_card(text: str) -> SpaceCard:
    """Return the card of a Space.

    Raises:
        ValueError: Its metadata cannot be read.
    """
    try:
        return SpaceCard(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"the metadata of the Space's card that is there cannot be read: {error}") from error


def _card(repo_id: str, license: dict[str, Any], existing: str | None) -> tuple[str, SpaceCardData]:
    """Return the card of a Space, inside one that is there, and its metadata."""
    data: dict[str, Any] = {
        "title": f"{repo_id.split('/')[-1]} at every depth",
        "short_description": SHORT_DESCRIPTION,
        "sdk": "gradio",
        "sdk_version": _gradio_version(),
        # The Hub's own default is older than what acn-hf needs.
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "app_file": APP_FILE,
        "models": [repo_id],
        **license,
    }
    block = f"<!-- acn-hf: begin -->\n{_text(repo_id)}\n<!-- acn-hf: end -->"
    if existing is None or not existing.strip():
        existing = f"---\nsdk: gradio\n---\n\n# {data['title']}\n"
    card = read_card(existing)
    if _BLOCK.search(card.text):
        text = _BLOCK.sub(lambda match: block, card.text).strip()
    else:
        text = f"{card.text.strip()}\n\n{block}"
    old = {name: value for name, value in card.data.to_dict().items() if value is not None}
    data |= {name: old[name] for name in OF_THE_USER if name in old}
    shown = old.get("models", [])
    data["models"] = list(dict.fromkeys([*([shown] if isinstance(shown, str) else shown), repo_id]))
    written = SpaceCardData(**{**old, **data})
    return f"---\n{written.to_yaml()}\n---\n\n{text}\n", written


def _text(repo_id: str) -> str:
    """Return what a Space says of itself."""
    return (
        f"What [{repo_id}](https://huggingface.co/{repo_id}) answers at each of its depths, how sure it is, and how "
        f"long it takes. `acn-hf app {repo_id}` opens the same app on a machine of your own."
    )


def _gradio_version() -> str:
    """Return the version of gradio by which a Space is shown as here, or where it is not installed, the oldest."""
    try:
        return metadata.version("gradio")
    except metadata.PackageNotFoundError:
        return OLDEST_GRADIO


def _requirement(needs: list[str]) -> str:
    """Return by what a Space installs acn-hf: as it was installed here from a repository, else by its version."""
    name = f"acn-hf[{','.join(needs)}]"
    try:
        origin = json.loads(metadata.distribution("acn-hf").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        origin = {}
    address, commit = origin.get("url", ""), origin.get("vcs_info", {}).get("commit_id")
    if commit is not None and urlsplit(address).scheme == "https":  # which says no password there
        return f"{name} @ {origin['vcs_info']['vcs']}+{address}@{commit}"
    return f"{name}~={__version__}"
