"""What a choice goes after: the score to maximise, and the limits that costs must keep."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from safesweep.search_spaces.validation import InvalidInput, require_choice, require_number
from safesweep.trainables.store.reader import StoreReader
from safesweep.trainables.store.recorded_sweep import read_recorded_sweep
from safesweep.trainables.store.scores import CONSTRAINTS, OBJECTIVES

MAXIMIZE = "normalized_reward"
SUBJECT_TO: Mapping[str, float] = {"normalized_cost": 1.0}


@dataclass(frozen=True)
class Goal:
    """The field's own by default: the normalised reward, with a mean normalised cost of at most 1.

    Attributes:
        maximize: one of `trainables.store.scores.OBJECTIVES`.
        subject_to: limits by score, each of `trainables.store.scores.CONSTRAINTS`.

    Raises:
        InvalidInput: another score, or a limit below 0.
    """

    maximize: str = MAXIMIZE
    subject_to: Mapping[str, float] = field(default_factory=lambda: dict(SUBJECT_TO))

    def __post_init__(self) -> None:
        require_choice("maximize", self.maximize, OBJECTIVES)
        for name, limit in self.subject_to.items():
            require_choice("subject_to", name, CONSTRAINTS)
            require_number(f"subject_to.{name}", limit, 0)

    @property
    def usual(self) -> bool:
        """Whether it is the field's own."""
        return self.maximize == MAXIMIZE and dict(self.subject_to) == dict(SUBJECT_TO)

    def __str__(self) -> str:
        limits = " and ".join(
            f"{name} at most {limit:g}" for name, limit in self.subject_to.items()
        )
        return f"maximises {self.maximize} with {limits or 'no constraint'}"


@dataclass(frozen=True)
class SweepGoal:
    """What the sweep file of a stored sweep says of it.

    Attributes:
        goal: its objective and constraints.
        cost_limit: of an episode; None: each task's own.
    """

    goal: Goal
    cost_limit: float | None


def goal_of_sweep(store: StoreReader, sweep: str) -> SweepGoal | None:
    """What a sweep goes after; None where it was not run from a sweep file, as an import was not.

    Raises:
        InvalidInput: the store does not know the sweep.
    """
    plans = store.sweeps(columns=["spec"], sweep=sweep)
    recorded = read_recorded_sweep(plans.iloc[-1]["spec"] if len(plans) else None)
    if recorded is None:
        return None
    limits = recorded.objective.get("subject_to", SUBJECT_TO) or {}
    goal = Goal(
        recorded.objective.get("maximize", MAXIMIZE),
        {name: float(value) for name, value in limits.items()},
    )
    return SweepGoal(goal, recorded.cost_limit)


def goal_of_sweeps(
    store: StoreReader, sweeps: Sequence[str], told: Collection[str] = ()
) -> SweepGoal | None:
    """What several sweeps go after, which must be the same for all of them; None where none was run
    from a sweep file.

    Args:
        told: of `maximize`, `subject_to` and `cost_limit` those that are given anyway, in which
            the sweeps may differ.

    Raises:
        InvalidInput: an unknown sweep, or sweeps that differ.
    """
    goals = {name: goal for name in sweeps if (goal := goal_of_sweep(store, name)) is not None}
    if not goals:
        return None
    first, *others = goals
    for other in others:
        for name in ("maximize", "subject_to", "cost_limit"):
            one, two = (_part(goals[sweep], name) for sweep in (first, other))
            if name not in told and one != two:
                option = f"--{name.replace('_', '-')}"
                raise InvalidInput(
                    f"{name}: is {_said(one)} in sweep {first!r} and {_said(two)} in {other!r}; "
                    f"say by which to choose ({option})"
                )
    return goals[first]


def _part(found: SweepGoal, name: str) -> object:
    return found.cost_limit if name == "cost_limit" else getattr(found.goal, name)


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return " and ".join(f"{name}={limit:g}" for name, limit in value.items()) or "none"
    return "each task's own" if value is None else str(value)


def parse_limits(texts: list[str]) -> dict[str, float]:
    """Limits by score from `NAME=LIMIT`; the one word `none` means no constraint.

    Raises:
        InvalidInput: another form.
    """
    if texts == ["none"]:
        return {}
    found: dict[str, float] = {}
    for text in texts:
        name, _, limit = text.partition("=")
        try:
            found[name] = float(limit)
        except ValueError:
            raise InvalidInput(
                f"subject_to: {text!r} is not NAME=LIMIT, such as normalized_cost=1, or none"
            ) from None
    return found
