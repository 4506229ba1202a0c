"""`reproduce` of several ablations, interrupted and killed on its way, as a user would see it."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from safesweep.analysis.store.reader import ResultStore
from tests.sweeps import drivers

pytestmark = [pytest.mark.ray, pytest.mark.slow]

IDS = ["flrp-table3", "r2pac-table2", "flrp-fig2", "r2pac-fig3"]
TIMEOUT_SECONDS = 600


def start(folder: Path) -> "subprocess.Popen[str]":
    words = ["reproduce", *IDS, "--scale", "smoke", "--storage", str(folder / "store")]
    words += ["--page", str(folder / "page")]
    return drivers.start(words, {"SAFESWEEP_DATA_DIR": str(folder / "data")})


def wait_until(condition: Callable[[], bool], driver: "subprocess.Popen[str]") -> None:
    drivers.wait_until(condition, driver, TIMEOUT_SECONDS)


def written(store: Path, table: str) -> dict[str, int]:
    """When each file of a table was written."""
    found = [path for path in (store / table).rglob("*") if path.suffix in (".parquet", ".csv")]
    return {str(path.relative_to(store)): path.stat().st_mtime_ns for path in found}


def test_what_was_done_before_an_interruption_is_not_done_again(tmp_path: Path) -> None:
    store = tmp_path / "store"
    driver = start(tmp_path)
    wait_until(lambda: len(written(store, "runs")) >= 1, driver)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=TIMEOUT_SECONDS)
    assert driver.returncode == 130, errors
    assert "the same command goes on where it stopped" in errors.splitlines()[-1]
    first = written(store, "runs")

    driver = start(tmp_path)
    wait_until(lambda: len(written(store, "runs")) > len(first), driver)
    driver.kill()
    driver.wait()
    second = written(store, "runs")

    driver = start(tmp_path)
    wait_until(lambda: len(written(store, "measurements")) >= 1, driver)
    driver.send_signal(signal.SIGTERM)
    _, errors = driver.communicate(timeout=TIMEOUT_SECONDS)
    assert driver.returncode == 143, errors
    third = {**written(store, "runs"), **written(store, "measurements")}

    driver = start(tmp_path)
    _, errors = driver.communicate(timeout=TIMEOUT_SECONDS)
    assert driver.returncode == 0, errors
    last = {**written(store, "runs"), **written(store, "measurements")}
    for earlier in (first, second, third):
        assert earlier.items() <= last.items()
    runs = ResultStore(store).runs()
    assert set(runs["status"]) == {"completed"} and runs["run_id"].is_unique
    for name in IDS:
        assert (tmp_path / f"page/{name}-smoke.png").is_file()
