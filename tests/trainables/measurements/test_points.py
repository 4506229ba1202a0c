import json
from pathlib import Path

import numpy as np
import pandas
import pytest

from safesweep.trainables.measurements.point_tables import (
    COLUMNS,
    PointRequest,
    read_points,
    write_points,
)
from safesweep.trainables.measurements.points import (
    measure_points,
    principal_components,
    share_in_hull,
    umap_places,
)
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import TASKS
from safesweep.trainables.training.trial import Trial

SMALL = {"hidden_dim": 8, "batch_size": 16}
METHODS = {
    "flrp": ("flrp_refinement", {**SMALL, "latent_dim": 2, "coupling_layers": 1}),
    "lspc": ("lspc_actions", {**SMALL, "latent_dim": 2}),
    "r2pac": ("r2pac_values", {**SMALL, "hidden_layers": 1, "flow_steps": 1, "candidates": 1}),
}


def test_points_are_read_back_and_a_table_that_is_not_there_is_none(tmp_path: Path) -> None:
    frame = pandas.DataFrame([("a-0", 0, "task", "view", 1, "q", 0.5)], columns=list(COLUMNS))
    write_points(str(tmp_path), "name", frame)
    pandas.testing.assert_frame_equal(read_points(str(tmp_path), "name"), frame)
    assert read_points(str(tmp_path), "other") is None


def test_the_share_within_a_square() -> None:
    square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    points = np.array([[0.5, 0.5], [0.9, 0.1], [1.5, 0.5], [-0.1, 0.2]])
    assert share_in_hull(points, square) == 0.5
    assert np.isnan(share_in_hull(points, square[[0, 0, 0]]))


def test_principal_components_keep_two_coordinates_and_find_a_line() -> None:
    plane = np.random.default_rng(0).standard_normal((50, 2))
    assert principal_components(plane) is plane
    along = np.linspace(-1, 1, 50)
    line = np.stack([along, 2 * along, -along, np.zeros(50)], axis=1)
    places = principal_components(line)
    assert np.abs(np.corrcoef(places[:, 0], along)[0, 1]) == pytest.approx(1)
    assert np.abs(places[:, 1]).max() < 1e-9


def test_umap_keeps_two_groups_apart_and_repeats() -> None:
    pytest.importorskip("umap", reason="the extra umap is not installed")
    generator = np.random.default_rng(0)
    groups = generator.standard_normal((2, 40, 5)) + np.array([0.0, 20.0])[:, None, None]
    states = groups.reshape(80, 5).astype(np.float32)
    places = umap_places(states)
    assert places is not None
    again = umap_places(states)
    np.testing.assert_array_equal(places, again)
    one, other = places[:40], places[40:]
    gap = np.linalg.norm(one.mean(0) - other.mean(0))
    assert gap > 2 * max(one.std(0).max(), other.std(0).max())


def test_without_the_extra_or_in_the_plane_there_is_no_umap(monkeypatch) -> None:
    assert umap_places(np.zeros((5, 2))) is None
    monkeypatch.setattr("safesweep.trainables.measurements.points.find_spec", lambda name: None)
    assert umap_places(np.random.default_rng(0).standard_normal((5, 3))) is None


@pytest.mark.parametrize("algorithm", METHODS)
def test_a_view_is_measured_on_each_completed_run(
    algorithm: str, make_dataset, tmp_path: Path, monkeypatch
) -> None:
    view, values = METHODS[algorithm]
    task, data = TASKS["BoatNavigation-v0"], make_dataset(TASKS["BoatNavigation-v0"])
    monkeypatch.setattr(
        "safesweep.trainables.measurements.points.load_dataset", lambda task, source: data
    )
    config = ALGORITHMS[algorithm].config_class.resolve(values)
    writer = ResultWriter(str(tmp_path), "sweep")
    trial = Trial(algorithm, task, data, [config] * 2, [0, 1], 4, 4, 1, 1.0, writer=writer)
    trial.advance()
    rows = [{**row, "config": json.dumps(row["config"])} for row in trial.rows.runs]
    rows[1]["status"] = "diverged"
    request = PointRequest("name", view, "sweep", size=4)
    measure_points(str(tmp_path), request, pandas.DataFrame(rows))
    points = read_points(str(tmp_path), "name")
    assert points is not None
    assert set(points["run_id"]) == {rows[0]["run_id"]}
    assert np.isfinite(points.loc[points["quantity"] != "inside_share", "value"]).all()
