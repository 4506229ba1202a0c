"""Small methods that use what the contract offers beyond today's methods, with known answers.

Their networks are a single number each, so that what they come to can be written down.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from safesweep.trainables.components.schedules import cosine, linear_warmup
from safesweep.trainables.components.windows import steps_left, windows
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    LastStep,
    Losses,
    Memory,
    Method,
    MethodConfig,
    Optimization,
    Phase,
    Progress,
    State,
    StepInputs,
    StepOutputs,
    batched,
    jointly,
    static,
)

OBSTACLE = (-0.5, 0.5)


class OneNumber(Method):
    """Its networks hold one number each, which `start` gives; it acts with the first one."""

    start: ClassVar[Mapping[str, float]]
    policies = ("number",)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", 1.0, tuple(self.start)),)

    def init(self, generator: torch.Generator) -> State:
        params = {name: {"value": torch.tensor(value)} for name, value in self.start.items()}
        return {"params": params}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        value = state["params"][next(iter(self.start))]["value"]
        return value.expand(len(observations), self.spec.action_dim)


@dataclass(frozen=True)
class MultiplierConfig(MethodConfig):
    """Gains of the controller, and the cost that is allowed."""

    learning_rate: float = batched(0.02, source="test", low=0.0, high=1.0)
    proportional_gain: float = batched(1.0, source="test", low=0.0, high=10.0)
    integral_gain: float = batched(0.05, source="test", low=0.0, high=10.0)
    allowed: float = batched(1.0, source="test", low=0.0, high=10.0)


class Multiplier(OneNumber):
    """Minimizes (x - 2)^2 / 2 where x may be at most `allowed`; a PID controller moves the price of
    x without a gradient. Where x has arrived, the price is what the constraint is worth:
    2 - allowed, and the integral is that over its gain."""

    name = "multiplier"
    config_class = MultiplierConfig
    start: ClassVar[Mapping[str, float]] = {"x": 2.0}

    def init(self, generator: torch.Generator) -> State:
        return {**super().init(generator), "moving": {"integral": torch.zeros(())}}

    @property
    def losses(self) -> Losses:
        return {"train": self.priced_loss}

    def priced_loss(self, inputs: StepInputs) -> StepOutputs:
        """The Lagrangian, and the integral's next value."""
        x, hp = inputs.params["x"]["value"], inputs.hp
        excess = x.detach() - hp.allowed
        integral = torch.relu(inputs.state["moving"]["integral"] + excess)
        price = torch.relu(hp.proportional_gain * excess + hp.integral_gain * integral)
        loss = 0.5 * (x - 2.0).square() + price * x
        return StepOutputs(loss, {"loss/x": loss, "price": price}, {"integral": integral})


@dataclass(frozen=True)
class MarcherConfig(MethodConfig):
    """How each of two numbers moves."""

    learning_rate: float = batched(0.01, source="test", low=0.0, high=1.0)
    target_update_rate: float = batched(0.1, source="test", low=0.0, high=1.0)
    second_factor: float = batched(0.3, source="test", low=0.0, high=10.0)
    second_target_rate: float = batched(0.5, source="test", low=0.0, high=1.0)
    weight_decay: float = batched(0.5, source="test", low=0.0, high=10.0)
    largest_norm: float = batched(1e-8, source="test", low=1e-9, high=10.0)

    @property
    def trains_to_budget(self) -> bool:
        return True


class Marcher(OneNumber):
    """The gradient of each number is 1, so that Adam moves it by its own rate in every step.

    `first`: by the learning rate on a cosine. `second`: by `second_factor` of it after a warm-up of
    10 steps, with weight decay. `third`: its gradient is cut to Adam's epsilon, which halves its
    pace. The slow copy of `second` has a rate of its own.
    """

    name = "marcher"
    config_class = MarcherConfig
    start: ClassVar[Mapping[str, float]] = {"first": 0.0, "second": 1.0, "third": 0.0}

    def init(self, generator: torch.Generator) -> State:
        state = super().init(generator)
        return {**state, "target": {name: state["params"][name] for name in ("first", "second")}}

    @property
    def losses(self) -> Losses:
        return {"train": self.slope}

    def slope(self, inputs: StepInputs) -> StepOutputs:
        """A plane."""
        return jointly({f"loss/{name}": inputs.params[name]["value"] for name in self.start})

    def optimization(self, phase: str, hp: Hyperparameters, progress: Progress) -> Optimization:
        step, steps = progress
        assert steps is not None
        rate = hp.learning_rate
        return Optimization(
            learning_rates={
                "first": rate * cosine(step, steps),
                "second": rate * hp.second_factor * linear_warmup(step, 10),
            },
            weight_decays={"second": hp.weight_decay},
            gradient_norms={"third": hp.largest_norm},
            target_rates={"second": hp.second_target_rate},
        )


@dataclass(frozen=True)
class FollowerConfig(MethodConfig):
    """How two numbers move, one of them less often."""

    learning_rate: float = batched(0.05, source="test", low=0.0, high=1.0)
    target_update_rate: float = batched(0.3, source="test", low=0.0, high=1.0)
    policy_delay: int = static(3, source="test", low=1, high=100)


class Follower(OneNumber):
    """The critic heads for 1 in every step, the actor for the critic in every third: both go where
    Adam takes them, the actor by moments and a count of its own steps."""

    name = "follower"
    config_class = FollowerConfig
    start: ClassVar[Mapping[str, float]] = {"critic": 0.0, "actor": -1.0}

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", 1.0, tuple(self.start), every={"actor": self.static.policy_delay}),)

    def init(self, generator: torch.Generator) -> State:
        state = super().init(generator)
        return {**state, "target": dict(state["params"])}

    @property
    def losses(self) -> Losses:
        return {"train": self.distances}

    def distances(self, inputs: StepInputs) -> StepOutputs:
        """Half the squared distances; each moves its own number."""
        critic, actor = (inputs.params[name]["value"] for name in ("critic", "actor"))
        losses = {
            "critic": 0.5 * (critic - 1.0).square(),
            "actor": 0.5 * (actor - critic.detach()).square(),
        }
        return StepOutputs(losses, {f"loss/{name}": loss for name, loss in losses.items()})


@dataclass(frozen=True)
class SlopeConfig(MethodConfig):
    """How long a window is."""

    batch_size: int = static(16, source="test", low=1, high=100)
    learning_rate: float = batched(0.05, source="test", low=0.0, high=1.0)
    window: int = static(8, source="test", low=1, high=100)


class WindowSlope(OneNumber):
    """Fits by how much the reward rises from step to step within an episode. At an episode's end
    the next one begins lower: a window that went on there would give another slope."""

    name = "window_slope"
    config_class = SlopeConfig
    start: ClassVar[Mapping[str, float]] = {"slope": 0.0}

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        left = steps_left(data["terminals"], data["timeouts"])
        return {
            "observations": data["observations"],
            "rewards": data["rewards"],
            "steps_left": left,
        }

    def gather(self, columns: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        return windows(columns, rows, self.static.window)

    @property
    def losses(self) -> Losses:
        return {"train": self.rise}

    def rise(self, inputs: StepInputs) -> StepOutputs:
        """Mean squared error of the rise since the window's first step."""
        rewards, mask = inputs.batch["rewards"], inputs.batch["mask"]
        steps = torch.arange(rewards.shape[-1])
        error = inputs.params["slope"]["value"] * steps - (rewards - rewards[..., :1])
        return jointly({"loss/slope": (mask * error.square()).sum() / mask.sum()})


@dataclass(frozen=True)
class WeightedConfig(MethodConfig):
    """A mean."""

    learning_rate: float = batched(0.05, source="test", low=0.0, high=1.0)

    @property
    def trains_to_budget(self) -> bool:
        return True


class WeightedMean(OneNumber):
    """Fits the mean reward of rows that are drawn in proportion to the rewards themselves: the
    mean of squares over the mean."""

    name = "weighted_mean"
    config_class = WeightedConfig
    start: ClassVar[Mapping[str, float]] = {"mean": 0.0}

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            "observations": data["observations"],
            "rewards": data["rewards"],
            "sampling_weight": data["rewards"],
        }

    @property
    def losses(self) -> Losses:
        return {"train": self.error}

    def error(self, inputs: StepInputs) -> StepOutputs:
        """Mean squared error, and the smallest reward that was drawn."""
        rewards = inputs.batch["rewards"]
        error = (inputs.params["mean"]["value"] - rewards).square().mean()
        return jointly({"loss/mean": error}, {"smallest": rewards.amin()})

    def optimization(self, phase: str, hp: Hyperparameters, progress: Progress) -> Optimization:
        assert progress.steps is not None
        rate = hp.learning_rate * cosine(progress.step, progress.steps)
        return Optimization(learning_rates={"mean": rate})


@dataclass(frozen=True)
class SpenderConfig(MethodConfig):
    """How fast it learns to spend."""

    learning_rate: float = batched(0.1, source="test", low=0.0, high=1.0)

    @property
    def acts_to_cost_limit(self) -> bool:
        return True


class Spender(OneNumber):
    """Heads for an obstacle until an episode has cost as much as it may, and away from it after.

    What it learns is the sign of this direction, whatever the limit.
    """

    name = "spender"
    config_class = SpenderConfig
    policies = ("spender",)
    start: ClassVar[Mapping[str, float]] = {"sign": 0.0}

    @property
    def losses(self) -> Losses:
        return {"train": self.error}

    def error(self, inputs: StepInputs) -> StepOutputs:
        """The sign is 1."""
        return jointly({"loss/sign": (inputs.params["sign"]["value"] - 1.0).square()})

    def begin_episode(self, policy: str, hp: Hyperparameters) -> Memory:
        return {"spent": torch.zeros(()), "steps": torch.zeros(())}

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
        spent = memory["spent"] + last.cost
        limit = self.cost_limit_of(policy)
        way = torch.where(spent < limit, 1.0, -1.0) * state["params"]["sign"]["value"].sign()
        direction = torch.tensor(OBSTACLE) - observations[..., :2]
        actions = way.unsqueeze(-1) * direction.clamp(-1, 1)
        return actions, {"spent": spent, "steps": memory["steps"] + 1}


EXTENDED: dict[str, type[Method]] = {
    method.name: method
    for method in (Multiplier, Marcher, Follower, WindowSlope, WeightedMean, Spender)
}
VARIED: dict[str, list[dict[str, Any]]] = {
    "multiplier": [{}, {"allowed": 0.5}, {"integral_gain": 0.1}],
    "marcher": [{}, {"second_factor": 2.0}, {"weight_decay": 0.0, "largest_norm": 1.0}],
    "follower": [{}, {"learning_rate": 0.02}, {"target_update_rate": 0.1}],
    "window_slope": [{}, {"learning_rate": 0.02}, {"learning_rate": 0.1}],
    "weighted_mean": [{}, {"learning_rate": 0.02}, {"learning_rate": 0.1}],
    "spender": [{}, {"learning_rate": 0.02}, {"learning_rate": 0.2}],
}
