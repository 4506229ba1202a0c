"""What a sweep file says of hyperparameters (`fixed`, `space`, `search.points`), checked against a
method's configuration and brought under its canonical names."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from safesweep.search_spaces.space import Hyperparameter, SearchSpace, Value
from safesweep.search_spaces.validation import (
    InvalidInput,
    Problems,
    key_problems,
    quotes_hint,
    require_number,
    shown,
)

if TYPE_CHECKING:
    from safesweep.trainables.methods.config import MethodConfig
    from safesweep.trainables.methods.method import Method

RANGE_KEYS = ("low", "high", "log", "step")


def method_class(algorithm: str) -> "type[Method]":
    """The method of a name that is known to be one; torch is imported here and not before."""
    from safesweep.trainables.methods.registry import ALGORITHMS

    return ALGORITHMS[algorithm]


@dataclass(frozen=True)
class MethodSpace:
    """One method's hyperparameters in a sweep: what is fixed and what is searched.

    `given` is the file's `space`, or None for the registered one; `settings` are what stands, by
    full names, where the file says nothing, instead of defaults. Nothing is checked before it is
    asked for: `check_fixed` and `space` raise InvalidInput with all that is wrong.
    """

    algorithm: str
    fixed: Mapping[str, Any]
    given: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config_class(self) -> "type[MethodConfig]":
        """The method's configuration."""
        from safesweep.trainables.methods.configs import config_class_of

        return config_class_of(self.algorithm)

    def resolve(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The full configuration of `parameters` (canonical names) over the fixed values.

        Raises:
            InvalidInput: a value that the method does not allow.
        """
        fixed = {self.config_class.canonical_name(key): value for key, value in self.fixed.items()}
        return self.config_class.resolve({**self.settings, **fixed, **parameters}).to_dict()

    def check_fixed(self) -> None:
        """Raise an InvalidInput with whatever is wrong with the fixed values."""
        problems, named = Problems(), dict[str, str]()
        for given, value in self.fixed.items():
            with problems.collected("fixed."):
                self._name(given, named, "fixed.")
                self.config_class.resolve({given: value})
        problems.check()

    @cached_property
    def space(self) -> SearchSpace:
        """What is searched, under the canonical names: the file's space, or the registered one
        less what is fixed.

        Raises:
            InvalidInput: whatever is wrong with it.
        """
        if self.given is None:
            return self._registered_space()
        named: dict[str, str] = {}
        for given in self.fixed:
            self._name(given, named, "fixed.")
        problems, entries = Problems(), []
        description = {entry["name"]: entry for entry in self.config_class.describe()}
        for given, content in self.given.items():
            with problems.collected("space."):
                name = self._name(given, named, "space.")
                entry = _space_entry(given, content, description[name])
                for value in entry.bounds:
                    self.config_class.resolve({given: value})
                entries.append(entry)
        problems.check()
        space = SearchSpace(self.algorithm, entries)
        defaults = self.config_class.resolve(self.settings).to_dict()
        start = {name: defaults[name] for name in space.entries}
        return SearchSpace(self.algorithm, entries, start) if space.contains(start) else space

    def check_search(self, method: str, points: Sequence[Mapping[str, Any]]) -> None:
        """Raise an InvalidInput if a search cannot go over the space, or starts outside it."""
        problems = Problems()
        if method == "grid":
            with problems.collected("space."):
                next(self.space.grid())
        if method == "cmaes" and not self.space.unconditional_ranges:
            problems.add(
                f"search.method: 'cmaes' is not allowed; it needs a range, {{low, high}}, in the "
                f"space of {self.algorithm} (tpe searches lists of choices)"
            )
        with problems.collected():
            self.points(points)
        problems.check()

    def points(self, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Value]]:
        """The points that the file names, whole and under the canonical names.

        Raises:
            InvalidInput: a point that the space does not hold.
        """
        problems, points = Problems(), []
        for index, point in enumerate(given):
            with problems.collected(f"search.points[{index}]."):
                points.append(self._point(point))
        problems.check()
        return points

    def _point(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """One of them; messages begin with the name of the hyperparameter."""
        config_class, space = self.config_class, self.space
        problems, named = Problems(), dict[str, str]()
        for key, value in given.items():
            with problems.collected():
                name = self._name(key, named)
                config_class.resolve({key: value})
                if name not in space.entries:
                    allowed = ", ".join(space.entries)
                    raise InvalidInput(f"{key}: is not in the space, which holds {allowed}")
        problems.check()
        values = self.resolve({name: given[key] for name, key in named.items()})
        point = space.active(values)
        for name, key in named.items():
            if name not in point:
                parent, choices = space.entries[name].when or ("", ())
                problems.add(
                    f"{key}: takes part only where {parent} is "
                    f"{' or '.join(str(choice) for choice in choices)}"
                )
        for name, value in point.items():
            if not space.entries[name].contains(value):
                fault = (
                    f"{named[name]}: {value!r} is not allowed; the space holds"
                    if name in named
                    else f"{name}: is missing, and its default {value!r} is not in the space,"
                )
                problems.add(f"{fault} {space.entries[name].describe()}")
        problems.check()
        return point

    def steps_without_policy(self, task_name: str, steps: int) -> int:
        """Of `steps` gradient steps those in which no policy is trained yet: the first of several
        phases. A share of the budget that is searched counts with its largest value."""
        from safesweep.trainables.methods.method import ProblemSpec
        from safesweep.trainables.tasks.registry import get_task
        from safesweep.trainables.training.population import phase_boundaries

        task = get_task(task_name)
        problem = ProblemSpec(task.observation_dim, task.action_dim, task.horizon, 1.0, 1.0)
        static = set(self.config_class.field_names("static"))
        searched = {
            name: entry.bounds for name, entry in self.space.entries.items() if name in static
        }
        first = {name: values[0] for name, values in searched.items()}
        varied = [first]
        varied += [{**first, name: value} for name, values in searched.items() for value in values]
        ends = []
        for values in varied:
            config = self.config_class.resolve(self.resolve(values))
            boundaries = phase_boundaries(method_class(self.algorithm)(config, problem), steps)
            ends.append(boundaries[0][2] if len(boundaries) > 1 else 0)
        return max(ends)

    def _name(self, given: str, named: dict[str, str], section: str = "") -> str:
        """The canonical name of what the file calls `given`, which is noted in `named`."""
        name = self.config_class.canonical_name(given)
        if name in named:
            raise InvalidInput(f"{given}: {name} is given twice (also {named[name]})")
        named[name] = f"{section}{given}"
        return name

    def _registered_space(self) -> SearchSpace:
        from safesweep.search_spaces import SEARCH_SPACES

        if self.algorithm not in SEARCH_SPACES:
            raise InvalidInput(f"space: none is registered for {self.algorithm}; give one")
        fixed = {self.config_class.canonical_name(key) for key in self.fixed}
        registered = SEARCH_SPACES[self.algorithm]
        return _without_fixed(registered, self.resolve({}), fixed, self.settings)


def _without_fixed(
    registered: SearchSpace,
    values: Mapping[str, Value],
    fixed: Collection[str],
    settings: Mapping[str, Value],
) -> SearchSpace:
    """The registered space less the fixed entries and those that they switch off; it starts at the
    settings where it holds them."""
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
    # What a fixed choice has take part, and the registered start leaves out, starts at its default.
    start |= {name: values[name] for name in kept if name not in start and not kept[name].when}
    start |= {
        name: value
        for name, value in settings.items()
        if name in start and kept[name].contains(value)
    }
    return SearchSpace(registered.algorithm, list(kept.values()), start)


def _space_entry(given: str, content: object, field: Mapping[str, Any]) -> Hyperparameter:
    """One line of `space`, under its canonical name and with values of the field's type.

    Raises:
        InvalidInput: neither choices nor a range; the message begins with the given name.
    """
    name, kind = field["name"], field["type"]
    if isinstance(content, list | tuple):
        if not content:
            raise InvalidInput(f"{given}: the list of choices is empty")
        for choice in content:
            if not isinstance(choice, bool | int | float | str):
                raise InvalidInput(
                    f"{given}: {shown(choice)} cannot be a choice{quotes_hint(choice)}"
                )
        exact = [
            float(choice) if kind == "float" and type(choice) is int else choice
            for choice in content
        ]
        return replace(Hyperparameter(given, choices=tuple(exact)), name=name)
    if not isinstance(content, Mapping):
        raise InvalidInput(
            f"{given}: {shown(content)} is not allowed; it must be a list of choices or "
            "{low, high, log, step} (one single value belongs under fixed)"
        )
    if faults := key_problems(given, content, RANGE_KEYS, RANGE_KEYS[:2]):
        raise InvalidInput(*faults)
    if kind not in ("int", "float"):
        raise InvalidInput(f"{given}: takes a list of choices, not a range")
    low, high = (
        require_number(f"{given}.{end}", content[end], integer=kind == "int")
        for end in ("low", "high")
    )
    log = content.get("log", False)
    if not isinstance(log, bool):
        raise InvalidInput(f"{given}.log: {shown(log)} is not allowed; it must be true or false")
    step = content.get("step")
    if step is not None:
        step = require_number(f"{given}.step", step, integer=kind == "int")
    entry = Hyperparameter(given, low=low, high=high, log=log, integer=kind == "int", step=step)
    return replace(entry, name=name)
