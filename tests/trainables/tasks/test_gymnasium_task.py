"""A task from an environment of gymnasium, in a file of its own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from safesweep.search_spaces.plugins import load_plugin, plugin_sources, plugins_forgotten_after
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.data.sources import load_dataset
from safesweep.trainables.tasks.registry import get_task, make_simulator
from safesweep.trainables.tasks.rollout import rollout
from safesweep.trainables.training.trial import train

CONTENT = {
    "name": "MyLane-v0",
    "environment": "tests.plugins.lanes:Lane-v0",
    "horizon": "8",
    "min_return": "0",
    "max_return": "8.0",
    "cost_limit": "[2, 1]",
}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    with plugins_forgotten_after():
        yield


def write(folder: Path, **changed: str | None) -> str:
    path = folder / "lane.yaml"
    content = {key: value for key, value in {**CONTENT, **changed}.items() if value is not None}
    path.write_text("".join(f"{key}: {value}\n" for key, value in content.items()))
    return str(path)


def test_its_constants_and_dimensions_are_those_of_the_file_and_the_environment(
    tmp_path: Path,
) -> None:
    load_plugin(write(tmp_path))
    task = get_task("MyLane-v0")
    assert (task.observation_dim, task.action_dim, task.horizon) == (1, 1, 8)
    assert task.cost_limits == (2.0, 1.0) and task.cost_limit == 1.0
    assert task.normalize_reward(4.0) == 0.5
    assert (task.max_cost, task.dataset_path) == (8.0, None)
    assert plugin_sources()[0].text == Path(tmp_path / "lane.yaml").read_text()


def test_episodes_have_the_known_outcomes_and_last_to_the_files_horizon(tmp_path: Path) -> None:
    load_plugin(write(tmp_path))
    task = get_task("MyLane-v0")

    def act(observations, step, members, episodes):
        return np.full(observations.shape, 0.4) * np.array([1.0, 2.0])[members][:, None, None]

    outcome = rollout(task, act, 2, [1, 2])
    # Slowly: 8 steps of 0.1, nowhere near the end, and nothing costs.
    np.testing.assert_allclose(outcome.reward_returns[0], 3.2, rtol=1e-6)
    assert outcome.lengths[0].tolist() == [8, 8] and (outcome.cost_returns[0] == 0).all()
    # Twice as fast it is over within 8 steps of 0.2 from some starts.
    starts = [make_simulator(task).reset(seed)[0] for seed in (1, 2)]
    steps = [min(8, int(np.ceil((1.0 - start) / 0.2 - 1e-6))) for start in starts]
    assert outcome.lengths[1].tolist() == steps
    np.testing.assert_allclose(outcome.cost_returns[1], 0.5 * np.array(steps))


def test_it_is_trained_on_the_file_beside_it(tmp_path: Path) -> None:
    with plugins_forgotten_after():
        load_plugin(write(tmp_path))
        collect_dataset("MyLane-v0", 12, 0, tmp_path / "lane.hdf5")
    load_plugin(write(tmp_path, dataset="lane.hdf5"))
    data = load_dataset("MyLane-v0")
    assert len(data.episode_ends) == 12
    rows = train("bc", "MyLane-v0", [{"hidden_dim": 4, "batch_size": 4}], steps=2, episodes=2)
    assert rows.runs[0]["status"] == "completed"
    assert rows.evaluations[0]["task"] == "MyLane-v0"
    assert rows.evaluations[0]["cost_limit"] == 1.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"horizn": "3"}, r"horizn: unknown key; allowed: name, .*; did you mean 'horizon'\?"),
        ({"horizon": None}, "horizon: is missing"),
        ({"horizon": "2.5"}, r"horizon: 2.5 is not allowed; it must be a whole number in \[1, "),
        ({"min_return": "low"}, "min_return: 'low' is not allowed; it must be a number"),
        ({"max_return": "-1"}, "its task MyLane-v0: max_return must be above min_return"),
        ({"cost_limit": "-3"}, "cost_limit: -3 is not allowed; it must be a number >= 0"),
        ({"cost_limit": "[]"}, "its task MyLane-v0 has no cost limit"),
        ({"cost": "7"}, "cost: 7 is not allowed; it must be text"),
        ({"dataset": "no"}, "dataset: False is not allowed; it must be text; YAML reads it as a"),
        ({"environment": "NoSuchLane-v0"}, "environment: 'NoSuchLane-v0' cannot be made: .*exist"),
        (
            {"environment": "no_module:A-v0"},
            "environment: 'no_module:A-v0' cannot be made: .*no_mo",
        ),
        (
            {"environment": "tests.plugins.lanes:FastLane-v0"},
            r"has actions in 'Box\(-2.0, 2.0.*|they must lie in \[-1, 1\]",
        ),
        (
            {"environment": "tests.plugins.lanes:PictureLane-v0"},
            r"has observations .*; they must be one vector",
        ),
        ({"name": "OfflineCarRun-v0"}, "its task OfflineCarRun-v0 is known already"),
        ({"name": None}, "must hold a task's keys and values, with a name"),
        ({"horizon": "[1"}, r"line \d: not valid YAML: "),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(
    tmp_path: Path, changed: dict[str, str | None], message: str
) -> None:
    path = write(tmp_path, **changed)
    with pytest.raises(InvalidInput, match=message) as raised:
        load_plugin(path)
    assert str(raised.value).startswith(f"plugin {path}") and "\n" not in str(raised.value)


def test_data_that_is_not_there_and_a_cost_that_is_not_told(tmp_path: Path) -> None:
    load_plugin(write(tmp_path, dataset="missing.hdf5", cost="damage"))
    with pytest.raises(InvalidInput, match=r"missing.hdf5', the data of MyLane-v0, is not there"):
        load_dataset("MyLane-v0")
    simulator = make_simulator(get_task("MyLane-v0"))
    simulator.reset(0)
    with pytest.raises(
        InvalidInput, match="cost: 'damage' is not in the info of MyLane-v0, which holds cost"
    ):
        simulator.step(np.zeros(1))
