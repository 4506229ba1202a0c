"""Feasibility without Hamilton-Jacobi values, for one run: a state is feasible where its discounted
cost is at most a quantile of those of samples without a violation (FLRP section 5, table 2)."""

from collections.abc import Mapping

from torch import Tensor

from safesweep.trainables.components.critics import (
    InSampleCritic,
    bellman_target,
    evaluate_ensemble,
    in_sample_losses,
    state_value,
)
from safesweep.trainables.components.networks import Parameters
from safesweep.trainables.components.quantiles import masked_quantile

COST_NETWORKS = ("cost_q", "cost_v")


def cost_losses(
    params: Parameters,
    target: Parameters,
    batch: Mapping[str, Tensor],
    discount: Tensor,
    expectile: Tensor,
) -> dict[str, Tensor]:
    """The discounted cost, learned as FLRP's feasibility is (eq. 8 and 9): `cost_v` is an expectile
    of the larger of two `cost_q`, which regress to the slow copy of `cost_v`."""
    pair = (batch["observations"], batch["actions"])
    cost_q = evaluate_ensemble(params["cost_q"], *pair)
    cost = InSampleCritic(
        cost_q,
        state_value(params["cost_v"], batch["observations"]),
        judged=cost_q.amax(0),
        next_v=state_value(target["cost_v"], batch["next_observations"]),
    )
    cost_target = bellman_target(batch["costs"], cost.next_v, batch["terminals"], discount)
    return in_sample_losses("cost", cost, cost_target, expectile, lowest=True)


def cost_feasibility(
    params: Parameters, batch: Mapping[str, Tensor], level: Tensor
) -> tuple[Tensor, Tensor]:
    """Cost values less the threshold of the minibatch, feasible where <= 0, without gradient:
    of pairs [2, B] and of states [B]."""
    cost_v = state_value(params["cost_v"], batch["observations"]).detach()
    cost_q = evaluate_ensemble(params["cost_q"], batch["observations"], batch["actions"]).detach()
    threshold = masked_quantile(cost_v, batch["safe_episodes"], level)
    return cost_q - threshold, cost_v - threshold


def cost_threshold(params: Parameters, data: Mapping[str, Tensor], level: Tensor) -> Tensor:
    """The `level`-quantile of the cost values of a whole dataset's samples without a violation."""
    value = state_value(params["cost_v"], data["observations"])
    return masked_quantile(value, data["safe_episodes"], level)
