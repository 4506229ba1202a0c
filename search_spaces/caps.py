"""The space of CAPS. Its authors give one value of each; every range here is ours and holds it."""

from safesweep.search_spaces.space import Hyperparameter, SearchSpace

CAPS_SPACE = SearchSpace(
    "caps",
    [
        Hyperparameter("learning_rate", low=1e-4, high=1e-3, log=True, source="CAPS has 3e-4"),
        Hyperparameter("expectile", low=0.5, high=0.9, source="tau; CAPS has 0.7, MetaDrive 0.5"),
        Hyperparameter(
            "reward_inverse_temperature", low=0.5, high=10.0, log=True, source="CAPS has 3"
        ),
        Hyperparameter(
            "cost_inverse_temperature", low=0.5, high=10.0, log=True, source="CAPS has 3"
        ),
        Hyperparameter("reward_scale", choices=(0.03, 0.1, 0.3, 1.0), source="CAPS has 0.1"),
        Hyperparameter("heads", choices=(2, 4, 8), source="K; the paper's tables"),
    ],
    defaults={
        "learning_rate": 3e-4,
        "expectile": 0.7,
        "reward_inverse_temperature": 3.0,
        "cost_inverse_temperature": 3.0,
        "reward_scale": 0.1,
        "heads": 2,
    },
)
