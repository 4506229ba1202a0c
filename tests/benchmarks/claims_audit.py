"""What the claims' judges get wrong: false verdicts, a perfect replication, and power.

    python -m tests.benchmarks.claims_audit [--repetitions 2000]

1. The rate of false "supported" and "contradicted" where the truth is at the edge of the claim, by
   judge, number of tasks and seeds, for normal and zero-inflated values. A claim about every task
   is tried where it holds clearly on all tasks but one.
2. The verdicts where the results are the printed numbers themselves, with a deviation of 0.01 over
   three pseudo-seeds.
3. The power at an effect of one deviation.

It ends with status 1 where more than 6 % of a shape's verdicts are false, where fewer than 95 % of
the claims with printed data are supported by the printed numbers, or where one is contradicted
that its own print does not contradict.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas

from safesweep.analysis.ablations.engine.ablation import Ablation
from safesweep.analysis.ablations.engine.plots import short_name
from safesweep.analysis.claims import (
    ALL_TASKS,
    CONTRADICTED,
    EVERY_TASK,
    NOT_TESTED,
    ON_AVERAGE,
    RESULTS,
    SUPPORTED,
    Claim,
    Finding,
    claim_verdicts,
    decide,
    judge_contrast,
    judge_difference,
    judge_range,
    judge_spread,
    judge_trend,
    score,
)
from safesweep.analysis.contrasts import FloatArray
from safesweep.analysis.reproduction import ABLATIONS

TASKS, SEEDS = (1, 2, 4, 8), (3, 12)
LARGEST_ERROR, LEAST_REPLICATED = 0.06, 0.95
NOISE, PSEUDO_SEEDS = 0.01, 3
NORMAL, ZERO_INFLATED, UNEQUAL = "normal", "zero-inflated", "unequal zero shares"
FAILURE = 0.3
LEVELS = 5
MARGIN = 0.5

Generator = np.random.Generator


def draw(generator: Generator, shape: str, seeds: int, mean: float, failing: float) -> FloatArray:
    """Values of that mean: normal with deviation 1, or 0 but for a share of failures, whose size
    is exponential."""
    if shape == NORMAL:
        return generator.normal(mean, 1.0, seeds)
    failed = generator.random(seeds) < failing
    return np.where(failed, generator.exponential(mean / failing, seeds), 0.0)


@dataclass(frozen=True)
class Judge:
    """A judge, and data for it.

    Attributes:
        find: generator, shape, seeds, effect in deviations beyond the edge of the claim -> finding;
            0 is the edge.
        margin: that of the claim.
        shapes: those that mean something for it.
        at_edge: an effect of 0 is the edge of the claim and not beyond it.
    """

    find: Callable[[Generator, str, int, float], Finding]
    margin: tuple[float, float] = (0.0, np.inf)
    shapes: tuple[str, ...] = (NORMAL, ZERO_INFLATED, UNEQUAL)
    at_edge: bool = True


def _shares(shape: str, count: int) -> FloatArray:
    """Shares of failing seeds along settings; the last one fails most often, by as much less."""
    return np.linspace(FAILURE, 0.9 if shape == UNEQUAL else FAILURE, count)


def _two(generator: Generator, shape: str, seeds: int, gap: float) -> tuple[FloatArray, FloatArray]:
    low, high = _shares(shape, 2)
    return (
        draw(generator, shape, seeds, 1.0 + gap, high),
        draw(generator, shape, seeds, 1.0, low),
    )


def _paired(generator: Generator, shape: str, seeds: int, effect: float) -> Finding:
    # The difference of two values has a deviation of sqrt 2.
    one, other = _two(generator, shape, seeds, effect * 2**0.5)
    return judge_contrast("task", one, other, 0.0, cost=shape != NORMAL)


def _difference(generator: Generator, shape: str, seeds: int, effect: float) -> Finding:
    return judge_difference("task", *_two(generator, shape, seeds, effect))


def _trend(generator: Generator, shape: str, seeds: int, effect: float) -> Finding:
    shares = _shares(shape, LEVELS)
    rise = effect * np.linspace(-0.5, 0.5, LEVELS)
    columns = [
        draw(generator, shape, seeds, 1.0 + step, share)
        for step, share in zip(rise, shares, strict=True)
    ]
    settings = list(range(LEVELS))
    return judge_trend("task", np.stack(columns, axis=1), settings, cost=shape != NORMAL)


def _within(generator: Generator, shape: str, seeds: int, effect: float) -> Finding:
    if shape == UNEQUAL:
        # No zeros, but as skewed as failures are.
        return judge_range("task", generator.exponential(1.0, seeds), high=1.0, cost=True)
    values = draw(generator, shape, seeds, 1.0 - effect, FAILURE)
    return judge_range("task", values, high=1.0, cost=True)


def _far_beyond(generator: Generator, shape: str, seeds: int, effect: float) -> Finding:
    # Costs ten limits where it fails: three limits on average.
    values = draw(generator, ZERO_INFLATED, seeds, 10 * FAILURE if effect == 0 else 0.0, FAILURE)
    return judge_range("task", values, high=1.0, cost=True)


def _equivalence(generator: Generator, shape: str, seeds: int, effect: float) -> Finding:
    # A tenth of the deviation: else no few seeds could show equivalence within the margin.
    if shape == NORMAL:
        values = generator.normal(MARGIN * (1 - effect), 0.1, (2, seeds)) - [[0.0], [MARGIN]]
        one, other = values[0] + MARGIN, values[1] + MARGIN * effect + MARGIN
    else:
        one, other = _two(generator, shape, seeds, MARGIN * (1 - effect))
    return judge_contrast("task", one, other, -MARGIN, MARGIN, cost=shape != NORMAL)


def _spread(generator: Generator, shape: str, seeds: int, effect: float) -> Finding:
    steady = draw(generator, shape, seeds, 1.0, FAILURE)
    other = draw(generator, shape, seeds, 1.0, FAILURE)
    return judge_spread("task", steady, other * (1 + effect))


JUDGES = {
    "trend": Judge(_trend),
    "paired": Judge(_paired),
    "difference": Judge(_difference),
    "within limit": Judge(_within, (-np.inf, 1.0)),
    "within limit, 30 % fail": Judge(_far_beyond, (-np.inf, 1.0), (ZERO_INFLATED,), False),
    "equivalence": Judge(_equivalence, (-MARGIN, MARGIN)),
    "spread": Judge(_spread, shapes=(NORMAL, ZERO_INFLATED)),
}


def rates(judge: Judge, shape: str, seeds: int, repetitions: int) -> list[dict[str, object]]:
    """How often the truth at the edge of a claim is called supported, and contradicted: a row for
    each quantifier and number of tasks.

    On average: at the edge on every task. Every task: for "supported", at the edge on one task and
    clearly supported on the others; for "contradicted", at the edge on all.
    """
    place = list(JUDGES.values()).index(judge)
    generator = np.random.default_rng([place, judge.shapes.index(shape), seeds])
    clear = Finding("other", SUPPORTED, 0.0, p_value=0.0, p_against=1.0)
    claims = [
        Claim("", "", lambda _: [], quantifier=quantifier, margin=judge.margin)
        for quantifier in (ON_AVERAGE, EVERY_TASK)
    ]
    cases = [(claim, tasks) for claim in claims for tasks in TASKS]
    counts = np.zeros((len(cases), 2))
    for _ in range(repetitions):
        found = [judge.find(generator, shape, seeds, 0.0) for _ in range(max(TASKS))]
        for place, (claim, tasks) in enumerate(cases):
            edge = decide(claim, found[:tasks]).verdict
            counts[place, 1] += edge == CONTRADICTED
            if claim.quantifier == EVERY_TASK:
                edge = decide(claim, [found[0], *[clear] * (tasks - 1)]).verdict
            counts[place, 0] += edge == SUPPORTED
    return [
        {
            "values": shape,
            "quantifier": claim.quantifier,
            "tasks": tasks,
            "seeds": seeds,
            "supported": supported / repetitions,
            "contradicted": contradicted / repetitions if judge.at_edge else np.nan,
        }
        for (claim, tasks), (supported, contradicted) in zip(cases, counts, strict=True)
    ]


def error_rates(repetitions: int) -> pandas.DataFrame:
    """A row for each judge, shape of values, quantifier, and number of tasks and seeds."""
    rows = []
    for name, judge in JUDGES.items():
        for shape in judge.shapes:
            for seeds in SEEDS:
                # Student's test is wrong in exactly 5 % of normal samples: so near to what is
                # allowed, more repetitions have to tell chance from error.
                count = 4 * repetitions if shape == NORMAL else repetitions
                found = rates(judge, shape, seeds, count)
                rows += [{"judge": name, **row} for row in found]
    return pandas.DataFrame(rows)


def power(repetitions: int) -> Iterator[dict[str, object]]:
    """How often an effect of one deviation on one task is called supported, with normal values."""
    generator = np.random.default_rng(1)
    for name, judge in JUDGES.items():
        if NORMAL not in judge.shapes:
            continue
        for seeds in SEEDS:
            verdicts = [
                judge.find(generator, NORMAL, seeds, 1.0).verdict for _ in range(repetitions)
            ]
            share = verdicts.count(SUPPORTED) / repetitions
            yield {"judge": name, "seeds": seeds, "power": share}


def as_results(
    published: pandas.DataFrame, generator: Generator, noise: float = NOISE
) -> pandas.DataFrame:
    """Printed numbers as results of `PSEUDO_SEEDS` seeds that hardly differ."""
    copies = []
    for seed in range(PSEUDO_SEEDS):
        values = published["value"] + generator.normal(0.0, noise, len(published))
        copies.append(published.assign(seed=seed, step=0, value=values))
    return pandas.concat(copies, ignore_index=True)


def replicate(ablations: dict[str, Ablation]) -> pandas.DataFrame:
    """The claims about results that printed numbers bear on.

    Returns:
        As `claim_verdicts` does, with `own`, the verdict before Holm's correction, and `print`,
        what the printed numbers themselves say: how the print contradicts the claim, or nothing.
    """
    generator = np.random.default_rng(0)
    cards, said = [], {}
    for ablation in ablations.values():
        published = ablation.published()
        if published.empty:
            continue
        claims = [claim for claim in ablation.claims if claim.about == RESULTS]
        card = score(claims, as_results(published, generator))
        cards.append(card.assign(paper=ablation.paper, ablation=ablation.id))
        exact = score(claims, as_results(published, generator, noise=0.0))
        for claim, rows in exact.groupby("claim"):
            said[ablation.id, claim] = contradicted_by_print(rows)
    findings = pandas.concat(cards, ignore_index=True)
    verdicts = claim_verdicts(findings)
    own = findings.drop_duplicates(["ablation", "claim"]).set_index(["ablation", "claim"])
    keys = list(zip(verdicts["ablation"], verdicts["claim"], strict=True))
    verdicts["own"] = [own.loc[key, "claim_verdict"] for key in keys]
    verdicts["print"] = [said[key] for key in keys]
    return verdicts[verdicts["own"] != NOT_TESTED].reset_index(drop=True)


def contradicted_by_print(rows: pandas.DataFrame) -> str:
    """Which printed numbers lie outside a claim's margin: of the mean over tasks for claims about
    the average, of any task for others."""
    first = rows.iloc[0]
    if first["quantifier"] == ON_AVERAGE and ALL_TASKS in set(rows["task"]):
        rows = rows[rows["task"] == ALL_TASKS]
    outside = rows[
        (rows["verdict"] != NOT_TESTED)
        & (
            (rows["effect"] < first["margin_low"] - 1e-9)
            | (rows["effect"] > first["margin_high"] + 1e-9)
        )
    ]
    return ", ".join(
        f"{short_name(str(row['task']))} {row['effect']:.3g}" for row in outside.to_dict("records")
    )


def failures(errors: pandas.DataFrame, claims: pandas.DataFrame) -> list[str]:
    """Which requirements are not met, in words."""
    found = []
    for column in (SUPPORTED, CONTRADICTED):
        for row in errors[errors[column] > LARGEST_ERROR].to_dict("records"):
            found.append(
                f"{row['judge']}, {row['values']}, {row['quantifier']}, {row['tasks']} tasks, "
                f"{row['seeds']} seeds: {row[column]:.3f} false {column!r}"
            )
    consistent = claims[claims["print"] == ""]
    share = float((consistent["own"] == SUPPORTED).mean())
    if share < LEAST_REPLICATED:
        found.append(f"{share:.1%} of the claims with printed data are supported by the print")
    for row in consistent[consistent["own"] == CONTRADICTED].to_dict("records"):
        found.append(f"{row['ablation']} {row['claim']}: contradicted by print that agrees with it")
    return found


def main() -> int:
    """Print all three parts; 1 where a requirement is not met."""
    parser = argparse.ArgumentParser(description="what the claims' judges get wrong")
    parser.add_argument("--repetitions", type=int, default=2000)
    repetitions = parser.parse_args().repetitions
    errors = error_rates(repetitions)
    print(
        f"1. False verdicts at the edge of a claim, {repetitions} repetitions (normal: 4 times)\n"
    )
    print(errors.to_string(index=False, float_format="%.3f", na_rep=""))
    claims = replicate(ABLATIONS)
    print(f"\n2. The printed numbers as results, {PSEUDO_SEEDS} pseudo-seeds, deviation {NOISE}\n")
    shown = claims.rename(columns={"verdict": "after Holm"})
    names = ["ablation", "claim", "quantifier", "own", "after Holm", "p_value", "print"]
    print(shown[names].to_string(index=False, float_format="%.2g"))
    consistent = claims[claims["print"] == ""]
    for label, column in (("", "own"), (" after Holm's correction", "verdict")):
        count = int((consistent[column] == SUPPORTED).sum())
        print(f"{count} of {len(consistent)} supported{label}")
    print("Contradicted by their own print and left out:")
    for row in claims[claims["print"] != ""].to_dict("records"):
        print(f"  {row['ablation']} {row['claim']} ({row['statement']}): {row['print']}")
    print("\n3. Power at one deviation, one task, normal values\n")
    print(pandas.DataFrame(power(repetitions)).to_string(index=False, float_format="%.2f"))
    problems = failures(errors, claims)
    print("\nAll requirements are met." if not problems else "\nNot met:")
    for problem in problems:
        print(f"  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
