import pytest

from safesweep.trainables.store.recorded_sweep import RecordedSweep, read_recorded_sweep

FILE = "algorithm: bc\ntasks: [One, Other]\n"


def test_what_a_file_leaves_open_is_left_open() -> None:
    assert read_recorded_sweep(FILE) == RecordedSweep({}, None, {}, None)
    assert read_recorded_sweep(
        FILE + "evaluate: {episodes: auto}\nconfigs_per_trial: auto\nobjective:\n"
    ) == RecordedSweep({}, None, {}, None)


def test_what_it_says_is_read() -> None:
    found = read_recorded_sweep(
        FILE + "cost_limit: 10\nevaluate: {every: 5, episodes: 3}\nconfigs_per_trial: 4\n"
        "objective: {maximize: normalized_reward}\n"
    )
    objective = {"maximize": "normalized_reward"}
    assert found == RecordedSweep(objective, 10.0, {"One": 3, "Other": 3}, 4)
    by_task = read_recorded_sweep(FILE + "evaluate: {episodes: {One: 3}}\n")
    assert by_task is not None and by_task.episodes == {"One": 3}


@pytest.mark.parametrize("text", [None, "", "source: theirs.csv\n", "[1, 2]\n"])
def test_what_is_no_sweep_file_says_nothing(text: str | None) -> None:
    assert read_recorded_sweep(text) is None
