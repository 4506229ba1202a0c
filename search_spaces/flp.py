"""The space of FLP. The paper prints alpha and N and varies both (figures 4 and 5); the other
ranges are ours, around FQL's values."""

from safesweep.search_spaces.space import Hyperparameter, SearchSpace

FLP_SPACE = SearchSpace(
    "flp",
    [
        Hyperparameter(
            "kl_coefficient",
            low=0.1,
            high=10.0,
            log=True,
            source="alpha, eq. 4; prints 1, figure 4 names 0.1 and 0.3",
        ),
        Hyperparameter(
            "candidates", choices=(1, 2, 4, 8, 16), source="N; prints 4, figure 5 varies it"
        ),
        Hyperparameter("learning_rate", low=1e-4, high=1e-3, log=True, source="FQL has 3e-4"),
        Hyperparameter("target_update_rate", low=5e-4, high=1e-2, log=True, source="FQL has 0.005"),
        Hyperparameter("flow_steps", choices=(5, 10, 20), source="FQL has 10"),
        Hyperparameter("critic_aggregation", choices=("mean", "minimum"), source="FQL has both"),
        Hyperparameter("latent_bound", low=2.0, high=6.0, source="ours"),
        Hyperparameter("safety", choices=("off", "lagrangian"), source="ours"),
        Hyperparameter(
            "multiplier_speed",
            low=1.0,
            high=100.0,
            log=True,
            when=("safety", ("lagrangian",)),
            source="ours",
        ),
    ],
    defaults={
        "kl_coefficient": 1.0,
        "candidates": 4,
        "learning_rate": 3e-4,
        "target_update_rate": 0.005,
        "flow_steps": 10,
        "critic_aggregation": "mean",
        "latent_bound": 5.0,
        "safety": "off",
    },
)
