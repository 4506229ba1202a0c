import subprocess
from pathlib import Path

import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.execution import merging
from safesweep.sweeps.execution.merging import PartMerging


@pytest.fixture
def storage(write_sweep, tmp_path: Path) -> Path:
    for level in (0.6, 0.7, 0.8):
        write_sweep("first", [{"feasibility_expectile": level}])
    return tmp_path / "store"


def parts(storage: Path) -> int:
    return len(list((storage / "runs" / "sweep=first").glob("*.parquet")))


def test_the_parts_of_many_trials_are_merged_while_others_end(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "MANY_PARTS", 2)
    before = ResultStore(storage).sql("FROM finals ORDER BY ALL")
    assert parts(storage) == 3
    merger = PartMerging(str(storage), "first")
    for _ in range(3):
        merger.trial_ended()
    assert merger._process is None
    for _ in range(5):  # One process at a time.
        merger.trial_ended()
    merger.close(finish=True)
    assert parts(storage) == 1
    assert ResultStore(storage).sql("FROM finals ORDER BY ALL").equals(before)


def test_an_interrupted_sweep_waits_for_no_merging(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "_PROGRAM", "import time; time.sleep(600)")
    monkeypatch.setattr(merging, "MANY_PARTS", 0)
    merger = PartMerging(str(storage), "first")
    merger.trial_ended()
    assert isinstance(merger._process, subprocess.Popen)
    merger.close(finish=False)
    assert merger._process.poll() is not None


def test_a_store_that_is_no_folder_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "MANY_PARTS", 0)
    merger = PartMerging("s3://bucket/store", "first")
    merger.trial_ended()
    assert merger._process is None
