"""What SafeFQL's calibration keeps of its promise on new episodes of the boats' behaviour.

    python -m tests.benchmarks.conformal_coverage [--seeds 3] [--steps 6000] [--json FILE]

trains SafeFQL's critics as the ablation `safefql-coverage` does at small scale, collects as many
episodes again with another seed, and prints, for the states of these from which a violation follows
within the calibration window: the share that is declared feasible with the threshold at 0 (`none`),
and with the threshold of each level before the method lowers it to at most 0 (`free`) and after
(`kept`). The promise is a share of at most the level, in the mean over calibration data, whatever
the critics are worth: so critics after a tenth of their steps are looked at too.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from safesweep.trainables.components.conformal import (
    calibrated_threshold,
    calibration_weights,
    episode_numbers,
    violation_ahead,
)
from tests.benchmarks.measurement import add_json_option, print_table, write_json
from tests.trainables.populations import make_population

TASKS = ("BoatNavigation-v0", "BoatNavigationHard-v0")
LEVELS = (0.05, 0.1, 0.2)
VALUES = {
    "hidden_dim": 64, "batch_size": 256, "learning_rate": 0.001, "target_update_rate": 0.02,
    "violation_signal": 1.0, "flow_steps": 5, "discount": 0.97, "safety_weight": 1000.0,
    "calibration_episodes": 40,
}  # fmt: skip
NEW_EPISODES_SEED = 1


def rows_of(task_name: str, seeds: int, steps: int) -> list[dict[str, Any]]:
    """Rows for the critics after a tenth of their steps and after all."""
    from safesweep.trainables.data.cache import default_episodes
    from safesweep.trainables.data.collect import collect_dataset
    from safesweep.trainables.data.dataset import read_dataset
    from safesweep.trainables.data.sources import load_dataset
    from safesweep.trainables.methods.safefql import SafeFQL
    from safesweep.trainables.methods.safefql_config import SafeFQLConfig
    from safesweep.trainables.tasks.registry import get_task

    task, dataset = get_task(task_name), load_dataset(task_name, "collect")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.hdf5"
        collect_dataset(task, default_episodes(task), NEW_EPISODES_SEED, path)
        new = read_dataset(path, task)
    config = SafeFQLConfig.resolve(VALUES)
    runs = make_population(
        SafeFQL, [config] * seeds, list(range(seeds)), task, dataset, steps, task.cost_limit
    )
    window = config.calibration_window
    ends = torch.as_tensor(new.terminals), torch.as_tensor(new.timeouts)
    episodes = episode_numbers(*ends)
    unsafe = violation_ahead(torch.as_tensor(new.costs), episodes, window)
    # One state of an episode at random, as the promise has it.
    weights = calibration_weights(unsafe, episodes)[unsafe]
    weights = weights / weights.sum()
    states = torch.as_tensor(new.observations)[unsafe]
    held_out = runs.data["calibration_weights"]
    chosen = torch.nonzero(held_out).squeeze(-1)
    calibration_states = runs.data["observations"][chosen]
    rows = []
    for budget in (steps // 20, steps // 2):
        runs.advance(budget)
        shares: dict[str, list[float]] = {}
        for member in range(seeds):
            state = runs.member_state(member)
            value = runs.method.nominal_value(state, states)
            scores = runs.method.nominal_value(state, calibration_states)

            def share(threshold: torch.Tensor, value: torch.Tensor = value) -> float:
                return float(weights[value <= threshold].sum())

            shares.setdefault("none", []).append(share(torch.zeros(())))
            for level in LEVELS:
                found = calibrated_threshold(scores, held_out[chosen], torch.tensor(level))
                shares.setdefault(f"free {level:g}", []).append(share(found))
                shares.setdefault(f"kept {level:g}", []).append(share(found.clamp(max=0.0)))
        means = {name: round(sum(found) / seeds, 4) for name, found in shares.items()}
        rows.append({"task": task_name, "critic_steps": budget, **means})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6000, help="half of them train the critics")
    add_json_option(parser)
    arguments = parser.parse_args()
    rows = [row for task in TASKS for row in rows_of(task, arguments.seeds, arguments.steps)]
    print_table(rows)
    write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
