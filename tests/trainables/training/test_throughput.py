import torch

from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training import throughput as calibration
from safesweep.trainables.training.throughput import measured_speeds
from tests.trainables.conformance.small_populations import small_settings
from tests.trainables.conftest import MakeDataset


def measure(task: Task, make_dataset: MakeDataset, sizes: list[int]) -> dict[int, float]:
    method = ALGORITHMS["bc"]
    config = method.config_class.resolve(small_settings("bc"))
    return measured_speeds(method, config, task, make_dataset(task), 1000, sizes, 0.2, 1, "cpu")


def test_every_size_is_measured_while_larger_ones_are_faster(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    threads = torch.get_num_threads()
    # Networks so small that what an operation costs is to start it.
    speeds = measure(boat_task, make_dataset, [1, 8])
    assert list(speeds) == [1, 8]
    assert all(speed > 0 for speed in speeds.values())
    assert torch.get_num_threads() == threads


def test_it_stops_where_larger_populations_are_slower(
    boat_task: Task, make_dataset: MakeDataset, monkeypatch
) -> None:
    rates = {1: 10.0, 2: 20.0, 4: 15.0, 8: 30.0}
    monkeypatch.setattr(calibration, "_speed", lambda *arguments: rates[arguments[5]])
    assert list(measure(boat_task, make_dataset, [1, 2, 4, 8])) == [1, 2, 4]
