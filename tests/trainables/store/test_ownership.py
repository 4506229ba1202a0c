"""Whatever lies on the disk, a run is counted once, and only what `runs` speaks of."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

from safesweep.analysis.selection.choice import choose
from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.store.compaction import compact
from safesweep.trainables.store.identity import trial_id
from safesweep.trainables.store.ownership import ROW_KEYS
from safesweep.trainables.store.writer import ResultWriter
from tests.quick import slow_but

VIEWS = ("runs", "evaluations", "episodes", "metrics", "finals")
CONFIGS = [{"feasibility_expectile": level} for level in (0.6, 0.9)]


def _metrics(config: object, seed: int) -> dict[str, float]:
    return {"loss/q": 1.0}


def _orphan(storage: Path, write_sweep: Callable[..., list[str]]) -> None:
    """Trials that were killed before they wrote their rows of `runs`."""
    run_ids = write_sweep("first", [{"feasibility_expectile": 0.7}], metrics=_metrics)
    (storage / "runs/sweep=first" / f"{trial_id(run_ids)}.parquet").unlink()


def _twice(storage: Path, write_sweep: Callable[..., list[str]]) -> None:
    """Another driver has trained the same runs, for another sweep."""
    write_sweep("second", CONFIGS, metrics=_metrics)


def _partly_twice(storage: Path, write_sweep: Callable[..., list[str]]) -> None:
    """Another driver has trained some of the runs with other ones; the latter are new."""
    write_sweep("first", CONFIGS[:1], seeds=(1, 2, 3), metrics=_metrics)


def _failed_elsewhere(storage: Path, write_sweep: Callable[..., list[str]]) -> None:
    statuses = dict.fromkeys((0, 1, 2), "failed")
    write_sweep("a-second", CONFIGS[:1], statuses=statuses)


def _copied(storage: Path, write_sweep: Callable[..., list[str]]) -> None:
    """Somebody has copied a partition's parts under other names."""
    for table in ("runs", "evaluations", "episodes", "metrics", "hyperparameters"):
        for number, part in enumerate(sorted((storage / table / "sweep=first").iterdir())):
            shutil.copy(part, part.with_name(f"copy {number}.parquet"))


HARMS = {
    "orphan": (_orphan, 0),
    "twice": (_twice, 0),
    "partly twice": (_partly_twice, 1),
    "failed elsewhere": (_failed_elsewhere, 0),
    "copied": (_copied, 0),
}


def _views(storage: Path) -> dict[str, tuple[int, int]]:
    """Rows of each view, by SQL and from Python, each of them once."""
    counted = {}
    for view in VIEWS:
        store = ResultStore(storage)
        frame: pandas.DataFrame = getattr(store, view)()
        asked = store.sql(f"SELECT * FROM {view}")
        for rows in (frame, asked):
            assert not rows.duplicated(list(ROW_KEYS.get(view, ("run_id", "policy")))).any()
        counted[view] = (len(frame), len(asked))
    return counted


@pytest.mark.parametrize("harm", slow_but(("orphan", "copied"), HARMS))
def test_compacted_every_view_has_each_run_once(write_sweep, tmp_path: Path, harm: str) -> None:
    _test_every_view(write_sweep, tmp_path / "store", harm, compacted=True)


@pytest.mark.parametrize("harm", slow_but(("twice", "failed elsewhere"), HARMS))
def test_every_view_has_each_run_once(write_sweep, tmp_path: Path, harm: str) -> None:
    _test_every_view(write_sweep, tmp_path / "store", harm, compacted=False)


def _test_every_view(
    write_sweep: Callable[..., list[str]], storage: Path, harm: str, compacted: bool
) -> None:
    write_sweep("first", CONFIGS, metrics=_metrics)
    # What two configurations of three seeds have.
    before = {"runs": 6, "evaluations": 12, "episodes": 48, "metrics": 6, "finals": 6}
    judged = choose(ResultStore(storage)).chosen
    do, more = HARMS[harm]
    do(storage, write_sweep)
    if compacted:
        compact(str(storage), grace_seconds=0)
    rows = {"runs": 1, "evaluations": 2, "episodes": 8, "metrics": 1, "finals": 1}
    wanted = {view: (n + more * rows[view],) * 2 for view, n in before.items()}
    assert _views(storage) == wanted
    store = ResultStore(storage)
    assert len(store.run_states()) == wanted["runs"][0]
    assert set(store.runs()["status"]) == {"completed"}
    chosen = choose(ResultStore(storage)).chosen
    assert chosen["config_id"].tolist() == judged["config_id"].tolist()
    if harm in ("twice", "failed elsewhere", "copied"):
        assert chosen["seeds"].tolist() == judged["seeds"].tolist()
    assert len(store.table_so_far("evaluations", ["run_id"])) == wanted["evaluations"][0]


def test_what_was_left_behind_is_known(write_sweep, tmp_path: Path) -> None:
    storage = tmp_path / "store"
    write_sweep("first", CONFIGS)
    assert ResultStore(storage).left_behind().empty
    _orphan(storage, write_sweep)
    found = ResultStore(storage).left_behind()
    assert len(found) == 3
    assert ResultStore(storage).left_behind(algorithm="lspc").empty
    assert choose(ResultStore(storage)).incomplete["lacks"].unique().tolist() == [
        "rows of runs are missing"
    ]


def test_rows_appear_with_their_row_of_runs(write_sweep, tmp_path: Path) -> None:
    """A reader that looks again and again sees a trial whole or not at all."""
    storage = tmp_path / "store"
    write_sweep("first", CONFIGS)
    store = ResultStore(storage)
    run_ids = write_sweep("first", [{"feasibility_expectile": 0.7}])
    part = storage / "runs/sweep=first" / f"{trial_id(run_ids)}.parquet"
    content = part.read_bytes()
    part.unlink()
    assert len(store.evaluations()) == 12
    assert len(store.table_so_far("evaluations", ["run_id"])) == 12
    ResultWriter(str(storage), "first").write_bytes(part.relative_to(storage).as_posix(), content)
    assert len(store.evaluations()) == 18
    assert len(store.table_so_far("evaluations", ["run_id"])) == 18
