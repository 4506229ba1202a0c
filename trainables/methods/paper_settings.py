"""What each paper, or its authors' code, trains its method with: one table, by method and task.

`paper` holds what is printed and, of what a paper follows without printing it, what is known;
`public` what the authors' code has where it differs. What neither says is a method's default. Later
rows go before earlier ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from safesweep.search_spaces.validation import InvalidInput, require_choice
from safesweep.trainables.tasks.registry import get_task

SETTINGS = ("paper", "public")

_CAR = ("CarButton1", "CarButton2", "CarCircle1", "CarCircle2", "CarGoal1", "CarGoal2",
        "CarPush1", "CarPush2")  # fmt: skip
# Table 5: alpha, the quantile of V_c, and C, the penalty.
_R2PAC_TABLE_5 = {
    "AntRun": (0.7, 1.0), "BallRun": (0.5, 1.0), "CarRun": (0.95, 1.0), "DroneRun": (0.7, 1.0),
    "AntCircle": (0.7, 1.0), "BallCircle": (0.85, 1.0), "CarCircle": (0.9, 1.0),
    "DroneCircle": (0.7, 1.0), "CarPush1": (0.9, 10.0), "CarPush2": (0.9, 10.0),
    "CarGoal1": (0.9, 10.0), "CarGoal2": (0.9, 10.0), "CarButton1": (0.8, 10.0),
    "CarButton2": (0.5, 10.0), "AntVelocity": (0.95, 1.0), "HalfCheetahVelocity": (0.99, 1.0),
    "SwimmerVelocity": (0.7, 1.0),
}  # fmt: skip
# Hard-coded by environment in the public code of SafeFQL, and in its scripts for Bullet.
_SAFEFQL_WEIGHTS = {
    "HalfCheetahVelocity": 10.0, "Walker2dVelocity": 1000.0, "HopperVelocity": 2.0,
    "SwimmerVelocity": 0.1, "AntVelocity": 1e4, "CarCircle": 0.1, "AntRun": 0.5, "DroneRun": 0.1,
    "DroneCircle": 0.1, "CarRun": 100.0, "AntCircle": 1.0, "BallCircle": 1.0, "BallRun": 0.5,
}  # fmt: skip

# Set by task in OSRL's configuration: returns that are wanted at the three cost limits (CarCircle's
# third is 50), the degree of the front, where augmented returns end, and the largest decrease.
_CDT_BY_TASK = {
    "AntRun": (700.0, 750.0, 800.0, 3, 1000.0, 150.0),
    "DroneRun": (400.0, 500.0, 600.0, 1, 700.0, 100.0),
    "CarRun": (575.0, 575.0, 575.0, 0, 600.0, 100.0),
    "BallRun": (500.0, 500.0, 700.0, 2, 1400.0, 200.0),
    "AntCircle": (300.0, 350.0, 400.0, 2, 500.0, 100.0),
    "BallCircle": (700.0, 750.0, 800.0, 2, 1000.0, 200.0),
    "DroneCircle": (700.0, 750.0, 800.0, 1, 1000.0, 100.0),
    "CarCircle": (450.0, 500.0, 550.0, 4, 600.0, 100.0),
    "CarButton1": (35.0, 35.0, 35.0, 0, 45.0, 10.0),
    "CarButton2": (40.0, 40.0, 40.0, 0, 50.0, 10.0),
    "CarCircle1": (20.0, 22.5, 25.0, 1, 30.0, 10.0),
    "CarCircle2": (20.0, 21.0, 22.0, 1, 30.0, 10.0),
    "CarGoal1": (40.0, 40.0, 40.0, 1, 50.0, 5.0),
    "CarGoal2": (30.0, 30.0, 30.0, 1, 35.0, 5.0),
    "CarPush1": (15.0, 15.0, 15.0, 0, 20.0, 5.0),
    "CarPush2": (12.0, 12.0, 12.0, 0, 15.0, 3.0),
    "PointButton1": (40.0, 40.0, 40.0, 0, 45.0, 5.0),
    "PointButton2": (40.0, 40.0, 40.0, 0, 50.0, 10.0),
    "PointCircle1": (50.0, 52.5, 55.0, 1, 65.0, 5.0),
    "PointCircle2": (45.0, 47.5, 50.0, 1, 55.0, 5.0),
    "PointGoal1": (30.0, 30.0, 30.0, 0, 35.0, 5.0),
    "PointGoal2": (30.0, 30.0, 30.0, 1, 35.0, 5.0),
    "PointPush1": (15.0, 15.0, 15.0, 0, 20.0, 5.0),
    "PointPush2": (12.0, 12.0, 12.0, 0, 15.0, 3.0),
    "AntVelocity": (2800.0, 2800.0, 2800.0, 1, 3000.0, 500.0),
    "HalfCheetahVelocity": (3000.0, 3000.0, 3000.0, 1, 3000.0, 500.0),
    "HopperVelocity": (1750.0, 1750.0, 1750.0, 1, 2000.0, 300.0),
    "SwimmerVelocity": (160.0, 160.0, 160.0, 1, 250.0, 50.0),
    "Walker2dVelocity": (2800.0, 2800.0, 2800.0, 1, 3600.0, 800.0),
    "easysparse": (300.0, 350.0, 400.0, 2, 500.0, 100.0),
    "easymean": (300.0, 350.0, 400.0, 2, 500.0, 100.0),
    "easydense": (300.0, 350.0, 400.0, 2, 500.0, 100.0),
    "hardsparse": (300.0, 350.0, 400.0, 1, 500.0, 100.0),
    "hardmean": (300.0, 350.0, 400.0, 1, 500.0, 100.0),
    "harddense": (300.0, 350.0, 400.0, 1, 500.0, 100.0),
    "mediumsparse": (300.0, 300.0, 300.0, 0, 300.0, 100.0),
    "mediummean": (300.0, 300.0, 300.0, 0, 300.0, 100.0),
}
_CDT_FIELDS = (
    "target_return", "second_target_return", "third_target_return", "front_degree",
    "highest_augmented_return", "largest_return_decrease",
)  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """Values for some tasks, and where they are printed.

    Attributes:
        values: hyperparameters by their full names.
        source: of all of them.
        suites, tasks, prefixes: names of suites, and keys of tasks or what these begin with, that
            they hold for; all tasks where nothing is named.
        but: keys of tasks that they do not hold for.
    """

    values: Mapping[str, Any]
    source: str
    suites: Sequence[str] = ()
    tasks: Sequence[str] = ()
    prefixes: Sequence[str] = ()
    but: Sequence[str] = ()

    def hold_for(self, key: str, suite: str) -> bool:
        """Whether they hold for the task of this key and suite."""
        everywhere = not (self.suites or self.tasks or self.prefixes)
        named = suite in self.suites or key in self.tasks or key.startswith(tuple(self.prefixes))
        return key not in self.but and (everywhere or named)


@dataclass(frozen=True)
class Protocol:
    """How a paper trains and evaluates.

    Attributes:
        steps: gradient steps of a run.
        seeds: how many.
        episodes, episodes_by_suite: of an evaluation, and where a suite has another number.
        averaged: the last so many evaluations, 100,000 steps apart, of which the mean counts.
        source: where it is printed.
    """

    steps: int
    seeds: int
    episodes: int
    averaged: int = 1
    source: str = ""
    episodes_by_suite: Mapping[str, int] = field(default_factory=dict)


_LSPC = Rows(
    {
        "batch_size": 1024, "discount": 0.99, "target_update_rate": 0.005,
        "reward_inverse_temperature": 2.0, "cost_inverse_temperature": 2.0, "learning_rate": 3e-4,
        "expectile": 0.7, "weight_clip": 200.0, "kl_coefficient": 0.5, "latent_dim": 32,
        "safe_restriction": 0.25, "restriction": 0.25,
    },
    "table 2, A.3.1",
)  # fmt: skip
_LSPC_SIZE = Rows({"hidden_dim": 256}, "table 5 of FLRP")
_LSPC_MASK = Rows({"safety_mask": True, "cost_threshold": 0.02}, "A.3", suites=("metadrive",))
_SAFEFQL = (
    Rows(
        {
            "hidden_dim": 512, "hidden_layers": 4, "activation": "gelu", "critic_hidden_dim": 256,
            "critic_hidden_layers": 2, "critic_activation": "relu", "batch_size": 1024,
            "critic_batch_size": 256, "learning_rate": 3e-4, "discount": 0.99, "expectile": 0.9,
            "target_update_rate": 0.005, "flow_steps": 10, "violation_signal": 25.0,
            "safe_signal": -1.0, "distillation_weight": 0.0, "normalize_q": True,
            "normalize_safety": True, "critic_share": 1 / 3,
        },
        "public code; the text prints none",
    ),
    Rows(
        {"safety_signal": "exact", "safety_weight": 1e5}, "public code, the boat", suites=("boat",)
    ),
    *(
        Rows({"safety_weight": weight}, "public code, by environment", tasks=(key,))
        for key, weight in _SAFEFQL_WEIGHTS.items()
    ),
)  # fmt: skip

_FISOR = (
    Rows(
        {
            "hidden_dim": 256, "hidden_layers": 2, "batch_size": 1024, "critic_batch_size": 256,
            "learning_rate": 3e-4, "discount": 0.99, "reward_expectile": 0.9,
            "feasibility_expectile": 0.9, "target_update_rate": 0.005, "actor_update_rate": 0.001,
            "reward_inverse_temperature": 3.0, "safety_inverse_temperature": 5.0,
            "reward_weight_clip": 100.0, "safety_weight_clip": 150.0, "violation_signal": 25.0,
            "safe_signal": -1.0, "sampling_steps": 5, "candidates": 16, "actor_layers": 3,
            "actor_dropout": 0.1, "critic_share": 1 / 3,
        },
        "public code",
    ),
)  # fmt: skip
_CAPS = (
    Rows(
        {
            "hidden_dim": 512, "hidden_layers": 2, "batch_size": 512, "learning_rate": 3e-4,
            "discount": 0.99, "expectile": 0.7, "reward_inverse_temperature": 3.0,
            "cost_inverse_temperature": 3.0,
        },
        "table 14",
    ),
    Rows({"expectile": 0.5}, "table 14", suites=("metadrive",)),
    Rows({"heads": 2, "reward_scaling": "none", "reward_scale": 0.1}, "public code"),
)  # fmt: skip
_CDT = (
    Rows(
        {
            "hidden_dim": 128, "hidden_layers": 3, "attention_heads": 8, "context_length": 10,
            "batch_size": 2048, "learning_rate": 1e-4, "weight_decay": 1e-4,
            "gradient_norm": 0.25, "warmup_steps": 500.0, "cost_prediction_weight": 0.02,
            "initial_temperature": 0.1, "augmented_share": 0.2, "augmented_gain": 1.0,
            "reward_scaling": "none", "reward_scale": 0.1, "sampling_cost_bound": 70.0,
        },
        "OSRL",
    ),
    *(
        Rows(
            {"targets": "given", **dict(zip(_CDT_FIELDS, values, strict=True))},
            "OSRL, by task", tasks=(key,),
        )
        for key, values in _CDT_BY_TASK.items()
    ),
)  # fmt: skip
_OSRL = {
    "hidden_dim": 256, "hidden_layers": 2, "batch_size": 512, "discount": 0.99,
    "reward_scaling": "none", "reward_scale": 0.1, "done_signal": "terminals_and_timeouts",
}  # fmt: skip
_OSRL_CRITICS = {
    **_OSRL, "learning_rate": 1e-3, "target_update_rate": 0.005, "vae_hidden_dim": 400,
    "kl_coefficient": 0.5, "candidates": 10,
}  # fmt: skip
_OSRL_LAGRANGIAN = {
    **_OSRL_CRITICS, "group_size": 2, "pessimism": 0.75, "proportional_gain": 0.1,
    "integral_gain": 0.003, "derivative_gain": 0.001,
}  # fmt: skip
_CPQ = (
    Rows(
        {
            **_OSRL_CRITICS, "actor_rate_factor": 0.1, "ood_quantile": 0.75, "ood_margin": 1.5,
            "multiplier_rate": 1e-4,
        },
        "OSRL",
    ),
)  # fmt: skip
_BCQL = (Rows({**_OSRL_LAGRANGIAN, "perturbation": 0.05}, "OSRL"),)
_BEARL = (
    Rows(
        {
            **_OSRL_LAGRANGIAN, "discrepancy_samples": 10, "kernel": "gaussian",
            "bandwidth": 50.0, "discrepancy_threshold": 0.05, "multiplier_rate": 1e-3,
            "imitation_steps": 0.0,
        },
        "OSRL",
    ),
)  # fmt: skip
_COPTIDICE = (
    Rows(
        {
            **_OSRL, "learning_rate": 1e-4, "divergence_weight": 0.5, "bound_radius": 0.01,
            "imitation_noise": 0.1,
        },
        "OSRL",
    ),
)  # fmt: skip
_OSRL_DEFECTS = "OSRL, as published"
_FQL_COMPARISON = (
    Rows(
        {
            "hidden_dim": 512, "hidden_layers": 4, "activation": "gelu",
            "layer_norm": "after_activation", "batch_size": 256, "learning_rate": 3e-4,
            "target_update_rate": 0.005, "discount": 0.99,
        },
        "public code of FQL",
    ),
    Rows(
        {"discount": 0.995}, "public code of FQL, by environment",
        prefixes=("antmaze-giant", "humanoid", "antsoccer"),
    ),
)  # fmt: skip
_FQL = (
    *_FQL_COMPARISON,
    Rows({"behavior_weight": 10.0, "flow_steps": 10, "critic_aggregation": "mean"}, "public code"),
    *(
        Rows({"behavior_weight": weight}, "public code, by environment", prefixes=prefixes)
        for weight, prefixes in (
            (30.0, ("humanoid",)), (300.0, ("cube", "scene")), (1000.0, ("puzzle",)),
        )
    ),
    Rows({"critic_aggregation": "minimum"}, "public code, by environment", prefixes=("antmaze",)),
)  # fmt: skip

PAPER: Mapping[str, Sequence[Rows]] = {
    "flrp": (
        Rows(
            {
                "batch_size": 512, "discount": 0.99, "hidden_dim": 256,
                "target_update_rate": 0.001, "learning_rate": 3e-4,
            },
            "table 5",
        ),
        Rows(
            {
                "reward_expectile": 0.9, "feasibility_expectile": 0.9, "q_temperature": 3.0,
                "v_temperature": 5.0, "reward_weight_clip": 100.0, "safety_weight_clip": 150.0,
                "refinement_steps": 3, "reward_weight": 1.0, "safety_weight": 1.0,
                "shared_weight": 0.5,
            },
            "table 6",
        ),
    ),
    "lspc": (
        _LSPC,
        _LSPC_SIZE,
        Rows({"restriction": 0.6}, "A.3.1: LSPC-O on Bullet", suites=("bullet",), but=("AntRun",)),
        _LSPC_MASK,
    ),
    "r2pac": (
        Rows(
            {
                "learning_rate": 3e-4, "batch_size": 1024, "hidden_dim": 512, "hidden_layers": 4,
                "activation": "gelu", "flow_steps": 32, "guidance_scale": 2.0, "candidates": 16,
                "chunk_length": 5, "expectile": 0.9, "discount": 0.99, "target_update_rate": 0.005,
                "reward_scaling": "none", "reward_scale": 1.0, "unconditional_share": 0.1,
                "reward_temperature": 6.0, "cost_temperature": 6.0,
            },
            "table 4, algorithm 1, E.2",
        ),
        Rows({"reward_scale": 200.0}, "table 4: the Car tasks of Safety-Gymnasium", tasks=_CAR),
        Rows({"chunk_length": 1}, "table 4", tasks=("HalfCheetahVelocity",)),
        *(
            Rows({"quantile": alpha, "penalty": penalty}, "table 5", tasks=(key,))
            for key, (alpha, penalty) in _R2PAC_TABLE_5.items()
        ),
    ),
    "flp": (
        Rows({"candidates": 4, "kl_coefficient": 1.0}, "experimental setup, main results"),
        Rows(
            {
                "hidden_dim": 512, "hidden_layers": 4, "activation": "gelu",
                "layer_norm": "after_activation", "batch_size": 256, "learning_rate": 3e-4,
                "target_update_rate": 0.005, "discount": 0.99, "flow_steps": 10,
                "critic_aggregation": "mean",
            },
            "FQL's, whose evaluation it follows",
        ),
        Rows(
            {"discount": 0.995}, "FQL's, by environment",
            prefixes=("antmaze-giant", "humanoid", "antsoccer"),
        ),
        Rows({"critic_aggregation": "minimum"}, "FQL's code", prefixes=("antmaze",)),
    ),
    "safefql": _SAFEFQL,
    "bc": (Rows({"batch_size": 512, "learning_rate": 1e-3, "hidden_dim": 256}, "OSRL"),),
    "fisor": _FISOR,
    "caps": _CAPS,
    "cdt": _CDT,
    "cpq": _CPQ,
    "bcql": _BCQL,
    "bearl": _BEARL,
    "coptidice": _COPTIDICE,
    "fql": _FQL,
    "ifql": (
        *_FQL_COMPARISON,
        Rows({"expectile": 0.9, "candidates": 32, "flow_steps": 10}, "public code of FQL"),
    ),
    "iql": (
        *_FQL_COMPARISON, Rows({"expectile": 0.9, "extraction_weight": 10.0}, "public code of FQL"),
    ),
    "rebrac": (
        *_FQL_COMPARISON,
        Rows(
            {"actor_weight": 0.01, "critic_weight": 0.01}, "public code of FQL, HumanoidMaze",
            prefixes=("humanoid",),
        ),
    ),
}  # fmt: skip

PUBLIC: Mapping[str, Sequence[Rows]] = {
    **PAPER,
    "lspc": (
        _LSPC,
        _LSPC_SIZE,
        Rows(
            {
                "clamp_costs": True, "clamp_in_regression": True, "kl_reduction": "mean",
                "prior_restriction": "clamp", "reward_scaling": "none",
                "done_signal": "terminals_and_timeouts",
            },
            "public code",
        ),
        Rows(
            {"restriction": 0.6, "safe_restriction": 0.6}, "public code",
            suites=("bullet",), but=("AntRun",),
        ),
        _LSPC_MASK,
    ),
    "safefql": (
        *_SAFEFQL,
        Rows(
            # With one episode to calibrate on nothing is promised, and the threshold stays 0.
            {"done_signal": "terminals_and_timeouts", "calibration_episodes": 1},
            "public code, which has no calibration",
        ),
    ),
    "fisor": (*_FISOR, Rows({"done_signal": "terminals_and_timeouts"}, "public code")),
    "caps": (*_CAPS, Rows({"deviations": "published"}, "public code")),
    "cdt": (*_CDT, Rows({"entropy_target": "published"}, "public code")),
    "cpq": (*_CPQ, Rows({"ood": "published", "cost_bootstrap": "published"}, _OSRL_DEFECTS)),
    **{
        name: (
            *rows, Rows({"cost_aggregation": "min", "cost_bootstrap": "published"}, _OSRL_DEFECTS)
        )
        for name, rows in (("bcql", _BCQL), ("bearl", _BEARL))
    },
    "coptidice": (
        *_COPTIDICE,
        Rows(
            {"cost_scale_of_limit": "published", "policy_density": "published"}, _OSRL_DEFECTS
        ),
    ),
    "rebrac": (*PAPER["rebrac"], Rows({"next_actions": "published"}, "public code of FQL")),
}  # fmt: skip
_TABLES = {"paper": PAPER, "public": PUBLIC}

PROTOCOLS: Mapping[str, Protocol] = {
    "flrp": Protocol(1_000_000, 3, 10, source="table 5, D.5"),
    "lspc": Protocol(1_000_000, 3, 20, source="A.3.4, section 5, figure 12"),
    "r2pac": Protocol(600_000, 3, 20, source="tables 1 and 4; table 3 says 1,000,000 steps"),
    "flp": Protocol(1_000_000, 8, 50, 3, "evaluation protocol, table 1"),
    # 100,001 steps of all networks: critics and teacher, then two halves of the actor's batch. The
    # boat's 1,000,000 transitions of a mix are 280,000 collected ones here.
    "safefql": Protocol(
        300_003, 5, 20, source="public code: the boat's", episodes_by_suite={"boat": 500}
    ),
    "bc": Protocol(1_000_000, 3, 20, source="as the methods that it is a baseline of"),
    # 1,000,000 steps of the critics, and of the actor two in each.
    "fisor": Protocol(3_000_000, 3, 20, source="public code"),
    # On MetaDrive both take twice as many.
    "caps": Protocol(100_000, 3, 20, source="table 14"),
    # On MetaDrive OSRL's take twice as many as well.
    **dict.fromkeys(("cdt", "cpq", "bcql", "coptidice"), Protocol(100_000, 3, 20, source="OSRL")),
    "bearl": Protocol(300_000, 3, 20, source="OSRL"),
    **dict.fromkeys(
        ("fql", "ifql", "iql", "rebrac"), Protocol(1_000_000, 8, 50, 3, "public code of FQL")
    ),
}
"""By method; `PROTOCOLS[paper]` is that of the method which the paper is about."""


@dataclass(frozen=True)
class PrintedSettings:
    """What a method is trained with on a task, and where each value is printed."""

    values: Mapping[str, Any]
    sources: Mapping[str, str] = field(default_factory=dict)


def printed_settings(algorithm: str, task: str, settings: str = "paper") -> PrintedSettings:
    """The hyperparameters of a method on a task (its id or key).

    Raises:
        InvalidInput: no such settings or task, or a method of which nothing is known.
    """
    require_choice("settings", settings, SETTINGS)
    table = _TABLES[settings]
    if algorithm not in table:
        raise InvalidInput(
            f"settings: {settings!r} holds nothing for {algorithm}; it does for {', '.join(table)}"
        )
    found = get_task(task)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for rows in table[algorithm]:
        if rows.hold_for(found.key, found.suite):
            values |= rows.values
            sources |= dict.fromkeys(rows.values, rows.source)
    return PrintedSettings(values, sources)
