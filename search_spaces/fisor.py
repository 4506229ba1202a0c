"""The space of FISOR. Its authors give one value of each for all tasks; every range here is ours
and holds it. SafeIFQL and IDQL are other methods, and their options are not searched."""

from safesweep.search_spaces.space import Hyperparameter, SearchSpace

FISOR_SPACE = SearchSpace(
    "fisor",
    [
        Hyperparameter("learning_rate", low=1e-4, high=1e-3, log=True, source="FISOR has 3e-4"),
        Hyperparameter("feasibility_expectile", low=0.6, high=0.95, source="tau; FISOR has 0.9"),
        Hyperparameter("reward_expectile", low=0.6, high=0.95, source="FISOR has 0.9"),
        Hyperparameter(
            "reward_inverse_temperature", low=0.5, high=10.0, log=True, source="FISOR has 3"
        ),
        Hyperparameter(
            "safety_inverse_temperature", low=0.5, high=10.0, log=True, source="FISOR has 5"
        ),
        Hyperparameter("violation_signal", low=1.0, high=50.0, log=True, source="FISOR has 25"),
        Hyperparameter("candidates", choices=(4, 16, 64), source="N; FISOR has 16"),
    ],
    defaults={
        "learning_rate": 3e-4,
        "feasibility_expectile": 0.9,
        "reward_expectile": 0.9,
        "reward_inverse_temperature": 3.0,
        "safety_inverse_temperature": 5.0,
        "violation_signal": 25.0,
        "candidates": 16,
    },
)
