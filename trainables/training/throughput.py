"""How fast populations of different sizes train here: a short measurement before a sweep."""

import time
from collections.abc import Iterable
from dataclasses import replace

import torch

from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.population import Population, phase_boundaries
from safesweep.trainables.training.request import TrialRequest

GIVE_UP_SHARE = 0.9


def measured_speeds(
    request: TrialRequest,
    task: Task,
    dataset: Dataset,
    sizes: Iterable[int],
    seconds: float,
) -> dict[int, float]:
    """Gradient steps of all runs per second, for populations of the ascending `sizes`, of
    members like the request's first.

    Measures the longest phase, the drawing of minibatches aside, and stops where a larger
    population is clearly slower than the best or the `seconds` are over.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(request.threads)
    ends = time.perf_counter() + seconds
    speeds: dict[int, float] = {}
    try:
        for size in sizes:
            members = replace(
                request, configs=[request.configs[0]] * size, seeds=range(size), run_ids=None
            )
            speeds[size] = _speed(Population(members, task, dataset), seconds / 4)
            slower = speeds[size] < GIVE_UP_SHARE * max(speeds.values())
            if slower or time.perf_counter() > ends:
                break
    finally:
        torch.set_num_threads(before)
    return speeds


def _speed(population: Population, seconds: float) -> float:
    device = population.device.type
    _, start, end = max(
        phase_boundaries(population.method, population.steps),
        key=lambda phase: phase[2] - phase[1],
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
    return population.size * done / (time.perf_counter() - began) if done else 0.0


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
