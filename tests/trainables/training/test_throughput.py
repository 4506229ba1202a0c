import torch

from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training import throughput as calibration
from safesweep.trainables.training.request import TrialRequest
from safesweep.trainables.training.throughput import measured_speeds
from tests.trainables.conformance.small_populations import small_settings
from tests.trainables.conftest import MakeDataset


def measure(task: Task, make_dataset: MakeDataset, sizes: list[int]) -> dict[int, float]:
    request = TrialRequest("bc", task.name, [small_settings("bc")], [0], 1000, device="cpu")
    return measured_speeds(request, task, make_dataset(task), sizes, 0.2)


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
    monkeypatch.setattr(calibration, "_speed", lambda population, _: rates[population.size])
    assert list(measure(boat_task, make_dataset, [1, 2, 4, 8])) == [1, 2, 4]
