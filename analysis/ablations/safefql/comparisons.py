"""SafeFQL's statements: results, latency, coverage, candidates. The text at hand prints no result;
the printed numbers are those of its authors' public plotting scripts."""

import math
from dataclasses import replace

import pandas

from safesweep.analysis.ablations.engine.claim_builders import (
    at_most_better,
    larger,
    printed_claim,
    printed_values,
    rises,
    seed_values,
    value_within,
    within_limit,
)
from safesweep.analysis.ablations.engine.plots import draw_along, draw_by_task
from safesweep.analysis.ablations.engine.settings import (
    COST,
    LATENCY,
    REWARD,
    SCORES,
    STEP_TIME,
    AblationSetting,
    along,
    published_settings,
    settings_ablation,
)
from safesweep.analysis.claims import (
    CONTRADICTED,
    NOT_TESTED,
    ON_AVERAGE,
    SUPPORTED,
    Claim,
    Finding,
    judge_contrast,
)

SMOKE_TASKS = ("BoatNavigation",)
SMALL_TASKS = ("BoatNavigation", "BoatNavigationHard")
VELOCITY = (
    "HalfCheetahVelocity",
    "HopperVelocity",
    "AntVelocity",
    "Walker2dVelocity",
    "SwimmerVelocity",
)
RAW_REWARD, RAW_COST = "reward_return_mean", "cost_return_mean"

CALIBRATED, NOMINAL = "SafeFQL+CP", "SafeFQL"
# With a single episode to calibrate on no level below 1/2 can be promised: the threshold stays 0.
NOMINAL_VALUES = {"calibration_episodes": 1, "conformal_level": 0.1}
CALIBRATED_VALUES = {"calibration_episodes": 40, "conformal_level": 0.1}

_PRINTED = (
    "SafeFQL+CP",
    "SafeFQL",
    "SafeIFQL",
    "FISOR",
    "C2IQL",
    "COptiDICE",
    "CPQ",
    "BEAR-Lag",
)


def _results_published() -> pandas.DataFrame:
    names = {"episode_reward_return": RAW_REWARD, "episode_cost_return": RAW_COST}
    return published_settings(
        "safefql", "results-figure", {name: name for name in _PRINTED}, "method", names
    )


def _printed_lowest_cost() -> list[Finding]:
    costs = printed_values(_results_published(), RAW_COST)
    findings = []
    for task, row in costs.iterrows():
        others = row.drop(["SafeFQL", "SafeFQL+CP"]).dropna()
        gap = float(row["SafeFQL+CP"] - others.min())
        remark = f"{row['SafeFQL+CP']:g} against {others.min():g} of {others.idxmin()}"
        verdict = SUPPORTED if gap <= 0 else CONTRADICTED
        findings.append(Finding(str(task), verdict, gap, remark=remark))
    return findings


RESULTS = settings_ablation(
    "safefql-results",
    "SafeFQL beside the other methods",
    "the method: SafeFQL with and without calibration, FLRP, LSPC, R2PAC and BC-Safe are ours",
    (
        AblationSetting(CALIBRATED, "safefql", CALIBRATED_VALUES),
        AblationSetting(NOMINAL, "safefql", NOMINAL_VALUES),
        AblationSetting("FLRP", "flrp"),
        AblationSetting("LSPC-O", "lspc"),
        AblationSetting("R2PAC", "r2pac"),
        AblationSetting("BC-Safe", "bc", {"data": "safe"}),
    ),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": ("BoatNavigation", *VELOCITY)},
    draw_by_task(
        "SafeFQL, results",
        (RAW_REWARD, RAW_COST),
        note="Returns of an episode, as in the authors' scripts. On the boat all starts are "
        "feasible, theirs and ours.",
    ),
    (
        within_limit("safe", "SafeFQL with calibration is within the limit.", [CALIBRATED]),
        *(
            larger(
                f"costs-less-than-{name.lower()}",
                f"It costs less than {name}.",
                COST,
                name,
                CALIBRATED,
            )
            for name in ("FLRP", "LSPC-O", "R2PAC", "BC-Safe")
        ),
        *(
            at_most_better(
                f"reward-as-{name.lower()}",
                f"It has at least the reward of {name}, to 0.05.",
                REWARD,
                CALIBRATED,
                name,
                low=-0.05,
            )
            for name in ("FLRP", "LSPC-O", "R2PAC", "BC-Safe")
        ),
        printed_claim(
            "printed-lowest-cost",
            "with calibration the cost is the lowest of all methods on each task.",
            _printed_lowest_cost,
        ),
    ),
    metrics=(*SCORES, RAW_REWARD, RAW_COST),
    published=_results_published,
)


_SAMPLERS = {"R2PAC": {"flow_steps": 32, "candidates": 16}, "FLP": {"flow_steps": 10}}

LATENCY_ABLATION = settings_ablation(
    "safefql-latency",
    "Time of an action and of a training step",
    "the method: SafeFQL's one step, FLP's 10 and R2PAC's 32 flow steps with 16 candidates, and "
    "FLRP's and LSPC's decoders; every run alone in its population",
    (
        AblationSetting("SafeFQL", "safefql"),
        AblationSetting("FLP", "flp", _SAMPLERS["FLP"]),
        AblationSetting("R2PAC", "r2pac", _SAMPLERS["R2PAC"]),
        AblationSetting("FLRP", "flrp"),
        AblationSetting("LSPC", "lspc"),
    ),
    {"smoke": SMOKE_TASKS, "small": SMOKE_TASKS, "paper": ("BoatNavigation", "CarRun")},
    draw_by_task("SafeFQL, latency", (LATENCY, STEP_TIME)),
    (
        larger("acts-faster-than-flp", "SafeFQL acts faster than FLP.", LATENCY, "FLP", "SafeFQL"),
        larger(
            "acts-faster-than-r2pac", "SafeFQL acts faster than R2PAC.", LATENCY, "R2PAC", "SafeFQL"
        ),
        larger(
            "trains-slower-than-flp",
            "A training step of SafeFQL takes longer than FLP's.",
            STEP_TIME,
            "SafeFQL",
            "FLP",
        ),
    ),
    metrics=(LATENCY, STEP_TIME),
    separate_seeds=True,
    steps={"smoke": 20, "small": 300, "paper": 10_000},
)


LEVELS = (0.05, 0.1, 0.2)
SPECIFICITY, RECALL = "true_specificity", "true_recall"


def _level_name(level: float) -> str:
    return f"miscoverage {level:g}"


def _misses_at_most(level: float) -> Claim:
    name = _level_name(level)
    return value_within(
        f"coverage-{level:g}",
        f"With miscoverage {level:g} at most that share of the truly infeasible states is declared "
        "feasible, over the whole box.",
        [name],
        SPECIFICITY,
        low=1 - level,
    )


_UNMOVED = (
    "every level gave the same values in every seed: the threshold stayed at 0, which calibration "
    "may lower and never raises"
)


def _where_levels_differ(claim: Claim) -> Claim:
    """The claim, not tested on tasks where the level made no difference at all."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        findings = []
        for finding in claim.judge(results):
            levels = pandas.DataFrame(
                {
                    level: seed_values(results, finding.task, SPECIFICITY, _level_name(level))
                    for level in LEVELS
                }
            ).dropna()
            if len(levels) > 1 and (levels.nunique(axis=1) == 1).all():
                finding = Finding(
                    finding.task, NOT_TESTED, finding.effect, seeds=finding.seeds, remark=_UNMOVED
                )
            findings.append(finding)
        return findings

    return replace(claim, judge=judge)


COVERAGE = settings_ablation(
    "safefql-coverage",
    "The safe set with and without conformal calibration, against the true one",
    "miscoverage (conformal_level) in 0.2, 0.1, 0.05; none: the threshold 0",
    (
        AblationSetting("none", "safefql", NOMINAL_VALUES),
        *(
            AblationSetting(
                _level_name(level), "safefql", {**CALIBRATED_VALUES, "conformal_level": level}
            )
            for level in reversed(LEVELS)
        ),
    ),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": SMALL_TASKS},
    draw_by_task(
        "SafeFQL, coverage",
        (SPECIFICITY, RECALL, "true_precision", REWARD, COST),
        note="Specificity is the share of truly infeasible states that are recognised. The promise "
        "is about states before a violation in a new episode; the box is another distribution.",
    ),
    (
        *(_where_levels_differ(_misses_at_most(level)) for level in LEVELS),
        _where_levels_differ(
            larger(
                "calibration-recognises-more",
                "Calibrated (miscoverage 0.1), more of the truly infeasible states are recognised.",
                SPECIFICITY,
                _level_name(0.1),
                "none",
            )
        ),
        _where_levels_differ(
            larger(
                "calibration-gives-up-states",
                "Calibrated (miscoverage 0.1), fewer of the truly feasible states are declared so.",
                RECALL,
                "none",
                _level_name(0.1),
            )
        ),
    ),
    metrics=(*SCORES, SPECIFICITY, RECALL, "true_precision"),
)


CANDIDATES = (1, 2, 4, 8, 16, 32)
REJECTION, ONE_STEP = "rejection sampling", "one step"


def _candidates_published() -> pandas.DataFrame:
    counts = {f"{n}": f"{n}" for n in (*CANDIDATES, 64, 128)}
    names = {"episode_reward_return": RAW_REWARD, "episode_cost_return": RAW_COST}
    frame = published_settings("safefql", "computation-figure", counts, metrics=names)
    frame = frame[frame["metric"].isin([RAW_REWARD, RAW_COST])]
    return frame.assign(series=REJECTION)


def _printed_cost_falls() -> list[Finding]:
    rows = _candidates_published()
    costs = rows[rows["metric"] == RAW_COST].sort_values("x")["value"].to_numpy()
    falls = bool((costs[1:] <= costs[:-1]).all())
    verdict = SUPPORTED if falls else CONTRADICTED
    remark = " ".join(f"{value:g}" for value in costs)
    return [Finding("as printed", verdict, float(costs[-1] - costs[0]), remark=remark)]


def _against_one(results: pandas.DataFrame) -> list[Finding]:
    findings = []
    for task, rows in results[results["metric"] == RAW_COST].groupby("task"):
        wide = rows.pivot_table(index="seed", columns="setting", values="value")
        if not {ONE_STEP, "1"} <= set(wide.columns):
            continue
        remark = f"{wide['1'].mean():.3g} against {wide[ONE_STEP].mean():.3g}"
        findings.append(
            judge_contrast(str(task), wide["1"], wide[ONE_STEP], low=0.0, remark=remark, cost=True)
        )
    return findings


CANDIDATES_ABLATION = settings_ablation(
    "safefql-candidates",
    "Safety of rejection sampling against its number of candidates",
    "candidates of R2PAC in 1, 2, 4, 8, 16, 32; SafeFQL's one-step actor needs none",
    (
        *along("r2pac", "candidates", CANDIDATES, series=REJECTION),
        AblationSetting(ONE_STEP, "safefql", x=1.0, series=ONE_STEP),
    ),
    {"smoke": SMOKE_TASKS, "small": SMOKE_TASKS, "paper": ("BoatNavigation",)},
    draw_along(
        "SafeFQL, candidates",
        "candidates",
        (RAW_REWARD, RAW_COST),
        log=True,
        note="Rejection sampling is R2PAC's choice of the chunk with the lowest cost value; the "
        "authors' script does not name its sampler.",
    ),
    (
        rises(
            "cost-falls",
            "The cost of rejection sampling falls with its candidates.",
            RAW_COST,
            series=REJECTION,
            falls=True,
        ),
        Claim(
            "one-step-is-safer",
            "The one-step actor costs less than rejection sampling with one candidate.",
            _against_one,
            quantifier=ON_AVERAGE,
            estimand="mean difference of cost, paired by seed",
            margin=(0.0, math.inf),
        ),
        printed_claim(
            "printed-cost-falls", "the cost never rises with the candidates.", _printed_cost_falls
        ),
    ),
    metrics=(*SCORES, RAW_REWARD, RAW_COST),
    published=_candidates_published,
)

ABLATIONS = (RESULTS, LATENCY_ABLATION, COVERAGE, CANDIDATES_ABLATION)
