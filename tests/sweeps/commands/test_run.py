import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safesweep.sweeps.cli import main
from safesweep.sweeps.execution import ray_tune as launch
from safesweep.sweeps.execution.scheduler import SweepSummary
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.registry import get_task
from tests.trainables.data.test_sources import make_arrays, write_raw

SPEC = """
name: example
algorithm: flrp
tasks: [BoatNavigation-v0]
steps: 50
seeds: [0, 1]
space: {tau_h: [0.6, 0.9], T: [1, 3]}
configs_per_trial: 2
"""


@pytest.fixture
def spec_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path / "data"))
    path = tmp_path / "sweep.yaml"
    path.write_text(SPEC)
    return str(path)


def summary(**counts: int) -> SweepSummary:
    numbers = {name: 0 for name in ("completed", "stopped", "diverged", "failed", "skipped")}
    return SweepSummary("example", "/store", **{**numbers, **counts}, trials=2, seconds=100.0)


def test_a_summary_shows_itself_in_a_notebook() -> None:
    shown = replace(summary(completed=3), sweep="a<b")._repr_html_()
    assert "<td>completed</td><td>3</td>" in shown and "a&lt;b" in shown and "a<b" not in shown


def test_dry_run_prints_the_plan_and_touches_nothing(
    spec_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert main(["run", spec_file, "--dry-run", "--storage", str(store), "--format", "json"]) == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    assert [row["runs"] for row in rows] == [4, 4]
    assert [row["configurations"] for row in rows] == [2, 2]
    assert rows[0]["gradient_steps"] == 4 * 50
    assert (rows[0]["cpu"], rows[0]["gpu"]) == (1.0, 0.25)
    # The data are not here, so the identity of a trial is not known.
    assert rows[0]["trial_id"] is None
    assert "2 trials, 8 runs and 400 gradient steps" in captured.err
    assert "not here yet" in captured.err
    assert not store.exists() and not (tmp_path / "data").exists()


def test_dry_run_leaves_a_store_as_it_is(
    spec_file: str, tmp_path: Path, write_sweep: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep("example")
    store = tmp_path / "store"
    before = sorted(store.rglob("*"))
    assert main(["run", spec_file, "--dry-run", "--storage", str(store)]) == 0
    assert sorted(store.rglob("*")) == before
    assert main(["run", spec_file, "--dry-run", "--storage", "nowhere://x"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("safesweep: storage: 'nowhere://x'")


def test_dry_run_shows_rungs_and_expected_steps(
    spec_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["-o", "algorithm=lspc", "-o", "space={xi: [0.6, 0.7, 0.8, 0.9]}"]
    overrides += ["-o", "evaluate.every=5", "-o", "early_stopping={reduction: 2}"]
    assert main(["run", spec_file, "--dry-run", "--format", "json", *overrides]) == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    # 4 configurations to step 5, 2 to step 10, 1 to step 50: 70 of 200 steps of each seed.
    assert [(row["gradient_steps"], row["expected_steps"]) for row in rows] == [(200, 70)] * 2
    assert (
        "lspc on BoatNavigation-v0: 4 configurations; 2 of 4 go on after step 5, 1 of 4 go on "
        "after step 10; from the beginning 140 of 400 gradient steps (35%)" in captured.err
    )
    overrides[1:4] = ["algorithm=lspc", "-o", "space={xi: {low: 0.6, high: 0.9}}"]
    overrides += ["-o", "search={method: tpe, num_configs: 9}"]
    assert main(["run", spec_file, "--dry-run", "--format", "json", *overrides]) == 0
    captured = capsys.readouterr()
    assert sum(row["configurations"] for row in json.loads(captured.out)) == 9
    assert "9 configurations in 3 brackets; 2 of 4 go on" in captured.err


def test_dry_run_of_an_adaptive_search_says_what_comes_later(
    spec_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["-o", "search={method: tpe, num_configs: 9}", "-o", "space=null"]
    overrides += ["-o", "configs_per_trial=1"]
    assert main(["run", spec_file, "--dry-run", "--format", "json", *overrides]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["configurations"] for row in rows] == [1, 1, 1, 1, 5]
    assert [row["trials"] for row in rows] == [1, 1, 1, 1, 5]
    assert sum(row["gradient_steps"] for row in rows) == 9 * 2 * 50


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        ({"completed": 8}, 0),
        ({"completed": 7, "stopped": 1}, 0),
        ({"completed": 7, "diverged": 1}, 1),
        ({"completed": 7, "failed": 1}, 1),
    ],
)
def test_exit_code_and_table_follow_the_statuses(
    spec_file: str,
    counts: dict[str, int],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[Any] = []

    def run_sweep(*arguments: Any, **options: Any) -> SweepSummary:
        calls.append(arguments)
        return summary(**counts)

    monkeypatch.setattr(launch, "run_sweep", run_sweep)
    before = signal.getsignal(signal.SIGTERM)
    arguments = ["run", spec_file, "--storage", "s3://x", "--num-cpus", "2", "--format", "json"]
    assert main(arguments) == code
    assert signal.getsignal(signal.SIGTERM) == before
    captured = capsys.readouterr()
    found = {row["status"]: row["runs"] for row in json.loads(captured.out)}
    assert {name: found[name] for name in counts} == counts
    assert sum(found.values()) == sum(counts.values())
    assert "store: /store" in captured.err
    assert calls[0][1:] == ("s3://x", None, 2, None)


def test_an_interrupt_says_how_to_go_on(
    spec_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_sweep(*arguments: Any, **options: Any) -> SweepSummary:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("the signal did not interrupt")

    monkeypatch.setattr(launch, "run_sweep", run_sweep)
    assert main(["run", spec_file]) == 143
    assert capsys.readouterr().err.strip() == (
        "safesweep: interrupted; the same command resumes the sweep"
    )


def test_each_task_is_planned_with_its_own_dataset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {"CarRun": "car.hdf5", "BallRun": "SafetyCarRun-v0.hdf5"}
    for seed, name in enumerate(tasks.values()):
        write_raw(tmp_path / name, make_arrays(seed=seed))
    sources = ", ".join(f"{task}: {tmp_path / name}" for task, name in tasks.items())
    path = tmp_path / "two.yaml"
    text = f"name: two\nalgorithm: bc\ntasks: [{', '.join(tasks)}]\nsteps: 5\n"
    space = "space: {learning_rate: [0.001]}\n"
    path.write_text(f"{text}{space}dataset: {{{sources}}}\n")
    plan = ["run", str(path), "--dry-run", "--storage", str(tmp_path / "store"), "--format", "json"]
    assert main(plan) == 0
    captured = capsys.readouterr()
    both = {row["task"]: row["trial_id"] for row in json.loads(captured.out)}
    assert "OfflineBallRun-v0: warning: the file's name says OfflineCarRun-v0" in captured.err
    # Who trains on a task alone trains the same runs.
    for task, name in tasks.items():
        path.write_text(f"{text}{space}dataset: {tmp_path / name}\n")
        assert main([*plan, "-o", f"tasks=[{task}]"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["trial_id"] == both[row["task"]]


def test_the_data_of_a_session_are_loaded_task_by_task(tmp_path: Path) -> None:
    from safesweep.sweeps.spec.sweep_spec import SweepSpec

    sources = {}
    for seed, task in enumerate(("CarRun", "BallRun")):
        path = write_raw(tmp_path / f"{task}.hdf5", make_arrays(seed=seed))
        sources[task] = str(path)
    content = {"name": "two", "algorithm": "bc", "tasks": list(sources), "steps": 5}
    content["space"] = {"learning_rate": [0.001]}
    spec = SweepSpec.from_mapping({**content, "dataset": sources})
    data = launch._Datasets(progress=False)
    expected = {
        get_task(task).name: read_dataset(path, task).dataset_id for task, path in sources.items()
    }
    assert data.dataset_ids(spec) == expected
    assert {task: found.dataset_id for task, found in data.loaded(spec).items()} == expected


def test_dry_run_lists_the_configurations(
    spec_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ["run", spec_file, "--dry-run", "--storage", str(tmp_path / "store")]
    assert main(plan) == 0
    captured = capsys.readouterr()
    _, table = captured.out.split("configurations of flrp:")
    head, _, *rows = [line.split() for line in table.strip().splitlines()]
    assert head == ["feasibility_expectile", "refinement_steps"]
    assert rows == [["0.6", "1"], ["0.6", "3"], ["0.9", "1"], ["0.9", "3"]]
    assert "how long it takes is not known of flrp on BoatNavigation-v0: nothing is" in captured.err
    assert main([*plan, "-o", "space.tau_h={low: 0.5, high: 0.9, step: 0.01}"]) == 0
    out = capsys.readouterr().out
    assert "... and 70 more (--format csv has all)" in out and "0.52" in out and "0.9 " not in out
    assert main([*plan, "--format", "json", "-o", "space.T=[1, 3]"]) == 0
    values = [row["values"] for row in json.loads(capsys.readouterr().out)]
    assert values == [
        f"feasibility_expectile=0.6, refinement_steps={n}; "
        f"feasibility_expectile=0.9, refinement_steps={n}"
        for n in (1, 3)
    ]


def test_dry_run_says_how_long_it_takes_by_what_the_store_has_measured(
    spec_file: str, tmp_path: Path, write_sweep: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ["run", spec_file, "--dry-run", "--storage", str(tmp_path / "store"), "--num-cpus"]
    config = ALGORITHMS["flrp"].config_class().to_dict()
    task = "BoatNavigation-v0"
    # Six runs of 2000 steps in 60 s, and of two evaluations of four episodes in 6 s.
    write_sweep("before", [config], task, seeds=range(6))
    assert main([*plan, "1", "-o", "space={lambda_r: [0.1, 0.2, 0.3, 0.4]}"]) == 0
    said = capsys.readouterr().err
    # Eight runs of 50 steps at 0.03 s, and of 20 episodes each at 0.75 s.
    assert "about 2 min, one trial after the other, by the store's runs" in said
    assert (
        "flrp on BoatNavigation-v0: 33.3 gradient steps of a run a second in populations of 6, "
        "0.75 s an episode (by 6 runs)" in said
    )
    assert main([*plan, "2", "-o", "space={lambda_r: [0.1, 0.2, 0.3, 0.4]}"]) == 0
    assert "about 66 s, 2 trials at a time" in capsys.readouterr().err
    # A population of the same size is what it goes by, whatever else is there.
    write_sweep("quick", [config], task, seeds=(7, 8, 9, 10), steps=(1000, 60_000))
    assert main([*plan, "1", "-o", "space={lambda_r: [0.1, 0.2, 0.3, 0.4]}"]) == 0
    said = capsys.readouterr().err
    assert "1e+03 gradient steps of a run a second in populations of 4" in said
    # Of another size only, and of a method that is not there.
    more = ["-o", "fixed={hidden_dim: 16}", "-o", "algorithm=[flrp, bc]", "-o", "space=null"]
    more += ["-o", "search={method: random, num_configs: 2}"]
    assert main([*plan, "1", *more]) == 0
    said = capsys.readouterr().err
    assert "in populations of 4, with other sizes" in said
    assert "for what is measured, one trial after the other" in said
    assert "is not known of bc on BoatNavigation-v0: nothing is measured yet" in said
