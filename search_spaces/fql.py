"""The spaces of FQL and of the methods that it is compared with. Their authors tune one or two
numbers by task and keep the rest; every range here is ours and holds their values."""

from safesweep.search_spaces.space import Hyperparameter, SearchSpace

_LEARNING_RATE = Hyperparameter(
    "learning_rate", low=1e-4, high=1e-3, log=True, source="FQL's code has 3e-4"
)
FQL_SPACE = SearchSpace(
    "fql",
    [
        _LEARNING_RATE,
        Hyperparameter(
            "behavior_weight", low=1.0, high=1000.0, log=True, source="alpha; FQL has 10 to 1000"
        ),
        Hyperparameter(
            "critic_aggregation", choices=("mean", "minimum"), source="FQL has both, by task"
        ),
        Hyperparameter("normalize_q", choices=(False, True), source="FQL's code has both"),
    ],
    defaults={
        "learning_rate": 3e-4,
        "behavior_weight": 10.0,
        "critic_aggregation": "mean",
        "normalize_q": False,
    },
)
IFQL_SPACE = SearchSpace(
    "ifql",
    [
        _LEARNING_RATE,
        Hyperparameter("expectile", low=0.6, high=0.95, source="tau; FQL's code has 0.9"),
        Hyperparameter("candidates", choices=(8, 16, 32, 64), source="N; FQL's code has 32"),
    ],
    defaults={"learning_rate": 3e-4, "expectile": 0.9, "candidates": 32},
)
IQL_SPACE = SearchSpace(
    "iql",
    [
        _LEARNING_RATE,
        Hyperparameter("expectile", low=0.6, high=0.95, source="tau; FQL's code has 0.9"),
        Hyperparameter("extraction", choices=("awr", "ddpg_bc"), source="FQL's code has both"),
        Hyperparameter(
            "extraction_weight", low=0.3, high=30.0, log=True, source="alpha; FQL's code has 10"
        ),
    ],
    defaults={
        "learning_rate": 3e-4,
        "expectile": 0.9,
        "extraction": "awr",
        "extraction_weight": 10.0,
    },
)
REBRAC_SPACE = SearchSpace(
    "rebrac",
    [
        _LEARNING_RATE,
        Hyperparameter(
            "actor_weight", low=1e-3, high=1.0, log=True, source="alpha_a; FQL has 0.01 by task"
        ),
        Hyperparameter(
            "critic_weight", low=1e-3, high=1.0, log=True, source="alpha_c; FQL has 0.01 by task"
        ),
    ],
    defaults={"learning_rate": 3e-4, "actor_weight": 0.01, "critic_weight": 0.01},
)
