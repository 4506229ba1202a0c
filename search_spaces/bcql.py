"""The space of BCQ-Lag. OSRL gives one value of each; every range here is ours and holds it. What
is published and wrong (`cost_bootstrap`, `cost_aggregation`) is a choice to make, not to search."""

from safesweep.search_spaces.space import Hyperparameter, SearchSpace

BCQL_SPACE = SearchSpace(
    "bcql",
    [
        Hyperparameter("learning_rate", low=1e-4, high=3e-3, log=True, source="OSRL takes 1e-3"),
        Hyperparameter(
            "perturbation", low=0.01, high=0.5, log=True, source="phi; OSRL and BCQ take 0.05"
        ),
        Hyperparameter(
            "integral_gain", low=3e-4, high=0.1, log=True, source="K_I; OSRL takes 0.003"
        ),
        Hyperparameter(
            "reward_scale", choices=(0.03, 0.1, 0.3, 1.0), source="OSRL takes 0.1 on every task"
        ),
    ],
    defaults={
        "learning_rate": 1e-3,
        "perturbation": 0.05,
        "integral_gain": 0.003,
        "reward_scale": 0.1,
    },
)
