"""`SafeRLTrainable` in a plain `tune.Tuner`: its best checkpoint, restore, and PBT."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

from safesweep import SafeRLTrainable
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.trainable import CHECKPOINT_FILE
from safesweep.trainables.training.checkpoints import loaded_checkpoint
from tests.trainables.conftest import MakeDataset


@pytest.fixture
def config(boat_task: Task, make_dataset: MakeDataset) -> dict[str, Any]:
    return {
        "algorithm": "bc", "task": boat_task.name, "steps": 8, "evaluate_every": 2, "seeds": [0],
        "hyperparameters": {"hidden_dim": 8, "batch_size": 16, "learning_rate": 1e-3},
        "episodes": 1, "dataset": make_dataset(boat_task), "device": "cpu",
    }  # fmt: skip


def test_a_restored_trial_ends_as_one_that_went_through(
    config: dict[str, Any], tmp_path: Path
) -> None:
    through, first, second = (SafeRLTrainable(config) for _ in range(3))
    results = [through.train() for _ in range(4)]
    first.train()
    first.train()
    first.save_checkpoint(str(tmp_path))
    second.load_checkpoint(str(tmp_path))
    assert second.trial_plan.population.step == 4
    assert second.train()["normalized_reward"] == results[2]["normalized_reward"]
    last = second.train()
    assert last["done"] and last["normalized_reward"] == results[3]["normalized_reward"]
    assert [row["step"] for row in second.trial_plan.rows.evaluations] == [2, 4, 6, 8]
    second.save_checkpoint(str(tmp_path))
    first.load_checkpoint(str(tmp_path))
    assert first.trial_plan.done


def test_other_hyperparameters_go_on_from_a_checkpoint_without_a_store(
    config: dict[str, Any], tmp_path: Path
) -> None:
    good = SafeRLTrainable(config)
    good.train()
    good.save_checkpoint(str(tmp_path))
    faster = {**config, "hyperparameters": {**config["hyperparameters"], "learning_rate": 1e-2}}
    other = SafeRLTrainable(faster)
    other.load_checkpoint(str(tmp_path))
    assert other.trial_plan.population.step == 2
    assert {row["run_id"] for row in other.trial_plan.rows.evaluations} == set(
        other.trial_plan.run_ids
    )
    assert other.train()["normalized_reward"] != good.train()["normalized_reward"]
    stored = SafeRLTrainable({**faster, "storage": str(tmp_path / "store")})
    with pytest.raises(InvalidInput, match="is of other runs"):
        stored.load_checkpoint(str(tmp_path))
    several = SafeRLTrainable({**config, "seeds": [0, 1]})
    with pytest.raises(InvalidInput, match="holds 1 runs, and this trial 2"):
        several.load_checkpoint(str(tmp_path))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def tuned(
    config: dict[str, Any], folder: Path, scheduler: Any = None
) -> tuple[dict[str, Any], tune.ResultGrid]:
    """A search space of two learning rates, and what a plain tuner makes of it."""
    space = {
        **config,
        "dataset": ray.put(config["dataset"]),
        "hyperparameters": {
            **config["hyperparameters"],
            "learning_rate": tune.grid_search([1e-4, 1e-2]),
        },
    }
    tuner = tune.Tuner(
        SafeRLTrainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="normalized_reward", mode="max", scheduler=scheduler, max_concurrent_trials=2
        ),
        run_config=tune.RunConfig(
            name="plain",
            storage_path=str(folder),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
        ),
    )
    return space, tuner.fit()


@pytest.mark.slow
@pytest.mark.ray
def test_population_based_training(cluster: None, config: dict[str, Any], tmp_path: Path) -> None:
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=2,
        quantile_fraction=0.5,
        hyperparam_mutations={"hyperparameters": {"learning_rate": [1e-3, 1e-2]}},
        synch=True,
    )
    _, results = tuned(config, tmp_path, scheduler)
    assert not results.errors
    assert [result.metrics["step"] for result in results] == [8, 8]
    # One of the two went on from the other, with another learning rate.
    assert list(tmp_path.rglob("pbt_global.txt"))


@pytest.mark.slow
@pytest.mark.ray
def test_best_checkpoint_and_restore(cluster: None, config: dict[str, Any], tmp_path: Path) -> None:
    space, results = tuned(config, tmp_path)
    assert not results.errors
    assert [result.metrics["step"] for result in results] == [8, 8]
    best = results.get_best_result()
    with best.checkpoint.as_directory() as folder:
        saved = loaded_checkpoint((Path(folder) / CHECKPOINT_FILE).read_bytes(), "best")
        assert saved["population"]["step"] == 8
        again = SafeRLTrainable({**config, "hyperparameters": best.config["hyperparameters"]})
        again.load_checkpoint(folder)
    assert again.trial_plan.latest()[0]["normalized_reward"] == best.metrics["normalized_reward"]
    restored = tune.Tuner.restore(
        str(tmp_path / "plain"), SafeRLTrainable, param_space=space
    ).get_results()
    assert [result.metrics["step"] for result in restored] == [8, 8]
