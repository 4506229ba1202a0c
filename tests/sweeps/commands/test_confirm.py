import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safesweep.sweeps.cli import main
from safesweep.sweeps.confirmation import fresh_seeds_sweep
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.training.request import TrialRequest
from safesweep.trainables.training.trial import Trial
from tests import fixture_store
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


@pytest.fixture(scope="module")
def trained_store(tmp_path_factory, make_dataset) -> tuple[Path, list[str]]:  # noqa: F811
    """A store with a sweep of two tiny configurations of two seeds, and its run ids."""
    folder = tmp_path_factory.mktemp("trained") / "store"
    return folder, train(folder, make_dataset)


@pytest.fixture
def trained(trained_store: tuple[Path, list[str]], tmp_path: Path) -> list[str]:
    """Puts a copy of that store where `safesweep` looks; the run ids in it."""
    folder, run_ids = trained_store
    shutil.copytree(folder, tmp_path / "store")
    return run_ids


def train(folder: Path, make_dataset) -> list[str]:  # noqa: F811
    task = fixture_store.short_task("BoatNavigation-v0")
    writer = ResultWriter(str(folder), "first")
    configs = [
        ALGORITHMS["bc"].config_class.resolve(
            {"hidden_dim": 8, "batch_size": 16, "learning_rate": rate}
        )
        for rate in (0.001, 0.01)
    ]
    request = TrialRequest(
        "bc", task.name, [c.to_dict() for c in configs for _ in (0, 1)], [0, 1] * 2,
        steps=4, evaluate_every=2, episodes=3, cost_limit=100.0,
    )  # fmt: skip
    trial = Trial(request, task, make_dataset(task), writer)
    while not trial.done:
        trial.advance()
    spec = (
        "name: first\nalgorithm: bc\ntasks: [BoatNavigation-v0]\nsteps: 4\nseeds: [0, 1]\n"
        "space: {learning_rate: [0.001, 0.01]}\ncost_limit: 100\n"
    )
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("confirm", "--address", "auto"), "address: is where fresh seeds are trained"),
        (("statistics", "--random-seed", "-1"), "random_seed: -1 is not allowed"),
        (("statistics", "--every-configuration", "--rule", "min_cost"), "rule: chooses, and"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    safesweep: Run, trained, words: tuple[str, ...], message: str
) -> None:
    code, out, err = safesweep(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"safesweep: {message}") and err.count("\n") == 1


@pytest.mark.parametrize("show", ["summary", "safety", "improvement", "profile"])
def test_statistics_of_a_store_that_lost_its_evaluations(
    safesweep: Run, trained, tmp_path: Path, show: str
) -> None:
    shutil.rmtree(tmp_path / "store/evaluations")
    code, out, err = safesweep("statistics", "--show", show)
    assert (code, "scores: none" in out) == (0, True), err
    assert "rows of evaluations are missing" in err


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


def test_statistics_and_confirm_agree_and_statistics_use_confirmations(
    safesweep: Run, trained
) -> None:
    summary = ("statistics", "--format", "json")
    before = {(row["metric"], row["statistic"]): row for row in json.loads(safesweep(*summary)[1])}
    out = safesweep("confirm", "--episodes", "4", "--format", "json")[1]
    confirmed = {row["metric"]: row for row in json.loads(out)}
    after = {(row["metric"], row["statistic"]): row for row in json.loads(safesweep(*summary)[1])}
    for metric, row in confirmed.items():
        for found, name, evidence in (
            (before, "selected", "as chosen"), (after, "confirmed", "fresh episodes"),
        ):  # fmt: skip
            mean = found[metric, "mean"]
            assert mean["evidence"] == evidence and mean["few_seeds"]
            assert [mean[end] for end in ("value", "low", "high")] == pytest.approx(
                [row[name], row[f"{name}_low"], row[f"{name}_high"]]
            )
    _, out, err = safesweep("statistics")
    assert "scores: fresh episodes" in out and "few seeds" in out and "optimistic" not in err


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
        (["select", "--confirm", "2"], "confirm: .*give --sweep"),
        (["select", "--sweep", "first", "--confirm", "0"], "confirm: 0"),
        (["select", "--sweep", "first", "--confirm", "--episodes", "0"], "episodes: 0"),
        (["select", "--sweep", "first", "--confirm", "--confirm-up-to", "0"], "confirm_up_to: 0"),
        (["select", "--episodes", "5"], "episodes: .*give --confirm"),
        (["select", "--confirm-up-to", "5"], "confirm_up_to: .*give --confirm"),
        (["select", "--address", "auto"], "address: .*give --confirm"),
        (["select", "--unsafe-share", "0.2"], "unsafe_share: only confident_safe"),
        (["select", "--rule", "confident_safe", "--unsafe-share", "2"], "unsafe_share: 2"),
        (["select", "--rule", "confident_safe", "--worst-cost", "0.2"], "worst_cost: 0.2"),
        (["statistics", "--worst-cost", "3"], "worst_cost: only confident_safe"),
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


Fresh = Callable[[dict[str, float]], list[tuple[str, int]]]


@pytest.fixture
def fresh_costs(monkeypatch: pytest.MonkeyPatch) -> Fresh:
    """Stands in for training: fresh seeds of a configuration cost what a dictionary says, and are
    lost where it says nothing. The list of what was asked for grows."""

    def replace(costs: dict[str, float]) -> list[tuple[str, int]]:
        asked: list[tuple[str, int]] = []

        def train(store, terms, choice, run, sweep, seeds, limit) -> list[dict[str, float]]:
            asked.append((choice["config_id"], seeds))
            cost = costs.get(choice["config_id"])
            row = {"normalized_reward": 0.5, "normalized_cost": cost}
            return [] if cost is None else [row] * seeds

        monkeypatch.setattr("safesweep.sweeps.confirmation.train_fresh_seeds", train)
        return asked

    return replace


def test_a_choice_that_breaks_the_limit_gives_way_to_the_runner_up(
    safesweep: Run, trained, fresh_costs: Fresh
) -> None:
    chosen = json.loads(safesweep("select", "--format", "json")[1])[0]
    first, second = chosen["config_id"], chosen["runner_up"]
    words = ("select", "--sweep", "first", "--confirm", "4", "--episodes", "6")
    asked = fresh_costs({first: 1.5, second: 0.5})
    code, out, err = safesweep(*words, "--format", "json")
    assert code == 0, err
    rows = json.loads(out)
    assert asked == [(first, 4), (second, 4)]
    assert [(row["config_id"], row["confirmed"]) for row in rows] == [
        (first, False),
        (second, True),
    ]
    assert rows[0]["selected_cost"] == pytest.approx(chosen["normalized_cost"])
    assert rows[0]["confirm_episodes"] == 24 and rows[0]["select_episodes"] == 2 * 2 * 3
    assert f"confirmed {second}, the second tried; few seeds" in err
    code, out, _ = safesweep(*words)
    assert code == 0 and "confirming took 48 online episodes more" in out
    fresh_costs({first: 0.9})
    assert f"confirmed {first}, the first tried" in safesweep(*words)[1]
    # Seeds that were lost are no confirmation; nor is anything beyond the bound.
    asked = fresh_costs({second: 0.5})
    assert safesweep(*words, "--confirm-up-to", "1")[0] == 1
    assert asked == [(first, 4)]
    fresh_costs({first: 2.0, second: 3.0})
    code, out, _ = safesweep(*words)
    assert code == 1 and "not confirmed: 2 tried, and none kept the limit" in out


def test_what_cannot_be_trained_is_said_to_be_unconfirmed(safesweep: Run, write_sweep) -> None:
    write_sweep("imported", [{"feasibility_expectile": 0.6}], algorithm="ppo")
    code, out, err = safesweep("select", "--sweep", "imported", "--confirm")
    assert code == 1, err
    assert "cannot be confirmed: ppo is no method of ours" in out


@pytest.mark.parametrize(
    "more",
    [
        {"seeds": [0, 1]},
        {"seeds": [0], "methods": {"bc": {"fixed": {"learning_rate": 0.1}}, "flp": {}}},
        {"budget": {"runs": 40}, "search": {"method": "gp"}},
        {"seeds": {"from": 2, "to": 4}, "on_end": "true"},
    ],
)
def test_fresh_seeds_can_be_trained_of_every_sweep(more: dict[str, Any]) -> None:
    original = SweepSpec.from_mapping(
        {"name": "first", "algorithm": ["bc", "flp"], "tasks": ["BoatNavigation-v0"], "steps": 4,
         "search": {"method": "random", "num_configs": 3}, "evaluate": {"every": 4},
         "space": {"learning_rate": {"low": 0.001, "high": 0.01}}, **more}
    )  # fmt: skip
    config = {"learning_rate": 0.002, "hidden_dim": 8}
    choice = {"algorithm": "bc", "task": "BoatNavigation-v0", "config_id": "abc"}
    run = {"config": json.dumps(config), "steps": 4}
    fresh = SweepSpec.from_mapping(fresh_seeds_sweep(original, choice, run, range(7, 9), 20))
    assert (fresh.algorithms, fresh.seeds, fresh.on_end) == (("bc",), (7, 8), None)
    assert fresh.fixed == {"hidden_dim": 8} and fresh.space == {"learning_rate": [0.002]}
    assert fresh.budget is None and fresh.evaluate_episodes == 20


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
    stored = "SELECT kind, seed, episode_seed FROM confirmations ORDER BY seed"
    rows = json.loads(safesweep("query", stored, "--format", "json")[1])
    assert [(row["kind"], row["seed"]) for row in rows] == [
        ("evaluated", 0), ("evaluated", 1), ("retrained", 2), ("retrained", 3),
    ]  # fmt: skip
    # The second stage of a choice asks for the same fresh seeds, which are there.
    code, out, err = safesweep("select", "--sweep", "first", "--confirm", "2", "--episodes", "4")
    assert code == 0 and "the first tried" in out
    # Nor are they chosen from afterwards.
    chosen = json.loads(safesweep("select", "--format", "json")[1])
    assert [row["seeds"] for row in chosen] == [2]
    seeds = safesweep("query", "SELECT DISTINCT seed FROM runs ORDER BY 1", "--format", "csv")[1]
    assert seeds.split() == ["seed", "0", "1", "2", "3"]
