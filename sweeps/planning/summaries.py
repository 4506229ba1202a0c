"""What came of a configuration, from the ends of its runs."""

from collections.abc import Collection

from safesweep.sweeps.planning.history import RunOutcome
from safesweep.sweeps.planning.search import Outcome
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.store.scores import rounded


def summarize(spec: SweepSpec, results: Collection[RunOutcome]) -> Outcome:
    """What a search is told of a configuration: means over all of its seeds.

    A configuration with a failed or diverged seed counts as failed: the mean over the survivors
    would make it look better than it is.
    """
    if not all(result.scores and result.status in ("completed", "stopped") for result in results):
        return Outcome("failed")

    means = mean_scores(results)
    constraints = {name: means[name] - limit for name, limit in spec.subject_to.items()}
    stopped = [result.steps for result in results if result.status == "stopped"]
    if stopped:
        return Outcome("pruned", means[spec.maximize], constraints, min(stopped))
    return Outcome("complete", means[spec.maximize], constraints)


def mean_scores(results: Collection[RunOutcome]) -> dict[str, float]:
    """Each score's mean over runs that all have it, as the selection rules compare them."""
    names = next(iter(results)).scores
    return {
        name: float(rounded(sum(result.scores[name] for result in results) / len(results)))
        for name in names
    }
