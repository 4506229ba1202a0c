"""The space of R2PAC. Ranges hold the values of tables 4, 5 and 7 and of figures 4 and 5; where the
paper prints one value, the range is ours."""

from safesweep.search_spaces.space import Hyperparameter, SearchSpace

_AWR = ("actor", ("awr_gaussian", "awr_flow"))

R2PAC_SPACE = SearchSpace(
    "r2pac",
    [
        Hyperparameter(
            "chunk_length",
            choices=(1, 3, 5, 7, 10, 15),
            source="h, eq. 14; table 4 prints 1 and 5, figure 5 varies it",
        ),
        Hyperparameter("expectile", low=0.6, high=0.99, source="tau, eq. 16; table 4 prints 0.9"),
        Hyperparameter(
            "learning_rate", low=1e-4, high=1e-3, log=True, source="table 4 prints 3e-4"
        ),
        Hyperparameter(
            "target_update_rate", low=1e-3, high=2e-2, log=True, source="table 4 prints 0.005"
        ),
        Hyperparameter(
            "safety_metric", choices=("cost", "feasibility"), source="appendix E.6, figure 10"
        ),
        Hyperparameter(
            "threshold",
            choices=("quantile", "cost_limit"),
            when=("safety_metric", ("cost",)),
            source="section 4.3 and eq. 42",
        ),
        Hyperparameter(
            "quantile",
            low=0.5,
            high=0.99,
            when=("threshold", ("quantile",)),
            source="alpha, section 4.3; range of table 5",
        ),
        Hyperparameter(
            "penalty",
            low=1.0,
            high=15.0,
            log=True,
            source="C, eq. 7; range of table 7",
        ),
        Hyperparameter(
            "actor",
            choices=("cfg", "awr_gaussian", "awr_flow"),
            source="section 4.3, table 2, figure 9",
        ),
        Hyperparameter(
            "guidance_scale",
            low=1.0,
            high=4.0,
            when=("actor", ("cfg",)),
            source="omega, eq. 21; table 4 prints 2",
        ),
        Hyperparameter(
            "reward_temperature",
            low=0.5,
            high=20.0,
            log=True,
            when=_AWR,
            source="alpha of eq. 40; appendix E.2 prints 6",
        ),
        Hyperparameter(
            "cost_temperature",
            low=0.5,
            high=20.0,
            log=True,
            when=_AWR,
            source="beta of eq. 40; appendix E.2 prints 6",
        ),
        Hyperparameter(
            "flow_steps",
            choices=(8, 16, 32),
            when=("actor", ("cfg", "awr_flow")),
            source="table 4 prints 32, table 6 also 8",
        ),
        Hyperparameter(
            "candidates", choices=(1, 4, 16), source="table 4 prints 16, table 6 also 1"
        ),
    ],
    defaults={
        "chunk_length": 5,
        "expectile": 0.9,
        "learning_rate": 3e-4,
        "target_update_rate": 0.005,
        "safety_metric": "cost",
        "threshold": "quantile",
        "quantile": 0.9,
        "penalty": 1.0,
        "actor": "cfg",
        "guidance_scale": 2.0,
        "flow_steps": 32,
        "candidates": 16,
    },
)
