"""Docstrings in the format of Hugging Face, for mkdocstrings: an extension of Griffe.

What is unusual: Griffe reads what stands in the parentheses of an argument as Python. Here it is Markdown, such as
"`float`, *optional*, defaults to 0.5", and [`name`] is a reference to another docstring. Both become ordinary Markdown
and links; a reference to a name that the package does not have is a warning, which fails the build.
"""

import re
import textwrap
from typing import Any

import griffe
from mkdocstrings import get_logger
from package import PUBLIC, public_object

logger = get_logger(__name__)

TITLE = re.compile(r"^(?:Source|Differs from the paper|Example):", re.M)
REFERENCE = re.compile(r"\[`(~?)([\w.]+)`\](?![\[(])")
LISTED = re.compile(r"[\w.]+(, [\w.]+)+")
IN_BACKTICKS = re.compile(r"(?<!\[)`([\w.]+)`")


class HuggingFaceDocstrings(griffe.Extension):
    """Turns arguments, results and errors into lists as Hugging Face shows them, and references into links."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite the docstrings of a package that is read completely."""
        objects = list(_objects(pkg))
        names = _paths_by_name(pkg, objects)
        for name in PUBLIC:
            public_object(pkg, name).labels.add("public")
        for item in objects:
            if item.docstring:
                _Rewriter(item, names).rewrite(item.docstring)


def _objects(parent: griffe.Object) -> Any:
    """Yield an object and all that it holds; what it has from elsewhere is found there."""
    yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from _objects(member)


def _has_entry(item: griffe.Object | griffe.Alias) -> bool:
    """Return whether the reference shows an object where it is defined."""
    return not item.is_alias and item.has_docstring and not item.name.startswith("_")


def _paths_by_name(package: griffe.Module, objects: list[griffe.Object]) -> dict[str, str]:
    """Return where each name is defined: public ones first, and others that only one object has."""
    paths: dict[str, list[str]] = {}
    for item in objects:
        if _has_entry(item) and not (item.is_module or item.parent.is_class):
            paths.setdefault(item.name, []).append(item.path)
    names = {name: found[0] for name, found in paths.items() if len(found) == 1}
    return names | {name: public_object(package, name).path for name in PUBLIC}


class _Rewriter:
    def __init__(self, item: griffe.Object, names: dict[str, str]) -> None:
        self.item = item
        siblings = item.module.members.values()
        self.names = names | {member.name: member.path for member in siblings if _has_entry(member)}

    def rewrite(self, docstring: griffe.Docstring) -> None:
        """Replace the sections that Griffe has parsed and keeps."""
        docstring.value = REFERENCE.sub(self._reference, docstring.value)
        docstring.parsed[:] = [self._section(section) for section in docstring.parsed]

    def _section(self, section: griffe.DocstringSection) -> griffe.DocstringSection:
        match section.kind:
            case griffe.DocstringSectionKind.parameters:
                return _listed("Args:", [(self._argument(entry), entry) for entry in section.value])
            case griffe.DocstringSectionKind.returns:
                return _listed("Returns:", [(self._types(entry.annotation), entry) for entry in section.value])
            case griffe.DocstringSectionKind.raises:
                return _listed("Raises:", [(self._types(entry.annotation), entry) for entry in section.value])
            case griffe.DocstringSectionKind.text:
                section.value = TITLE.sub(r'<span class="doc-section-title">\g<0></span>', section.value)
        return section

    def _argument(self, entry: griffe.DocstringParameter) -> str:
        if entry.name.endswith(","):  # several in one line: all but the first were taken for a type
            return ", ".join(f"**`{name}`**" for name in f"{entry.name} {entry.annotation}".split(", "))
        types = self._types(entry.annotation)
        return f"**`{entry.name}`** ({types})" if types else f"**`{entry.name}`**"

    def _types(self, annotation: Any) -> str:
        """Return a type as Markdown, the package's own as links; what is no Markdown yet is Python."""
        if annotation is None:
            return ""
        text = str(annotation)
        if "`" not in text and "*" not in text:
            text = ", ".join(f"`{name}`" for name in text.split(", ")) if LISTED.fullmatch(text) else f"`{text}`"
        return IN_BACKTICKS.sub(lambda found: self._link(found[1], found[0]), text)

    def _link(self, name: str, otherwise: str) -> str:
        return f"[`{name}`][{self.names[name]}]" if name in self.names else otherwise

    def _reference(self, found: re.Match[str]) -> str:
        """Return a link to what a reference names, or plain code for what another package has."""
        elsewhere, name = found[1], found[2].removeprefix("acn_hf.")
        if elsewhere:
            return f"`{name.rpartition('.')[2]}`"
        owner, dot, attribute = name.partition(".")
        if owner not in self.names:
            logger.warning("%s refers to %s, which acn_hf does not have", self.item.path, found[0])
            return f"`{name}`"
        return f"[`{name}`][{self.names[owner]}{dot}{attribute}]"


def _listed(title: str, entries: list[tuple[str, Any]]) -> griffe.DocstringSectionText:
    lines = [f'<span class="doc-section-title">{title}</span>', ""]
    for head, entry in entries:
        text = ": ".join(part for part in (head, entry.description) if part)
        lines.append("- " + textwrap.indent(text, "    ").lstrip())
    return griffe.DocstringSectionText("\n".join(lines))
