from pathlib import Path

import pandas
import pytest

from safesweep.analysis.ablations.flrp import EXPECTILES, TABLE_8
from safesweep.analysis.claims import CONTRADICTED, SUPPORTED, score
from safesweep.analysis.store.reader import ResultStore


def results_of(task: str, changes: list[float]) -> pandas.DataFrame:
    """Recall that rises by `changes[seed]` from the lowest to the highest expectile."""
    return pandas.DataFrame(
        [
            {
                "task": task,
                "series": "",
                "setting": f"{level:g}",
                "x": level,
                "seed": seed,
                "step": 1000,
                "metric": "feasible_recall",
                "value": 0.1 + change * position / 4,
            }
            for seed, change in enumerate(changes)
            for position, level in enumerate(EXPECTILES)
        ]
    )


@pytest.mark.parametrize(
    ("ant", "verdict"), [([0.8, 0.85, 0.82], SUPPORTED), ([0.1, 0.12, 0.11], CONTRADICTED)]
)
def test_the_change_is_compared_between_the_papers_two_tasks(ant, verdict: str) -> None:
    frames = [
        results_of("OfflineCarRun-v0", [0.5, 0.51, 0.49]),
        results_of("OfflineAntCircle-v0", ant),
    ]
    card = score(TABLE_8.claims, pandas.concat(frames))
    row = card[card["claim"] == "sharper-on-ant-circle"].iloc[0]
    assert row["verdict"] == verdict


def test_results_are_those_of_completed_runs_at_their_last_step(
    write_sweep, tmp_path: Path
) -> None:
    write_sweep(
        "first",
        [{"feasibility_expectile": 0.6}],
        statuses={2: "diverged"},
        metrics=lambda config, seed: {"feasible_recall": 0.5 + seed / 10, "loss/x": 1.0},
    )
    results = TABLE_8.collect(ResultStore(tmp_path / "store"), ("first",))
    assert results["seed"].tolist() == [0, 1]
    assert results["value"].tolist() == [0.5, 0.6]
    assert set(results["metric"]) == {"feasible_recall"}


def test_a_figure_with_one_seed_and_few_settings_is_drawn(tmp_path: Path) -> None:
    results = results_of("BoatNavigation-v0", [0.5])
    results = results[results["x"] < 0.75]
    figure = TABLE_8.draw(results, TABLE_8.published(), "smoke")
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert titles == [
        "BoatNavigation",
        "CarRun (printed only)",
        "AntCircle (printed only)",
    ]
