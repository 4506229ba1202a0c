"""What a budget was spent on and has ended in stands in the store."""

from pathlib import Path

from safesweep.analysis.selection.choice import choose
from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.execution.standing import planned_tasks
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.store.planned import planned_path
from tests.fixture_store import SMALL, train_sweep


def test_a_budget_ends_in_its_choice_by_one_code_too(
    tmp_path: Path, boat_datasets: dict[str, Path]
) -> None:
    task = "BoatNavigation-v0"
    spec = SweepSpec.from_mapping(
        {
            "name": "spent", "algorithm": "bc", "tasks": [task], "budget": {"runs": 12},
            "dataset": str(boat_datasets[task]), "fixed": SMALL, "steps": 4,
            "space": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
            "evaluate": {"episodes": 1},
        }
    )  # fmt: skip
    datasets = {task: read_dataset(boat_datasets[task], task)}
    train_sweep(spec, tmp_path / "store", datasets)
    store = ResultStore(tmp_path / "store")
    (found,) = planned_tasks(store.file(planned_path("spent")))
    assert len(store.runs()) == found.planned == 12
    assert found.spent.startswith("runs for ")
    assert found.choice.startswith(("chose ", "nothing passed: "))

    # Every choice of the sweep is that one, unless something else is asked for.
    choice = choose(store, sweep="spent")
    assert choice.rule == "budget"
    row = choice.chosen.iloc[0]
    assert row["config_id"] == found.chosen["config_id"] and row["config_id"] in found.choice
    assert row["safe"] == found.chosen["passed"] == found.choice.startswith("chose ")
    assert row["bound"] == found.chosen["bound"]
    assert "(at 0.9, by the budget)" in row["reason"]
    assert choose(store, sweep="spent", rule="min_cost").rule == "min_cost"
    assert choose(store, sweep="spent", cost_limit=5).rule == "max_reward_safe"
    assert choose(store).rule == "max_reward_safe"
