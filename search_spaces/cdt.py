"""The space of CDT. OSRL gives one value of each but for what it sets by task; every range here is
ours and holds it."""

from safesweep.search_spaces.space import Hyperparameter, SearchSpace

CDT_SPACE = SearchSpace(
    "cdt",
    [
        Hyperparameter("learning_rate", low=3e-5, high=1e-3, log=True, source="OSRL has 1e-4"),
        Hyperparameter("hidden_dim", choices=(64, 128, 256), source="OSRL has 128"),
        Hyperparameter("context_length", choices=(5, 10, 20), source="L; OSRL has 10"),
        Hyperparameter(
            "cost_prediction_weight", low=0.002, high=0.2, log=True, source="OSRL has 0.02"
        ),
        Hyperparameter("initial_temperature", low=0.01, high=1.0, log=True, source="OSRL has 0.1"),
        Hyperparameter("reward_scale", choices=(0.03, 0.1, 0.3, 1.0), source="OSRL has 0.1"),
        Hyperparameter("augmented_share", choices=(0.0, 0.2, 0.5), source="OSRL has 0.2"),
        Hyperparameter("sampling_cost_bound", choices=(0.0, 70.0), source="OSRL has 70"),
    ],
    defaults={
        "learning_rate": 1e-4,
        "hidden_dim": 128,
        "context_length": 10,
        "cost_prediction_weight": 0.02,
        "initial_temperature": 0.1,
        "reward_scale": 0.1,
        "augmented_share": 0.2,
        "sampling_cost_bound": 70.0,
    },
)
