"""What a method is: a frozen configuration and pure functions for one run.

Nobody who writes a method thinks about populations, Ray or files. `trainables.training.population`
lifts `loss` and `act` over a population with `torch.func.vmap` and takes the gradient steps; so a
method holds no Python branch on a batched field, reduces its losses over the batch axis only, and
takes its randomness as input.
"""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from safesweep.search_spaces.validation import (
    InvalidInput,
    did_you_mean,
    require_choice,
    require_number,
    shown,
)

State = dict[str, Any]
Parameters = dict[str, Any]
Hyperparameters = Any
Losses = Tensor | dict[str, Tensor]
Batch = Mapping[str, Tensor]
Metrics = dict[str, Tensor]


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

    # The static fields that do nothing but divide the budget between the phases.
    phase_shares: ClassVar[tuple[str, ...]] = ()

    hidden_dim: int = static(256, "units of a hidden layer", source="common", low=1, high=8192)
    hidden_layers: int = static(2, "hidden layers of a network", source="common", low=1, high=16)
    batch_size: int = static(256, "transitions in a minibatch", source="common", low=1, high=65536)
    learning_rate: float = batched(3e-4, "Adam's step size", source="common", low=1e-8, high=1.0)
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


@dataclass(frozen=True)
class ProblemSpec:
    """What a method knows of its problem.

    `reward_scale` brings rewards to order one a step: horizon / (max return - min return), the
    scaling of FISOR's public code without its per-dataset episode length.
    """

    observation_dim: int
    action_dim: int
    horizon: int
    reward_scale: float
    cost_limit: float


@dataclass(frozen=True)
class Phase:
    """A stretch of training: its part of the gradient steps, and the networks that it trains.

    `concludes` says that `Method.finish_phase` has something to do when it ends.
    """

    name: str
    share: float
    trains: tuple[str, ...]
    concludes: bool = False


@dataclass(frozen=True)
class Noise:
    """Random numbers that one loss or one action needs: shape and distribution."""

    shape: tuple[int, ...]
    distribution: Literal["normal", "uniform"] = "normal"


class Method:
    """Base of every method. `self.static` holds the static fields; batched ones arrive as `hp`."""

    name: ClassVar[str]
    config_class: ClassVar[type[MethodConfig]]
    policies: ClassVar[tuple[str, ...]]
    # Settings under which every other hyperparameter matters from the first steps on: tests vary
    # each one from here.
    sensitive_settings: ClassVar[Mapping[str, Any]] = {}
    # Of hyperparameters that matter only beside others: the settings that they need on top.
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, config: MethodConfig, spec: ProblemSpec) -> None:
        self.static = SimpleNamespace(**config.static_values())
        self.spec = spec

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases in their order; the shares sum to one."""
        raise _abstract(self, "phases")

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns that minibatches are gathered from, first axis = sampled index.

        `data`: observations [N, o], next_observations [N, o], actions [N, a], rewards [N],
        costs [N], terminals [N], timeouts [N], safe_episodes [N] (1 where the whole episode has
        no cost) and, where the file has them, safety_margins [N]; all float32.

        A column `held_out` [N] keeps the rows where it is not zero out of every minibatch;
        `finish_phase` sees them.
        """
        return {**data, "rewards": data["rewards"] * self.spec.reward_scale}

    def init(self, generator: torch.Generator) -> State:
        """State of a fresh run: `params`, by network; `target`, slow copies of some of them, which
        follow at `hp.target_update_rate`; and what else the method keeps."""
        raise _abstract(self, "init")

    def noise(self, phase: str) -> dict[str, Noise]:
        """What `loss` needs in `phase`."""
        return {}

    def loss(
        self,
        phase: str,
        params: Parameters,
        state: State,
        batch: Batch,
        hp: Hyperparameters,
        noise: Batch,
    ) -> tuple[Losses, Metrics]:
        """Loss of one run on one minibatch; pure.

        `params` holds every network. A scalar trains the phase's networks jointly; a dictionary
        gives each of them a scalar of its own, whose gradient reaches that network alone. Metrics
        whose names begin with `loss/` are watched for divergence.
        """
        raise _abstract(self, "loss")

    def finish_phase(
        self, phase: str, state: State, data: Mapping[str, Tensor], hp: Hyperparameters
    ) -> State:
        """What happens once when a phase that `concludes` ends, a calibration say; `data` is the
        whole dataset."""
        return state

    def act_noise(self, policy: str) -> dict[str, Noise]:
        """What `act` needs for one observation."""
        return {}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        """Actions [E, a] within [-1, 1] for `observations` [E, o]; pure."""
        raise _abstract(self, "act")

    def feasibility_value(
        self, state: State, observations: Tensor, hp: Hyperparameters
    ) -> Tensor | None:
        """V_h [E], feasible where <= 0; None for a method that has no such critic."""
        return None

    def diagnose(
        self, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Metrics:
        """The method's own quantities at `observations` [S, o], recorded at each evaluation.

        `noise` holds what `act` needs of the first policy, K draws a state: [S, K, ...].
        """
        return {}


def _abstract(method: Method, function: str) -> TypeError:
    return TypeError(f"{type(method).__name__} does not define {function}")
