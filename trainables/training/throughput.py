"""How fast populations of different sizes train here: a short measurement before a sweep."""

import time
from collections.abc import Iterable

import torch

from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.methods.method import Method, MethodConfig
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.population import Population, phase_boundaries

GIVE_UP_SHARE = 0.9


def measured_speeds(
    method_class: type[Method],
    config: MethodConfig,
    task: Task,
    dataset: Dataset,
    steps: int,
    sizes: Iterable[int],
    seconds: float,
    threads: int,
    device: str,
) -> dict[int, float]:
    """Gradient steps of all runs per second, for populations of the ascending `sizes`.

    Measures the longest phase, the drawing of minibatches aside, and stops where a larger
    population is clearly slower than the best or the `seconds` are over.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    ends = time.perf_counter() + seconds
    speeds: dict[int, float] = {}
    try:
        for size in sizes:
            speeds[size] = _speed(
                method_class, config, task, dataset, steps, size, seconds / 4, device
            )
            slower = speeds[size] < GIVE_UP_SHARE * max(speeds.values())
            if slower or time.perf_counter() > ends:
                break
    finally:
        torch.set_num_threads(before)
    return speeds


def _speed(
    method_class: type[Method],
    config: MethodConfig,
    task: Task,
    dataset: Dataset,
    steps: int,
    size: int,
    seconds: float,
    device: str,
) -> float:
    population = Population(
        method_class, [config] * size, list(range(size)), task, dataset, steps,
        task.limit_or_own(None), device,
    )  # fmt: skip
    _, start, end = max(
        phase_boundaries(population.method, steps), key=lambda phase: phase[2] - phase[1]
    )
    population.step = start
    # The first step draws for a whole block.
    population.advance(start + 1)
    _synchronize(device)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds and population.step < end - 1:
        population.advance(min(population.step + 2, end - 1))
        _synchronize(device)
        done = population.step - start - 1
    return size * done / (time.perf_counter() - began) if done else 0.0


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
