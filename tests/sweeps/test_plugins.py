"""Methods, tasks, rules and observers from outside, through every command."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.plugins import plugins_forgotten_after
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.cli import main
from safesweep.sweeps.execution import ray_tune
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from tests.conftest import WriteSweep
from tests.sweeps.commands.test_reproduce import SMOKE, write_smoke

EXAMPLE = Path(__file__).parents[1] / "plugins" / "example_plugin.py"
CONTENT = {
    "name": "outside",
    "algorithm": "td3bc_cost",
    "tasks": ["Corridor-v0"],
    "seeds": [0, 1],
    "space": {"cost_weight": [0.1, 1.0]},
    "fixed": {"hidden_dim": 8, "batch_size": 16},
    "steps": 20,
    "evaluate": {"every": 10, "episodes": 2},
}
BROKEN = """
from safesweep.trainables.training.observers import Observer
class Tracker(Observer):
    def on_evaluation(self, trial, rows):
        raise ConnectionError("no tracking server")
OBSERVERS = {"tracker": Tracker}
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path / "data"))
    with plugins_forgotten_after():
        yield


def write_sweep_file(folder: Path, file: str = "sweep.yaml", **changed: object) -> str:
    path = folder / file
    path.write_text(yaml.safe_dump({**CONTENT, **changed}))
    return str(path)


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "safesweep", *arguments], capture_output=True, text=True
    )


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def safesweep(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process, which knows nothing afterwards of its plugins: exit code,
    standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with plugins_forgotten_after():
            code = main(list(arguments))
        return (code, *capsys.readouterr())

    return run


@pytest.mark.slow
@pytest.mark.ray
def test_a_sweep_of_what_comes_from_outside_is_run_chosen_from_and_shown(
    safesweep: Run, tmp_path: Path
) -> None:
    plugin, storage = tmp_path / "mine.py", str(tmp_path / "store")
    plugin.write_text(EXAMPLE.read_text())
    (tmp_path / "broken.py").write_text(BROKEN)
    plugins = ["--plugin", str(plugin), "--plugin", str(tmp_path / "broken.py")]
    sweep = write_sweep_file(tmp_path)
    done = command("run", sweep, *plugins, "--storage", storage, "--num-cpus", "2")
    assert done.returncode == 0, done.stderr
    # What fails beside the training is said once, however many trials there are.
    line = (
        "warning: observer 'tracker' failed and is left out (ConnectionError: no tracking server)"
    )
    assert done.stderr.count(line) == 1
    store = ResultStore(storage)
    runs = store.runs()
    assert runs["status"].tolist() == ["completed"] * 4
    assert set(runs["algorithm"]) == {"td3bc_cost"} and set(runs["task"]) == {"Corridor-v0"}
    for trial in runs["trial_id"].unique():
        lines = (tmp_path / "store" / "events" / f"{trial}.jsonl").read_text().splitlines()
        events = [json.loads(line)["event"] for line in lines]
        assert events[:4] == ["start", "evaluation", "evaluation", "end"]
        # Tune may set up a trial that has ended in an actor that it then does not use.
        assert set(events[4:]) <= {"start", "end"}
    # The sweep says what it needs, and then needs no option.
    recorded = yaml.safe_load(store.sweeps().iloc[0]["spec"])
    assert recorded["plugins"] == [str(plugin), str(tmp_path / "broken.py")]
    again = write_sweep_file(tmp_path, "again.yaml", plugins=str(plugin))
    code, out, err = safesweep("run", again, "--storage", storage, "--format", "json")
    assert code == 0, err
    assert {row["status"]: row["runs"] for row in json.loads(out)}["completed"] == 4

    choice = ["--sweep", "outside", "--rule", "median_cost_safe", "--storage", storage]
    code, out, err = safesweep("select", *choice, "--plugin", str(plugin), "--format", "json")
    assert code == 0, err
    assert json.loads(out)[0]["config_id"] in set(runs["config_id"])
    code, out, err = safesweep("show", "outside", "--plugin", str(plugin), "--storage", storage)
    assert code == 0 and str(plugin) in out
    code, out, err = safesweep(
        "confirm", "--sweep", "outside", "--plugin", str(plugin), "--episodes", "2",
        "--storage", storage, "--format", "json",
    )  # fmt: skip
    assert code == 0, err

    # Without the plugin all that it left can be read, and one line says where it is needed.
    plugin.unlink()
    page = str(tmp_path / "page.html")
    for readable in (
        ["list"], ["show", "outside"], ["select", "--sweep", "outside"], ["report", "outside",
        "--output", page], ["statistics", "--sweep", "outside"], ["query", "SELECT * FROM runs"],
    ):  # fmt: skip
        code, out, err = safesweep(*readable, "--storage", storage)
        assert code == 0, (readable, err)
    for needs, said in (
        (["run", sweep], "algorithm: 'td3bc_cost' is not one of"),
        (["run", again], "safesweep: plugin: there is no file '"),
        (["select", *choice[:-2]], "rule: 'median_cost_safe' is not one of"),
        (["confirm", "--sweep", "outside", "--episodes", "3"], "'Corridor-v0' is unknown"),
        (["space", "td3bc_cost"], "algorithm: 'td3bc_cost' is not one of"),
    ):
        option = [] if needs[0] == "space" else ["--storage", storage]
        code, out, err = safesweep(*needs, *option)
        assert code == 2, (needs, err)
        assert said in err and "plugin" in err
        # `run` names the task as well, `confirm` what it is about to do.
        most = 2 if needs[0] in ("run", "confirm") else 1
        assert len(err.strip().splitlines()) <= most and "Traceback" not in err


@pytest.mark.ray
@pytest.mark.slow
def test_a_plugin_reaches_the_nodes_of_a_cluster(tmp_path: Path) -> None:
    from tests.sweeps.test_cluster import start_cluster

    storage = tmp_path / "store"
    folder = tmp_path / "only_here"
    folder.mkdir()
    (folder / "mine.py").write_text(EXAMPLE.read_text())
    sweep = write_sweep_file(tmp_path, plugins=["mine.py"])
    cluster = start_cluster(2, num_cpus=1)
    try:
        # The workers' folder is another one: what they know of the file came with the request.
        done = subprocess.run(
            [sys.executable, "-m", "safesweep", "run", sweep, "--storage", str(storage),
             "--address", cluster.address],
            capture_output=True, text=True, cwd=folder,
        )  # fmt: skip
    finally:
        cluster.shutdown()
    assert done.returncode == 0, done.stderr
    store = ResultStore(str(storage))
    assert store.runs()["status"].tolist() == ["completed"] * 4
    assert len(list((storage / "events").iterdir())) == 2
    options = ["--sweep", "outside", "--storage", str(storage)]
    chosen = command(
        "select", *options, "--rule", "median_cost_safe", "--plugin", str(folder / "mine.py")
    )
    assert chosen.returncode == 0, chosen.stderr
    shown = command("show", "outside", "--storage", str(storage))
    assert shown.returncode == 0 and "plugins: [mine.py]" in shown.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_packages_and_modules_are_plugins_on_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is installed, an entry point and named by nobody; the other is a module that the sweep
    names. Both stand on the path of every node, as what is installed does, and not in its folder.
    """
    from tests.sweeps.test_cluster import start_cluster

    packages = tmp_path / "site-packages"
    distribution = packages / "outside-1.0.dist-info"
    distribution.mkdir(parents=True)
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text("[safesweep.plugins]\nx = installed_corridor\n")
    text = EXAMPLE.read_text()
    (packages / "installed_corridor.py").write_text(text)
    for theirs, own in (
        ("td3bc_cost", "named_method"), ("Corridor-v0", "Named-v0"), ('"corridor"', '"named"'),
        ("median_cost_safe", "named_rule"), ("json_lines", "named_lines"),
        ("events/", "named_events/"),
    ):  # fmt: skip
        text = text.replace(theirs, own)
    (packages / "named_corridor.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    storage = tmp_path / "store"
    installed = write_sweep_file(tmp_path)
    named = {"name": "named", "algorithm": "named_method", "tasks": ["Named-v0"]}
    by_name = write_sweep_file(tmp_path, "named.yaml", plugins=["named_corridor"], **named)
    cluster = start_cluster(2, num_cpus=1)
    try:
        for sweep in (installed, by_name):
            options = ["--storage", str(storage), "--address", cluster.address]
            done = command("run", sweep, *options)
            assert done.returncode == 0, done.stderr
    finally:
        cluster.shutdown()
    store = ResultStore(str(storage))
    for sweep, algorithm, needs in (
        ("outside", "td3bc_cost", ()),
        ("named", "named_method", ("--plugin", "named_corridor")),
    ):
        runs = store.runs(sweep=sweep)
        assert runs["status"].tolist() == ["completed"] * 4
        assert set(runs["algorithm"]) == {algorithm}
        rule = "median_cost_safe" if not needs else "named_rule"
        options = ["--sweep", sweep, "--rule", rule, "--storage", str(storage)]
        assert command("select", *options, *needs).returncode == 0
    # What is installed is everywhere: its observers see the trials of both sweeps.
    assert len(list((storage / "events").iterdir())) == 4
    assert len(list((storage / "named_events").iterdir())) == 2
    specs = [yaml.safe_load(spec).get("plugins") for spec in store.sweeps()["spec"]]
    assert sorted(specs, key=str) == [None, ["named_corridor"]]


RULE_THAT_RAISES = """
def mine(candidates, settings):
    return candidates["no_such_column"]
RULES = {"mine": mine}
"""


@pytest.mark.parametrize("words", [["select"], ["report", "first", "--output", "page.html"],
                                   ["confirm", "--sweep", "first", "--episodes", "2"]])  # fmt: skip
def test_a_rule_that_raises_is_named_with_its_plugin_and_line(
    words: list[str],
    write_sweep: WriteSweep,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep(configs=[{"feasibility_expectile": level} for level in (0.6, 0.9)])
    Path("mine.py").write_text(RULE_THAT_RAISES)
    options = ["--rule", "mine", "--plugin", "mine.py", "--storage", str(tmp_path / "store")]
    assert main([*words, *options]) == 2
    out, err = capsys.readouterr()
    said = "safesweep: rule 'mine' of the plugin mine.py, line 3: KeyError: 'no_such_column'\n"
    assert (out, err) == ("", said)
    assert not Path("page.html").exists()


ABLATIONS_THAT_FAIL = """
from dataclasses import replace
from safesweep.analysis.ablations.flrp import TABLE_8

def collect(store, names):
    raise RuntimeError("cannot read what I need")

def sweeps(**changed):
    theirs = TABLE_8.sweeps.items()
    return {scale: tuple({**sweep, **changed} for sweep in some) for scale, some in theirs}

ABLATIONS = {
    "own-raising": replace(TABLE_8, id="own-raising", collect=collect),
    "own-drawing": replace(TABLE_8, id="own-drawing", draw=lambda results, published: None),
    "own-refused": replace(TABLE_8, id="own-refused", sweeps=sweeps(name="own", steps="many")),
}
"""


def test_an_ablation_that_raises_keeps_no_other_from_being_reproduced(
    write_sweep: WriteSweep,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def run_sweeps(specs: list[dict[str, Any]], *_: Any) -> list[None]:
        asked.extend(spec["name"] for spec in specs)
        write_smoke(write_sweep, tmp_path / "store")
        return [None]

    monkeypatch.setattr(ray_tune, "run_sweeps", run_sweeps)
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(ABLATIONS_THAT_FAIL)
    options = ["--scale", "smoke", "--plugin", "mine.py", "--storage", str(tmp_path / "store")]
    failing = ["own-raising", "own-drawing", "own-refused"]
    assert main(["reproduce", *failing, "flrp-table8", *options]) == 1
    assert asked == [SMOKE["name"]]
    out, err = capsys.readouterr()
    of = "of the plugin mine.py"
    assert err.splitlines()[:3] == [
        f"ablation 'own-raising' {of}, line 6: RuntimeError: cannot read what I need",
        f"ablation 'own-drawing' {of}: TypeError: <lambda>() takes 2 positional arguments but 3 "
        "were given",
        f"ablation 'own-refused' {of}: steps: 'many' is not allowed; it must be a whole number "
        "in [1, 1e+09]",
    ]
    assert "flrp-table8-smoke.png" in out
    assert main(["reproduce", "own-raising", "--figure-only", *options]) == 2
    err = capsys.readouterr().err
    said = f"ablation 'own-raising' {of}, line 6: RuntimeError: cannot read what I need"
    assert err == f"safesweep: {said}\n"


def test_a_sweep_loads_what_it_names_before_it_is_checked() -> None:
    with pytest.raises(InvalidInput, match="'td3bc_cost' is not one of"):
        SweepSpec.from_mapping(CONTENT)
    spec = SweepSpec.from_mapping({**CONTENT, "plugins": [str(EXAMPLE)]})
    assert spec.plugins == (str(EXAMPLE),)
    assert SweepSpec.from_yaml(spec.to_yaml()).to_mapping() == spec.to_mapping()
    # Loaded by an option, it is recorded all the same.
    assert SweepSpec.from_mapping(CONTENT).plugins == (str(EXAMPLE),)


def test_a_sweep_without_plugins_says_nothing_of_them() -> None:
    spec = SweepSpec.from_mapping({**CONTENT, "algorithm": "bc", "tasks": ["BallRun"],
                                   "space": {"learning_rate": [0.1]}})  # fmt: skip
    assert spec.plugins == () and "plugins" not in spec.to_mapping()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "plugins: 3 is not allowed; it must be a name or a list"),
        ([3], "plugins: 3 is not a name"),
        ("gone.py", "there is no file 'gone.py'"),
        (["no_such_module"], "there is no module 'no_such_module'"),
    ],
)
def test_bad_plugins_of_a_sweep_are_named(value: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        SweepSpec.from_mapping({**CONTENT, "plugins": value})


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "demo", "--dry-run"], ["list"], ["show", "x"], ["query", "SELECT 1"], ["select"],
        ["confirm"], ["statistics"], ["report", "x"], ["reproduce", "--list"], ["tasks"],
        ["algorithms"], ["space", "bc"], ["data", "list"], ["data", "collect", "BallRun"],
        ["logs", "x"],
    ],
)  # fmt: skip
def test_every_command_takes_a_plugin_and_refuses_a_bad_one_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--plugin", "gone.py"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == "safesweep: plugin: there is no file 'gone.py'\n"


def test_what_is_loaded_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    plugin = ["--plugin", str(EXAMPLE), "--format", "json"]
    assert main(["algorithms", *plugin]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["algorithm"] == "td3bc_cost"
    assert main(["tasks", *plugin]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["suite"] == "corridor"
    assert main(["space", "td3bc_cost", *plugin]) == 0
    rows = {row["hyperparameter"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["cost_weight"]["searched"] == "[0.1, 10] log"
