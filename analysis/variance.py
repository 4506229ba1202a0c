"""How much of what differs between runs is due to the episodes that they were evaluated on."""

from collections.abc import Collection

import numpy as np
import pandas

from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput

METRICS = {"reward": "reward_return", "cost": "cost_return"}
COLUMNS = (
    "task", "metric", "within", "between", "configurations", "runs", "episodes",
)  # fmt: skip

# Episodes that all runs of a configuration have, by their number.
_QUERY = """
WITH x AS (
  SELECT e.task, e.config_id, coalesce(e.policy, '') AS policy, e.run_id, p.episode,
         p.reward_return AS reward, p.cost_return AS cost
  FROM episodes p JOIN evaluations e ON p.run_id = e.run_id AND p.step = e.step
    AND p.policy IS NOT DISTINCT FROM e.policy
  JOIN runs r ON e.run_id = r.run_id AND e.step = r.steps
  WHERE r.status = 'completed'{chosen}),
seeds AS (
  SELECT config_id, policy, count(DISTINCT run_id) AS seeds FROM x GROUP BY ALL HAVING seeds > 1),
common AS (
  SELECT x.* FROM x JOIN seeds USING (config_id, policy)
  QUALIFY count(*) OVER (PARTITION BY config_id, policy, episode) = seeds),
rest AS (
  SELECT *,
    reward - avg(reward) OVER by_run - avg(reward) OVER by_episode + avg(reward) OVER by_policy
      AS reward_left,
    cost - avg(cost) OVER by_run - avg(cost) OVER by_episode + avg(cost) OVER by_policy
      AS cost_left
  FROM common
  WINDOW by_run AS (PARTITION BY config_id, policy, run_id),
         by_episode AS (PARTITION BY config_id, policy, episode),
         by_policy AS (PARTITION BY config_id, policy))
SELECT task, config_id, policy, run_id, count(*) AS episodes, avg(reward) AS reward,
       avg(cost) AS cost, sum(reward_left * reward_left) AS reward_rest,
       sum(cost_left * cost_left) AS cost_rest
FROM rest GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL
"""


def episode_variances(
    store: ResultStore, tasks: Collection[str] | None = None, sweep: str | None = None
) -> pandas.DataFrame:
    """Variance of returns within a run and between the runs of a configuration.

    Of the completed runs at their last step, in a two-way layout of seeds and episodes without
    interaction: `within` is the residual mean square, what is left of an episode's return without
    its run's mean and its own mean over the runs (where all runs start alike, a start's difficulty
    does not set runs apart; where they do not, nothing is taken away on average). `between` is the
    variance of the runs' means less the `within` that remains in them, and not below 0. Both are
    averaged over configurations and policies, which weigh by their degrees of freedom. Source:
    Searle et al. (1992), "Variance Components", chapter 4 (the analysis-of-variance estimates).

    Args:
        tasks: only these; names without quotes.
        sweep: only the runs that this sweep comprises.

    Returns:
        A row per task and metric ("reward", "cost"): `within` and `between` in squared returns,
        and how many `configurations` (and policies of them), `runs` and `episodes` they are from.
        Only configurations with two seeds or more of two episodes or more count.

    Raises:
        InvalidInput: no such sweep.
    """
    chosen = ""
    if tasks is not None:
        if not tasks or any("'" in task for task in tasks):
            return pandas.DataFrame(columns=COLUMNS)
        chosen = " AND e.task IN ({})".format(", ".join(f"'{task}'" for task in sorted(tasks)))
    frame = store.sql(_QUERY.format(chosen=chosen))
    if sweep is not None:
        members = store.runs(columns=["run_id"], sweep=sweep)["run_id"]
        frame = frame[frame["run_id"].isin(members)]
    groups = frame.groupby(["task", "config_id", "policy"], sort=True, dropna=False)
    rows = [
        {"task": key[0], "metric": metric, **_components(group, metric)}
        for key, group in groups
        if len(group) > 1
        for metric in METRICS
    ]
    parts = pandas.DataFrame(rows)
    if parts.empty:
        return pandas.DataFrame(columns=COLUMNS)
    found = []
    for (task, metric), part in parts.groupby(["task", "metric"], sort=True):
        found.append(
            {
                "task": task,
                "metric": metric,
                "within": float(np.average(part["within"], weights=part["inner"])),
                "between": max(0.0, float(np.average(part["between"], weights=part["outer"]))),
                "configurations": len(part),
                "runs": int(part["outer"].sum()) + len(part),
                "episodes": int(part["episodes"].sum()),
            }
        )
    return pandas.DataFrame(found, columns=COLUMNS)


def _components(runs: pandas.DataFrame, metric: str) -> dict[str, float]:
    """Both variances of one configuration, the second perhaps below 0, and their freedom."""
    episodes = int(runs["episodes"].iloc[0])  # the same for all of them
    inner = (len(runs) - 1) * (episodes - 1)
    within = float(runs[f"{metric}_rest"].sum()) / inner
    of_means = float(np.var(runs[metric].to_numpy(np.float64), ddof=1))
    return {
        "within": within,
        "between": of_means - within / episodes,
        "inner": float(inner),
        "outer": len(runs) - 1,
        "episodes": float(episodes * len(runs)),
    }


def noise_share(within: float, between: float, episodes: int) -> float:
    """Of the variance of a run's mean over so many episodes the share that episodes make, in
    [0, 1]; 0 where nothing varies.

    Raises:
        InvalidInput: `episodes` is below 1.
    """
    if episodes < 1:
        raise InvalidInput(f"episodes: {episodes} is not allowed; it must be at least 1")
    noise = within / episodes
    return noise / (noise + between) if noise > 0 else 0.0
