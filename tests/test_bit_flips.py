"""A bit that flips in a store changes no answer in silence, however the store is asked.

The slow test is the measurement behind that sentence: 1,500 flips a table. The quick one is a
sample of it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas
import pytest

from safesweep.analysis.selection.choice import choose
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import Problem
from safesweep.trainables.store.compaction import compact
from safesweep.trainables.store.schema import TRIAL_TABLES
from tests.quick import slow_but

TABLES = (*TRIAL_TABLES, "sweeps")

Answers = Mapping[str, pandas.DataFrame]


@pytest.fixture
def storage(write_sweep, tmp_path: Path) -> Path:
    write_sweep(
        "first",
        [{"feasibility_expectile": level} for level in (0.6, 0.7, 0.8, 0.9)],
        metrics=lambda config, seed: {"loss/q": 1.0 + seed, "loss/v": 2.0},
    )
    write_sweep("first", [{"feasibility_expectile": 0.95}])
    return tmp_path / "store"


def _sorted(frame: pandas.DataFrame) -> pandas.DataFrame:
    names = [
        name
        for name in frame
        if frame[name].dtype != object
        or not any(isinstance(value, np.ndarray) for value in frame[name])
    ]
    return frame.sort_values(names, ignore_index=True)


def _ways(storage: Path, table: str) -> dict[str, Callable[[], pandas.DataFrame]]:
    """How a store is asked of a table: by ResultStore, by SQL with and without a condition, and by
    a choice; each by a reader of its own, as a command has it."""
    condition = {"sweeps": "sweep = 'first'", "hyperparameters": "number > 0.65"}.get(
        table, "run_id > 'c'"
    )

    def selected() -> pandas.DataFrame:
        store = ResultStore(storage)
        chosen = choose(store).chosen
        return chosen.assign(left_out=len(store.incomplete()))

    return {
        "python": lambda: getattr(ResultStore(storage), table)(),
        "query": lambda: ResultStore(storage).sql(f"SELECT * FROM {table}"),
        "condition": lambda: ResultStore(storage).sql(f"SELECT * FROM {table} WHERE {condition}"),
        "count": lambda: ResultStore(storage).sql(f"SELECT count(*) AS n FROM {table}"),
        "select": selected,
    }


def _answers(storage: Path, table: str) -> Answers:
    """What a store says of a table, by way of asking."""
    return {name: _sorted(way()) for name, way in _ways(storage, table).items()}


def _differs(found: pandas.DataFrame, wanted: pandas.DataFrame) -> bool:
    try:
        pandas.testing.assert_frame_equal(found, wanted, check_exact=True)
    except AssertionError:
        return True
    return False


def _flip(part: Path, content: bytes, bit: int) -> None:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << (bit % 8)
    part.write_bytes(changed)


def silent_changes(
    storage: Path, table: str, whole: Answers, flips: int, said: Callable[[], bool], seed: int = 0
) -> tuple[list[tuple[int, str]], int]:
    """The bits whose flip changed an answer in silence, with the way of asking, and how many flips
    were noticed. Each flip is asked about in every way until one notices it, which begin in turn.

    Args:
        whole: what the sound store says of the table.
        said: whether something was said since it was last asked.
    """
    part = max((storage / table / "sweep=first").glob("*.parquet"))
    content, ways = part.read_bytes(), list(_ways(storage, table).items())
    said()
    silent, noticed = [], 0
    generator = np.random.default_rng(seed)
    for number, bit in enumerate(generator.integers(0, 8 * len(content), flips).tolist()):
        _flip(part, content, bit)
        first = number % len(ways)
        for name, way in (*ways[first:], *ways[:first]):
            try:
                answer = _sorted(way())
            except Problem:
                noticed += 1
                break
            if said():
                noticed += 1
                break
            if _differs(answer, whole[name]):
                silent.append((bit, name))
                break
    said()
    part.write_bytes(content)
    return silent, noticed


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], bool]:
    def ask() -> bool:
        found = bool(caplog.messages)
        caplog.clear()
        return found

    return ask


@pytest.mark.parametrize("table", slow_but(("runs", "evaluations"), TABLES))
def test_of_some_flips_none_is_silent(storage: Path, table: str, said: Callable[[], bool]) -> None:
    whole = _answers(storage, table)
    silent, noticed = silent_changes(storage, table, whole, 10, said, seed=len(table))
    assert (silent, noticed > 0) == ([], True)
    if table != "sweeps":  # which is not compacted
        compact(str(storage), grace_seconds=0)
        silent, noticed = silent_changes(storage, table, whole, 5, said, seed=len(table))
        assert (silent, noticed > 0) == ([], True)


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_of_1500_flips_a_table_none_is_silent(
    storage: Path, table: str, said: Callable[[], bool]
) -> None:
    silent, noticed = silent_changes(storage, table, _answers(storage, table), 1500, said)
    print(f"{table}: {noticed} of 1,500 flips noticed, {len(silent)} silent")
    assert silent == []
