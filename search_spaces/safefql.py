"""The space of SafeFQL. The text at hand prints no value: every range here is ours and holds the
values of the authors' public code and of FQL where these have any."""

from safesweep.search_spaces.space import Hyperparameter, SearchSpace

SAFEFQL_SPACE = SearchSpace(
    "safefql",
    [
        Hyperparameter(
            "expectile", low=0.6, high=0.95, source="tau, eq. 6 and 11; public code has 0.9"
        ),
        Hyperparameter("learning_rate", low=1e-4, high=1e-3, log=True, source="FQL has 3e-4"),
        Hyperparameter(
            "target_update_rate", low=5e-4, high=1e-2, log=True, source="public code has 0.005"
        ),
        Hyperparameter(
            "distillation_weight",
            low=0.03,
            high=10.0,
            log=True,
            source="alpha; the values FQL's authors advise with a normalized Q",
        ),
        Hyperparameter(
            "safety_weight",
            low=0.1,
            high=100.0,
            log=True,
            source="public code has 0.1 to 10,000, by task",
        ),
        Hyperparameter("normalize_q", choices=(True, False), source="FQL; public code has both"),
        Hyperparameter(
            "conformal_level", low=0.02, high=0.3, log=True, source="section 3; not printed"
        ),
        Hyperparameter("calibration_window", choices=(5, 10, 25, 50, 100), source="ours"),
        Hyperparameter("flow_steps", choices=(5, 10, 20), source="FQL has 10"),
        Hyperparameter(
            "safety_backup",
            choices=("reachability", "discounted_maximum"),
            source="section 3.1, two readings",
        ),
    ],
    defaults={
        "expectile": 0.9,
        "learning_rate": 3e-4,
        "target_update_rate": 0.005,
        "distillation_weight": 1.0,
        "safety_weight": 1.0,
        "normalize_q": True,
        "conformal_level": 0.1,
        "calibration_window": 50,
        "flow_steps": 10,
        "safety_backup": "reachability",
    },
)
