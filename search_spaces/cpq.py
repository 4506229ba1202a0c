"""The space of CPQ. OSRL gives one value of each; every range here is ours and holds it. What is
published and wrong (`ood`, `cost_bootstrap`) is a choice to make, not to search."""

from safesweep.search_spaces.space import Hyperparameter, SearchSpace

CPQ_SPACE = SearchSpace(
    "cpq",
    [
        Hyperparameter("learning_rate", low=1e-4, high=3e-3, log=True, source="OSRL takes 1e-3"),
        Hyperparameter(
            "actor_rate_factor",
            low=0.03,
            high=1.0,
            log=True,
            source="OSRL takes 1e-4 beside 1e-3; FLRP's table 5 prints 1e-3 beside 1e-3",
        ),
        Hyperparameter(
            "ood_quantile", low=0.5, high=0.95, source="share of actions like the data's; OSRL .75"
        ),
        Hyperparameter("ood_margin", low=0.5, high=4.0, log=True, source="OSRL takes 1.5"),
        Hyperparameter("multiplier_rate", low=1e-5, high=1e-2, log=True, source="OSRL takes 1e-4"),
        Hyperparameter("kl_coefficient", low=0.05, high=5.0, log=True, source="OSRL takes 0.5"),
        Hyperparameter(
            "reward_scale", choices=(0.03, 0.1, 0.3, 1.0), source="OSRL takes 0.1 on every task"
        ),
    ],
    defaults={
        "learning_rate": 1e-3,
        "actor_rate_factor": 0.1,
        "ood_quantile": 0.75,
        "ood_margin": 1.5,
        "multiplier_rate": 1e-4,
        "kl_coefficient": 0.5,
        "reward_scale": 0.1,
    },
)
