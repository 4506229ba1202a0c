"""How often what a rule calls safe is not.

Run it as `python -m tests.benchmarks.choices_called_safe`. A configuration's seeds are drawn many
times and a rule is asked about them; what it calls safe is compared with the configuration's true
mean cost, with what a further seed would cost, or both. With `--storage` the seeds are those of a
store instead: each seed of each task is left out once, the rule chooses by the others, and the
seed that was left out says whether the choice keeps the limit.
"""

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas

from safesweep.analysis.selection.candidates import without_stopped_runs
from safesweep.analysis.selection.choice import select
from safesweep.analysis.selection.rules import RULES, Settings
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store.scores import within_limit
from tests.benchmarks.measurement import add_json_option, print_table, write_json

FloatArray = npt.NDArray[np.float64]
JUDGED = ("max_reward_safe", "all_seeds_safe", "confident_safe")
SEEDS = (3, 5, 10, 12, 20)


def failing(share: float) -> Callable[[np.random.Generator, tuple[int, int]], FloatArray]:
    """A seed fails with probability `share` and then costs an exponential number of limits, 10 on
    average; the others cost nothing in one half of the cases and 0 to 0.2 in the other."""

    def draw(generator: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
        small = 0.2 * generator.random(shape) * (np.arange(shape[0]) % 2)[:, None]
        fails = generator.random(shape) < share
        return np.where(fails, generator.exponential(10, shape), small)

    return draw


def around(mean: float) -> Callable[[np.random.Generator, tuple[int, int]], FloatArray]:
    """Seeds that differ little: normal around `mean` with a deviation of 0.2."""

    def draw(generator: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
        return np.clip(mean + 0.2 * generator.standard_normal(shape), 0, None)

    return draw


LAWS = {
    "fails 0.3 (mean 3)": failing(0.3),
    "fails 0.5 (mean 5)": failing(0.5),
    "around 1.05": around(1.05),
    "around 0.4": around(0.4),
    "never fails": failing(0.0),
}


def called_safe(rule: str, costs: FloatArray, confidence: float = 0.95) -> npt.NDArray[np.bool_]:
    """Whether the rule calls each of the configurations [cases, seeds] of normalised costs safe."""
    cases, seeds = costs.shape
    candidates = pandas.DataFrame(
        {
            "config_id": [f"case {case:06d}" for case in range(cases)],
            "seeds": seeds,
            "normalized_reward": 1.0,
            "normalized_cost": costs.mean(axis=1),
        }
    )
    candidates["seed_costs"] = list(np.sort(costs, axis=1))
    judgement = RULES[rule](candidates, Settings(confidence=confidence))
    return judgement.safe & within_limit(candidates["normalized_cost"])


def simulated(cases: int = 1000) -> list[dict[str, object]]:
    """A row per law and rule: the share of cases called safe, by the number of seeds."""
    rows = []
    for law, draw in LAWS.items():
        for rule in JUDGED:
            row: dict[str, object] = {"seeds": law, "rule": rule}
            for seeds in SEEDS:
                costs = draw(np.random.default_rng(seeds), (cases, seeds))
                row[str(seeds)] = f"{called_safe(rule, costs).mean():.1%}"
            rows.append(row)
    return rows


def left_out(storage: str) -> list[dict[str, object]]:
    """Of a store: a row per rule, with the choices called safe by all seeds but one and how many of
    these seeds broke the limit. Only configurations with three seeds or more are chosen from."""
    evaluations = without_stopped_runs(ResultStore(storage).to_judge("last"))
    seeds = evaluations.groupby(["config_id", "policy"], dropna=False)["seed"].transform("nunique")
    evaluations = evaluations[seeds >= 3]
    if evaluations.empty:
        raise InvalidInput(f"storage: {storage!r} holds no configuration of three seeds")
    rows = []
    for rule in JUDGED:
        chosen = broken = asked = 0
        for _, group in evaluations.groupby(["algorithm", "task", "policy"], dropna=False):
            for seed in sorted(group["seed"].unique()):
                choice = select(group[group["seed"] != seed], rule).iloc[0]
                after = group[(group["seed"] == seed) & (group["config_id"] == choice["config_id"])]
                asked += 1
                if choice["safe"] and len(after):
                    chosen += 1
                    broken += int(after["normalized_cost"].iloc[0] > 1)
        rows.append({"rule": rule, "choices": asked, "called safe": chosen, "broke it": broken})
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="simulated a cell (default: 1000)")
    parser.add_argument("--storage", help="a store whose seeds are left out in turn")
    add_json_option(parser)
    arguments = parser.parse_args()
    rows = left_out(arguments.storage) if arguments.storage else simulated(arguments.cases)
    print_table(rows)
    write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
