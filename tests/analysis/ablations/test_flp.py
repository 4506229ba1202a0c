import pandas
import pytest

from safesweep.analysis.ablations.engine.settings import COLUMNS
from safesweep.analysis.ablations.flp.comparisons import before_and_after, by_environment
from safesweep.trainables.tasks.registry import get_task


def rows(*entries: tuple[str, int, int, float]) -> pandas.DataFrame:
    """Results of (key of the task, seed, step, value)."""
    return pandas.DataFrame(
        [
            (get_task(key).name, "", "FLP", float("nan"), seed, step, "normalized_reward", value)
            for key, seed, step, value in entries
        ],
        columns=list(COLUMNS),
    )


def test_tables_show_the_mean_of_an_environments_tasks_by_seed() -> None:
    found = by_environment(
        rows(
            ("cube-single", 0, 9, 1.0), ("cube-single-task1", 0, 9, 0.0),
            ("cube-single-task5", 0, 9, 0.5), ("cube-single", 1, 9, 0.2), ("scene", 0, 9, 0.7),
        )
    )  # fmt: skip
    means = found.set_index(["task", "seed"])["value"].to_dict()
    cube, scene = get_task("cube-single").name, get_task("scene").name
    assert means == pytest.approx({(cube, 0): 0.5, (cube, 1): 0.2, (scene, 0): 0.7})
    assert by_environment(rows()).empty


def test_a_curve_is_cut_where_training_goes_online() -> None:
    curve = rows(*(("scene", 0, step, step / 100) for step in (25, 50, 75, 100)))
    found = before_and_after(curve.assign(setting="online")).set_index("setting")
    assert found["value"].to_dict() == {"offline": 0.5, "online": 1.0}
    assert set(found["step"]) == {100}
    assert before_and_after(rows()).empty
