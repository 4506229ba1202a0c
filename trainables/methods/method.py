"""What a method is: a frozen configuration and pure functions for one run.

Nobody who writes a method thinks about populations, Ray or files. `trainables.training.population`
lifts `loss` and `act` over a population with `torch.func.vmap` and takes the gradient steps; so a
method holds no Python branch on a batched field, reduces its losses over the batch axis only, and
takes its randomness as input.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from safesweep.trainables.components.networks import (
    ACTIVATIONS,
    Activation,
    Layers,
    hidden_sizes,
    init_mlp,
)
from safesweep.trainables.methods.config import MethodConfig as MethodConfig
from safesweep.trainables.methods.config import batched as batched
from safesweep.trainables.methods.config import static as static

State = dict[str, Any]
Parameters = dict[str, Any]
Hyperparameters = Any
Batch = Mapping[str, Tensor]
Metrics = dict[str, Tensor]
Memory = dict[str, Tensor]


@dataclass(frozen=True)
class ProblemSpec:
    """What a method knows of its problem.

    `reward_scale` brings rewards to the task's unit (`Task.unit_scale`). `cost_limits` are those
    under which the task is reported.
    """

    observation_dim: int
    action_dim: int
    horizon: int
    reward_scale: float
    cost_limit: float
    cost_limits: tuple[float, ...] = ()


@dataclass(frozen=True)
class Phase:
    """A stretch of training: its part of the gradient steps, and the networks that it trains.

    `concludes` says that `Method.finish_phase` has something to do when it ends. `every` has the
    networks that move in every so many-th gradient step alone, as TD3's actor in every second
    (Fujimoto et al., 2018): in between, their moments and slow copies rest as well. In a phase that
    is `online` a run acts in the environment by its first policy: an episode's horizon of steps
    before as many gradient steps, and so on; `Method.take_in` is given what it saw.

    Raises:
        ValueError: `every` has a network that the phase does not train, or no whole number.
    """

    name: str
    share: float
    trains: tuple[str, ...]
    concludes: bool = False
    every: Mapping[str, int] = field(default_factory=dict)
    online: bool = False

    def __post_init__(self) -> None:
        for network, steps in self.every.items():
            if network not in self.trains or not isinstance(steps, int) or steps < 1:
                raise ValueError(
                    f"every: {network!r}: {steps!r} is not allowed; it must be a whole number >= 1 "
                    f"for one of {', '.join(self.trains)}"
                )

    def moving(self, taken: int) -> tuple[str, ...]:
        """The networks that move in the gradient step after `taken` ones."""
        return tuple(n for n in self.trains if (taken + 1) % self.every.get(n, 1) == 0)


@dataclass(frozen=True)
class Noise:
    """Random numbers that one loss or one action needs: shape and distribution."""

    shape: tuple[int, ...]
    distribution: Literal["normal", "uniform"] = "normal"


class Progress(NamedTuple):
    """Where a phase is. `step`: gradient steps taken in it before this one, []. `steps`: how many
    it has, []; None where the configuration does not say that it `looks_at_budget`."""

    step: Tensor
    steps: Tensor | None


class StepInputs(NamedTuple):
    """All that the losses of one run at one gradient step are made of.

    Attributes:
        params: every network; those that the phase trains are open to gradients.
        state: the state as it is before the step.
        batch: the minibatch, [B, ...] by column; see `Method.gather`.
        hp: the batched hyperparameters, each [].
        noise: what `Method.noise` asked for.
        progress: how far the phase is.
    """

    params: Parameters
    state: State
    batch: Batch
    hp: Hyperparameters
    noise: Batch
    progress: Progress

    @property
    def target(self) -> Parameters:
        """The slow copies."""
        target: Parameters = self.state["target"]
        return target


NOTHING: dict[str, Tensor] = {}


class StepOutputs(NamedTuple):
    """What the losses of one run come to.

    Attributes:
        losses: a scalar trains the phase's networks jointly; a dictionary gives each of them a
            scalar of its own, whose gradient reaches that network alone.
        metrics: numbers to record; those whose names begin with `loss/` are watched for divergence.
        moved: new values of the entries of `state["moving"]` that move, without a gradient.
    """

    losses: Tensor | dict[str, Tensor]
    metrics: Metrics
    moved: dict[str, Tensor] = NOTHING


Losses = Mapping[str, Callable[[StepInputs], StepOutputs]]
"""By phase, the losses of one run on one minibatch."""


def jointly(losses: Metrics, metrics: Metrics | None = None) -> StepOutputs:
    """All networks of the phase are trained by the sum of `losses`, which are metrics as well."""
    values = list(losses.values())
    total = values[0] if len(values) == 1 else torch.stack(values).sum()
    return StepOutputs(total, {**losses, **(metrics or {})})


class Optimization(NamedTuple):
    """How networks move in a step, by name; a network that is not named moves by the default.

    Attributes:
        learning_rates: Adam's step size, []; `hp.learning_rate` by default.
        weight_decays: AdamW's decay, []; none by default.
        gradient_norms: the largest norm of a network's whole gradient, [], to which a larger one is
            scaled down; any norm by default.
        target_rates: Polyak rate of the network's slow copy, []; `hp.target_update_rate` by
            default.
    """

    learning_rates: dict[str, Tensor] = NOTHING
    weight_decays: dict[str, Tensor] = NOTHING
    gradient_norms: dict[str, Tensor] = NOTHING
    target_rates: dict[str, Tensor] = NOTHING


class LastStep(NamedTuple):
    """What the environment answered to the action before, as it measures them; 0 at the start of
    an episode. Each [E]."""

    reward: Tensor
    cost: Tensor


class Method:
    """Base of every method. `self.static` holds the static fields; batched ones arrive as `hp`.

    `self.warnings` is for `prepare` to say, a line each, what whoever runs the method on these data
    should hear.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[MethodConfig]]
    policies: ClassVar[tuple[str, ...]]
    # Other ways in which a trained run can act, evaluated only where somebody asks for them.
    further_policies: ClassVar[tuple[str, ...]] = ()
    # Settings under which every other hyperparameter matters from the first steps on: tests vary
    # each one from here.
    sensitive_settings: ClassVar[Mapping[str, Any]] = {}
    # Of hyperparameters that matter only beside others: the settings that they need on top.
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, config: MethodConfig, spec: ProblemSpec) -> None:
        self.static = SimpleNamespace(**config.static_values())
        self.spec = spec
        self.warnings: list[str] = []
        self.evaluated_policies = self.policies
        if config.acts_to_cost_limit:
            self.evaluated_policies = policies_by_limit(self.policies, spec)

    def cost_limit_of(self, policy: str) -> float:
        """The cost limit that a policy acts to."""
        return policy_cost_limit(policy, self.spec.cost_limit)

    def mlp(self, generator: torch.Generator, inputs: int, outputs: int, **options: Any) -> Layers:
        """Fresh parameters of a perceptron with this configuration's hidden layers; `options` are
        those of `init_mlp`."""
        return init_mlp(generator, hidden_sizes(inputs, *self.hidden, outputs), **options)

    @property
    def hidden(self) -> tuple[int, int]:
        """Width and number of hidden layers."""
        return self.static.hidden_dim, self.static.hidden_layers

    def critic_mlp(
        self, generator: torch.Generator, inputs: int, ensemble: int | None = None
    ) -> Layers:
        """Fresh parameters of a critic, one network of `inputs` numbers or several; with sizes and
        norm of its own where the configuration has them."""
        width, layers = self.hidden
        width = getattr(self.static, "critic_hidden_dim", 0) or width
        layers = getattr(self.static, "critic_hidden_layers", 0) or layers
        norm = getattr(self.static, "layer_norm", "none")
        return init_mlp(generator, hidden_sizes(inputs, width, layers, 1), ensemble, 1.0, norm)

    @property
    def activation(self) -> Activation:
        """Of the hidden layers of networks."""
        return ACTIVATIONS[getattr(self.static, "activation", "relu")]

    @property
    def critic_activation(self) -> Activation:
        """Of the hidden layers of critics."""
        return ACTIVATIONS.get(getattr(self.static, "critic_activation", ""), self.activation)

    def in_sample_networks(
        self, generator: torch.Generator, *names: str, action_dim: int | None = None
    ) -> Parameters:
        """Fresh critics `<name>_q`, two networks of a state and an action, and `<name>_v`, one of a
        state; `action_dim` is the task's unless given."""
        state = self.spec.observation_dim
        pair = state + (self.spec.action_dim if action_dim is None else action_dim)
        params: Parameters = {}
        for name in names:
            params[f"{name}_q"] = self.critic_mlp(generator, pair, ensemble=2)
            params[f"{name}_v"] = self.critic_mlp(generator, state)
        return params

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
        `finish_phase` sees them. A column `sampling_weight` [N] draws the others in proportion to
        it; without one each is as likely as another.
        """
        columns = {**data, "rewards": data["rewards"] * self.reward_factor}
        if getattr(self.static, "done_signal", "terminals") == "terminals_and_timeouts":
            columns["terminals"] = torch.maximum(data["terminals"], data["timeouts"])
        return columns

    @property
    def reward_factor(self) -> float:
        """What rewards are multiplied by before anything is learned from them."""
        own: float = getattr(self.static, "reward_scale", 1.0)
        as_they_are = getattr(self.static, "reward_scaling", "normalized") == "none"
        return own if as_they_are else own * self.spec.reward_scale

    def gather(self, columns: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """The minibatch of some rows [..., B] of `prepare`'s columns, each [..., B, ...].

        Leading axes are those of members. By default a row is a sample; `components.windows` makes
        one of the steps that follow it.
        """
        return {name: rows_of(column, rows) for name, column in columns.items()}

    def init(self, generator: torch.Generator) -> State:
        """State of a fresh run: `params`, by network; `target`, slow copies of some of them, which
        follow at `hp.target_update_rate`; `moving`, numbers that losses move without a gradient;
        and what else the method keeps."""
        raise _abstract(self, "init")

    def begin(self, state: State, hp: Hyperparameters) -> State:
        """A fresh state as the batched hyperparameters would have it; pure, called once."""
        return state

    def noise(self, phase: str) -> dict[str, Noise]:
        """What the losses of `phase` need."""
        return {}

    @property
    def losses(self) -> Losses:
        """By phase, the losses of one run on one minibatch; each is pure."""
        raise _abstract(self, "losses")

    @property
    def minibatch_parts(self) -> int:
        """In how many parts, one after the other, a CPU is to work on a minibatch that is too large
        for it at once. The losses and metrics of the parts have to add up to those of the
        minibatch; so there is no noise and nothing that moves without a gradient."""
        return 1

    def optimization(self, phase: str, hp: Hyperparameters, progress: Progress) -> Optimization:
        """How the networks of `phase` move; pure. See `components.schedules`."""
        return Optimization()

    def finish_phase(
        self, phase: str, state: State, data: Mapping[str, Tensor], hp: Hyperparameters
    ) -> State:
        """What happens once when a phase that `concludes` ends, a calibration say; `data` is the
        whole dataset."""
        return state

    def take_in(
        self, state: State, transitions: Mapping[str, Tensor], hp: Hyperparameters
    ) -> State:
        """What one run keeps of a round in the environment, in a phase that is `online`.

        Args:
            transitions: the columns of `prepare`'s data but for safe episodes and margins, each
                [T, ...] in time order and as the environment gave them; and `begun` [], how many
                episodes were begun. The last one was cut off by a time-out.
        """
        raise _abstract(self, "take_in")

    def act_noise(self, policy: str) -> dict[str, Noise]:
        """What `act` needs for one observation."""
        return {}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        """Actions [E, a] within [-1, 1] for `observations` [E, o]; pure."""
        raise _abstract(self, "act")

    def begin_episode(self, policy: str, hp: Hyperparameters) -> Memory:
        """What `policy` remembers before the first step of one episode, by name; nothing where it
        has no memory."""
        return {}

    def act_with_memory(
        self,
        policy: str,
        state: State,
        observations: Tensor,
        hp: Hyperparameters,
        noise: Batch,
        memory: Memory,
        last: LastStep,
    ) -> tuple[Tensor, Memory]:
        """Actions [E, a], and what is remembered of E episodes at their next step; pure.

        This is what is asked; a policy without memory defines `act` alone.

        Args:
            memory: what `begin_episode` or the step before gave, each [E, ...].
            last: the reward and cost of the step before.
        """
        return self.act(policy, state, observations, hp, noise), memory

    def feasibility_value(
        self, state: State, observations: Tensor, hp: Hyperparameters
    ) -> Tensor | None:
        """V_h [E], feasible where <= 0; None for a method that has no such critic."""
        return None

    def feasible_pairs(self, state: State, data: Batch, hp: Hyperparameters) -> Tensor | None:
        """Whether the method learns from each pair [N] of `data` as from a feasible one; None for a
        method that does not tell pairs apart so. By default, as `feasibility_value` says."""
        value = self.feasibility_value(state, data["observations"], hp)
        return None if value is None else value <= 0

    def diagnose(
        self, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Metrics:
        """The method's own quantities at `observations` [S, o], recorded at each evaluation.

        `noise` holds what `act` needs of the first policy, K draws a state: [S, K, ...].
        """
        return {}


def _abstract(method: Method, function: str) -> TypeError:
    return TypeError(f"{type(method).__name__} does not define {function}")


def rows_of(column: Tensor, rows: Tensor) -> Tensor:
    """The rows of a column, of any shape: `index_select` is faster where it can be used."""
    return column.index_select(0, rows) if rows.dim() == 1 else column[rows]


def in_parts(size: int, *columns: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Columns [N, ...] side by side, at most `size` rows at a time."""
    return zip(*(torch.split(column, size) for column in columns), strict=True)


def policies_by_limit(policies: Sequence[str], spec: ProblemSpec) -> tuple[str, ...]:
    """A policy for each of the task's cost limits, `name@limit`; the one of `spec.cost_limit`,
    by which the method is judged, first."""
    limits = dict.fromkeys((spec.cost_limit, *spec.cost_limits))
    return tuple(f"{policy}@{limit:g}" for policy in policies for limit in limits)


def policy_cost_limit(policy: str, otherwise: float) -> float:
    """The cost limit that a policy `name@limit` acts to; `otherwise` for one without."""
    _, _, limit = policy.partition("@")
    return float(limit) if limit else otherwise
