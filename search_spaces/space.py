"""What may vary: hyperparameters with their choices or ranges, and the conditions between them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

from safesweep.search_spaces.validation import InvalidInput, did_you_mean, require_number

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial

Value = bool | int | float | str

MOST_STEPS = 100_000
"""Values of a range with steps."""


@dataclass(frozen=True)
class Hyperparameter:
    """One entry of a space: either `choices`, or a range [low, high].

    `log` samples a range uniformly in its logarithm, `integer` in whole numbers, `step` in `low`,
    `low + step`, and so on, as far as `high`. `source` names where the range comes from. `when`
    makes the entry conditional: it takes part only if the named earlier entry takes part and has
    one of the given values.
    """

    name: str
    choices: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    source: str = ""
    when: tuple[str, tuple[Value, ...]] | None = None
    step: float | None = None

    def __post_init__(self) -> None:
        if self.choices:
            if any(value is not None for value in (self.low, self.high, self.step)):
                raise InvalidInput(f"{self.name}: give either choices or a range, not both")
            if len({(type(choice) is bool, choice) for choice in self.choices}) < len(self.choices):
                raise InvalidInput(f"{self.name}: {list(self.choices)} names a choice twice")
            return
        if self.low is None or self.high is None:
            raise InvalidInput(f"{self.name}: a range needs both low and high")
        require_number(f"{self.name}.low", self.low, integer=self.integer)
        require_number(f"{self.name}.high", self.high, integer=self.integer)
        if self.low >= self.high:
            raise InvalidInput(f"{self.name}: low {self.low:g} must be below high {self.high:g}")
        if self.log and self.low <= 0:
            raise InvalidInput(f"{self.name}: low {self.low:g} must be > 0 in a log range")
        if self.step is not None:
            self._check_step(self.low, self.high, self.step)

    def _check_step(self, low: float, high: float, step: float) -> None:
        require_number(f"{self.name}.step", step, integer=self.integer)
        if step <= 0:
            raise InvalidInput(f"{self.name}.step: {step:g} is not allowed; it must be > 0")
        if self.log:
            raise InvalidInput(f"{self.name}.step: a log range has none; leave out step, or log")
        # As decimals, in which a user writes them: 0.03 - 0.01 is 0.02 there.
        width, step_width = Decimal(str(high)) - Decimal(str(low)), Decimal(str(step))
        if step_width > width:
            raise InvalidInput(
                f"{self.name}.step: {step:g} is not allowed; from {low:g} to {high:g} it must be "
                f"at most {width:g}"
            )
        if width / step_width >= MOST_STEPS:
            raise InvalidInput(
                f"{self.name}.step: {step:g} is not allowed; it gives more than {MOST_STEPS:,} "
                "values"
            )

    @cached_property
    def values(self) -> tuple[Value, ...]:
        """Everything that the entry can be, in order; none of a range without steps."""
        if self.choices or self.step is None:
            return self.choices
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
        kind = int if self.integer else float
        return tuple(kind(low + number * step) for number in range(int((high - low) / step) + 1))

    @property
    def bounds(self) -> tuple[Value, ...]:
        """Every choice, or the two ends of the range: what a validity check has to try."""
        if self.choices:
            return self.choices
        if self.values:
            return (self.values[0], self.values[-1])
        assert self.low is not None and self.high is not None
        return (self.low, self.high)

    def contains(self, value: object) -> bool:
        """Whether the entry can take `value`."""
        if self.choices:
            return any(
                value == choice and isinstance(value, bool) == isinstance(choice, bool)
                for choice in self.choices
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        assert self.low is not None and self.high is not None
        if self.values:
            return value in self.values
        # Infinity is beyond every end, and no number is within one.
        return self.low <= value <= self.high and (not self.integer or value == int(value))

    def suggest(self, trial: "BaseTrial") -> Value:
        """Let an Optuna trial choose a value."""
        if self.choices:
            choice = trial.suggest_categorical(self.name, self.choices)
            assert choice is not None
            return choice
        assert self.low is not None and self.high is not None
        if self.step is not None:
            return self._suggest_step(trial, self.step)
        if self.integer:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def _suggest_step(self, trial: "BaseTrial", step: float) -> Value:
        low, high = (float(end) for end in self.bounds)
        if self.integer:
            return trial.suggest_int(self.name, int(low), int(high), step=int(step))
        value = trial.suggest_float(self.name, low, high, step=step)
        # A sampler's sum of floats is off by a rounding.
        return self.values[round((value - low) / step)]

    @property
    def distribution(self) -> "BaseDistribution":
        """What `suggest` draws from, in Optuna's terms."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.choices:
            return CategoricalDistribution(self.choices)
        assert self.low is not None and self.high is not None
        if self.values:
            low, high = self.bounds
            if self.integer:
                return IntDistribution(int(low), int(high), step=int(self.step or 1))
            return FloatDistribution(float(low), float(high), step=self.step)
        if self.integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def describe(self) -> str:
        """The choices or the range, for a reader."""
        if self.choices:
            return "{" + ", ".join(f"{choice}" for choice in self.choices) + "}"
        step = "" if self.step is None else f" by {self.step:g}"
        return f"[{self.low:g}, {self.high:g}]" + step + (" log" if self.log else "")


class SearchSpace:
    """The hyperparameters of one method that vary, and the point a search starts from.

    `defaults` may leave entries out (conditional ones that do not take part).
    """

    def __init__(
        self,
        algorithm: str,
        entries: Sequence[Hyperparameter],
        defaults: Mapping[str, Value] | None = None,
    ) -> None:
        self.algorithm = algorithm
        self.entries: dict[str, Hyperparameter] = {}
        for entry in entries:
            if entry.name in self.entries:
                raise InvalidInput(f"{entry.name}: stands twice in the space of {algorithm}")
            if entry.when and entry.when[0] not in self.entries:
                hint = did_you_mean(entry.when[0], self.entries)
                raise InvalidInput(
                    f"{entry.name}.when: {entry.when[0]!r} is not an earlier entry{hint}"
                )
            self.entries[entry.name] = entry
        self.defaults = dict(defaults or {})
        if self.defaults and not self.contains(self.defaults):
            raise InvalidInput(f"space of {algorithm}: its defaults lie outside it")

    def suggest(self, trial: "BaseTrial") -> dict[str, Value]:
        """Let an Optuna trial choose every entry that takes part; returns suggestions only."""
        return self._walk(lambda entry: entry.suggest(trial))

    def active(self, values: Mapping[str, object]) -> dict[str, Value]:
        """Of `values`, those of the entries that take part, given the values of their parents.

        Raises:
            KeyError: an entry that takes part has no value.
        """
        return self._walk(lambda entry: values[entry.name])  # type: ignore[arg-type, return-value]

    def contains(self, values: Mapping[str, object]) -> bool:
        """Whether `values` is a point of the space: exactly the entries that take part, inside."""
        try:
            active = self.active(values)
        except KeyError:
            return False
        return set(active) == set(values) and all(
            self.entries[name].contains(value) for name, value in active.items()
        )

    @property
    def unconditional_ranges(self) -> list[Hyperparameter]:
        """The ranges that take part in every point."""
        return [entry for entry in self.entries.values() if not entry.choices and not entry.when]

    @property
    def finite(self) -> bool:
        """Whether every entry is a list of choices, or a range with steps."""
        return all(entry.values for entry in self.entries.values())

    def grid(self) -> Iterator[dict[str, Value]]:
        """Every point once, the last entry varying fastest.

        Raises:
            InvalidInput: an entry is a range without steps.
        """
        for entry in self.entries.values():
            if not entry.values:
                raise InvalidInput(
                    f"{entry.name}: a grid needs a list of choices, or a step in the range "
                    f"{entry.describe()}"
                )
        seen = set()
        for combination in product(*(entry.values for entry in self.entries.values())):
            point = self.active(dict(zip(self.entries, combination, strict=True)))
            key = tuple(point.items())
            if key not in seen:  # inactive entries make combinations coincide
                seen.add(key)
                yield point

    def _walk(self, choose: Callable[[Hyperparameter], Value]) -> dict[str, Value]:
        point: dict[str, Value] = {}
        for entry in self.entries.values():
            if entry.when is None or point.get(entry.when[0]) in entry.when[1]:
                point[entry.name] = choose(entry)
        return point


def settings_text(values: Mapping[str, object]) -> str:
    """Values by their names in one line, as in `T=3, tau_h=0.7`."""
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )
