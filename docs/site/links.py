"""Links of pages as they are read on GitHub, turned into links of the site."""

import re
from collections.abc import Mapping
from pathlib import Path

from package import DOCS, PACKAGE, ROOT, SOURCES

CODE = re.compile(r"(^```.*?^```$)", re.M | re.S)
LABEL = r"\[(?P<label>(?:[^\[\]]|\[[^\[\]]*\])*)\]"
LINK = re.compile(r"(?P<image>!?)" + LABEL + r"\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")


class BrokenLinkError(Exception):
    """Links to files that do not exist."""


def for_the_site(text: str, folder: Path, *, pages: Mapping[str, str], repository: str | None) -> str:
    """Return the text of a page with every link leading to what the site has of its target.

    That is a page, the reference of a module, or the file at the address of the repository. As long as there is no
    address, what only the repository holds is plain text.

    Args:
        text (`str`): The page.
        folder (`Path`): Where it lies, which its links start from.
        pages (`Mapping[str, str]`): Pages of the site that lie outside of `docs/`: file and page.
        repository (`str`, *optional*): Address of the repository.

    Raises:
        BrokenLinkError: Targets of links do not exist.
    """
    broken = []

    def rewrite(found: re.Match[str]) -> str:
        label, anchor = found["label"], found["anchor"] or ""
        path = (folder / found["target"]).resolve()
        if not (path.exists() and path.is_relative_to(ROOT)):
            broken.append(found[0])
            return found[0]
        inside = path.relative_to(ROOT).as_posix()
        if path.is_relative_to(DOCS) or inside in pages:
            page = pages.get(inside) or path.relative_to(DOCS).as_posix()
            return f"{found['image']}[{label}]({page}{anchor})"
        if _has_reference(path):
            return f"[{label}][{'.'.join(path.relative_to(SOURCES).with_suffix('').parts)}]"
        if repository:
            return f"[{label}]({repository}/{'tree' if path.is_dir() else 'blob'}/HEAD/{inside}{anchor})"
        return label

    rewritten = "".join(part if CODE.fullmatch(part) else LINK.sub(rewrite, part) for part in CODE.split(text))
    if broken:
        raise BrokenLinkError(", ".join(broken))
    return rewritten


def _has_reference(path: Path) -> bool:
    is_module = path.suffix == ".py" or (path / "__init__.py").exists()
    return path.is_relative_to(PACKAGE) and path != PACKAGE and is_module and not path.stem.startswith("_")
