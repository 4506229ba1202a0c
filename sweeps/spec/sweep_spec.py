"""Sweep files: read, overridden, checked. Whatever is wrong is named in one line."""

import os
import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import yaml

from safesweep.search_spaces.space import Hyperparameter, SearchSpace, Value
from safesweep.search_spaces.validation import (
    InvalidInput,
    listed,
    nearest,
    quotes_hint,
    require_choice,
    require_number,
    shown,
)

ADAPTIVE_METHODS = ("tpe", "nsga2", "cmaes")
SEARCH_METHODS = ("grid", "random", *ADAPTIVE_METHODS)
EARLY_STOPPING_METHODS = ("halving",)
DATASET_SOURCES = ("auto", "fetch", "collect")
OBJECTIVES = ("normalized_reward", "reward_return_mean")
CONSTRAINTS = ("normalized_cost", "cost_return_mean", "violation_rate")
RANGE_KEYS = ("low", "high", "log")
# Gradient steps of a run that repay compiling, which takes one to some minutes.
AUTO_COMPILE_STEPS = 20_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SEEDS = 2**31 - 1


@dataclass(frozen=True)
class SearchOptions:
    """How configurations are chosen.

    `parallel` bounds how many suggestions of an adaptive search are open at a time: suggestion i
    sees the results of suggestions up to i - `parallel`, neither more nor fewer, so that the
    sequence depends on no timing. It is None for grid and random, whose plan is known in advance.
    `points` come first, as the file names them: see `SweepSpec.points_for`.
    """

    method: str
    num_configs: int | None
    seed: int
    parallel: int | None
    points: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class EarlyStoppingOptions:
    """How configurations are given up: successive halving at the rungs `min_steps`, `min_steps` *
    `reduction`, and so on, after each of which one configuration in `reduction` goes on."""

    method: str
    reduction: int
    min_steps: int

    def steps(self, steps: int) -> list[int]:
        """Where there may be a rung, for runs of so many gradient steps."""
        found, step = [], self.min_steps
        while step < steps:
            found.append(step)
            step *= self.reduction
        return found


@dataclass(frozen=True)
class SweepSpec:
    """One sweep, fully checked. Build it with `from_mapping`, `from_yaml` or `load`."""

    name: str
    algorithms: tuple[str, ...]
    tasks: tuple[str, ...]
    # One source for every task, or each task's own by its id.
    dataset: str | Mapping[str, str]
    seeds: tuple[int, ...]
    search: SearchOptions
    space: Mapping[str, Any] | None
    fixed: Mapping[str, Any]
    steps: int
    evaluate_every: int
    # One number for every task, each task's own by its id, or None: `auto`, which a launch settles
    # (safesweep.sweeps.evaluation).
    evaluate_episodes: int | Mapping[str, int] | None
    maximize: str
    subject_to: Mapping[str, float]
    cost_limit: float | None
    cpu: float
    gpu: float
    configs_per_trial: int
    early_stopping: EarlyStoppingOptions | None = None
    # `configs_per_trial: auto`: a launch measures it, and plans with 1 until then.
    calibrated: bool = False
    # None: where the steps repay it.
    compile: bool | None = False

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> Self:
        """Check a sweep file's content and fill in defaults.

        Raises:
            InvalidInput: the first thing that is wrong, with its key, its value and what is
                allowed.
        """
        _require_keys("", content, _KEYS, ("name", "algorithm", "tasks", "steps"))
        name = content["name"]
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInput(
                f"name: {shown(name)} is not allowed; it must be 1 to 100 letters, digits, '.', "
                f"'_' or '-', and start with a letter or a digit{quotes_hint(name)}"
            )
        algorithms = _algorithms(content["algorithm"])
        tasks = _tasks(content["tasks"])
        steps = int(require_number("steps", content["steps"], 1, integer=True))
        configs_per_trial = _configs_per_trial(content.get("configs_per_trial", 1))
        evaluate = _section(content, "evaluate", ("every", "episodes"))
        objective = _section(content, "objective", ("maximize", "subject_to"))
        resources = _section(content, "resources", ("cpu", "gpu"))
        cost_limit = content.get("cost_limit")
        if cost_limit is not None:
            cost_limit = float(require_number("cost_limit", cost_limit, 0))
        spec = cls(
            name=name,
            algorithms=algorithms,
            tasks=tasks,
            dataset=_dataset(content.get("dataset", "auto"), tasks),
            seeds=_seeds(content.get("seeds", [0])),
            search=_search(content, configs_per_trial),
            space=_optional_mapping(content, "space"),
            fixed=_optional_mapping(content, "fixed") or {},
            steps=steps,
            evaluate_every=int(
                require_number("evaluate.every", evaluate.get("every", steps), 1, steps, True)
            ),
            evaluate_episodes=_episodes(evaluate.get("episodes", 20), tasks),
            maximize=require_choice(
                "objective.maximize", objective.get("maximize", "normalized_reward"), OBJECTIVES
            ),
            subject_to=_constraints(objective.get("subject_to", {"normalized_cost": 1.0})),
            cost_limit=cost_limit,
            cpu=float(require_number("resources.cpu", resources.get("cpu", 1), 0.01, 1024)),
            gpu=float(require_number("resources.gpu", resources.get("gpu", 0.25), 0, 1)),
            configs_per_trial=configs_per_trial,
            calibrated=content.get("configs_per_trial") == "auto",
            compile=_compile(content.get("compile", False)),
        )
        for algorithm in algorithms:
            spec._check_hyperparameters(algorithm)
        return replace(spec, early_stopping=spec._early_stopping(content))

    @classmethod
    def from_yaml(
        cls, text: str, overrides: Iterable[str] = (), origin: str = "sweep file"
    ) -> Self:
        """Parse YAML, apply `key=value` overrides (dotted keys), and check the result.

        Raises:
            InvalidInput: not YAML, not a mapping, a bad override, or bad content.
        """
        content = _parse_yaml(text, origin)
        if not isinstance(content, dict):
            raise InvalidInput(f"{origin}: must hold keys and values, not {_kind(content)}")
        _apply_overrides(content, overrides)
        return cls.from_mapping(content)

    @classmethod
    def load(cls, source: str | Path, overrides: Iterable[str] = ()) -> Self:
        """Read a sweep file from a path, or one that ships by its name.

        Raises:
            InvalidInput: no such file, or bad content.
        """
        path = Path(source)
        if not os.path.isfile(path) and str(source) in shipped_specs():
            text = (files("safesweep.sweeps") / "specs" / f"{source}.yaml").read_text(
                encoding="utf-8"
            )
            return cls.from_yaml(text, overrides, str(source))
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            close = nearest(str(source), shipped_specs())
            hint = f"; did you mean {close!r}?" if close else ""
            shipped = ", ".join(shipped_specs())
            raise InvalidInput(
                f"spec: no file {str(source)!r} and no sweep of that name ships ({shipped}){hint}"
            ) from None
        except (OSError, UnicodeDecodeError) as problem:
            reason = getattr(problem, "strerror", None) or "it is not UTF-8 text"
            raise InvalidInput(f"spec: cannot read {shown(str(source))}: {reason}") from None
        return cls.from_yaml(text, overrides, str(source))

    def to_mapping(self) -> dict[str, Any]:
        """The complete sweep file, defaults included; `from_mapping` reads it back."""
        search = {
            "method": self.search.method,
            "num_configs": self.search.num_configs,
            "seed": self.search.seed,
            "parallel": self.search.parallel,
            "points": [dict(point) for point in self.search.points] or None,
        }
        content: dict[str, Any] = {
            "name": self.name,
            "algorithm": list(self.algorithms),
            "tasks": list(self.tasks),
            "dataset": self.dataset if isinstance(self.dataset, str) else dict(self.dataset),
            "seeds": list(self.seeds),
            "search": {key: value for key, value in search.items() if value is not None},
            "fixed": dict(self.fixed),
            "steps": self.steps,
            "evaluate": {"every": self.evaluate_every, "episodes": self._episodes_content},
            "objective": {"maximize": self.maximize, "subject_to": dict(self.subject_to)},
            "cost_limit": self.cost_limit,
            "resources": {"cpu": self.cpu, "gpu": self.gpu},
            "configs_per_trial": "auto" if self.calibrated else self.configs_per_trial,
            "compile": "auto" if self.compile is None else self.compile,
        }
        if self.space is not None:
            content["space"] = dict(self.space)
        if self.early_stopping is not None:
            content["early_stopping"] = asdict(self.early_stopping)
        return content

    def to_yaml(self) -> str:
        """`to_mapping` as YAML text."""
        text: str = yaml.safe_dump(self.to_mapping(), sort_keys=False, default_flow_style=None)
        return text

    @property
    def threads(self) -> int:
        """Threads of one trial: its whole CPUs, at least one."""
        return max(1, int(self.cpu))

    @property
    def compiled(self) -> bool:
        """Whether gradient steps are compiled."""
        return self.steps >= AUTO_COMPILE_STEPS if self.compile is None else self.compile

    @property
    def rung_steps(self) -> list[int]:
        """Gradient steps at which early stopping may decide."""
        options = self.early_stopping
        return [] if options is None else options.steps(self.steps)

    def dataset_of(self, task: str) -> str:
        """Where the data of one of the sweep's tasks (its id) comes from."""
        return self.dataset if isinstance(self.dataset, str) else self.dataset[task]

    def episodes_of(self, task: str) -> int:
        """Episodes of an evaluation on one of the sweep's tasks (its id).

        Raises:
            InvalidInput: the number is to be chosen (`auto`) and has not been yet.
        """
        episodes = self.evaluate_episodes
        if episodes is None:
            raise InvalidInput("evaluate.episodes: auto has not been settled yet")
        return episodes if isinstance(episodes, int) else episodes[task]

    @property
    def _episodes_content(self) -> int | str | dict[str, int]:
        episodes = self.evaluate_episodes
        if episodes is None:
            return "auto"
        return episodes if isinstance(episodes, int) else dict(episodes)

    def cost_limit_of(self, task: str) -> float:
        """The sweep's cost limit of an episode, or the task's own."""
        from safesweep.trainables.tasks.registry import get_task

        return get_task(task).limit_or_own(self.cost_limit)

    def resolve(self, algorithm: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The full configuration of `parameters` (canonical names) over the fixed values.

        Raises:
            InvalidInput: a value that the method does not allow.
        """
        config_class = _config_class(algorithm)
        fixed = {config_class.canonical_name(key): value for key, value in self.fixed.items()}
        full: dict[str, Any] = config_class.resolve({**fixed, **parameters}).to_dict()
        return full

    def space_for(self, algorithm: str) -> SearchSpace:
        """The space that is searched for one algorithm, under the canonical names.

        It is the registered space where the file names none; fixed values leave it.
        """
        return self._spaces[algorithm]

    def points_for(self, algorithm: str) -> list[dict[str, Value]]:
        """The points that the search starts from, whole and under the canonical names.

        A hyperparameter that a point does not name takes the method's default.

        Raises:
            InvalidInput: a point that the space does not hold.
        """
        return [
            self._point(algorithm, f"search.points[{index}]", given)
            for index, given in enumerate(self.search.points)
        ]

    def _point(self, algorithm: str, where: str, given: Mapping[str, Any]) -> dict[str, Value]:
        config_class, space = _config_class(algorithm), self.space_for(algorithm)
        named: dict[str, str] = {}
        for key, value in given.items():
            try:
                name = config_class.canonical_name(key)
                config_class.resolve({key: value})
            except InvalidInput as problem:
                raise InvalidInput(f"{where}.{problem}") from None
            if name in named:
                raise InvalidInput(f"{where}.{key}: {name} is given twice (also {named[name]})")
            if name not in space.entries:
                allowed = ", ".join(space.entries)
                raise InvalidInput(f"{where}.{key}: is not in the space, which holds {allowed}")
            named[name] = key
        values = self.resolve(
            algorithm, {name: given[named[name]] for name in space.entries if name in named}
        )
        point = space.active(values)
        for name, key in named.items():
            if name not in point:
                parent, choices = space.entries[name].when or ("", ())
                raise InvalidInput(
                    f"{where}.{key}: takes part only where {parent} is "
                    f"{' or '.join(str(choice) for choice in choices)}"
                )
        for name, value in point.items():
            if not space.entries[name].contains(value):
                fault = (
                    f"{named[name]}: {value!r} is not allowed; the space holds"
                    if name in named
                    else f"{name}: is missing, and its default {value!r} is not in the space,"
                )
                raise InvalidInput(f"{where}.{fault} {space.entries[name].describe()}")
        return point

    @cached_property
    def _spaces(self) -> dict[str, SearchSpace]:
        return {algorithm: self._build_space(algorithm) for algorithm in self.algorithms}

    def _build_space(self, algorithm: str) -> SearchSpace:
        config_class = _config_class(algorithm)
        fixed = {config_class.canonical_name(key) for key in self.fixed}
        if self.space is None:
            from safesweep.search_spaces import SEARCH_SPACES

            if algorithm not in SEARCH_SPACES:
                raise InvalidInput(f"space: none is registered for {algorithm}; give one")
            return _without_fixed(SEARCH_SPACES[algorithm], self.resolve(algorithm, {}), fixed)
        description = {entry["name"]: entry for entry in config_class.describe()}
        entries = [
            _space_entry(given, content, description[config_class.canonical_name(given)])
            for given, content in self.space.items()
        ]
        space = SearchSpace(algorithm, entries)
        paper = config_class.resolve({}).to_dict()
        start = {name: paper[name] for name in space.entries}
        return SearchSpace(algorithm, entries, start) if space.contains(start) else space

    def _early_stopping(self, content: Mapping[str, Any]) -> EarlyStoppingOptions | None:
        if content.get("early_stopping") is None:
            return None
        section = _section(content, "early_stopping", ("method", "reduction", "min_steps"))
        method = require_choice(
            "early_stopping.method", section.get("method", "halving"), EARLY_STOPPING_METHODS
        )
        reduction = require_number(
            "early_stopping.reduction", section.get("reduction", 3), 2, 1000, integer=True
        )
        # A rung is an evaluation of a policy that has been trained.
        prepared = max(self._untrained_steps(algorithm) for algorithm in self.algorithms)
        every = self.evaluate_every
        given = section.get("min_steps", (prepared // every + 1) * every)
        min_steps = int(require_number("early_stopping.min_steps", given, 1, integer=True))
        if min_steps % every or not prepared < min_steps < self.steps:
            after = f" above {prepared}, where the policy's training begins," if prepared else ""
            raise InvalidInput(
                f"early_stopping.min_steps: {min_steps} is not allowed; it must be a multiple of "
                f"evaluate.every ({every}){after} and below steps ({self.steps})"
            )
        return EarlyStoppingOptions(method, int(reduction), min_steps)

    def _untrained_steps(self, algorithm: str) -> int:
        """Gradient steps in which no policy is trained yet: the first of several phases.

        A share of the budget that is searched counts with its largest value.
        """
        from safesweep.trainables.methods.method import ProblemSpec
        from safesweep.trainables.methods.registry import ALGORITHMS
        from safesweep.trainables.tasks.registry import get_task
        from safesweep.trainables.training.population import phase_boundaries

        method_class = ALGORITHMS[algorithm]
        task = get_task(self.tasks[0])
        problem = ProblemSpec(task.observation_dim, task.action_dim, task.horizon, 1.0, 1.0)
        static = set(method_class.config_class.field_names("static"))
        searched = {
            name: entry.bounds
            for name, entry in self.space_for(algorithm).entries.items()
            if name in static
        }
        first = {name: values[0] for name, values in searched.items()}
        varied = [first]
        varied += [{**first, name: value} for name, values in searched.items() for value in values]
        ends = []
        for values in varied:
            config = method_class.config_class.resolve(self.resolve(algorithm, values))
            boundaries = phase_boundaries(method_class(config, problem), self.steps)
            ends.append(boundaries[0][2] if len(boundaries) > 1 else 0)
        return max(ends)

    def _check_hyperparameters(self, algorithm: str) -> None:
        config_class = _config_class(algorithm)
        named: dict[str, str] = {}
        for section, entries in (("fixed", self.fixed), ("space", self.space or {})):
            for given in entries:
                try:
                    name = config_class.canonical_name(given)
                except InvalidInput as problem:
                    raise InvalidInput(f"{section}.{problem}") from None
                if name in named:
                    raise InvalidInput(
                        f"{section}.{given}: {name} is given twice (also {named[name]})"
                    )
                named[name] = f"{section}.{given}"
        for given, value in self.fixed.items():
            _check_value(config_class, "fixed", given, value)
        space = self.space_for(algorithm)
        for given in self.space or {}:
            for value in space.entries[config_class.canonical_name(given)].bounds:
                _check_value(config_class, "space", given, value)
        if self.search.method == "grid":
            try:
                next(space.grid())
            except InvalidInput as problem:
                raise InvalidInput(f"space.{problem}") from None
        if self.search.method == "cmaes" and not space.unconditional_ranges:
            raise InvalidInput(
                f"search.method: 'cmaes' is not allowed; it needs a range, {{low, high}}, in the "
                f"space of {algorithm} (tpe searches lists of choices)"
            )
        self.points_for(algorithm)


_KEYS = (
    "name",
    "algorithm",
    "tasks",
    "dataset",
    "seeds",
    "search",
    "space",
    "fixed",
    "steps",
    "evaluate",
    "objective",
    "cost_limit",
    "resources",
    "configs_per_trial",
    "early_stopping",
    "compile",
)


def shipped_specs() -> list[str]:
    """Names of the sweep files that come with the package."""
    folder = files("safesweep.sweeps") / "specs"
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in seen:
                line = key_node.start_mark.line + 1
                problem = "is given twice" if isinstance(key, Hashable) else "cannot be a key"
                raise InvalidInput(f"{key}: {problem} (line {line})")
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+"),
    list("-+0123456789."),
)


def _parse_yaml(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        reason = getattr(problem, "problem", None) or str(problem).split("\n")[0]
        raise InvalidInput(f"{origin}: not valid YAML: {reason}{place}") from None
    except InvalidInput:
        raise
    except (ValueError, TypeError, AttributeError) as problem:
        # What looks like a date or a number and is none, such as 2024-13-45.
        raise InvalidInput(
            f"{origin}: not valid YAML: {problem}; text that looks like a date or a number belongs "
            "in quotes"
        ) from None
    except RecursionError:
        raise InvalidInput(f"{origin}: not valid YAML: lists within lists without end") from None


def _apply_overrides(content: dict[str, Any], overrides: Iterable[str]) -> None:
    """Set `key=value`, dotted keys, in the order given.

    Raises:
        InvalidInput: a bad override, or one that undoes another.
    """
    applied: list[tuple[str, list[str], Any]] = []
    for override in overrides:
        key, separator, text = override.partition("=")
        parts = key.strip().split(".")
        if not separator or not all(parts):
            raise InvalidInput(f"-o {shown(override)}: must be key=value, such as steps=2000")
        target = content
        for part in parts[:-1]:
            if target.get(part) is None:
                target[part] = {}
            if not isinstance(target[part], dict):
                raise InvalidInput(f"-o {shown(override)}: {part} holds a value, not keys")
            target = target[part]
        target[parts[-1]] = _parse_yaml(text, f"-o {shown(override)}")
        applied.append((override, parts, deepcopy(target[parts[-1]])))
    for override, parts, value in applied:
        if not _holds(content, parts, value):
            other = next(later for later, _, _ in reversed(applied) if _meet(later, parts))
            raise InvalidInput(f"-o {shown(override)}: is undone by -o {shown(other)}; give one")


def _meet(override: str, parts: Sequence[str]) -> bool:
    """Whether an override sets what lies at, above or below a key."""
    others = override.partition("=")[0].strip().split(".")
    return all(one == other for one, other in zip(others, parts, strict=False))


def _holds(content: Any, parts: Sequence[str], value: Any) -> bool:
    """Whether `value`, or all that it holds, still stands at a key."""
    for part in parts:
        if not isinstance(content, Mapping) or part not in content:
            return False
        content = content[part]
    if isinstance(value, Mapping) and isinstance(content, Mapping):
        return all(_holds(content, [key], inner) for key, inner in value.items())
    return bool(content == value)


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    return "text" if isinstance(value, str) else shown(value)


def _require_keys(
    section: str, content: object, allowed: Sequence[str], required: Sequence[str] = ()
) -> None:
    prefix = f"{section}." if section else ""
    if not isinstance(content, Mapping):
        raise InvalidInput(
            f"{section or 'spec'}: must hold keys and values ({', '.join(allowed)}), "
            f"not {_kind(content)}"
        )
    for key in content:
        if key not in allowed:
            close = nearest(str(key), allowed)
            hint = f"; did you mean {close!r}?" if close else ""
            raise InvalidInput(
                f"{prefix}{key if isinstance(key, str) else shown(key)}: unknown key; allowed: "
                f"{', '.join(allowed)}{quotes_hint(key) or hint}"
            )
    for key in required:
        if key not in content:
            raise InvalidInput(f"{prefix}{key}: is missing")


def _section(content: Mapping[str, Any], name: str, allowed: Sequence[str]) -> Mapping[str, Any]:
    section: Mapping[str, Any] = content[name] if content.get(name) is not None else {}
    _require_keys(name, section, allowed)
    return section


def _optional_mapping(content: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    section = content.get(name)
    if section is None:
        return None
    if not isinstance(section, Mapping):
        raise InvalidInput(f"{name}: must hold hyperparameters and values, not {_kind(section)}")
    _require_text_keys(name, section)
    return dict(section)


def _require_text_keys(section: str, content: Mapping[Any, Any]) -> None:
    for key in content:
        if not isinstance(key, str):
            raise InvalidInput(f"{section}: the key {shown(key)} is not text{quotes_hint(key)}")


def _names(field: str, value: object) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names:
        raise InvalidInput(
            f"{field}: {shown(value)} is not allowed; it must be a name or a list"
            f"{quotes_hint(value)}"
        )
    for name in names:
        if not isinstance(name, str):
            raise InvalidInput(f"{field}: {shown(name)} is not a name{quotes_hint(name)}")
    return list(names)


def _distinct(field: str, names: Sequence[Any]) -> tuple[Any, ...]:
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"{field}: {name} is given twice")
    return tuple(names)


def _algorithms(value: object) -> tuple[str, ...]:
    from safesweep.trainables.methods.registry import ALGORITHMS

    chosen = [require_choice("algorithm", name, ALGORITHMS) for name in _names("algorithm", value)]
    return _distinct("algorithm", chosen)


def _tasks(value: object) -> tuple[str, ...]:
    from safesweep.trainables.tasks.registry import get_task

    return _distinct("tasks", [get_task(name).name for name in _names("tasks", value)])


def _config_class(algorithm: str) -> Any:
    from safesweep.trainables.methods.registry import ALGORITHMS

    return ALGORITHMS[algorithm].config_class


def _dataset(value: object, tasks: Sequence[str]) -> str | dict[str, str]:
    """The source of every task's data, or of each task's by its id."""
    if isinstance(value, Mapping):
        return _datasets(value, tasks)
    source = _dataset_source("dataset", value)
    if len(tasks) > 1 and source not in DATASET_SOURCES:
        raise InvalidInput(
            f"dataset: one source ({shown(source)}) cannot serve {len(tasks)} tasks; name each "
            f"one's: dataset: {{{tasks[0]}: ..., {tasks[1]}: ...}}"
        )
    return source


def _datasets(content: Mapping[Any, Any], tasks: Sequence[str]) -> dict[str, str]:
    from safesweep.trainables.tasks.registry import get_task

    _require_text_keys("dataset", content)
    sources: dict[str, str] = {}
    for given, value in content.items():
        try:
            task = get_task(given).name
        except InvalidInput as problem:
            raise InvalidInput(f"dataset: {problem}") from None
        if task not in tasks:
            raise InvalidInput(
                f"dataset.{given}: is not a task of the sweep, which has {listed(tasks)}"
            )
        if task in sources:
            raise InvalidInput(f"dataset.{given}: {task} is given twice")
        source = _dataset_source(f"dataset.{given}", value)
        if source in sources.values() and source not in DATASET_SOURCES:
            raise InvalidInput(f"dataset.{given}: {shown(source)} cannot serve two tasks")
        sources[task] = source
    for task in tasks:
        if task not in sources:
            raise InvalidInput(
                f"dataset.{task}: is missing; it must be one of {', '.join(DATASET_SOURCES)}, or "
                "an existing file"
            )
    return {task: sources[task] for task in tasks}


def _dataset_source(field: str, value: object) -> str:
    from safesweep.trainables.data.sources import is_dataset_place

    if isinstance(value, str) and (value in DATASET_SOURCES or is_dataset_place(value)):
        return value
    close = nearest(value, DATASET_SOURCES) if isinstance(value, str) else None
    hint = f"; did you mean {close!r}?" if close else quotes_hint(value)
    raise InvalidInput(
        f"{field}: {shown(value)} is not one of {', '.join(DATASET_SOURCES)}, nor an existing "
        f"file{hint}"
    )


def _seeds(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise InvalidInput(
            f"seeds: {shown(value)} is not allowed; it must be a list of whole numbers"
        )
    seeds = [int(require_number("seeds", seed, 0, _SEEDS, integer=True)) for seed in value]
    return _distinct("seeds", seeds)


def _configs_per_trial(value: object) -> int:
    """The number, or 1 for `auto`."""
    if value == "auto":
        return 1
    if isinstance(value, str):
        raise InvalidInput(
            f"configs_per_trial: {shown(value)} is not allowed; it must be a whole number or auto"
        )
    return int(require_number("configs_per_trial", value, 1, 4096, True))


def _episodes(value: object, tasks: Sequence[str]) -> int | dict[str, int] | None:
    """The number, each task's own by its id, or None for `auto`."""
    from safesweep.trainables.tasks.registry import get_task

    if value == "auto":
        return None
    if isinstance(value, str) or value is None or isinstance(value, list | tuple):
        raise InvalidInput(
            f"evaluate.episodes: {shown(value)} is not allowed; it must be a whole number in "
            f"[1, 10000], auto, or {{task: number}}{quotes_hint(value)}"
        )
    if not isinstance(value, Mapping):
        return int(require_number("evaluate.episodes", value, 1, 10_000, True))
    _require_text_keys("evaluate.episodes", value)
    found: dict[str, int] = {}
    for given, number in value.items():
        field = f"evaluate.episodes.{given}"
        try:
            task = get_task(given).name
        except InvalidInput as problem:
            raise InvalidInput(f"evaluate.episodes: {problem}") from None
        if task not in tasks:
            raise InvalidInput(f"{field}: is not a task of the sweep, which has {listed(tasks)}")
        if task in found:
            raise InvalidInput(f"{field}: {task} is given twice")
        found[task] = int(require_number(field, number, 1, 10_000, True))
    for task in tasks:
        if task not in found:
            raise InvalidInput(f"evaluate.episodes.{task}: is missing; each task needs a number")
    return {task: found[task] for task in tasks}


def _compile(value: object) -> bool | None:
    if value == "auto":
        return None
    if not isinstance(value, bool):
        raise InvalidInput(
            f"compile: {shown(value)} is not allowed; it must be true, false or auto"
        )
    return value


def _search(content: Mapping[str, Any], configs_per_trial: int) -> SearchOptions:
    section = _section(content, "search", ("method", "num_configs", "seed", "parallel", "points"))
    method = require_choice("search.method", section.get("method", "grid"), SEARCH_METHODS)
    num_configs, parallel = section.get("num_configs"), section.get("parallel")
    if method == "grid":
        if num_configs is not None:
            raise InvalidInput("search.num_configs: a grid has no such key; it runs every point")
    elif num_configs is None:
        raise InvalidInput(f"search.num_configs: is missing; {method} needs it")
    else:
        num_configs = int(require_number("search.num_configs", num_configs, 1, 10**6, True))
    if method in ADAPTIVE_METHODS:
        lowest = configs_per_trial
        default = max(4, lowest)
        parallel = int(
            require_number(
                "search.parallel", default if parallel is None else parallel, lowest, 10**4, True
            )
        )
    elif parallel is not None:
        adaptive = ", ".join(ADAPTIVE_METHODS)
        raise InvalidInput(f"search.parallel: only {adaptive} have this key, not {method}")
    seed = int(require_number("search.seed", section.get("seed", 0), 0, _SEEDS, True))
    points = _points(section.get("points"))
    if points and num_configs is None:
        raise InvalidInput("search.points: a grid has no such key; it runs every point")
    if num_configs is not None and len(points) > num_configs:
        raise InvalidInput(
            f"search.points: {len(points)} points are not allowed; num_configs is {num_configs}"
        )
    return SearchOptions(method, num_configs, seed, parallel, points)


def _points(value: object) -> tuple[Mapping[str, Any], ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise InvalidInput(f"search.points: must be a list of points, not {_kind(value)}")
    for index, point in enumerate(value):
        if not isinstance(point, Mapping):
            raise InvalidInput(
                f"search.points[{index}]: must hold hyperparameters and values, not {_kind(point)}"
            )
        _require_text_keys(f"search.points[{index}]", point)
    return tuple(dict(point) for point in value)


def _constraints(value: object) -> dict[str, float]:
    if value is None:
        return {}
    _require_keys("objective.subject_to", value, CONSTRAINTS)
    assert isinstance(value, Mapping)
    return {
        key: float(require_number(f"objective.subject_to.{key}", limit, 0))
        for key, limit in value.items()
    }


def _check_value(config_class: Any, section: str, given: str, value: Value) -> None:
    try:
        config_class.resolve({given: value})
    except InvalidInput as problem:
        raise InvalidInput(f"{section}.{problem}") from None


def _without_fixed(
    registered: SearchSpace, values: Mapping[str, Value], fixed: Collection[str]
) -> SearchSpace:
    """The registered space less the fixed entries and those that they switch off."""
    kept: dict[str, Hyperparameter] = {}
    for name, entry in registered.entries.items():
        parent = entry.when[0] if entry.when else None
        if name in fixed:
            continue
        if entry.when and parent in fixed:
            if values[entry.when[0]] in entry.when[1]:
                kept[name] = replace(entry, when=None)
        elif parent is None or parent in kept:
            kept[name] = entry
    start = {name: value for name, value in registered.defaults.items() if name in kept}
    return SearchSpace(registered.algorithm, list(kept.values()), start)


def _space_entry(given: str, content: object, field: Mapping[str, Any]) -> Hyperparameter:
    """One line of `space:`, under its canonical name and with values of the field's type."""
    name, kind = field["name"], field["type"]
    if isinstance(content, list | tuple):
        if not content:
            raise InvalidInput(f"space.{given}: the list of choices is empty")
        for choice in content:
            if not isinstance(choice, bool | int | float | str):
                raise InvalidInput(
                    f"space.{given}: {shown(choice)} cannot be a choice{quotes_hint(choice)}"
                )
        exact = [
            float(choice)
            if kind == "float" and isinstance(choice, int) and not isinstance(choice, bool)
            else choice
            for choice in content
        ]
        return replace(Hyperparameter(f"space.{given}", choices=tuple(exact)), name=name)
    if not isinstance(content, Mapping):
        raise InvalidInput(
            f"space.{given}: {shown(content)} is not allowed; it must be a list of choices or "
            "{low, high, log} (one single value belongs under fixed)"
        )
    _require_keys(f"space.{given}", content, RANGE_KEYS, ("low", "high"))
    if kind not in ("int", "float"):
        raise InvalidInput(f"space.{given}: takes a list of choices, not a range")
    low, high = (
        require_number(f"space.{given}.{end}", content[end], integer=kind == "int")
        for end in ("low", "high")
    )
    log = content.get("log", False)
    if not isinstance(log, bool):
        raise InvalidInput(
            f"space.{given}.log: {shown(log)} is not allowed; it must be true or false"
        )
    entry = Hyperparameter(f"space.{given}", low=low, high=high, log=log, integer=kind == "int")
    return replace(entry, name=name)
