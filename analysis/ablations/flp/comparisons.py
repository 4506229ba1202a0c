"""FLP's ablations, on tasks of DSRL and the boats: it knows no costs, so they are shown beside."""

import math
from dataclasses import replace

import pandas

from safesweep.analysis.ablations.engine.ablation import Ablation
from safesweep.analysis.ablations.engine.budgets import MORE_SEEDS
from safesweep.analysis.ablations.engine.claim_builders import (
    at_most_better,
    deviation_smaller,
    larger,
    printed_claim,
    printed_count,
    printed_larger,
    printed_values,
    seed_values,
    tasks_with,
)
from safesweep.analysis.ablations.engine.plots import draw_along, draw_by_task
from safesweep.analysis.ablations.engine.settings import (
    COLUMNS,
    COST,
    REWARD,
    AblationSetting,
    along,
    published_settings,
    settings_ablation,
    task_id,
)
from safesweep.analysis.ablations.flp.modes import FIGURE_2
from safesweep.analysis.claims import ON_AVERAGE, Claim, Finding, judge_contrast
from safesweep.analysis.published import load_published
from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.methods.paper_settings import PROTOCOLS
from safesweep.trainables.tasks.ogbench import OGBENCH_ENVIRONMENTS, ogbench_environment
from safesweep.trainables.tasks.registry import TASKS

SMOKE_TASKS = ("BoatNavigation",)
SMALL_TASKS = ("BoatNavigation", "BallRun")
DSRL_TASKS = ("BallRun", "CarRun", "HalfCheetahVelocity", "CarGoal1")
# The default tasks of all environments; figures 4 and 5 call theirs representative.
PAPER_TASKS = OGBENCH_ENVIRONMENTS
ONLINE_TASKS = ("humanoid-m", "antsoccer", "cube-double", "scene", "puzzle-4x4")
SUCCESS = "success_rate"

_METHODS = (
    "FLP",
    "BC",
    "IQL",
    "ReBRAC",
    "IDQL",
    "SRPO",
    "CAC",
    "FAWAC",
    "FBRAC",
    "IFQL",
    "FQL",
)
_DSRL = "The paper's tasks are OGBench's; ours are of DSRL and the boats below paper scale."


def _table1_published() -> pandas.DataFrame:
    return published_settings("flp", "table1", {name: name for name in _METHODS}, "method")


def _printed_majority(share_of_best: float, needed: int) -> list[Finding]:
    """On how many rows FLP reaches that share of the best baseline."""
    table = printed_values(_table1_published(), SUCCESS)
    best = table.drop(columns="FLP").max(axis=1)
    holds = table["FLP"] >= share_of_best * best - 1e-9
    short = ", ".join(str(task) for task in table.index[~holds])
    return [printed_count(int(holds.sum()), len(table), short and f"not {short}", needed)]


_TABLE_1_SETTINGS = (
    AblationSetting("FLP", "flp"),
    AblationSetting("BC", "bc", {"data": "all"}),
    AblationSetting("IQL", "iql"),
    AblationSetting("ReBRAC", "rebrac"),
    AblationSetting("IDQL", "fisor", {"safety": "off", "reward_expectile": 0.7}),
    AblationSetting("FAWAC", "fql", {"actor": "weighted_flow"}),
    AblationSetting("FBRAC", "fql", {"actor": "flow"}),
    AblationSetting("IFQL", "ifql"),
    AblationSetting("FQL", "fql", {"actor": "one_step"}),
)
TABLE_1 = settings_ablation(
    "flp-table1",
    "FLP beside the other methods",
    "the method: ours on tasks of DSRL, the printed ones on OGBench; of SRPO and CAC the printed "
    "numbers stand alone",
    _TABLE_1_SETTINGS,
    {
        "smoke": SMOKE_TASKS,
        "small": ("BoatNavigation", "BallRun", "BallCircle"),
        "paper": DSRL_TASKS,
    },
    draw_by_task("FLP table 1", (REWARD, COST, SUCCESS), note=_DSRL),
    (
        larger("beats-cloning", "FLP has a higher reward than BC.", REWARD, "FLP", "BC"),
        printed_claim(
            "printed-majority",
            "FLP is at least as good as the best baseline on most of the ten rows.",
            lambda: _printed_majority(1.0, 6),
        ),
        printed_claim(
            "printed-near-best",
            "FLP is within 5 % of the best on all ten rows.",
            lambda: _printed_majority(0.95, 10),
        ),
    ),
    published=_table1_published,
)


def _ogbench_published() -> pandas.DataFrame:
    printed = _table1_published()
    printed = printed[printed["metric"] == SUCCESS]
    rates = printed["value"] / 100
    return printed.assign(task=printed["task"].map(task_id), metric=REWARD, value=rates)


def by_environment(results: pandas.DataFrame) -> pandas.DataFrame:
    """Results with the mean of an OGBench environment's tasks, by seed, in place of the tasks;
    it goes by the name of the default one."""
    keys = {name: task.key for name, task in TASKS.items()}
    environments = results["task"].map(lambda name: task_id(ogbench_environment(keys[name])))
    columns = [name for name in COLUMNS if name != "value"]
    means = results.assign(task=environments).groupby(columns, dropna=False, sort=False)["value"]
    return means.mean().reset_index()[list(COLUMNS)]


def _collected_by_environment(ablation: Ablation) -> Ablation:
    def collect(store: ResultStore, names: tuple[str, ...]) -> pandas.DataFrame:
        return by_environment(ablation.collect(store, names))

    return replace(ablation, collect=collect)


_TABLE_1_OGBENCH = settings_ablation(
    "flp-table1-ogbench",
    "FLP beside the other methods, at paper scale on OGBench's own tasks (the extra ogbench)",
    "the method; of SRPO and CAC the printed numbers stand alone",
    _TABLE_1_SETTINGS,
    {
        "smoke": SMOKE_TASKS,
        "small": SMALL_TASKS,
        "paper": tuple(task.key for task in TASKS.values() if task.suite == "ogbench"),
    },
    draw_by_task(
        "FLP table 1 on OGBench",
        (REWARD,),
        note="On OGBench the normalized reward is the success rate, in the mean of an "
        "environment's five tasks, as printed.",
    ),
    (larger("beats-cloning", "FLP succeeds more often than BC.", REWARD, "FLP", "BC"),),
    metrics=(REWARD,),
    published=_ogbench_published,
)
TABLE_1_OGBENCH = _collected_by_environment(_TABLE_1_OGBENCH)


_WITH = "N = 4"
_WITHOUT = {"N = 1, alpha 0.3": 0.3, "N = 1, alpha 1": 1.0, "N = 1, alpha 3": 3.0}


def _best_of_n_gain(results: pandas.DataFrame) -> list[Finding]:
    findings = []
    for task in tasks_with(results, REWARD, _WITH, *_WITHOUT):
        retuned = {name: seed_values(results, task, REWARD, name) for name in _WITHOUT}
        best = max(retuned, key=lambda name: float(retuned[name].mean()))
        both = pandas.DataFrame(
            {"with": seed_values(results, task, REWARD, _WITH), "without": retuned[best]}
        ).dropna()
        remark = f"against {best}"
        findings.append(
            judge_contrast(task, both["with"], both["without"], low=-0.02, remark=remark)
        )
    return findings


FIGURE_3 = settings_ablation(
    "flp-fig3",
    "With and without the best of N latents",
    "N (candidates) in 4, 1; alpha (kl_coefficient) is tuned anew without: 0.3, 1, 3",
    (
        AblationSetting(_WITH, "flp", {"candidates": 4, "kl_coefficient": 1.0}),
        *(
            AblationSetting(name, "flp", {"candidates": 1, "kl_coefficient": alpha})
            for name, alpha in _WITHOUT.items()
        ),
    ),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": PAPER_TASKS},
    draw_by_task("FLP figure 3", note=_DSRL),
    (
        Claim(
            "with-is-as-good",
            "The best of 4 has at least the reward of one latent with the best alpha, to 0.02.",
            _best_of_n_gain,
            quantifier=ON_AVERAGE,
            estimand="mean difference of reward, paired by seed",
            margin=(-0.02, math.inf),
        ),
        larger(
            "with-beats-without",
            "The best of 4 has a higher reward, alpha equal.",
            REWARD,
            _WITH,
            "N = 1, alpha 1",
        ),
    ),
    seeds=MORE_SEEDS,
)


COEFFICIENTS, CANDIDATES = (0.1, 0.3, 1.0, 3.0, 10.0), (1, 2, 4, 8, 16)

FIGURE_4 = settings_ablation(
    "flp-fig4",
    "The coefficient of the KL divergence",
    "alpha (kl_coefficient) in 0.1, 0.3, 1, 3, 10 with N = 4; the paper names 0.1, 0.3 and 1",
    along("flp", "kl_coefficient", COEFFICIENTS),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": PAPER_TASKS},
    draw_along("FLP figure 4", r"KL coefficient $\alpha$", log=True, note=_DSRL),
    (
        deviation_smaller(
            "small-is-less-stable",
            "Reward varies more over seeds with alpha = 0.1 than with 1.",
            REWARD,
            "1",
            "0.1",
        ),
        at_most_better(
            "one-works",
            "alpha = 1 has at least the reward of 0.1, to 0.05.",
            REWARD,
            "1",
            "0.1",
            low=-0.05,
        ),
    ),
)

FIGURE_5 = settings_ablation(
    "flp-fig5",
    "The number of latents of which the best counts",
    "N (candidates) in 1, 2, 4, 8, 16 with alpha = 1; the paper names 4",
    along("flp", "candidates", CANDIDATES),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": PAPER_TASKS},
    draw_along("FLP figure 5", "candidates $N$", log=True, note=_DSRL),
    (
        larger("four-beat-one", "N = 4 has a higher reward than 1.", REWARD, "4", "1"),
        at_most_better(
            "more-bring-nothing",
            "N = 16 has no higher reward than 4, to 0.02.",
            REWARD,
            "16",
            "4",
            high=0.02,
        ),
        deviation_smaller(
            "more-are-less-stable",
            "Reward varies more over seeds with N = 16 than with 4.",
            REWARD,
            "4",
            "16",
        ),
    ),
)

OFFLINE, ONLINE = "offline", "online"


def _table2_published() -> pandas.DataFrame:
    printed = load_published("flp", "table2")
    printed = printed[printed["method"] == "FLP"]
    return pandas.DataFrame(
        {
            "task": printed["task"].map(task_id), "series": "", "setting": printed["variant"],
            "x": float("nan"), "metric": REWARD, "value": printed["value"] / 100,
        }
    ).reset_index(drop=True)  # fmt: skip


def before_and_after(results: pandas.DataFrame) -> pandas.DataFrame:
    """Curves as two settings: a run at half of its steps, where training goes online, and at its
    end. Both stand at the last step, by which settings are compared."""
    last = results.groupby(["task", "seed"])["step"].transform("max")
    half = results[results["step"] * 2 == last]
    half = half.assign(setting=OFFLINE, step=half["step"] * 2)
    return pandas.concat([half, results[results["step"] == last]], ignore_index=True)


def _collected_before_and_after(ablation: Ablation) -> Ablation:
    def collect(store: ResultStore, names: tuple[str, ...]) -> pandas.DataFrame:
        return before_and_after(ablation.collect(store, names))

    return replace(ablation, collect=collect)


_TABLE_2 = settings_ablation(
    "flp-table2",
    "Going on in the environment",
    "the training: offline for half of the steps, then online; five more methods are printed",
    (AblationSetting(ONLINE, "flp", {"online_share": 0.5}),),
    {"smoke": SMOKE_TASKS, "small": ("BoatNavigationCoarse",), "paper": ONLINE_TASKS},
    draw_by_task(
        "FLP table 2",
        (REWARD, COST),
        note="Printed: success rates on OGBench, after 1,000,000 and 2,000,000 steps.",
    ),
    (
        larger("improves-online", "Online training raises the reward.", REWARD, ONLINE, OFFLINE),
        printed_larger(
            "printed-improves-online",
            "FLP's success rate rises on all five tasks.",
            _table2_published,
            REWARD,
            ONLINE,
            OFFLINE,
        ),
    ),
    published=_table2_published,
    curves=True,
    steps={"smoke": 120, "small": 8000, "paper": 2 * PROTOCOLS["flp"].steps},
)
TABLE_2 = _collected_before_and_after(_TABLE_2)


ABLATIONS = (TABLE_1, TABLE_1_OGBENCH, TABLE_2, FIGURE_2, FIGURE_3, FIGURE_4, FIGURE_5)
