"""`configs_per_trial: auto`: how many configurations share a population, measured."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from safesweep.sweeps.spec.sweep_spec import FEWEST_BUDGET_RUNS, SweepSpec
from safesweep.trainables.store.recorded_sweep import read_recorded_sweep
from safesweep.trainables.tasks.processors import usable_cpus

if TYPE_CHECKING:
    from safesweep.trainables.data.dataset import Dataset

SECONDS = 2.0
LARGEST_POPULATION = 64
# A larger population has to be worth more than this: with smaller ones less is lost when one is
# interrupted, and the last ones end together.
WORTHWHILE = 1.05


def calibrate(
    spec: SweepSpec,
    datasets: "Mapping[str, Dataset]",
    num_cpus: int | None,
    num_gpus: int | None,
    previous_spec: str | None,
) -> tuple[SweepSpec, str]:
    """The sweep with its number of configurations in a population, and a line that says why.

    What an earlier launch chose stands, so that interrupted populations are planned again with the
    same members. Otherwise each method is measured for two seconds on this machine.
    """
    begun = as_begun(spec, previous_spec)
    if not begun.auto_population:
        return begun, f"configs_per_trial {begun.configs_per_trial}, as this sweep began"
    from safesweep.trainables.training.devices import pick_device

    device = pick_device("auto") if spec.gpu and num_gpus != 0 else "cpu"
    choices = _choices(spec, trials_at_a_time(spec, num_cpus, num_gpus, device))
    if choices == [1]:
        return _with(spec, 1), "configs_per_trial 1: more would leave processors without work"
    speeds = [_speeds(spec, name, datasets, choices, device) for name in spec.algorithms]
    measured = [n for n in choices if all(n in one for one in speeds)]
    # Of several methods, the time for a step of one run of each.
    costs = {n: sum(1 / max(one[n], 1e-9) for one in speeds) for n in measured}
    best = min(costs.values())
    chosen = next(n for n in measured if costs[n] <= best * WORTHWHILE)
    shown = ", ".join(f"{n}: {len(speeds) / cost:.3g}" for n, cost in costs.items())
    return _with(spec, chosen), (
        f"configs_per_trial {chosen}, by steps of a run per second on this {device} ({shown}; "
        f"at most {choices[-1]}, so that all processors have work)"
    )


def as_begun(spec: SweepSpec, previous_spec: str | None) -> SweepSpec:
    """The sweep with the number that an earlier launch recorded; unchanged where none did."""
    recorded = read_recorded_sweep(previous_spec)
    if recorded is None or recorded.configs_per_trial is None or not spec.auto_population:
        return spec
    return _with(spec, recorded.configs_per_trial)


def _with(spec: SweepSpec, configs_per_trial: int) -> SweepSpec:
    return spec.model_copy(update={"population": configs_per_trial})


def trials_at_a_time(spec: SweepSpec, cpus: int | None, gpus: int | None, device: str) -> int:
    """Trials that run at a time on this machine."""
    fit = (usable_cpus() if cpus is None else cpus or 1) / spec.cpu
    if device == "cuda":
        import torch

        fit = min(fit, (torch.cuda.device_count() if gpus is None else gpus) / spec.gpu)
    return max(1, math.floor(fit))


def _choices(spec: SweepSpec, concurrent: int) -> list[int]:
    """Powers of two that leave work for every trial that can run at the same time."""
    counts = []
    for algorithm in spec.algorithms:
        if spec.budget_runs is not None:
            # Its rounds have about as many runs as its first.
            counts.append(min(FEWEST_BUDGET_RUNS, spec.budget_runs))
        elif spec.search.num_configs is None:
            counts.append(sum(1 for _ in spec.space_for(algorithm).grid()))
        else:
            counts.append(spec.search.num_configs)
    combinations = len(spec.algorithms) * len(spec.tasks)
    most = min(max(counts), math.ceil(max(counts) * combinations / concurrent))
    most = min(most, LARGEST_POPULATION // len(spec.seeds))
    if spec.search.parallel is not None:
        most = min(most, spec.search.parallel)
    return [2**power for power in range(max(1, most).bit_length())]


def _speeds(
    spec: SweepSpec,
    algorithm: str,
    datasets: "Mapping[str, Dataset]",
    choices: list[int],
    device: str,
) -> dict[int, float]:
    from safesweep.trainables.tasks.registry import get_task
    from safesweep.trainables.training.request import TrialRequest
    from safesweep.trainables.training.throughput import measured_speeds

    task, seeds = spec.tasks[0], len(spec.seeds)
    request = TrialRequest(
        algorithm,
        task,
        [spec.resolve(algorithm, {})],
        [0],
        spec.steps,
        device=device,
        threads=spec.threads,
    )
    sizes = [n * seeds for n in choices]
    speeds = measured_speeds(request, get_task(task), datasets[task], sizes, SECONDS)
    return {size // seeds: speed for size, speed in speeds.items()}
