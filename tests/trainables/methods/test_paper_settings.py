"""Every row of `analysis/published/hyperparameters.csv` of a method that is ours: applied by the
settings `paper`, or a deviation with its reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas
import pytest

from safesweep.analysis.ablations.engine.budgets import cost_limits
from safesweep.analysis.published import load_hyperparameters
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.methods.paper_settings import (
    PAPER,
    PROTOCOLS,
    PUBLIC,
    SETTINGS,
    Rows,
    printed_settings,
)
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.registry import TASKS, get_task

OURS = {"FLRP": "flrp", "LSPC": "lspc", "LSPC-O": "lspc", "LSPC-S": "lspc", "R2PAC": "r2pac",
        "FLP": "flp"}  # fmt: skip
# What the printed names of groups of tasks stand for; a task's own id stands for itself.
GROUPS: dict[str, tuple[str, ...]] = {
    "": ("CarRun", "CarGoal1", "AntVelocity"),
    "all": ("CarRun", "CarGoal1", "mediummean"),
    "default": ("CarGoal1", "AntRun"),
    "all others": ("CarRun", "AntVelocity", "PointGoal1"),
    "AWR actor ablation": ("CarRun",),
    "most tasks": ("cube-single", "antmaze-large"),
    "Safety-Gymnasium Car series": ("CarGoal1", "CarPush2", "CarButton1", "CarCircle1"),
    "BulletSafety environments except AntRun": ("CarRun", "BallCircle", "AntCircle"),
    "metadrive": ("mediummean", "hardsparse"),
}


def first_number(text: str) -> float:
    """200.0 of '200.0', 100 of '(-inf, 100]', 6 of '6.0,6.0'."""
    parts = text.replace("(", " ").replace("]", " ").replace("[", " ").replace(",", " ").split()
    return next(float(part) for part in parts if part.replace(".", "", 1).isdigit())


def first_word(text: str) -> str:
    return text.split()[0].lower()


@dataclass(frozen=True)
class Applied:
    """A printed parameter that is a hyperparameter here: the field, and how its value is read."""

    field: str
    read: Callable[[str], Any] = first_number


@dataclass(frozen=True)
class Protocols:
    """A printed parameter that the protocol holds, under this name."""

    field: str


APPLIED: dict[tuple[str, str], Sequence[Applied | Protocols]] = {
    ("flrp", "Training steps"): [Protocols("steps")],
    ("flrp", "Batch size"): [Applied("batch_size")],
    ("flrp", "Discount factor"): [Applied("discount")],
    ("flrp", "Hidden layer size"): [Applied("hidden_dim")],
    ("flrp", "Soft update rate tau"): [Applied("target_update_rate")],
    ("flrp", "Actor learning rate"): [Applied("learning_rate")],
    ("flrp", "Critic learning rate"): [Applied("learning_rate")],
    ("flrp", "Expectile tau"): [Applied("reward_expectile")],
    ("flrp", "Asymmetric L2 loss coeff"): [Applied("feasibility_expectile")],
    ("flrp", "Target temperature"): [Applied("q_temperature")],
    ("flrp", "Value temperature"): [Applied("v_temperature")],
    ("flrp", "Advantage weight clip (reward)"): [Applied("reward_weight_clip")],
    ("flrp", "Advantage weight clip (cost)"): [Applied("safety_weight_clip")],
    ("flrp", "Refine steps T"): [Applied("refinement_steps")],
    ("flrp", "Refiner loss weight lambda_r"): [Applied("reward_weight")],
    ("flrp", "Refiner loss weight lambda_h"): [Applied("safety_weight")],
    ("flrp", "Refiner loss weight lambda_sh"): [Applied("shared_weight")],
    ("flrp", "random seeds"): [Protocols("seeds")],
    ("flrp", "evaluation episodes per seed"): [Protocols("episodes")],
    ("lspc", "Batch size ( B )"): [Applied("batch_size")],
    ("lspc", r"Discount factor ( \gamma )"): [Applied("discount")],
    ("lspc", "Soft update rate for Q-networks ( T )"): [Applied("target_update_rate")],
    ("lspc", "Inverse temperature for reward"): [Applied("reward_inverse_temperature")],
    ("lspc", "Inverse temperature for cost"): [Applied("cost_inverse_temperature")],
    ("lspc", "Learning rates for all parameters"): [Applied("learning_rate")],
    ("lspc", r"Asymmetric L2 loss coefficient ( \xi )"): [Applied("expectile")],
    ("lspc", "Max exp advantage weight (both cost and reward)"): [Applied("weight_clip")],
    ("lspc", "KL divergence coefficient (VAE loss)"): [Applied("kl_coefficient")],
    ("lspc", "latent safety space dimension"): [Applied("latent_dim")],
    ("lspc", "cost threshold above which w_c(s,a)=0"): [Applied("cost_threshold")],
    ("lspc", "random seeds"): [Protocols("seeds")],
    ("lspc", "episodes (transfer experiment)"): [Protocols("episodes")],
    ("lspc", "gradient steps"): [Protocols("steps")],
    ("r2pac", "Learning rate"): [Applied("learning_rate")],
    ("r2pac", "Gradient steps"): [Protocols("steps")],
    ("r2pac", "Minibatch size"): [Applied("batch_size")],
    ("r2pac", "MLP dimensions"): [
        Applied("hidden_dim"), Applied("hidden_layers", lambda text: text.count("512")),
    ],
    ("r2pac", "Nonlinearity"): [Applied("activation", first_word)],
    ("r2pac", "Flow steps"): [Applied("flow_steps")],
    ("r2pac", "CFG scale w"): [Applied("guidance_scale")],
    ("r2pac", "Generated candidate numbers"): [Applied("candidates")],
    ("r2pac", "Chunk length h"): [Applied("chunk_length")],
    ("r2pac", "Expectile τ"): [Applied("expectile")],
    ("r2pac", "Discount factor \N{GREEK SMALL LETTER GAMMA}"): [Applied("discount")],
    ("r2pac", "Target critic soft update"): [Applied("target_update_rate")],
    ("r2pac", "Reward scale"): [
        Applied("reward_scale"), Applied("reward_scaling", lambda _: "none"),
    ],
    ("r2pac", "alpha (V_c quantile for threshold l)"): [Applied("quantile")],
    ("r2pac", "C_bar (penalty coefficient)"): [Applied("penalty")],
    ("r2pac", "random seeds"): [Protocols("seeds")],
    ("r2pac", "evaluation episodes"): [Protocols("episodes")],
    ("r2pac", "CFG null-condition (o=empty) probability"): [Applied("unconditional_share")],
    ("r2pac", "AWR actor temperatures alpha,beta"): [
        Applied("reward_temperature"), Applied("cost_temperature"),
    ],
    ("flp", "best-of-N samples N"): [Applied("candidates")],
    ("flp", "KL regularization alpha"): [Applied("kl_coefficient")],
    ("flp", "offline training steps"): [Protocols("steps")],
    ("flp", "random seeds"): [Protocols("seeds")],
    ("flp", "evaluation rollouts"): [Protocols("episodes")],
}  # fmt: skip
# By policy: epsilon of LSPC-S and LSPC-O are fields of their own.
RESTRICTIONS = {"LSPC-S": "safe_restriction", "LSPC-O": "restriction"}
BUILT_IN = "the method is built so"
DEVIATIONS: dict[tuple[str, str, str], str] = {
    (
        "flrp",
        "LSPC",
        "Batch size",
    ): "FLRP's setting of its baseline; LSPC's own table 2 prints 1024",
    ("flrp", "FLRP", "Activate function"): BUILT_IN,
    ("flrp", "LSPC", "Activate function"): "LSPC's default, which its own paper does not print",
    ("flrp", "LSPC", "Cost limit"): "printed as a dash: it trains to none",
    ("flrp", "FLRP", "Cost limit"): "printed as a dash: it trains to none",
    ("flrp", "FLRP", "w/o HJ feasibility threshold"): "the default of the variant's quantile, 0.75",
    ("flrp", "FLRP", "GPU"): "a machine's, not a method's",
    ("flrp", "FLRP", "cost limit for normalized cost (kappa)"): "`cost_limits` has it",
    ("lspc", "LSPC", "evaluation cost thresholds kappa"): "`cost_limits` has them",
    ("lspc", "LSPC", "gradient steps (role-reversal ablation)"): "the ablation's own steps",
    ("r2pac", "R2PAC", "Optimizer"): BUILT_IN,
    ("r2pac", "R2PAC", "Flow time sampling distribution"): BUILT_IN,
    ("r2pac", "R2PAC", "Cost scale"): "1: costs are taken as they are",
    ("r2pac", "R2PAC", "kappa (cost threshold for normalized cost)"): "`cost_limits` has it",
    ("r2pac", "R2PAC", "executed actions per generated chunk"): BUILT_IN,
    ("flp", "FLP", "online fine-tuning steps"): "flp-table2's own steps",
    ("flp", "FLP", "evaluation epochs averaged"): "`Protocol.averaged`: the last three of ten",
}


def rows_of_ours() -> list[dict[str, Any]]:
    tables = [load_hyperparameters(paper) for paper in ("flrp", "lspc", "r2pac", "flp")]
    table = pandas.concat(
        [rows.assign(paper=paper) for paper, rows in zip(("flrp", "lspc", "r2pac", "flp"), tables,
                                                         strict=True)]
    )  # fmt: skip
    table = table[table["method"].isin(list(OURS))].fillna("").astype(str)
    rows: list[dict[str, Any]] = table.to_dict("records")
    return rows


@pytest.mark.parametrize("row", rows_of_ours(), ids=lambda row: " ".join(row.values())[:80])
def test_a_printed_row_is_applied_or_says_why_not(row: dict[str, Any]) -> None:
    algorithm, parameter = OURS[row["method"]], row["parameter"]
    reason = DEVIATIONS.get((row["paper"], row["method"], parameter))
    checks = APPLIED.get((row["paper"], parameter), ())
    if parameter == "restriction epsilon":
        checks = [Applied(RESTRICTIONS[row["method"]])]
    assert reason or checks
    if reason:
        return
    for key in GROUPS.get(row["task"], (row["task"],)):
        applied = printed_settings(algorithm, key).values
        for check in checks:
            if isinstance(check, Protocols):
                assert getattr(PROTOCOLS[row["paper"]], check.field) == float(row["value"])
            else:
                assert applied[check.field] == check.read(row["value"]), (key, check.field)


def test_a_deviation_is_printed_and_needed() -> None:
    printed = {(row["paper"], row["method"], row["parameter"]) for row in rows_of_ours()}
    assert printed >= DEVIATIONS.keys()
    assert printed_settings("lspc", "CarRun").values["batch_size"] != 512
    assert cost_limits("flrp", get_task("CarRun").name) == (10.0,)
    assert PROTOCOLS["flp"].averaged == 3
    assert ALGORITHMS["flrp"].config_class().to_dict()["feasible_quantile"] == 0.75


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("algorithm", PAPER)
def test_settings_are_a_configuration_on_every_task(algorithm: str, settings: str) -> None:
    for task in TASKS.values():
        found = printed_settings(algorithm, task.key, settings)
        resolved = ALGORITHMS[algorithm].config_class.resolve(found.values).to_dict()
        assert {name: resolved[name] for name in found.values} == found.values
        assert found.sources.keys() == found.values.keys() and all(found.sources.values())


def test_rows_name_tasks_that_there_are() -> None:
    keys, suites = {t.key for t in TASKS.values()}, {t.suite for t in TASKS.values()}
    for table in (PAPER, PUBLIC):
        for rows in (rows for method in table.values() for rows in method):
            assert isinstance(rows, Rows)
            assert set(rows.tasks) | set(rows.but) <= keys and set(rows.suites) <= suites
            for prefix in rows.prefixes:
                assert any(key.startswith(prefix) for key in keys)


def test_the_authors_code_differs_from_lspcs_paper() -> None:
    """Restriction 0.6 of LSPC-S on Bullet where the paper says 0.25; time-outs as ends; V_c clamped
    inside its own regression."""
    paper = printed_settings("lspc", "CarRun").values
    public = printed_settings("lspc", "CarRun", "public").values
    assert (paper["safe_restriction"], public["safe_restriction"]) == (0.25, 0.6)
    assert public["clamp_in_regression"] and "clamp_in_regression" not in paper
    assert public["done_signal"] == "terminals_and_timeouts"
    assert printed_settings("lspc", "AntRun", "public").values["restriction"] == 0.25


def test_osrls_defects_are_of_its_code_alone() -> None:
    for algorithm in ("cpq", "bcql", "bearl", "coptidice"):
        public = printed_settings(algorithm, "BallRun", "public").values
        paper = printed_settings(algorithm, "BallRun").values
        defects = {name: value for name, value in public.items() if name not in paper}
        assert len(defects) == 2 and set(defects.values()) <= {"published", "min"}
        # What OSRL sets is the default of each field.
        defaults = ALGORITHMS[algorithm].config_class().to_dict()
        assert {name: defaults[name] for name in paper} == paper
    assert PROTOCOLS["bearl"].steps == 3 * PROTOCOLS["cpq"].steps == 300_000


def test_safefqls_public_settings() -> None:
    boat = printed_settings("safefql", "BoatNavigation", "public").values
    assert (boat["safety_signal"], boat["safety_weight"]) == ("exact", 1e5)
    assert (boat["batch_size"], boat["critic_batch_size"]) == (1024, 256)
    assert boat["calibration_episodes"] == 1
    assert printed_settings("safefql", "HopperVelocity").values["safety_weight"] == 2.0
    assert "calibration_episodes" not in printed_settings("safefql", "HopperVelocity").values


def test_what_there_is_not_is_said() -> None:
    with pytest.raises(InvalidInput, match="settings: 'private' is not one of paper, public"):
        printed_settings("lspc", "CarRun", "private")
    with pytest.raises(InvalidInput, match="settings: 'paper' holds nothing for mine"):
        printed_settings("mine", "CarRun")
