import json
from pathlib import Path

import numpy as np
import pandas
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.measurements.registry import measure
from safesweep.trainables.measurements.request import MeasurementRequest
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import TASKS
from safesweep.trainables.training.request import TrialRequest
from safesweep.trainables.training.trial import Trial
from tests.quick import slow_but

SMALL = {"hidden_dim": 8, "batch_size": 16}
METHODS = {
    "flrp": ("flrp_refinement", {**SMALL, "latent_dim": 2, "coupling_layers": 1}),
    "lspc": ("lspc_actions", {**SMALL, "latent_dim": 2}),
    "r2pac": ("r2pac_values", {**SMALL, "hidden_layers": 1, "flow_steps": 1, "candidates": 1}),
}


@pytest.mark.parametrize("algorithm", slow_but(["r2pac"], METHODS))
def test_each_completed_run_is_measured(
    algorithm: str, make_dataset, tmp_path: Path, monkeypatch
) -> None:
    measurement, values = METHODS[algorithm]
    task, data = TASKS["BoatNavigation-v0"], make_dataset(TASKS["BoatNavigation-v0"])
    monkeypatch.setattr(
        "safesweep.trainables.measurements.registry.load_dataset", lambda task, source: data
    )
    config = ALGORITHMS[algorithm].config_class.resolve(values)
    writer = ResultWriter(str(tmp_path), "sweep")
    asked = TrialRequest(algorithm, task.name, [config.to_dict()] * 2, [0, 1], 4, 4, 1, 1.0)
    trial = Trial(asked, task, data, writer)
    trial.advance()
    rows = [{**row, "config": json.dumps(row["config"])} for row in trial.rows.runs]
    rows[1]["status"] = "diverged"
    request = MeasurementRequest("name", measurement, "sweep", size=4)
    measure(str(tmp_path), request, pandas.DataFrame(rows))
    assert [path.name for path in tmp_path.glob("measurements/sweep=sweep/*")] == [
        f"name-{trial.trial_id}.parquet"
    ]
    measured = ResultStore(tmp_path).measurements(name="name")
    assert set(measured["run_id"]) == {rows[0]["run_id"]}
    assert set(measured["algorithm"]) == {algorithm}
    assert np.isfinite(measured.loc[measured["quantity"] != "inside_share", "value"]).all()


def test_the_toy_is_measured_without_runs(tmp_path: Path) -> None:
    request = MeasurementRequest("flp-fig2-smoke", "bandit", "", size=2)
    ResultWriter(str(tmp_path), "any")
    measure(str(tmp_path), request, ResultStore(tmp_path).runs())
    counts = ResultStore(tmp_path).sql(
        "SELECT algorithm, count(DISTINCT view) AS strengths, count(DISTINCT seed) AS seeds "
        "FROM measurements WHERE name = 'flp-fig2-smoke' GROUP BY 1 ORDER BY 1"
    )
    assert counts.to_dict("list") == {
        "algorithm": ["flp", "safefql"], "strengths": [4, 4], "seeds": [3, 3]
    }  # fmt: skip


def test_an_unknown_measurement_is_named(tmp_path: Path) -> None:
    request = MeasurementRequest("name", "flrp_refinment", "sweep")
    with pytest.raises(InvalidInput, match="flrp_refinement"):
        measure(str(tmp_path), request, pandas.DataFrame({"status": []}))
