import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from safesweep.sweeps.cli import main
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import get_task
from safesweep.trainables.training.trial import Trial
from tests.trainables.conftest import boat_task, make_dataset  # noqa: F401 (fixtures)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def safesweep(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on `tmp_path / "store"`: exit code, standard output, standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main([*words, "--storage", str(tmp_path / "store")])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def trained(tmp_path: Path, make_dataset) -> list[str]:  # noqa: F811
    """A sweep of two tiny configurations of two seeds; its run ids."""
    task = get_task("BoatNavigation-v0")
    writer = ResultWriter(str(tmp_path / "store"), "first")
    configs = [
        ALGORITHMS["bc"].config_class.resolve(
            {"hidden_dim": 8, "batch_size": 16, "learning_rate": rate}
        )
        for rate in (0.001, 0.01)
    ]
    trial = Trial(
        "bc", task, make_dataset(task), [c for c in configs for _ in (0, 1)], [0, 1] * 2,
        steps=4, evaluate_every=2, episodes=3, cost_limit=100.0, writer=writer,
    )  # fmt: skip
    while not trial.done:
        trial.advance()
    spec = "name: first\nalgorithm: bc\ntasks: [BoatNavigation-v0]\nsteps: 4\n"
    writer.write_sweep(spec, trial.run_ids, "completed")
    return trial.run_ids


def test_confirm_shows_selected_confirmed_and_optimism(safesweep: Run, trained) -> None:
    code, out, err = safesweep("confirm", "--sweep", "first", "--episodes", "4", "--format", "json")
    assert code == 0, err
    rows = {row["metric"]: row for row in json.loads(out)}
    assert set(rows) == {"normalized_reward", "normalized_cost"}
    reward = rows["normalized_reward"]
    assert reward["optimism"] == pytest.approx(reward["selected"] - reward["confirmed"])
    assert reward["optimism_low"] < reward["optimism"] < reward["optimism_high"]
    cost = rows["normalized_cost"]
    assert cost["optimism"] == pytest.approx(cost["confirmed"] - cost["selected"])
    assert (reward["selected_seeds"], reward["confirmed_seeds"]) == (2, 2)
    chosen = json.loads(safesweep("select", "--sweep", "first", "--format", "json")[1])[0]
    assert reward["config_id"] == chosen["config_id"]
    assert reward["selected"] == pytest.approx(chosen["normalized_reward"])
    stored = safesweep("query", "SELECT count(*) AS n FROM confirmations", "--format", "json")[1]
    assert json.loads(stored) == [{"n": 2}]


def test_asking_again_evaluates_nothing_twice(safesweep: Run, trained, tmp_path: Path) -> None:
    first = safesweep("confirm", "--episodes", "4", "--format", "csv")
    for path in (tmp_path / "store/checkpoints").rglob("*.pt"):
        path.unlink()
    again = safesweep("confirm", "--episodes", "4", "--format", "csv")
    assert again[:2] == first[:2]
    assert again[2] == ""
    code, _, err = safesweep("confirm", "--episodes", "5")
    assert code == 2
    assert "checkpoint: run" in err


def test_the_table_is_readable(safesweep: Run, trained) -> None:
    code, out, _ = safesweep("confirm", "--episodes", "4", "--cost-limit", "200")
    assert code == 0
    assert re.search(r"reward +-?\d\.\d\d \[-?\d+\.\d\d, -?\d+\.\d\d\]", out)
    assert "2 / 2" in out


@pytest.mark.parametrize("show", ["summary", "safety", "profile"])
def test_statistics_of_what_was_chosen(safesweep: Run, trained, show: str) -> None:
    code, out, err = safesweep("statistics", "--show", show, "--format", "json")
    assert code == 0, err
    rows = json.loads(out)
    assert {row["algorithm"] for row in rows} == {"bc"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    again = safesweep("statistics", "--show", show, "--format", "json")[1]
    assert again == out
    each = safesweep("statistics", "--show", show, "--every-configuration", "--format", "json")[1]
    assert len({row["config_id"] for row in json.loads(each)}) == 2


def test_statistics_compare_methods(safesweep: Run, write_sweep) -> None:
    write_sweep("a", [{"feasibility_expectile": 0.6}])
    write_sweep("b", [{"feasibility_expectile": 0.9}], algorithm="lspc")
    code, out, _ = safesweep("statistics", "--show", "improvement", "--format", "json")
    assert code == 0
    rows = {row["one"]: row for row in json.loads(out)}
    assert rows["lspc"]["value"] == 1.0
    assert rows["flrp"]["value"] == 0.0
    assert "step last" in safesweep("statistics")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["confirm", "--episodes", "0"], "episodes: 0"),
        (["confirm", "--seeds", "2"], "seeds: .*give --sweep"),
        (["confirm", "--rule", "max_reward_save"], "rule: .*did you mean 'max_reward_safe'"),
        (["confirm", "--sweep", "frist"], "sweep: 'frist' .*did you mean 'first'"),
        (["statistics", "--samples", "1"], "samples: 1"),
        (["statistics", "--show", "sumary"], "did you mean 'summary'"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    safesweep: Run, trained, words: list[str], message: str
) -> None:
    code, out, err = safesweep(*words)
    assert (code, out) == (2, "")
    assert re.search(message, err)
    assert err.count("\n") == 1


@pytest.mark.ray
@pytest.mark.slow
def test_fresh_seeds_are_trained_once(safesweep: Run, tmp_path: Path) -> None:
    data = tmp_path / "boat.hdf5"
    collect_dataset("BoatNavigation-v0", 20, path=data)
    (tmp_path / "sweep.yaml").write_text(
        f"name: first\nalgorithm: bc\ntasks: [BoatNavigation-v0]\ndataset: {data}\nseeds: [0, 1]\n"
        "space: {learning_rate: [0.001, 0.01]}\nfixed: {hidden_dim: 8, batch_size: 16}\n"
        "steps: 4\nevaluate: {every: 4, episodes: 3}\ncost_limit: 100\n"
    )
    assert safesweep("run", str(tmp_path / "sweep.yaml"), "--num-cpus", "1")[0] == 0
    words = ("confirm", "--sweep", "first", "--episodes", "4", "--seeds", "2", "--format", "json")
    code, out, err = safesweep(*words)
    assert code == 0, err
    kinds = {(row["kind"], row["confirmed_seeds"]) for row in json.loads(out)}
    assert kinds == {("evaluated", 2), ("retrained", 2)}
    assert safesweep(*words)[1] == out
    seeds = safesweep("query", "SELECT DISTINCT seed FROM runs ORDER BY 1", "--format", "csv")[1]
    assert seeds.split() == ["seed", "0", "1", "2", "3"]
