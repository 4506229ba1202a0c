"""The space of FLRP. The paper prints one value of each hyperparameter (tables 5 and 6) and the
five tau_h of table 8; every range here is ours and holds the printed values."""

from safesweep.search_spaces.space import Hyperparameter, SearchSpace

_REFINED = ("refinement_steps", (1, 2, 3, 4, 6, 8))

FLRP_SPACE = SearchSpace(
    "flrp",
    [
        Hyperparameter(
            "feasibility_expectile", low=0.6, high=0.95, source="tau_h, eq. 8; range of table 8"
        ),
        Hyperparameter("reward_expectile", low=0.6, high=0.95, source="tau_r, eq. 21"),
        Hyperparameter(
            "learning_rate", low=1e-4, high=1e-3, log=True, source="table 5 prints 3e-4"
        ),
        Hyperparameter(
            "target_update_rate", low=5e-4, high=1e-2, log=True, source="table 5 prints 0.001"
        ),
        Hyperparameter(
            "q_temperature", low=0.3, high=30.0, log=True, source="T_q, eq. 11; table 6 prints 3"
        ),
        Hyperparameter(
            "v_temperature", low=0.5, high=50.0, log=True, source="T_v, eq. 11; table 6 prints 5"
        ),
        Hyperparameter(
            "kl_coefficient", low=0.01, high=1.0, log=True, source="beta, eq. 11; not printed"
        ),
        Hyperparameter(
            "shaping_weight", low=5e-4, high=1.0, log=True, source="eq. 13, which has 1"
        ),
        Hyperparameter(
            "reward_temperature",
            low=0.05,
            high=2.0,
            log=True,
            source="beta_r, eq. 12 and 15; not printed",
        ),
        Hyperparameter(
            "entropy_weight",
            low=0.01,
            high=1.0,
            log=True,
            source="lambda_H, eq. 13; not printed",
        ),
        Hyperparameter("entropy_floor", low=-1.5, high=1.0, source="H_0, eq. 13; not printed"),
        Hyperparameter("latent_dim", choices=(4, 8, 16), source="not printed"),
        Hyperparameter("coupling_layers", choices=(2, 4, 6), source="not printed"),
        Hyperparameter(
            "refinement_steps",
            choices=(0, *_REFINED[1]),
            source="T, section 3.3; table 6 prints 3, figure 4 varies it",
        ),
        Hyperparameter(
            "reward_weight",
            low=0.1,
            high=10.0,
            log=True,
            when=_REFINED,
            source="lambda_r, eq. 17; table 6 prints 1, figure 7 varies it",
        ),
        Hyperparameter(
            "safety_weight",
            low=0.1,
            high=10.0,
            log=True,
            when=_REFINED,
            source="lambda_h, eq. 17; table 6 prints 1, figure 7 varies it",
        ),
        Hyperparameter(
            "shared_weight",
            low=0.05,
            high=5.0,
            log=True,
            when=_REFINED,
            source="lambda_sh, eq. 17; table 6 prints 0.5, figure 7 varies it",
        ),
        Hyperparameter(
            "safety_temperature",
            low=0.02,
            high=2.0,
            log=True,
            when=_REFINED,
            source="beta_h, eq. 14; not printed",
        ),
    ],
    defaults={
        "feasibility_expectile": 0.9,
        "reward_expectile": 0.9,
        "learning_rate": 3e-4,
        "target_update_rate": 0.001,
        "q_temperature": 3.0,
        "v_temperature": 5.0,
        "kl_coefficient": 0.1,
        "shaping_weight": 0.005,
        "reward_temperature": 1 / 3,
        "entropy_weight": 0.1,
        "entropy_floor": 0.0,
        "latent_dim": 8,
        "coupling_layers": 4,
        "refinement_steps": 3,
        "reward_weight": 1.0,
        "safety_weight": 1.0,
        "shared_weight": 0.5,
        "safety_temperature": 1 / 5,
    },
)
