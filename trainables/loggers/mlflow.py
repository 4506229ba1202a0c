"""MLflow: a run a run, the sweep as its experiment. Needs the extra `mlflow`.

It goes where MLFLOW_TRACKING_URI says, else into an SQLite file in the folder. A run that is there
already, by the tag `safesweep.run_id`, is gone on with.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from safesweep.trainables.loggers.run_log import LOST_STATUSES, LoggedRun, LoggingObserver, LogMaker

RUN_TAG = "safesweep.run_id"
DATABASE = "mlflow.db"


def tracking_uri(folder: Path) -> str:
    """Where runs are tracked."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.absolute() / DATABASE}"


class MlflowLog:
    """One run of an experiment named after the sweep."""

    def __init__(self, run: LoggedRun, folder: Path, resumed: bool = False) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=tracking_uri(folder))
        name = run.sweep or "safesweep"
        experiment = self._client.get_experiment_by_name(name)
        identifier = (
            self._client.create_experiment(
                name, artifact_location=(folder.absolute() / "artifacts").as_uri()
            )
            if experiment is None
            else experiment.experiment_id
        )
        known = self._client.search_runs([identifier], f"tags.`{RUN_TAG}` = '{run.run_id}'")
        if known:
            self._run = known[0].info.run_id
            self._client.set_terminated(self._run, "RUNNING")
            return
        tags = {RUN_TAG: run.run_id, "algorithm": run.algorithm, "task": run.task}
        made = self._client.create_run(identifier, tags=tags, run_name=run.name)
        self._run = made.info.run_id
        params = [Param(name, str(value)) for name, value in sorted(run.config.items())]
        self._client.log_batch(self._run, params=[*params, Param("seed", str(run.seed))])

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Add a metric for each number; MLflow's names have no other signs than these."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(metric_name(name), value, now, step) for name, value in values.items()]
        for start in range(0, len(metrics), 1000):
            self._client.log_batch(self._run, metrics=metrics[start : start + 1000])

    def end(self, status: str) -> None:
        """Close the run, as MLflow says it."""
        self._client.set_tag(self._run, "status", status)
        state = "FAILED" if status in LOST_STATUSES else "FINISHED"
        self._client.set_terminated(self._run, state)


def metric_name(name: str) -> str:
    """A name with only the signs that MLflow allows."""
    return "".join(sign if sign.isalnum() or sign in "_-. :/" else "_" for sign in name)


class MlflowObserver(LoggingObserver):
    """Logs every run to MLflow."""

    tool: ClassVar[str] = "mlflow"
    begin: ClassVar[LogMaker] = MlflowLog


OBSERVERS = {"mlflow": MlflowObserver}
