"""Critics that say the same of every pair."""

import torch

from safesweep.trainables.components.pair_weights import PairCritics


def flat_critics(pairs: int, **values: float) -> PairCritics:
    """Critics of these values, 0 where none is given."""
    filled = {name: values.get(name, 0.0) for name in PairCritics._fields}
    return PairCritics(
        reward_q=torch.full((2, pairs), filled["reward_q"]),
        feasibility_q=torch.full((2, pairs), filled["feasibility_q"]),
        reward_v=torch.full((pairs,), filled["reward_v"]),
        feasibility_v=torch.full((pairs,), filled["feasibility_v"]),
    )
