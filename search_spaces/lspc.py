"""The space of LSPC. The ranges are ours and hold the values of table 2, of A.3.1 and of the
ablations in figures 4 and 6 to 8.

The box of LSPC-S is left out: it changes nothing of LSPC-O, the policy that a search judges. Figure
5's role and the variants of the public code are choices to make, not to search.
"""

from safesweep.search_spaces.space import Hyperparameter, SearchSpace

LSPC_SPACE = SearchSpace(
    "lspc",
    [
        Hyperparameter(
            "restriction",
            low=0.05,
            high=1.0,
            log=True,
            source="epsilon, section 3.2; A.3.1 prints 0.25 and 0.6, figure 4 varies it",
        ),
        Hyperparameter(
            "cost_inverse_temperature",
            low=0.5,
            high=8.0,
            log=True,
            source="lambda, eq. 43; table 2 prints 2, figure 6 varies it from 1 to 4",
        ),
        Hyperparameter(
            "reward_inverse_temperature",
            low=0.5,
            high=8.0,
            log=True,
            source="zeta, eq. 44; table 2 prints 2",
        ),
        Hyperparameter(
            "expectile",
            low=0.5,
            high=0.9,
            source="xi, eq. 39 and 41; table 2 prints 0.7, figure 8 compares it with 0.5",
        ),
        Hyperparameter("kl_coefficient", low=0.05, high=5.0, log=True, source="A.3.1 prints 0.5"),
        Hyperparameter("latent_dim", choices=(8, 16, 32), source="A.3.1 prints 32"),
        Hyperparameter(
            "learning_rate", low=1e-4, high=1e-3, log=True, source="table 2 prints 3e-4"
        ),
        Hyperparameter(
            "target_update_rate", low=1e-3, high=2e-2, log=True, source="table 2 prints 0.005"
        ),
        Hyperparameter(
            "safety_mask", choices=(False, True), source="A.3 switches it on in MetaDrive"
        ),
        Hyperparameter(
            "cost_threshold",
            low=0.005,
            high=5.0,
            log=True,
            when=("safety_mask", (True,)),
            source="w_c, eq. 43; A.3 prints 0.02",
        ),
    ],
    defaults={
        "restriction": 0.25,
        "cost_inverse_temperature": 2.0,
        "reward_inverse_temperature": 2.0,
        "expectile": 0.7,
        "kl_coefficient": 0.5,
        "latent_dim": 32,
        "learning_rate": 3e-4,
        "target_update_rate": 0.005,
        "safety_mask": False,
    },
)
