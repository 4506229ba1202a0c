"""What a trial is asked to do: the one description from a sweep's plan to the population.

`TrialRequest` is the only thing that says so. Where it crosses Ray, whose configurations are
dictionaries, `to_config` and `from_config` convert it, to and from plain values.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from safesweep.search_spaces.plugins import PluginSource
from safesweep.search_spaces.validation import (
    InvalidInput,
    key_problems,
    require_choice,
    require_number,
    shown,
)

DEVICES = ("auto", "cpu", "cuda")
ONLY_IN_CONFIGS = ("dataset", "hyperparameters", "trial_id")
"""Keys of a Tune configuration beside the fields: data (`SafeRLTrainable` takes it), one
configuration for all seeds, and the trial's identity, which follows from `run_ids`."""


@dataclass(frozen=True)
class ContinuedTrial:
    """A shorter trial of the store that is carried on: its identity, and its runs in the order of
    those that carry them on."""

    trial_id: str
    run_ids: tuple[str, ...]


@dataclass(frozen=True)
class TrialRequest:
    """One population of runs, and how it is to be trained, evaluated and recorded.

    Attributes:
        algorithm, task: names in the registries.
        configs: the hyperparameters of each run, by name or alias; static ones must agree.
        seeds: one seed a run.
        steps: gradient steps of each run.
        evaluate_every: gradient steps between evaluations; the last step is always evaluated.
            `steps` when None.
        episodes: episodes an evaluation.
        cost_limit: of an episode; the task's own when None.
        device: auto, cpu or cuda.
        compiled: whether to compile the gradient step, where members step together.
        run_ids: what the plan calls the runs; None where nobody planned them.
        memory_splits: how often the population was halved for lack of memory, for the record.
        continue_from: a shorter trial of the store that this one carries on
            (`trainables.training.continuation`). Its rows up to its end become rows of these runs.
        until: the evaluation step at which the trial pauses; at its end when None.
        stop, stop_at: runs to end at an evaluation step, by run_id with the reason.
        storage, sweep: where rows go; without `storage` nothing is written.
        lease: of the driver for whom it is trained (`trainables.store.leases`).
        threads: of a CPU trial.
        gpu: the share of a GPU's memory that the worker may take.
        plugins: what has to be loaded first, names or what `plugin_sources` gives.
    """

    algorithm: str
    task: str
    configs: Sequence[Mapping[str, Any]]
    seeds: Sequence[int]
    steps: int
    evaluate_every: int | None = None
    episodes: int = 20
    cost_limit: float | None = None
    device: str = "auto"
    compiled: bool = False
    run_ids: Sequence[str] | None = None
    memory_splits: int = 0
    continue_from: ContinuedTrial | None = None
    until: int | None = None
    stop: Mapping[str, str] = field(default_factory=dict)
    stop_at: int = 0
    storage: str | None = None
    sweep: str = "unnamed"
    lease: str | None = None
    threads: int = 1
    gpu: float = 1.0
    plugins: Sequence[str | PluginSource] = ()

    def to_config(self) -> dict[str, Any]:
        """The request as plain values: what `from_config` reads, and JSON could hold."""
        config = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        config["configs"] = [dict(values) for values in self.configs]
        config["seeds"], config["stop"] = list(self.seeds), dict(self.stop)
        config["run_ids"] = None if self.run_ids is None else list(self.run_ids)
        config["plugins"] = [
            source if isinstance(source, str) else list(source) for source in self.plugins
        ]
        if self.continue_from is not None:
            shorter = self.continue_from
            config["continue_from"] = {
                "trial_id": shorter.trial_id,
                "run_ids": list(shorter.run_ids),
            }
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "TrialRequest":
        """The request in a Tune configuration; its keys are the fields.

        `hyperparameters` may stand for `configs`: one configuration for all `seeds` (by default
        one, 0). A key that is None counts as not given.

        Raises:
            InvalidInput: a key is unknown or missing, or a value is not allowed.
        """
        names = [entry.name for entry in fields(cls)]
        # Tune's own keys begin with two underscores.
        keys = [
            key
            for key, value in config.items()
            if not str(key).startswith("__") and not (value is None and key in names)
        ]
        problems = key_problems(
            "config", keys, [*names, *ONLY_IN_CONFIGS], ("algorithm", "task", "steps")
        )
        if problems:
            raise InvalidInput("; ".join(problems))
        given = {key: _plain(config[key]) for key in keys}
        values: dict[str, Any] = {name: given[name] for name in names if name in given}
        for name in ("algorithm", "task", "storage", "sweep", "lease"):
            if name in given and not isinstance(given[name], str):
                raise _refused(name, given[name], "text")
        for name in ("steps", "evaluate_every", "episodes", "until", "threads"):
            if name in given:
                values[name] = _whole_number(name, given[name], 1)
        for name in ("memory_splits", "stop_at"):
            if name in given:
                values[name] = _whole_number(name, given[name], 0)
        if "cost_limit" in given:
            values["cost_limit"] = float(require_number("config.cost_limit", given["cost_limit"]))
        if "gpu" in given:
            values["gpu"] = float(require_number("config.gpu", given["gpu"], 0))
        if "device" in given:
            require_choice("config.device", given["device"], DEVICES)
        if not isinstance(given.get("compiled", False), bool):
            raise _refused("compiled", given["compiled"], "true or false")
        seeds = _listed("seeds", given.get("seeds", [0]))
        values["seeds"] = tuple(_whole_number("seeds", _plain(seed), 0) for seed in seeds)
        values["configs"] = _configs(given, len(values["seeds"]))
        values["stop"] = _mapping("stop", given.get("stop", {}))
        values["plugins"] = tuple(
            source if isinstance(source, str) else tuple(source)
            for source in _listed("plugins", given.get("plugins", ()))
        )
        if "run_ids" in given:
            values["run_ids"] = tuple(map(str, _listed("run_ids", given["run_ids"])))
        if "continue_from" in given:
            shorter = _mapping("continue_from", given["continue_from"])
            problems = key_problems(
                "config.continue_from", shorter, ("trial_id", "run_ids"), ("trial_id", "run_ids")
            )
            if problems:
                raise InvalidInput("; ".join(problems))
            run_ids = tuple(map(str, _listed("continue_from.run_ids", shorter["run_ids"])))
            values["continue_from"] = ContinuedTrial(str(shorter["trial_id"]), run_ids)
        return cls(**values)


def _configs(given: Mapping[str, Any], runs: int) -> tuple[Mapping[str, Any], ...]:
    if "configs" in given and "hyperparameters" in given:
        raise InvalidInput("config.hyperparameters: is given beside configs; give one of the two")
    if "configs" not in given:
        return (_mapping("hyperparameters", given.get("hyperparameters", {})),) * runs
    entries = _listed("configs", given["configs"])
    configs = tuple(_mapping(f"configs[{place}]", entry) for place, entry in enumerate(entries))
    if len(configs) != runs:
        raise InvalidInput(
            f"config.configs: {len(configs)} configurations are not allowed; there are {runs} "
            "seeds, one for each"
        )
    return configs


def _plain(value: Any) -> Any:
    """A number of numpy's, as some of Tune's samplers give, as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _whole_number(name: str, value: Any, low: int) -> int:
    return int(require_number(f"config.{name}", value, low, integer=True))


def _listed(name: str, value: Any) -> Iterable[Any]:
    if not isinstance(value, list | tuple):
        raise _refused(name, value, "a list")
    return value


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _refused(name, value, "keys and values")
    return {str(key): _plain(content) for key, content in value.items()}


def _refused(name: str, value: Any, wanted: str) -> InvalidInput:
    return InvalidInput(f"config.{name}: {shown(value)} is not allowed; it must be {wanted}")
