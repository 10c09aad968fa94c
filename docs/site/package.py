"""What the site needs to know of the package, from its sources; nothing but its list of names is imported."""

import re
from pathlib import Path

import griffe

import acn_hf

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCES = ROOT / "src"
PACKAGE = SOURCES / "acn_hf"
PUBLIC = [name for name in acn_hf.__all__ if not name.startswith("_")]
ROOMS = sorted(
    [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    + [path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("_")]
)
"""The rooms and the modules beside them; each has a page."""


def public_object(package: griffe.Module, name: str) -> griffe.Object:
    """Return what `from acn_hf import name` gives; a module may have the name of what it holds."""
    try:
        member = package.members[name]
        if member.is_module:
            member = member.members[name]
        return member.final_target if member.is_alias else member
    except (KeyError, griffe.AliasResolutionError):
        raise SystemExit(f"acn_hf.{name} is public, but the sources do not define it: it can have no page") from None


def summary(item: griffe.Object) -> str:
    """Return the first line of a docstring, with references as plain code."""
    line = item.docstring.value.partition("\n")[0] if item.docstring else ""
    return re.sub(r"\[`(?:~[\w.]+\.)?([\w.]+)`\]", r"`\1`", line)
