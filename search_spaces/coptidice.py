"""The space of COptiDICE. OSRL gives one value of each; every range here is ours and holds it. What
is published and wrong (`cost_scale_of_limit`, `policy_density`) is a choice to make, not to search.
"""

from safesweep.search_spaces.space import Hyperparameter, SearchSpace

COPTIDICE_SPACE = SearchSpace(
    "coptidice",
    [
        Hyperparameter(
            "learning_rate", low=3e-5, high=3e-3, log=True, source="OSRL 1e-4, the authors 3e-4"
        ),
        Hyperparameter(
            "divergence_weight",
            low=0.01,
            high=2.0,
            log=True,
            source="alpha; OSRL takes 0.5, the authors 0.01",
        ),
        Hyperparameter(
            "bound_radius", low=1e-3, high=0.1, log=True, source="epsilon; OSRL takes 0.01"
        ),
        Hyperparameter(
            "reward_scale", choices=(0.03, 0.1, 0.3, 1.0), source="OSRL takes 0.1 on every task"
        ),
    ],
    defaults={
        "learning_rate": 1e-4,
        "divergence_weight": 0.5,
        "bound_radius": 0.01,
        "reward_scale": 0.1,
    },
)
