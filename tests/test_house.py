"""The folders are the architecture: what may import what, read from the source."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("analysis", "search_spaces", "sweeps", "trainables")


def _modules() -> dict[str, Path]:
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file for name, file in names.items()}


def _imported(file: Path, everywhere: bool = True) -> set[str]:
    """Names of the modules that a file imports, ours without the package's name.

    Args:
        everywhere: also what a function imports when it is called, and what only types need.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("safesweep.") for name in found}


@pytest.fixture(scope="module")
def modules() -> dict[str, Path]:
    return _modules()


@pytest.fixture(scope="module")
def everywhere(modules: dict[str, Path]) -> dict[str, set[str]]:
    return {name: _imported(file) & set(modules) - {name} for name, file in modules.items()}


def _with_packages(names: set[str]) -> set[str]:
    """Importing a module runs the packages around it first."""
    parts = [name.split(".") for name in names]
    return {".".join(words[:end]) for words in parts for end in range(1, len(words) + 1)}


def test_nothing_imports_in_a_circle(
    modules: dict[str, Path], everywhere: dict[str, set[str]]
) -> None:
    # A name taken from a package is that package's only where it is no module of its own.
    graph = {
        name: {
            other
            for other in imported
            if not any(deeper.startswith(f"{other}.") for deeper in imported)
            or modules[other].name != "__init__.py"
        }
        for name, imported in everywhere.items()
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("analysis", "sweeps"),
        ("search_spaces", "analysis"),
        ("search_spaces", "sweeps"),
        ("search_spaces", "trainables"),
        ("sweeps.planning", "analysis"),
        ("sweeps.planning", "sweeps.execution"),
        ("trainables", "analysis"),
        ("trainables", "sweeps"),
    ],
)
def test_no_arrow_points_back_up(
    everywhere: dict[str, set[str]], folder: str, forbidden: str
) -> None:
    arrows = {
        (name, other)
        for name, imported in everywhere.items()
        if f"{name}.".startswith(f"{folder}.")
        for other in imported
        if f"{other}.".startswith(f"{forbidden}.")
    }
    assert not arrows


def test_analysis_reaches_neither_ray_nor_torch(modules: dict[str, Path]) -> None:
    direct = {name: _imported(file, everywhere=False) for name, file in modules.items()}
    reached = {name for name in modules if f"{name}.".startswith("analysis.")}
    while True:
        more = _with_packages(set().union(*(direct[name] for name in reached))) & set(modules)
        if more <= reached:
            break
        reached |= more
    heavy = {
        (name, other)
        for name in reached
        for other in direct[name]
        if other.split(".")[0] in ("ray", "torch")
    }
    assert not heavy


def test_few_modules_touch_ray(modules: dict[str, Path]) -> None:
    files = {
        name
        for name, file in modules.items()
        if any(other.split(".")[0] == "ray" for other in _imported(file))
    }
    assert files == {
        "sweeps.execution.lost_workers",
        "sweeps.execution.ray_connection",
        "sweeps.execution.ray_tune",
        "sweeps.execution.worker_output",
        "trainables.trainable",
    }
