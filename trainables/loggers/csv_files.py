"""CSV: a folder a run with `progress.csv`, a row a step, and `config.json`."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from safesweep.trainables.loggers.run_log import LoggedRun, LoggingObserver, LogMaker

PROGRESS, CONFIG = "progress.csv", "config.json"


class CsvLog:
    """Written whole at each step, since later steps may have further columns."""

    def __init__(self, run: LoggedRun, folder: Path, resumed: bool = False) -> None:
        self._folder = folder / run.run_id
        self._folder.mkdir(parents=True, exist_ok=True)
        self._config = {
            "run_id": run.run_id, "sweep": run.sweep, "algorithm": run.algorithm,
            "task": run.task, "seed": run.seed, "config": dict(run.config),
        }  # fmt: skip
        self._rows: list[dict[str, float | str]] = []
        path = self._folder / PROGRESS
        if resumed and path.exists():
            with path.open(newline="", encoding="utf-8") as stream:
                self._rows = [dict(row) for row in csv.DictReader(stream)]
        self._write_config()

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row; one of the same step, or of a later one, gives way."""
        self._rows = [row for row in self._rows if int(float(row["step"])) < step]
        self._rows.append({"step": step, **values})
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        with (self._folder / PROGRESS).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)

    def end(self, status: str) -> None:
        """Say in the configuration how it ended."""
        self._config["status"] = status
        self._write_config()

    def _write_config(self) -> None:
        text = json.dumps(self._config, indent=1)
        (self._folder / CONFIG).write_text(text + "\n", encoding="utf-8")


class CsvObserver(LoggingObserver):
    """Logs every run as CSV."""

    tool: ClassVar[str] = "csv"
    begin: ClassVar[LogMaker] = CsvLog


OBSERVERS = {"csv": CsvObserver}
