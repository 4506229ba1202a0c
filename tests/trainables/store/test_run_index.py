"""The index only makes reading faster: whatever is in it, answers are those of the parts."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

from safesweep.trainables.store import reader as reading
from safesweep.trainables.store import run_index
from safesweep.trainables.store.reader import StoreReader
from safesweep.trainables.store.run_index import IndexedPart, line_of, parts_in
from safesweep.trainables.store.writer import ResultWriter

PART = IndexedPart("sweep=a/b.parquet", 10, 20, {"episodes": (5, 6)}, [["r"] * 16])


@pytest.fixture(autouse=True)
def looked_up_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_WORTH_LOOKING_UP", 0)


@pytest.fixture
def storage(write_sweep, tmp_path: Path) -> Path:
    for level in (0.6, 0.7, 0.8):
        write_sweep("first", [{"feasibility_expectile": level}])
    return tmp_path / "store"


def _states(storage: Path) -> pandas.DataFrame:
    return StoreReader(storage).run_states().sort_values("run_id", ignore_index=True)


def _opened(storage: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts of runs that a list opens."""
    opened: list[str] = []
    original = StoreReader._footer

    def footer(self: StoreReader, part: reading.Part) -> object:
        opened.append(part.path)
        return original(self, part)

    with monkeypatch.context() as patched:
        patched.setattr(StoreReader, "_footer", footer)
        _states(storage)
    return sorted({Path(path).name for path in opened if "/runs/" in path})


def test_a_line_comes_back_and_a_damaged_one_does_not() -> None:
    line = line_of(PART)
    (found,) = parts_in(line)
    assert (found.place, found.size, found.modified, found.rows) == (
        PART.place, PART.size, PART.modified, PART.rows,
    )  # fmt: skip
    for byte in range(len(line) - 1):
        changed = bytearray(line)
        changed[byte] ^= 1
        assert list(parts_in(bytes(changed))) == []
    assert len(list(parts_in(line[:-5] + b"\n" + line + line[:7]))) == 1


def test_a_list_opens_no_part_that_its_writer_indexed(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_index = _states(storage)
    assert _opened(storage, monkeypatch) == []
    shutil.rmtree(storage / "index")
    assert len(_opened(storage, monkeypatch)) == 3
    pandas.testing.assert_frame_equal(_states(storage), with_index)


def _damage(storage: Path) -> None:
    for file in (storage / "index").iterdir():
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 16
        file.write_bytes(content[:-9])


def _other_lines(storage: Path) -> None:
    (storage / "index" / "other.jsonl").write_bytes(line_of(PART) + b"nonsense\n\xff\xff\n")


def _folder_among_them(storage: Path) -> None:
    (storage / "index" / "folder.jsonl").mkdir()


def _replaced_part(storage: Path) -> None:
    """Another program wrote a part anew: its line holds no more."""
    part = min((storage / "runs/sweep=first").iterdir())
    frame = pandas.read_parquet(part)
    frame.assign(status="diverged").to_parquet(part)


@pytest.mark.parametrize("change", [_damage, _other_lines, _folder_among_them, _replaced_part])
def test_the_parts_decide(storage: Path, change: Callable[[Path], None]) -> None:
    change(storage)
    found = _states(storage)
    shutil.rmtree(storage / "index")
    pandas.testing.assert_frame_equal(found, _states(storage))


def test_it_is_written_again_where_it_is_missing(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _states(storage)
    shutil.rmtree(storage / "index")
    monkeypatch.setattr(run_index, "REBUILT_FROM", 2)
    assert len(_opened(storage, monkeypatch)) == 3
    assert _opened(storage, monkeypatch) == []
    pandas.testing.assert_frame_equal(_states(storage), whole)


def test_a_writer_appends_to_one_file(storage: Path) -> None:
    writer = ResultWriter(str(storage), "second")
    row = {"run_id": "a-0", "config_id": "a", "trial_id": "t", "status": "completed",
           "config": {"rate": 0.1}}  # fmt: skip
    for number in range(3):
        writer.write_trial(f"t{number}", [{**row, "run_id": f"a-{number}"}])
    assert len(list((storage / "index").iterdir())) == 1
    assert len(_states(storage)) == 12
