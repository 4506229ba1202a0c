"""Behaviour cloning, the baseline of every paper: regression of the data's actions.

With `data: safe` it is BC-Safe, which clones only the episodes that keep the cost limit. OSRL has
further choices of episodes, and a policy that is told what an episode may cost (`multi_task`).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.components.networks import Layers, mlp
from safesweep.trainables.components.return_augmentation import pareto_front
from safesweep.trainables.methods.behavior_cloning_config import (
    BY_LIMIT,
    BehaviorCloningConfig,
)
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
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "discount": {"data": "safe"},
        "frontier_degree": {"data": "frontier", "frontier_degree": 0, "frontier_range": 0.4},
        "frontier_range": {"data": "frontier"},
    }

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", 1.0, ("policy",)),)

    @property
    def told(self) -> bool:
        """Whether the policy is told what an episode may cost."""
        return bool(self.static.data == "multi_task")

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The pairs to clone.

        Raises:
            InvalidInput: `data` leaves no episode.
        """
        columns = {name: data[name] for name in ("observations", "actions")}
        chosen = self.static.data
        if chosen == "all":
            return columns
        done = torch.maximum(data["terminals"], data["timeouts"])
        costs, episodes = episode_costs(data["costs"], done, self.static.discount)
        if self.told:
            cost = costs[episodes].float().unsqueeze(-1) / self.cost_unit
            return {**columns, "observations": torch.cat((columns["observations"], cost), dim=-1)}
        if chosen == "frontier":
            returns, _ = episode_costs(data["rewards"], done, self.static.discount)
            kept = near_frontier(
                returns, costs, self.static.frontier_degree, self.static.frontier_range
            )
        else:
            low, high = (self.spec.cost_limit * times for times in BY_LIMIT[chosen])
            kept = (costs >= low if chosen == "risky" else costs > low) & (costs <= high)
        if not bool(kept.any()):
            limit = f"the limit {self.spec.cost_limit:g}"
            lowest = f"the lowest-cost of {len(costs)} episodes costs {float(costs.min()):g}"
            why = {
                "safe": f"{lowest}, above {limit}",
                "boundary": f"{lowest}, beside {limit}",
                "risky": f"the dearest of {len(costs)} episodes costs {float(costs.max()):g}, "
                f"below twice {limit}",
                "frontier": f"no return of {len(costs)} episodes is within "
                f"{self.static.frontier_range:g} of their range from the frontier "
                "(frontier_range)",
            }
            raise InvalidInput(f"data: {chosen!r} leaves nothing to clone; {why[chosen]}")
        return {name: column[kept[episodes]] for name, column in columns.items()}

    @property
    def cost_unit(self) -> float:
        """What a policy that is told costs is told them in: the task's largest limit."""
        return max((*self.spec.cost_limits, 0.0)) or self.spec.cost_limit or 1.0

    def init(self, generator: torch.Generator) -> State:
        inputs = self.spec.observation_dim + int(self.told)
        return {"params": {"policy": self.mlp(generator, inputs, self.spec.action_dim)}}

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
        if self.told:
            limit = torch.full_like(observations[..., :1], self.cost_limit_of(policy))
            observations = torch.cat((observations, limit / self.cost_unit), dim=-1)
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


def near_frontier(returns: Tensor, costs: Tensor, degree: int, share: float) -> Tensor:
    """The episodes [N] whose return differs from the frontier's at their cost by at most `share` of
    the range of returns: a polynomial through those that no other one beats."""
    best = pareto_front(returns.numpy(), costs.numpy())
    degree = min(degree, len(best) - 1)
    lowest, highest = float(costs.min()), float(costs.max())
    places = ((costs - lowest) / max(highest - lowest, 1.0)).double().numpy()
    frontier = np.polyfit(places[best], returns[best].double().numpy(), degree)
    distance = (returns - torch.as_tensor(np.polyval(frontier, places))).abs()
    return distance <= share * (returns.max() - returns.min())
