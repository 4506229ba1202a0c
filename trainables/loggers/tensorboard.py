"""TensorBoard: an event file a run, with its hyperparameters as text. Scalars are single precision
there, as TensorBoard keeps them. Needs the extra `tensorboard`."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from safesweep.trainables.loggers.run_log import LoggedRun, LoggingObserver, LogMaker


class TensorBoardLog:
    """The events of one run, in `<folder>/<run_id>`."""

    def __init__(self, run: LoggedRun, folder: Path, resumed: bool = False) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder / run.run_id))
        if not resumed:
            lines = [f"    {name}: {value}" for name, value in sorted(run.config.items())]
            about = f"    {run.name}, seed {run.seed}, sweep {run.sweep}"
            self._writer.add_text("config", "\n".join([about, *lines]))

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Add a scalar for each number."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self, status: str) -> None:
        """Close the file."""
        self._writer.add_text("status", status)
        self._writer.close()


class TensorBoardObserver(LoggingObserver):
    """Logs every run to TensorBoard."""

    tool: ClassVar[str] = "tensorboard"
    begin: ClassVar[LogMaker] = TensorBoardLog


OBSERVERS = {"tensorboard": TensorBoardObserver}
