"""The sources of the site: the pages of `docs/` and of the root, the reference, and the navigation.

What is unusual: nobody lists pages. A new file in `docs/` or a new room of the package is found here; the tables below
only say which come first. No generator of sites is needed for this step, so that the one that `make docs` uses can be
replaced.
"""

import json
import re
import shutil
import tomllib
from collections import Counter
from pathlib import Path

import griffe
import markdown
from links import BrokenLinkError, for_the_site
from markdown_it import MarkdownIt
from package import DOCS, PACKAGE, PUBLIC, ROOMS, ROOT, SOURCES, public_object, summary

HERE = Path(__file__).parent
FROM_ROOT = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
SECTIONS = {
    "Guides": (
        "depth",
        "metrics",
        "compression",
        "conversion",
        "training",
        "adapters",
        "early_exit",
        "embeddings",
        "pruning",
        "export",
    ),
    "Experiments": ("results", "paper", "experiments"),
    "Project": ("contributing", "adding_a_family", "testing", "changelog"),
}
"""Which pages come first. What stands in none of these is a guide, and follows the others by name."""

PLAIN = "options: {show_root_heading: false, show_root_toc_entry: false}"
HEAD = "options: {members: false, show_root_heading: false, show_root_toc_entry: false}"


def write_sources(build: Path) -> None:
    """Write `docs/` and `mkdocs.yml` into a folder."""
    shutil.rmtree(build / "docs", ignore_errors=True)
    shutil.copytree(DOCS, build / "docs", ignore=shutil.ignore_patterns("*.md", "site"))
    shutil.copy(HERE / "site.css", build / "docs")
    repository = repository_url()
    pages = guides(repository) | reference()
    for name, text in pages.items():
        page = build / "docs" / name
        page.parent.mkdir(exist_ok=True)
        page.write_text(text, encoding="utf-8")
    settings = {"nav": navigation(pages)} | ({"repo_url": repository} if repository else {})
    added = [f"{key}: {json.dumps(value)}\n" for key, value in settings.items()]
    look = (HERE / "mkdocs.yml").read_text(encoding="utf-8")
    (build / "mkdocs.yml").write_text("".join([look, "\n", *added]), encoding="utf-8")


def repository_url() -> str | None:
    """Return the address of the repository, which `pyproject.toml` states once there is one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get("Repository")


def guides(repository: str | None) -> dict[str, str]:
    """Return the pages that somebody wrote; exit if a link is broken, or a page would look otherwise than on GitHub."""
    files = {ROOT / name: page for name, page in FROM_ROOT.items()} | {path: path.name for path in DOCS.glob("*.md")}
    pages, faults = {}, []
    for path, page in files.items():
        text = path.read_text(encoding="utf-8")
        here, on_github = structure_here(text), structure_on_github(text)
        if here != on_github:
            tags = sorted((on_github - here) | (here - on_github))
            counts = ", ".join(f"{on_github[tag]} <{tag}> on GitHub, {here[tag]} here" for tag in tags)
            faults.append(f"{path.name}: {counts}; a list inside of a list needs four spaces here")
        try:
            pages[page] = for_the_site(text, path.parent, pages=FROM_ROOT, repository=repository)
        except BrokenLinkError as broken:
            faults.append(f"{path.name}: broken links, {broken}")
    if faults:
        raise SystemExit("\n".join(faults))
    return pages


def structure_here(text: str) -> Counter[str]:
    """Return how often a page has each kind of block where Python-Markdown reads it."""
    return _blocks(markdown.markdown(text, extensions=["tables", "pymdownx.superfences"]))


def structure_on_github(text: str) -> Counter[str]:
    """Return how often a page has each kind of block where it is read as CommonMark, which GitHub does."""
    return _blocks(MarkdownIt("commonmark").enable("table").render(text))


def _blocks(html: str) -> Counter[str]:
    return Counter(re.findall(r"<(ul|ol|li|tr|pre|blockquote|h\d)\b", html))


def reference() -> dict[str, str]:
    """Return the page of the public names, and one for each room."""
    package = griffe.load("acn_hf", search_paths=[str(SOURCES)], try_relative_path=False)
    rooms = {f"reference/{room}.md": room_page(package.members[room]) for room in ROOMS}
    return {"reference/index.md": public_names(package)} | rooms


def public_names(package: griffe.Module) -> str:
    """Return the page of what `acn_hf` hands out. Every name is a link: one that no page shows fails the build."""
    items = {name: public_object(package, name) for name in PUBLIC}
    entries = [f"- [`{name}`][{item.path}]: {summary(item)}" for name, item in items.items()]
    return "\n".join(["# Public names", "", "All of them can be imported from `acn_hf`.", "", *entries, ""])


def room_page(room: griffe.Module) -> str:
    """Return the page of a room, what it is for and all of its modules, or of a module beside the rooms."""
    title = f"# `acn_hf.{room.name}`"
    if not room.is_init_module:
        return f"{title}\n\n::: {room.path}\n    {PLAIN}\n"
    names = sorted(path.stem for path in (PACKAGE / room.name).glob("*.py") if not path.stem.startswith("_"))
    modules = [f"::: {room.path}.{name}" for name in names]
    return "\n\n".join([title, f"::: {room.path}\n    {HEAD}", *modules, ""])


def navigation(pages: dict[str, str]) -> list:
    """Return the navigation: sections of pages, those that `SECTIONS` names first."""
    found = {Path(page).stem for page in pages if "/" not in page} - {"index"}
    sections = {title: [page for page in listed if page in found] for title, listed in SECTIONS.items()}
    sections["Guides"] += sorted(found - {page for listed in SECTIONS.values() for page in listed})
    entries = {
        title: [{page.replace("_", " ").capitalize(): f"{page}.md"} for page in listed]
        for title, listed in sections.items()
    }
    rooms = [{room: f"reference/{room}.md"} for room in ROOMS]
    return [
        {"Home": "index.md"},
        {"Guides": entries["Guides"]},
        {"Experiments": entries["Experiments"]},
        {"Reference": ["reference/index.md", *rooms]},
        {"Project": entries["Project"]},
    ]
