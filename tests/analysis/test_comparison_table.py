"""The table of a comparison: means, marks and averages of hand-made results."""

import pandas
import pytest

from safesweep.analysis.comparison_table import as_latex, as_markdown, comparison
from safesweep.analysis.selection.choice import select
from safesweep.search_spaces.validation import InvalidInput

# Reward and cost of two seeds, by method and task.
SCORES = {
    ("bc", "bc", "OfflineBallRun-v0"): [(0.9, 3.0), (0.7, 1.0)],
    ("bc", "bc", "OfflineCarRun-v0"): [(0.8, 0.5), (0.6, 0.5)],
    ("caps", "caps@10", "OfflineBallRun-v0"): [(0.3, 0.5), (0.3, 1.5)],
    ("caps", "caps@10", "OfflineCarRun-v0"): [(0.5, 0.0), (0.5, 0.2)],
    ("caps", "caps@20", "OfflineBallRun-v0"): [(0.5, 0.7), (0.5, 0.7)],
    ("caps", "caps@20", "OfflineCarRun-v0"): [(-0.1, 0.0), (0.1, 0.0)],
    ("fisor", "fisor", "OfflineBallRun-v0"): [(0.2, 0.0), (0.2, 0.0)],
    ("fisor", "fisor", "BoatNavigation-v0"): [(0.4, 0.0), (0.4, 0.0)],
    ("mine_2", "mine_2", "BoatNavigation-v0"): [(0.6, 9.0), (0.6, 9.0)],
}


@pytest.fixture
def table() -> pandas.DataFrame:
    rows = pandas.DataFrame(
        {
            "algorithm": algorithm, "task": task, "policy": policy, "config_id": algorithm,
            "seed": seed, "step": 10, "normalized_reward": reward, "normalized_cost": cost,
        }
        for (algorithm, policy, task), scores in SCORES.items()
        for seed, (reward, cost) in enumerate(scores)
    )  # fmt: skip
    return comparison(rows, select(rows))


def row_of(table: pandas.DataFrame, task: str, method: str) -> dict[str, object]:
    (row,) = table[(table["task"] == task) & (table["method"] == method)].to_dict("records")
    return row


def test_cells_are_means_over_seeds_with_marks(table: pandas.DataFrame) -> None:
    cloning = row_of(table, "OfflineBallRun-v0", "BC")
    assert (cloning["reward"], cloning["cost"]) == pytest.approx((0.8, 2.0))
    assert cloning["cost_deviation"] == pytest.approx(2**0.5)
    assert cloning["seeds"] == 2 and not cloning["safe"] and not cloning["best_safe"]
    # A mean cost of exactly 1 is safe.
    assert row_of(table, "OfflineBallRun-v0", "CAPS @10")["safe"]
    best = table[table["best_safe"]].set_index("task")["method"]
    assert best["OfflineBallRun-v0"] == "CAPS @20" and best["OfflineCarRun-v0"] == "BC"


def test_a_suites_average_is_over_methods_that_have_all_its_tasks(table: pandas.DataFrame) -> None:
    averages = table[table["task"] == "average"]
    assert list(averages["suite"].unique()) == ["bullet"]
    assert list(averages["method"]) == ["BC", "CAPS @10", "CAPS @20"]
    cloning = row_of(table, "average", "BC")
    assert (cloning["reward"], cloning["cost"]) == pytest.approx((0.75, 1.25))
    assert not cloning["safe"]
    assert row_of(table, "average", "CAPS @10")["best_safe"]


def test_markdown(table: pandas.DataFrame) -> None:
    lines = as_markdown(table).splitlines()
    assert lines[0].startswith("| task | BC reward | BC cost | CAPS @10 reward |")
    assert lines[0].count("|") == lines[1].count("|") == 12
    assert all(line.count("|") == 12 for line in lines[:6])
    (ball,) = [line for line in lines if line.startswith("| BallRun |")]
    assert '<span style="color:gray">0.80</span> | <span style="color:gray">2.00</span>' in ball
    assert "| **0.30** | **1.00** |" in ball
    assert '<span style="color:blue">**0.50**</span>' in ball
    (boat,) = [line for line in lines if line.startswith("| BoatNavigation |")]
    assert "|  |  |" in boat
    assert "mine\\_2 reward" in lines[0]
    assert "| Average, Bullet |" in "\n".join(lines)
    assert "0.80 ± 0.14" in as_markdown(table, deviations=True)


def test_latex(table: pandas.DataFrame) -> None:
    text = as_latex(table)
    assert text.count(r"\begin{tabular}{lrrrrrrrrrr}") == 1
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in body[1:]} == {10}
    assert r"\textcolor{gray}{0.80} & \textcolor{gray}{2.00}" in text
    assert r"\textbf{0.30} & \textbf{1.00}" in text
    assert r"\textcolor{blue}{\textbf{0.50}}" in text
    assert r"\multicolumn{2}{c}{mine\_2}" in text and "-- & --" in text
    assert r"0.80 $\pm$ 0.14" in as_latex(table, deviations=True)
    assert text.count("{") == text.count("}")


def test_nothing_chosen_is_said() -> None:
    columns = ["algorithm", "task", "config_id", "seed", "normalized_reward", "normalized_cost"]
    nothing = pandas.DataFrame({name: [] for name in columns})
    with pytest.raises(InvalidInput, match="table: nothing was chosen"):
        comparison(nothing, select(nothing))
