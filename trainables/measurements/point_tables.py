"""Tables of points beside a store's own: what is measured on trained networks for a figure.

One CSV file a request at `<store>/points/<name>.csv`, in long form (`COLUMNS`). Reading them needs
neither torch nor the networks.
"""

import io
from dataclasses import dataclass

import pandas
from pyarrow import ArrowException, fs

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store.writer import ResultWriter, storage_location

COLUMNS = ("run_id", "seed", "task", "view", "point", "quantity", "value")


@dataclass(frozen=True)
class PointRequest:
    """What to measure.

    Attributes:
        name: of the table.
        view: what is measured, a name in `trainables.measurements.points.VIEWS`.
        sweep: the sweep whose completed runs are measured; empty for a view that needs no runs.
        source: of the runs' datasets, as in a sweep file.
        size: how many points the view takes: states, episodes or gradient steps.
        target_tasks: tasks to roll the policies out in, for the view that does so.
    """

    name: str
    view: str
    sweep: str
    source: str = "auto"
    size: int = 64
    target_tasks: tuple[str, ...] = ()


def points_path(name: str) -> str:
    """Where a table of points lies within a store."""
    return f"points/{name}.csv"


def write_points(storage: str, name: str, points: pandas.DataFrame) -> None:
    """Put a table of points whole into a store."""
    content = points[list(COLUMNS)].to_csv(index=False, lineterminator="\n").encode()
    ResultWriter(storage, name).write_bytes(points_path(name), content)


def read_points(storage: str, name: str) -> pandas.DataFrame | None:
    """A table of points of a store; None where it has none of that name.

    Raises:
        InvalidInput: the store cannot be reached.
    """
    try:
        filesystem, root = fs.FileSystem.from_uri(storage_location(storage))
        path = f"{root}/{points_path(name)}"
        if filesystem.get_file_info(path).type != fs.FileType.File:
            return None
        with filesystem.open_input_stream(path) as stream:
            content = stream.read()
    except (OSError, ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"storage: {storage!r} cannot be read ({reason})") from error
    return pandas.read_csv(io.BytesIO(content))
