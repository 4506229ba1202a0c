"""Whether a store is whole: each of its parts by itself, and what they say of each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from safesweep.search_spaces.validation import listed
from safesweep.trainables.store.heartbeats import parse_heartbeat
from safesweep.trainables.store.reader import StoreReader
from safesweep.trainables.store.schema import TABLES, TRIAL_TABLES
from safesweep.trainables.store.writer import ResultWriter, checkpoint_path, heartbeat_path


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a store.

    Attributes:
        place: a file within the store, or a trial as `sweep=NAME/trial`.
        problem: what is wrong, in words.
        sweep: whose partition it is in; empty where it is in none.
        set_aside: files that are to be moved out of the way, so that what they held can be made
            again.
    """

    place: str
    problem: str
    sweep: str = ""
    set_aside: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """It in one line."""
        return f"{self.place}: {self.problem}"


def check_tables(storage: str) -> list[Finding]:
    """What is wrong with the tables of a store.

    Raises:
        InvalidInput: there is no store.
        StoreProblem: it cannot be read.
    """
    reader = StoreReader(storage)
    running = {str(beat["trial_id"]) for beat in reader.heartbeats()}
    found = [*_parts(reader), *_doubled(reader), *_incomplete(reader)]
    known = {path for finding in found for path in finding.set_aside}
    for table in TRIAL_TABLES[1:]:
        for part in reader.unfinished_parts(table):
            place = f"{table}/sweep={part.sweep}/{part.name}.parquet"
            if part.name not in running and place not in known:
                problem = "of a trial of which `runs` says nothing; it is not counted"
                found.append(Finding(place, problem, part.sweep, (place,)))
    return found


def check_files(
    storage: str, check_checkpoint: Callable[[bytes, str], str | None]
) -> list[Finding]:
    """What is wrong with the checkpoints and heartbeats of a store.

    Args:
        check_checkpoint: what is wrong with a checkpoint, from its content and its place.
    """
    writer = ResultWriter(storage, "", probe=False)
    found = []
    for trial in writer.folders("checkpoints"):
        place = checkpoint_path(trial)
        content = writer.read_bytes(place)
        problem = None if content is None else check_checkpoint(content, place)
        if problem is not None:
            found.append(Finding(place, problem, set_aside=(place,)))
    for name in writer.names("heartbeats"):
        if name.startswith(".") or not name.endswith(".json"):
            continue
        place = heartbeat_path(name.removesuffix(".json"))
        try:
            parse_heartbeat(writer.read_bytes(place) or b"")
        except ValueError as error:
            found.append(Finding(place, f"no heartbeat ({error})", set_aside=(place,)))
    return found


def _parts(reader: StoreReader) -> Iterator[Finding]:
    for table in TABLES:
        for part in reader.listed(table):
            problem = reader.problem_of(table, part)
            if problem is not None:
                place = part.path[part.path.rindex(f"/{table}/") + 1 :]
                yield Finding(place, problem, part.sweep, (place,))


def _doubled(reader: StoreReader) -> Iterator[Finding]:
    runs = reader.doubled_runs()
    if runs.empty:
        return
    counts = runs.groupby(["sweep", "trial_id"])["counts"].any()
    own = {(part.sweep, part.name) for part in reader.listed("runs") if not part.compacted}
    whole = reader.runs(["run_id", "sweep", "trial_id"]).groupby(["sweep", "trial_id"]).size()
    for (sweep, trial), rows in runs[~runs["counts"]].groupby(["sweep", "trial_id"]):
        key = (str(sweep), str(trial))
        files: tuple[str, ...] = ()
        # All of its runs are counted from other trials: nothing would be missing without it.
        if key in own and not counts[key] and key not in whole.index:
            files = tuple(f"{table}/sweep={sweep}/{trial}.parquet" for table in TRIAL_TABLES)
        ids = listed(sorted(rows["run_id"]), 3)
        problem = f"the runs {ids} stand in another trial too, which is the one that counts"
        yield Finding(f"sweep={sweep}/{trial}", problem, key[0], files)


def _incomplete(reader: StoreReader) -> Iterator[Finding]:
    lacking = reader.incomplete(thorough=True)
    for (sweep, trial, lacks), rows in lacking.groupby(["sweep", "trial_id", "lacks"]):
        yield Finding(f"sweep={sweep}/{trial}", f"{lacks} for {len(rows)} of its runs", str(sweep))
