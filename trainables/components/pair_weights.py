"""What reward and feasibility critics say of a minibatch's pairs, and how much these count by it in
regressions (FLRP eq. 11, 12, 14 and 15, after FISOR), for one run."""

from collections.abc import Mapping
from typing import NamedTuple, Self

import torch
from torch import Tensor

from safesweep.trainables.components.critics import (
    clipped_exponential,
    evaluate_ensemble,
    state_value,
)
from safesweep.trainables.components.networks import Parameters


class PairCritics(NamedTuple):
    """Critics at pairs: the action values [2, B], the state values [B]. Weights are constants."""

    reward_q: Tensor
    feasibility_q: Tensor
    reward_v: Tensor
    feasibility_v: Tensor

    @classmethod
    def of(cls, params: Parameters, batch: Mapping[str, Tensor]) -> Self:
        """The critics of these names at a minibatch's pairs."""
        pair = batch["observations"], batch["actions"]
        return cls(
            reward_q=evaluate_ensemble(params["reward_q"], *pair),
            feasibility_q=evaluate_ensemble(params["feasibility_q"], *pair),
            reward_v=state_value(params["reward_v"], batch["observations"]),
            feasibility_v=state_value(params["feasibility_v"], batch["observations"]),
        )

    @property
    def larger_feasibility_q(self) -> Tensor:
        """The pessimistic one of two Q_h, without gradient: [B]."""
        return self.feasibility_q.detach().amax(0)

    @property
    def feasible(self) -> Tensor:
        """I_feas = 1{Q_h <= 0} (eq. 12): [B] bool."""
        return self.larger_feasibility_q <= 0

    def safety_score(self, q_temperature: Tensor, v_temperature: Tensor) -> Tensor:
        """w(s, a) = sigma(-Q_h / T_q) sigma(-V_h / T_v) (eq. 11): [B]."""
        by_action = torch.sigmoid(-self.larger_feasibility_q / q_temperature)
        by_state = torch.sigmoid(-self.feasibility_v.detach() / v_temperature)
        return by_action * by_state

    def reward_weight(self, temperature: Tensor, clip: float) -> Tensor:
        """w_r(s, a) = exp((Q_r - V_r) / beta_r) I_feas (eq. 15), also the weight of eq. 12: [B]."""
        advantage = (self.reward_q.amin(0) - self.reward_v).detach()
        return clipped_exponential(advantage / temperature, clip) * self.feasible

    def safety_weight(self, temperature: Tensor, clip: float) -> Tensor:
        """w_h(s, a) = exp(-(Q_h - V_h) / beta_h) I_feas (eq. 14): [B]."""
        advantage = self.feasibility_v.detach() - self.larger_feasibility_q
        return clipped_exponential(advantage / temperature, clip) * self.feasible
