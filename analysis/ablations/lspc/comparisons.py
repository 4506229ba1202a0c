"""LSPC's comparisons of methods and of its hyperparameters."""

import pandas

from safesweep.analysis.ablations.engine.budgets import MORE_SEEDS
from safesweep.analysis.ablations.engine.claim_builders import (
    larger,
    printed_averages,
    printed_claim,
    printed_equal,
    printed_within,
    ratio_within,
    rises,
    within_limit,
)
from safesweep.analysis.ablations.engine.episode_scatter import dataset_ablation, unsafe_share_claim
from safesweep.analysis.ablations.engine.plots import draw_along, draw_by_task, draw_curves
from safesweep.analysis.ablations.engine.settings import (
    COST,
    REWARD,
    STEP_TIME,
    AblationSetting,
    along,
    published_settings,
    settings_ablation,
)
from safesweep.analysis.claims import CONTRADICTED, SUPPORTED, Finding
from safesweep.analysis.published import load_published

SMOKE_TASKS = ("BoatNavigation",)
SMALL_TASKS = ("BallRun", "BallCircle")
SUITES = ("metadrive", "safety_gymnasium", "bullet")
LSPC_O, LSPC_S = (
    AblationSetting("LSPC-O", "lspc"),
    AblationSetting("LSPC-S", "lspc", policy="lspc_s"),
)
BC_SAFE = AblationSetting("BC-Safe", "bc", {"data": "safe"})

_METHODS = ("LSPC-O", "LSPC-S", "BC-Safe", "FISOR", "CPQ", "CDT")


def _table1_published() -> pandas.DataFrame:
    return published_settings("lspc", "table1", {name: name for name in _METHODS}, "method")


def _suite_rewards(exhibit: str = "table1") -> dict[str, pandas.Series]:
    """Suite -> recomputed average reward of each method."""
    printed = load_published("lspc", exhibit)
    names = {str(name): str(name) for name in printed["method"].unique()}
    published = published_settings("lspc", exhibit, names, "method")
    rows = {}
    for suite in SUITES:
        tasks = set(printed.loc[printed["suite"] == suite, "task"])
        rows[suite] = printed_averages(published[published["task"].isin(tasks)], REWARD)
    return rows


def _printed_rewards_at_least(other: str) -> list[Finding]:
    findings = []
    for suite, row in _suite_rewards().items():
        lead = float(row["LSPC-O"] - row[other])
        verdict = SUPPORTED if lead >= 0 else CONTRADICTED
        remark = f"{row['LSPC-O']:.3f} against {row[other]:.3f}"
        findings.append(Finding(suite, verdict, lead, remark=remark))
    return findings


TABLE_1 = settings_ablation(
    "lspc-table1",
    "LSPC beside the other methods",
    "the method; all six are trained here, and printed numbers stand beside",
    (
        LSPC_O,
        LSPC_S,
        BC_SAFE,
        AblationSetting("FISOR", "fisor"),
        AblationSetting("CPQ", "cpq"),
        AblationSetting("CDT", "cdt"),
    ),
    {
        "smoke": SMOKE_TASKS,
        "small": ("BoatNavigation", "BoatNavigationHard", "BallCircle", "BallRun"),
        "paper": tuple(dict.fromkeys(_table1_published()["task"])),
    },
    draw_by_task("LSPC table 1", note="Costs are means over the suite's three limits."),
    (
        within_limit("lspc-o-is-safe", "LSPC-O is within the limit on every task.", ["LSPC-O"]),
        within_limit("lspc-s-is-safe", "LSPC-S is within the limit on every task.", ["LSPC-S"]),
        larger(
            "o-has-higher-reward-than-s",
            "LSPC-O has a higher reward than LSPC-S.",
            REWARD,
            "LSPC-O",
            "LSPC-S",
        ),
        larger(
            "o-has-higher-reward-than-cloning",
            "LSPC-O has a higher reward than BC-Safe.",
            REWARD,
            "LSPC-O",
            "BC-Safe",
        ),
        printed_within(
            "printed-o-is-safe",
            "LSPC-O costs less than 1 on all 28 tasks.",
            _table1_published,
            "LSPC-O",
        ),
        printed_within(
            "printed-s-is-safe",
            "LSPC-S costs less than 1 on all 28 tasks.",
            _table1_published,
            "LSPC-S",
        ),
        printed_claim(
            "printed-o-beats-fisor",
            "LSPC-O's average reward is at least FISOR's in every suite.",
            lambda: _printed_rewards_at_least("FISOR"),
        ),
        printed_claim(
            "printed-o-beats-s",
            "LSPC-O's average reward is at least LSPC-S's in every suite.",
            lambda: _printed_rewards_at_least("LSPC-S"),
        ),
        printed_equal(
            "printed-bullet-average",
            "LSPC-S's average reward on Bullet is 0.04 (table 5).",
            0.04,
            lambda: {"bullet": float(_suite_rewards("table5")["bullet"]["LSPC-S"])},
        ),
    ),
    published=_table1_published,
)


FIGURE_2 = settings_ablation(
    "lspc-fig2",
    "Reward and cost along training",
    "the method: LSPC-O, LSPC-S, BC-Safe (FISOR and CPQ are not implemented here)",
    (LSPC_O, LSPC_S, BC_SAFE),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": ("CarRun", "easysparse")},
    draw_curves("LSPC figure 2"),
    (
        larger(
            "o-has-highest-reward",
            "In the end LSPC-O has a higher reward than LSPC-S.",
            REWARD,
            "LSPC-O",
            "LSPC-S",
        ),
        larger(
            "o-beats-cloning",
            "In the end LSPC-O has a higher reward than BC-Safe.",
            REWARD,
            "LSPC-O",
            "BC-Safe",
        ),
        within_limit("o-ends-safe", "In the end LSPC-O is within the limit.", ["LSPC-O"]),
    ),
    curves=True,
)


RESTRICTIONS = (0.1, 0.25, 0.5, 1.0, 2.0)
_POLICIES = {"LSPC-O": "lspc_o", "LSPC-S": "lspc_s", "CVAE": "cvae"}

FIGURE_4 = settings_ablation(
    "lspc-fig4",
    "The half width of the latent box",
    "epsilon (restriction) from 0.1 to 2, of both policies; the paper prints no values but 0.25",
    tuple(
        setting
        for name, policy in _POLICIES.items()
        for setting in along(
            "lspc",
            "restriction",
            RESTRICTIONS,
            beside={"safe_restriction": 0.0},
            policy=policy,
            series=name,
        )
    ),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": ("easysparse",)},
    draw_along("LSPC figure 4", r"restriction $\epsilon$", log=True),
    (
        rises("reward-rises", "LSPC-O's reward rises with epsilon.", REWARD, series="LSPC-O"),
        rises("cost-rises", "LSPC-O's cost rises with epsilon.", COST, series="LSPC-O"),
        larger(
            "loose-beats-s",
            "With epsilon = 2 LSPC-O has a higher reward than LSPC-S.",
            REWARD,
            "2",
            "2",
            series="LSPC-O",
            other_series="LSPC-S",
        ),
        larger(
            "loose-beats-cvae",
            "With epsilon = 2 LSPC-O has a higher reward than the CVAE.",
            REWARD,
            "2",
            "2",
            series="LSPC-O",
            other_series="CVAE",
        ),
    ),
)


FIGURE_5 = settings_ablation(
    "lspc-fig5",
    "Roles reversed: the CVAE seeks reward, the encoder safety",
    "role in normal, converse; epsilon (restriction) from 0.1 to 2, of which the paper prints none",
    tuple(
        setting
        for role in ("converse", "normal")
        for setting in along(
            "lspc", "restriction", RESTRICTIONS, beside={"role": role}, series=role
        )
    ),
    {"smoke": SMOKE_TASKS, "small": ("BallRun",), "paper": ("HalfCheetahVelocity",)},
    draw_along("LSPC figure 5", r"restriction $\epsilon$", log=True),
    (
        rises(
            "cost-falls",
            "Reversed, cost falls as epsilon grows.",
            COST,
            series="converse",
            falls=True,
        ),
        rises(
            "reward-falls",
            "Reversed, reward falls as epsilon grows.",
            REWARD,
            series="converse",
            falls=True,
        ),
        larger(
            "tight-costs-more",
            "With epsilon = 0.1 the reversed roles cost more than the normal ones.",
            COST,
            "0.1",
            "0.1",
            series="converse",
            other_series="normal",
        ),
    ),
    steps={"paper": 300_000},
)


SHARPNESS, EXPECTILES = (1.0, 2.0, 4.0), (0.5, 0.7)
_LAMBDA = r"inverse temperature $\lambda$"

FIGURE_6 = settings_ablation(
    "lspc-fig6",
    "The sharpness of the cost weight, LSPC-S",
    "lambda (cost_inverse_temperature) in 1, 2, 4",
    along("lspc", "cost_inverse_temperature", SHARPNESS, policy="lspc_s"),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": ("CarRun", "BallCircle")},
    draw_along("LSPC figure 6", _LAMBDA),
    (
        within_limit("safe", "LSPC-S is within the limit for every lambda.", ["1", "2", "4"]),
        rises("reward-falls", "Reward falls as lambda grows.", REWARD, falls=True),
        larger(
            "soft-has-higher-reward", "lambda = 1 has a higher reward than 2.", REWARD, "1", "2"
        ),
    ),
    seeds=MORE_SEEDS,
)

FIGURE_7A = settings_ablation(
    "lspc-fig7a",
    "The sharpness of the cost weight, LSPC-O",
    "lambda (cost_inverse_temperature) in 1, 2, 4",
    along("lspc", "cost_inverse_temperature", SHARPNESS),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": ("CarRun", "BallCircle")},
    draw_along("LSPC figure 7a", _LAMBDA, note="The text names no task: figure 6's are taken."),
    (
        rises("reward-falls", "Reward falls as lambda grows.", REWARD, falls=True),
        rises("cost-falls", "Cost falls as lambda grows.", COST, falls=True),
    ),
    seeds=MORE_SEEDS,
)

FIGURE_7B = settings_ablation(
    "lspc-fig7b",
    "The expectile, LSPC-O",
    "xi (expectile) in 0.5, 0.7",
    along("lspc", "expectile", EXPECTILES),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": ("CarRun", "BallCircle")},
    draw_by_task("LSPC figure 7b", note="The settings are values of xi. The text names no task."),
    (larger("half-costs-more", "xi = 0.5 costs more than 0.7.", COST, "0.5", "0.7"),),
    seeds=MORE_SEEDS,
)

FIGURE_8 = settings_ablation(
    "lspc-fig8",
    "The expectile, LSPC-S",
    "xi (expectile) in 0.5, 0.7",
    along("lspc", "expectile", EXPECTILES, policy="lspc_s"),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": ("CarRun", "BallCircle")},
    draw_by_task("LSPC figure 8", note="The settings are values of xi. The text names no task."),
    (
        larger(
            "half-has-higher-reward", "xi = 0.5 has a higher reward than 0.7.", REWARD, "0.5", "0.7"
        ),
        within_limit("safe", "LSPC-S is within the limit for both.", ["0.5", "0.7"]),
    ),
    seeds=MORE_SEEDS,
)


FIGURE_10 = dataset_ablation(
    "lspc-fig10",
    "LSPC figure 10: episodes of a dataset by cost and return",
    {
        "smoke": SMOKE_TASKS,
        "small": ("BoatNavigationHard", "CarRun", "BallRun"),
        "paper": ("easysparse", "CarRun", "BallCircle", "HalfCheetahVelocity"),
    },
    (
        unsafe_share_claim("many-unsafe", "At least a quarter of the episodes is unsafe.", 0.25),
        unsafe_share_claim("most-unsafe", "Most episodes are unsafe.", 0.5),
    ),
    histograms=True,
)


def _timing_published() -> pandas.DataFrame:
    names = {"LSPC": "LSPC", "BC": "BC", "CDT": "CDT"}
    frame = published_settings(
        "lspc", "textA.3.4", names, "method", metrics={"iterations_per_s": STEP_TIME}
    )
    frame = frame[frame["metric"] == STEP_TIME]
    return frame.assign(value=1000 / frame["value"])


TIMING = settings_ablation(
    "lspc-timing",
    "Time of a training step",
    "the method: LSPC and BC are ours, CDT is printed; every run alone in its population",
    (AblationSetting("LSPC", "lspc"), AblationSetting("BC", "bc", {"data": "all"})),
    {"smoke": SMOKE_TASKS, "small": SMOKE_TASKS, "paper": ("CarRun",)},
    draw_by_task(
        "LSPC, timing",
        (STEP_TIME,),
        note="Printed on an RTX 3070, without a task: ratios compare, times do not.",
    ),
    (
        larger("lspc-is-slower", "A step of LSPC takes longer than BC's.", STEP_TIME, "LSPC", "BC"),
        ratio_within(
            "ratio",
            "A step of LSPC takes 3 to 9 times as long as BC's (printed: 5.4).",
            STEP_TIME,
            "LSPC",
            "BC",
            3.0,
            9.0,
        ),
        printed_claim(
            "printed-faster-than-cdt",
            "a step of LSPC takes less time than CDT's.",
            lambda: [_printed_faster()],
        ),
    ),
    metrics=(STEP_TIME,),
    published=_timing_published,
    separate_seeds=True,
    steps={"smoke": 20, "small": 300, "paper": 10_000},
)


def _printed_faster() -> Finding:
    times = _timing_published().set_index("setting")["value"]
    gap = float(times["LSPC"] - times["CDT"])
    remark = f"{times['LSPC']:.0f} ms against {times['CDT']:.0f} ms"
    return Finding("as printed", SUPPORTED if gap < 0 else CONTRADICTED, gap, remark=remark)


COMPARISONS = (
    TABLE_1,
    FIGURE_2,
    FIGURE_4,
    FIGURE_5,
    FIGURE_6,
    FIGURE_7A,
    FIGURE_7B,
    FIGURE_8,
    FIGURE_10,
    TIMING,
)
