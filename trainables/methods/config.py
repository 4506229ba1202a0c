"""Hyperparameters of methods: how they are declared, named, checked and described.

Nothing here needs torch, so that what there is to sweep can be listed and checked at once.
"""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, Literal, Self

from safesweep.search_spaces.validation import (
    InvalidInput,
    did_you_mean,
    require_choice,
    require_number,
    shown,
)


def _hyperparameter(
    kind: Literal["static", "batched"],
    default: Any,
    description: str,
    source: str,
    alias: str | None,
    low: float | None,
    high: float | None,
    choices: Sequence[str] | None,
) -> Any:
    metadata = {
        "kind": kind,
        "description": description,
        "source": source,
        "alias": alias,
        "low": low,
        "high": high,
        "choices": tuple(choices) if choices else None,
    }
    return field(default=default, metadata=metadata)


def static(
    default: Any,
    description: str = "",
    *,
    source: str,
    alias: str | None = None,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """Declare a hyperparameter that fixes shapes, loop counts or the choice of a variant."""
    return _hyperparameter("static", default, description, source, alias, low, high, choices)


def batched(
    default: float,
    description: str = "",
    *,
    source: str,
    alias: str | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """Declare a real hyperparameter that is a tensor inside `loss`: members may differ in it."""
    return _hyperparameter("batched", default, description, source, alias, low, high, None)


@cache
def _named_tuple(name: str, names: tuple[str, ...]) -> type:
    return namedtuple(name, names)


@dataclass(frozen=True)
class MethodConfig:
    """Hyperparameters that every method has, under these names."""

    # What its method is, in a line; the policies that a trained run has; and other ways in which it
    # can act, evaluated only where somebody asks for them.
    summary: ClassVar[str] = ""
    policies: ClassVar[tuple[str, ...]] = ()
    further_policies: ClassVar[tuple[str, ...]] = ()
    # The static fields that do nothing but divide the budget between the phases.
    phase_shares: ClassVar[tuple[str, ...]] = ()

    hidden_dim: int = static(256, "units of a hidden layer", source="common", low=1, high=8192)
    hidden_layers: int = static(2, "hidden layers of a network", source="common", low=1, high=16)
    batch_size: int = static(256, "transitions in a minibatch", source="common", low=1, high=65536)
    learning_rate: float = batched(3e-4, "Adam's step size", source="common", low=1e-8, high=1.0)
    learning_rate_schedule: str = static(
        "constant", "step size over a phase: constant, or half a cosine down to 0",
        source="ours", choices=("constant", "cosine"),
    )  # fmt: skip
    discount: float = batched(
        0.99, "discount factor", source="common", alias="gamma", low=0.0, high=0.99999
    )
    matmul_precision: str = static(
        "fp32", "numbers that hidden layers multiply in training; they are kept as fp32",
        source="ours", choices=("fp32", "bf16"),
    )  # fmt: skip

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """The papers' short symbols that stand for a field: symbol -> field name."""
        return {f.metadata["alias"]: f.name for f in fields(cls) if f.metadata["alias"]}

    @classmethod
    def field_names(cls, kind: Literal["static", "batched"] | None = None) -> list[str]:
        """Names of the fields, all or of one kind, in their order."""
        return [f.name for f in fields(cls) if kind in (None, f.metadata["kind"])]

    @classmethod
    def canonical_name(cls, name: str) -> str:
        """The field that `name` (a field or an alias) stands for.

        Raises:
            InvalidInput: no such field; names the nearest.
        """
        names = {**{f.name: f.name for f in fields(cls)}, **cls.aliases()}
        if name not in names:
            hint = did_you_mean(name, names)
            raise InvalidInput(f"{name}: not a hyperparameter of {cls.__name__}{hint}")
        return names[name]

    @classmethod
    def _type_of(cls, name: str) -> Any:
        return type(getattr(cls, name))

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> Self:
        """Build the configuration from names or aliases; what is not given takes its default.

        Raises:
            InvalidInput: unknown name, a name given twice, wrong type or value out of range.
        """
        by_name = {f.name: f for f in fields(cls)}
        resolved: dict[str, Any] = {}
        for given, value in values.items():
            name = cls.canonical_name(given)
            if name in resolved:
                raise InvalidInput(f"{given}: {name} is given twice")
            metadata, kind = by_name[name].metadata, cls._type_of(name)
            if kind is bool:
                if not isinstance(value, bool):
                    raise InvalidInput(
                        f"{given}: {shown(value)} is not allowed; it must be a boolean"
                    )
                resolved[name] = value
            elif kind is str:
                resolved[name] = require_choice(given, value, metadata["choices"])
            else:
                low, high = metadata["low"], metadata["high"]
                resolved[name] = kind(require_number(given, value, low, high, kind is int))
        return cls(**resolved)

    def to_dict(self) -> dict[str, Any]:
        """Every field with its value, JSON-ready."""
        return asdict(self)

    @classmethod
    def hyperparameters_type(cls) -> type:
        """A named tuple of the batched fields: what `loss` and `act` receive as `hp`."""
        return _named_tuple(f"{cls.__name__}Batched", tuple(cls.field_names("batched")))

    def static_values(self) -> dict[str, Any]:
        """The fields that runs of one population must share."""
        return {name: getattr(self, name) for name in self.field_names("static")}

    @property
    def trains_to_cost_limit(self) -> bool:
        """Whether the cost limit changes what is learned, and so is part of a run's identity."""
        return False

    @property
    def acts_to_cost_limit(self) -> bool:
        """Whether the cost limit changes how it acts and not what is learned: one training then
        serves every limit of its task, by a policy for each."""
        return False

    @property
    def trains_to_budget(self) -> bool:
        """Whether training looks at how many steps its phase has, as a cosine schedule does: a
        longer run is then not a shorter one carried on."""
        return False

    @property
    def looks_at_budget(self) -> bool:
        """Whether the method or the schedule of the learning rate `trains_to_budget`."""
        return self.trains_to_budget or self.learning_rate_schedule != "constant"

    def cost_limit_in_identity(self, limit: float, own: Sequence[float]) -> float | None:
        """The cost limit as a part of a run's identity, None where runs serve every limit.

        Args:
            own: the limits of the task, for each of which a method that acts to one has a policy.
        """
        if self.trains_to_cost_limit:
            return limit
        return limit if self.acts_to_cost_limit and limit not in own else None

    def batched_values(self) -> dict[str, float]:
        """The fields in which members of a population may differ."""
        return {name: getattr(self, name) for name in self.field_names("batched")}

    @classmethod
    def describe(cls) -> list[dict[str, Any]]:
        """One dictionary a field: name, alias, kind, type, default, range and source."""
        return [
            {"name": f.name, "default": f.default, "type": type(f.default).__name__, **f.metadata}
            for f in fields(cls)
        ]
