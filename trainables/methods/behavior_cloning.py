"""Behaviour cloning, the baseline of every paper: regression of the data's actions.

With `data: safe` it is BC-Safe, which clones only the episodes that keep the cost limit.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.components.networks import Layers, mlp
from safesweep.trainables.methods.behavior_cloning_config import BehaviorCloningConfig
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    Losses,
    Method,
    Phase,
    State,
    StepInputs,
    StepOutputs,
    jointly,
)


class BehaviorCloning(Method):
    """A deterministic policy fitted by least squares, in OSRL's setting."""

    name = "bc"
    config_class = BehaviorCloningConfig
    policies = BehaviorCloningConfig.policies
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {"discount": {"data": "safe"}}

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", 1.0, ("policy",)),)

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The pairs to clone.

        Raises:
            InvalidInput: `data` is safe and no episode is.
        """
        columns = {name: data[name] for name in ("observations", "actions")}
        if self.static.data == "all":
            return columns
        costs, episodes = episode_costs(
            data["costs"], torch.maximum(data["terminals"], data["timeouts"]), self.static.discount
        )
        safe = costs <= self.spec.cost_limit
        if not bool(safe.any()):
            raise InvalidInput(
                f"data: 'safe' leaves nothing to clone; the lowest-cost of {len(costs)} episodes "
                f"costs {float(costs.min()):g}, above the limit {self.spec.cost_limit:g}"
            )
        return {name: column[safe[episodes]] for name, column in columns.items()}

    def init(self, generator: torch.Generator) -> State:
        policy = self.mlp(generator, self.spec.observation_dim, self.spec.action_dim)
        return {"params": {"policy": policy}}

    @property
    def losses(self) -> Losses:
        return {"train": self.regression_loss}

    def regression_loss(self, inputs: StepInputs) -> StepOutputs:
        """Mean squared error of the actions."""
        predicted = predict(inputs.params["policy"], inputs.batch["observations"])
        return jointly({"loss/policy": (predicted - inputs.batch["actions"]).square().mean()})

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        return predict(state["params"]["policy"], observations)


def predict(policy: Layers, observations: Tensor) -> Tensor:
    """The policy's action, within [-1, 1]: [B, o] -> [B, a]."""
    return torch.tanh(mlp(policy, observations))


def episode_costs(costs: Tensor, done: Tensor, discount: float) -> tuple[Tensor, Tensor]:
    """Cost of every episode, discounted from its first step, and each step's episode.

    Args:
        costs: [N], in time order.
        done: [N], 1 at the last step of an episode.

    Returns:
        float64 [episodes] and int64 [N].
    """
    ends = (done > 0).long()
    episodes = ends.cumsum(0) - ends
    steps = torch.arange(len(costs))
    starts = torch.cat((torch.zeros(1, dtype=torch.long), torch.nonzero(ends).squeeze(-1) + 1))
    discounts = torch.tensor(discount, dtype=torch.float64) ** (steps - starts[episodes])
    totals = torch.zeros(int(episodes[-1]) + 1, dtype=torch.float64)
    return totals.index_add(0, episodes, costs.double() * discounts), episodes
