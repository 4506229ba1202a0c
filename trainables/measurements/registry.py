"""The measurements by name, and the one way from a request to rows of the table `measurements`."""

from collections.abc import Mapping
from typing import Any

import pandas
import torch

from safesweep.search_spaces.validation import require_choice
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.data.sources import load_dataset
from safesweep.trainables.measurements.flp import bandit_rows
from safesweep.trainables.measurements.flrp import flrp_refinement
from safesweep.trainables.measurements.lspc import lspc_actions
from safesweep.trainables.measurements.measuring import Measure
from safesweep.trainables.measurements.r2pac import r2pac_values
from safesweep.trainables.measurements.request import MeasurementRequest
from safesweep.trainables.measurements.transfer import transfer
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.training.checkpoints import load_run

MEASUREMENTS: Mapping[str, Measure] = {
    "flrp_refinement": flrp_refinement,
    "lspc_actions": lspc_actions,
    "r2pac_values": r2pac_values,
    "transfer": transfer,
}


def measure(storage: str, request: MeasurementRequest, runs: pandas.DataFrame) -> None:
    """Measure runs and write the rows, a part a trial; those of a trial are written anew.

    Args:
        storage: the store, which holds the runs' checkpoints.
        runs: rows of the table `runs`; those that are not completed are left out.

    Raises:
        InvalidInput: no such measurement, a checkpoint is missing or is another run's, or the data
            is not that of the runs.
    """
    writer = ResultWriter(storage, request.sweep or request.name)
    if request.measurement == "bandit":
        writer.write_measurements(request.name, None, bandit_rows(request))
        return
    chosen = MEASUREMENTS[require_choice("measurement", request.measurement, MEASUREMENTS)]
    datasets: dict[str, Dataset] = {}
    for trial, members in runs[runs["status"] == "completed"].groupby("trial_id", sort=False):
        rows: list[dict[str, Any]] = []
        for run in members.to_dict("records"):
            task = str(run["task"])
            if task not in datasets:
                datasets[task] = load_dataset(task, request.source)
            population = load_run(writer, run, datasets[task])
            keys = {name: run[name] for name in ("run_id", "algorithm", "task", "seed")}
            with torch.no_grad():
                rows += [
                    {**keys, "view": view, "point": point, "quantity": quantity, "value": value}
                    for view, point, quantity, value in chosen(population, datasets[task], request)
                ]
        writer.write_measurements(request.name, str(trial), rows)
