"""What comes from outside: loaded once, refused in one line where it does not fit."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from safesweep.analysis.reproduction import ABLATIONS
from safesweep.analysis.selection.rules import RULES
from safesweep.search_spaces import SEARCH_SPACES
from safesweep.search_spaces.plugins import (
    load_plugin,
    load_plugins,
    plugin_sources,
    plugins_forgotten_after,
)
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.methods.registry import ALGORITHMS, find_method
from safesweep.trainables.tasks.registry import SUITES, TASKS, get_task
from safesweep.trainables.training.observers import OBSERVERS

EXAMPLE = Path(__file__).parents[1] / "plugins" / "example_plugin.py"
RULE = "def mine(candidates, settings):\n    return None\nRULES = {'mine': mine}\n"
METHOD = """
from safesweep.search_spaces import Hyperparameter, SearchSpace
from safesweep.trainables.methods.behavior_cloning import BehaviorCloning
class Mine(BehaviorCloning):
    name = "mine"
ALGORITHMS = {"mine": Mine}
"""
SUITE = """
from safesweep.trainables.tasks.suite import Suite
from safesweep.trainables.tasks.task import Task
task = Task(name={name!r}, observation_dim=1, action_dim=1, horizon=1, min_return=0.0,
            max_return={best}, max_cost=1.0)
SUITES = {{"own": Suite(name="own", tasks=(task,), cost_limits={limits}, simulator={simulator})}}
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    with plugins_forgotten_after():
        yield


def write(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_file_extends_every_dictionary_and_is_forgotten() -> None:
    with plugins_forgotten_after():
        load_plugin(str(EXAMPLE))
        assert "td3bc_cost" in ALGORITHMS and "td3bc_cost" in SEARCH_SPACES
        assert SUITES["corridor"].tasks[0] is get_task("Corridor-v0")
        assert get_task("Corridor-v0").suite == "corridor"
        assert get_task("Corridor-v0").cost_limit == 5.0
        assert "median_cost_safe" in RULES and "json_lines" in OBSERVERS
        assert [source.name for source in plugin_sources()] == [str(EXAMPLE)]
    assert plugin_sources() == ()
    assert "td3bc_cost" not in {*ALGORITHMS, *SEARCH_SPACES}
    assert "Corridor-v0" not in TASKS and "corridor" not in SUITES
    assert "median_cost_safe" not in RULES and "json_lines" not in OBSERVERS
    with pytest.raises(InvalidInput, match=r"'Corridor-v0' is unknown.*--plugin"):
        get_task("Corridor-v0")
    with pytest.raises(InvalidInput, match=r"'td3bc_cost' is not one of flrp, .*--plugin"):
        find_method("td3bc_cost")


def test_the_same_plugin_again_is_the_one_that_is_there(tmp_path: Path) -> None:
    path = write(tmp_path, RULE)
    first = load_plugin(path)
    (source,) = plugin_sources()
    Path(path).unlink()
    # A worker on another node: it is sent the text, and has no such file.
    load_plugins([source])
    assert load_plugin(*source) is first
    assert source.text == RULE


def test_a_module_is_a_plugin_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, RULE, "a_module_of_rules.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = load_plugin("a_module_of_rules")
    assert plugin.source == ("a_module_of_rules", None)
    assert load_plugin("a_module_of_rules") is plugin
    assert "mine" in RULES


def test_a_dictionary_that_is_imported_later_is_extended_too(tmp_path: Path) -> None:
    program = (
        "from safesweep.search_spaces.plugins import load_plugin\n"
        f"load_plugin({write(tmp_path, RULE)!r})\n"
        "import sys; assert 'safesweep.analysis.selection.rules' not in sys.modules\n"
        "assert not {'torch', 'pandas', 'gymnasium'} & sys.modules.keys()\n"
        "from safesweep import RULES; assert 'mine' in RULES\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_installed_is_loaded_by_itself(tmp_path: Path) -> None:
    write(tmp_path, RULE, "installed_rules.py")
    distribution = tmp_path / "outside-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text("[safesweep.plugins]\nx = installed_rules\n")
    program = (
        "from safesweep.search_spaces.plugins import plugin_sources\n"
        "import safesweep.sweeps.cli, sys; assert 'installed_rules' not in sys.modules\n"
        "from safesweep import SEARCH_SPACES; assert 'installed_rules' in sys.modules\n"
        "from safesweep import RULES; assert 'mine' in RULES\n"
        "assert plugin_sources() == ()\n"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "first",
    [
        pytest.param("from safesweep import RULES", marks=pytest.mark.slow),
        "from safesweep.sweeps.cli import main; assert main(['tasks']) == 0",
        pytest.param("from safesweep import SEARCH_SPACES", marks=pytest.mark.slow),
        pytest.param(
            "from safesweep.analysis.store.reader import ResultStore", marks=pytest.mark.slow
        ),
        pytest.param(
            "from safesweep.trainables.methods.registry import find_method as f; f('td3bc_cost')",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "from safesweep.trainables.tasks.registry import get_task as t; t('Corridor-v0')",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "from safesweep.analysis.selection.rules import find_rule as r; r('median_cost_safe')",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_one_that_builds_on_everything_loads_whatever_is_imported_first(
    tmp_path: Path, first: str
) -> None:
    """None is loaded in the midst of an import, in which it could not import the same module."""
    write(tmp_path, EXAMPLE.read_text(), "installed_corridor.py")
    distribution = tmp_path / "outside-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text("[safesweep.plugins]\nx = installed_corridor\n")
    program = (
        f"{first}\n"
        "from safesweep import ALGORITHMS, OBSERVERS, RULES, SEARCH_SPACES, SUITES\n"
        "assert 'td3bc_cost' in ALGORITHMS and 'td3bc_cost' in SEARCH_SPACES\n"
        "assert 'corridor' in SUITES and 'median_cost_safe' in RULES\n"
        "assert 'json_lines' in OBSERVERS\n"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr


def test_one_that_is_installed_and_broken_is_named_with_its_package(tmp_path: Path) -> None:
    write(tmp_path, "RULES = 3", "installed_rules.py")
    distribution = tmp_path / "outside-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text("[safesweep.plugins]\nx = installed_rules\n")
    done = subprocess.run(
        [sys.executable, "-m", "safesweep", "tasks"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "safesweep: plugin installed_rules: RULES must be a dictionary of names, not 3 (outside "
        "installs it; mend or uninstall it)\n"
    )


def test_importing_the_registry_imports_neither_torch_nor_a_simulator() -> None:
    program = (
        "import sys\n"
        "from safesweep.trainables.tasks.registry import SUITES, TASKS\n"
        "heavy = {'torch', 'pandas', 'scipy', 'gymnasium', 'pybullet', 'mujoco', 'dsrl', 'h5py'}\n"
        "assert len(TASKS) == 91 and not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", "line 1: does not import: ModuleNotFoundError: No module"),
        ("\nx = 1 / 0", "line 2: does not import: ZeroDivisionError: division by zero"),
        ("def f(:", "does not import: SyntaxError: .*line 1"),
        ("raise SystemExit", "line 1: does not import: SystemExit"),
        ("x = 1", "holds none of the dictionaries ALGORITHMS, SEARCH_SPACES, SUITES, RULES, "),
        ("RULES = {}", "holds none of the dictionaries"),
        ("RULES = [min]", r"RULES must be a dictionary of names, not \[<built-in function min>\]"),
        ("RULES = {1: min}", "RULES has the key 1, no name"),
        ("RULES = {'mine': 3}", r"RULES\['mine'\]: must be a function of candidates and settings"),
        ("RULES = {'pareto': min}", "RULES holds 'pareto', which safesweep holds too; rename it"),
        ("OBSERVERS = {'mine': print}", r"OBSERVERS\['mine'\]: must be a class of Observer, not"),
        ("ABLATIONS = {'mine': 3}", r"ABLATIONS\['mine'\]: must be an Ablation, not 3"),
        ("SUITES = {'own': 3}", r"SUITES\['own'\]: must be a Suite, not 3"),
        ("SEARCH_SPACES = {'mine': 3}", r"SEARCH_SPACES\['mine'\]: must be a SearchSpace, not 3"),
        (METHOD, "SEARCH_SPACES lacks mine of ALGORITHMS; a method needs its search space"),
        (
            METHOD + "SEARCH_SPACES = {'mine': SearchSpace('mine', [Hyperparameter('gum', (1,))])}",
            r"ALGORITHMS\['mine'\]: its space holds 'gum', which is no hyperparameter of Behavior",
        ),
        (
            METHOD.replace('"mine":', '"other":') + "SEARCH_SPACES = {'other': None}",
            r"SEARCH_SPACES\['other'\]: must be a SearchSpace|ALGORITHMS\['other'\]: Mine calls",
        ),
        (
            "ALGORITHMS = {'mine': 3}\nSEARCH_SPACES = {'mine': 3}",
            "must be a SearchSpace, not 3|must be a class of Method, not 3",
        ),
        (
            SUITE.format(name="Own-v0", best=1.0, limits="(1.0,)", simulator=None),
            r"SUITES\['own'\]: has neither a simulator nor a rollout",
        ),
        (
            SUITE.format(name="OfflineCarRun-v0", best=1.0, limits="(1.0,)", simulator="print"),
            r"its task OfflineCarRun-v0 is known already, in the suite bullet",
        ),
        (
            SUITE.format(name="Own-v0", best=0.0, limits="(1.0,)", simulator="print"),
            r"its task Own-v0: max_return must be above min_return",
        ),
        (
            SUITE.format(name="Own-v0", best=1.0, limits="()", simulator="print"),
            r"its task Own-v0 has no cost limit",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_plugin(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path, text)
    before = {name: set(entries) for name, entries in _dictionaries().items()}
    with pytest.raises(InvalidInput, match=message) as raised:
        load_plugin(path)
    assert str(raised.value).startswith(f"plugin {path}")
    assert "\n" not in str(raised.value)
    # Nothing of it stays.
    assert {name: set(entries) for name, entries in _dictionaries().items()} == before
    assert plugin_sources() == ()


def _dictionaries() -> dict[str, dict]:
    return {
        "ALGORITHMS": ALGORITHMS,
        "SEARCH_SPACES": SEARCH_SPACES,
        "SUITES": SUITES,
        "TASKS": TASKS,
        "RULES": RULES,
        "ABLATIONS": ABLATIONS,
        "OBSERVERS": OBSERVERS,
    }


def test_two_plugins_with_one_name_are_both_named(tmp_path: Path) -> None:
    one, other = write(tmp_path, RULE), write(tmp_path, RULE + "# other", "other.py")
    load_plugin(one)
    with pytest.raises(InvalidInput) as raised:
        load_plugin(other)
    assert str(raised.value) == (
        f"plugin {other}: RULES holds 'mine', which the plugin {one} holds too; rename one"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module", r"there is no module 'no_such_module' \(a file is given with .py\)"),
        ("missing.py", "there is no file 'missing.py'"),
        ("folder/notes.txt", r"'folder/notes.txt' is not allowed; it must be a module, a .py file"),
    ],
)
def test_what_is_not_there_is_said(name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_plugin(name)


def test_a_plugin_may_look_at_the_products_own(tmp_path: Path) -> None:
    text = "from safesweep import ALGORITHMS, RULES as THEIRS\nRULES = {'mine': THEIRS['pareto']}"
    load_plugin(write(tmp_path, text))
    assert RULES["mine"] is RULES["pareto"]
