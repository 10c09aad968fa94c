"""The project keeps its word: public names, versions, imports, documented arguments, and the README's code."""

import ast
import doctest
import graphlib
import importlib
import inspect
import pkgutil
import re
import sys
import tomllib
from pathlib import Path

import pytest

import acn_hf

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "acn_hf"
LAYERS = re.findall(
    r"\w+",
    """
    modeling support auto depth conversion data export smaller exits training embeddings analysis plots publishing
    report app scripts compression compress demo cli __main__
    """,
)
MODULES = sorted(name for _, name, _ in pkgutil.walk_packages([str(PACKAGE)], "acn_hf.") if name != "acn_hf.__main__")
PUBLIC = [getattr(acn_hf, name) for name in acn_hf.__all__ if name != "__version__"]
FUNCTIONS = [item for item in PUBLIC if inspect.isfunction(item)]


def test_all_names_what_is_public():
    assert acn_hf.__all__ == sorted(set(acn_hf.__all__))
    assert dir(acn_hf) == acn_hf.__all__
    assert not [name for name in acn_hf.__all__ if inspect.ismodule(getattr(acn_hf, name))]


@pytest.mark.parametrize("stub", sorted(PACKAGE.glob("*/__init__.pyi")), ids=lambda path: path.parent.name)
def test_every_room_hands_out_what_its_stub_names(stub):
    room = importlib.import_module(f"acn_hf.{stub.parent.name}")
    assert room.__doc__.count("\n") == 0, "a room says in one sentence what it is for"
    assert room.__all__
    for name in room.__all__:
        item = getattr(room, name)
        assert getattr(item, "__module__", room.__name__).startswith(room.__name__)


def test_every_room_has_a_stub():
    assert {path.parent for path in PACKAGE.glob("*/__init__.py")} - {PACKAGE / "cli"} == {
        path.parent for path in PACKAGE.glob("*/__init__.pyi")
    }


@pytest.mark.parametrize("stub", sorted(PACKAGE.glob("*/__init__.pyi")), ids=lambda path: path.parent.name)
def test_no_name_of_a_room_is_that_of_a_file(stub):
    room = importlib.import_module(f"acn_hf.{stub.parent.name}")
    assert not {path.stem for path in stub.parent.glob("*.py")} & set(room.__all__)


def test_a_function_is_not_hidden_by_the_module_of_its_name():
    importlib.import_module("acn_hf.compress")
    assert inspect.isfunction(acn_hf.compress)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match=r"acn_hf.*no_such_name"):
        acn_hf.no_such_name  # noqa: B018


def test_versions_agree():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    cited = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.M)
    assert newest
    assert cited
    assert newest[1] == cited[1] == acn_hf.__version__


def files_of(layer):
    """Return the files of a layer, which is a module or a folder."""
    return sorted((PACKAGE / layer).glob("*.py")) or [PACKAGE / f"{layer}.py"]


def relative_imports(path):
    """Yield the first part of every module that a file imports from this package, at its top level or deeper."""
    level = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level >= level:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (name.split(".")[0] for name in names)


@pytest.mark.parametrize("layer", LAYERS[1:])
def test_imports_point_one_way(layer):
    for imported in (name for path in files_of(layer) for name in relative_imports(path)):
        if imported != "_version":
            assert LAYERS.index(imported) < LAYERS.index(layer), f"{layer} imports {imported}"


def test_no_file_imports_itself_through_others():
    files = {tuple(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    graph = {}
    for name, path in files.items():
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                target = (*name[: len(name) - node.level], *(node.module or "").split("."))
                graph[name] |= {part for part in files if part == target}
                graph[name] |= {(*filter(None, target), alias.name) for alias in node.names} & files.keys()
    assert sum(map(len, graph.values())) > 100
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_every_module_has_its_layer():
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert modules - {"__init__", "_version"} == set(LAYERS)


@pytest.mark.parametrize("path", sorted((PACKAGE / "modeling").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_what_travels_with_a_checkpoint_imports_nothing_else(path):
    standard = {*sys.stdlib_module_names, "torch", "transformers", "huggingface_hub"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] in standard for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1 or (node.level == 0 and node.module.split(".")[0] in standard)
            assert node.module, "`from . import x` fails where files are flattened into one folder"


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_run(module):
    failed, _ = doctest.testmod(importlib.import_module(module))
    assert failed == 0


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_documented_arguments_are_the_real_ones(function):
    documented = re.search(r"Args:\n(.*?)\n\s*\n", inspect.getdoc(function), re.S)
    assert documented
    names = re.findall(r"^    (\w+)(?: \(|:)", documented[1], re.M)
    assert names == list(inspect.signature(function).parameters)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_docstrings_say_what_comes_back_and_what_is_raised(function):
    text = inspect.getdoc(function)
    for section in ("Args:", "Returns:", "Raises:", "Example:"):
        assert section in text, f"{function.__name__} lacks {section}"


@pytest.mark.parametrize("item", PUBLIC, ids=lambda item: item.__name__)
def test_everything_public_is_documented(item):
    assert inspect.getdoc(item)


@pytest.mark.parametrize("document", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_makefile_has_the_commands_that_are_promised():
    makefile = (ROOT / "Makefile").read_text()
    promised = set(re.findall(r"^make ([\w-]+)", (ROOT / "README.md").read_text(), re.M))
    promised |= set(re.findall(r"^make ([\w-]+)", (ROOT / "CONTRIBUTING.md").read_text(), re.M))
    assert {"demo", "test"} <= promised
    for target in promised:
        assert re.search(rf"^{target}:", makefile, re.M)


def test_oldest_constraints_are_the_lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lowest = next(item for item in project["dependencies"] if item.startswith("transformers"))
    assert lowest == "transformers>=5.12,<6"
    assert "transformers==5.12.0" in (ROOT / "constraints-oldest.txt").read_text()
