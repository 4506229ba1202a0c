"""What makes daily use short: defaults from the environment, names, narrow tables."""

from pathlib import Path

import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.cli import main
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.cache import cache_folder
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store import file_lock


def test_the_store_may_come_from_the_environment(
    full_store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAFESWEEP_STORAGE", str(full_store))
    assert main(["list"]) == 0
    assert "methods" in capfd.readouterr().out
    assert main(["list", "--storage", str(full_store / "nothing")]) == 2


def test_a_sweep_may_be_named_without_an_option(
    full_store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--format", "csv", "--storage", str(full_store)]
    for command in ("select", "statistics"):
        found = []
        for sweep in (["shared"], ["--sweep", "shared"], ["shared", "--sweep", "shared"]):
            assert main([command, *sweep, *words]) == 0
            found.append(capfd.readouterr().out)
        assert found[0] == found[1] == found[2]
        assert main([command, "shared", "--sweep", "methods", *words]) == 2
        assert "sweep: is given twice" in capfd.readouterr().err


def test_data_is_kept_where_the_system_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAFESWEEP_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/safesweep/datasets")
    # A relative one is to be ignored (XDG Base Directory Specification).
    for ignored in ("", "caches"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder() == Path("~/.cache/safesweep/datasets").expanduser()
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", "/data")
    assert cache_folder() == Path("/data")


def test_a_number_of_seeds_stands_for_those_from_0() -> None:
    content = {"name": "s", "algorithm": "bc", "tasks": ["BoatNavigation-v0"], "steps": 10,
               "space": {"learning_rate": [0.001]}}  # fmt: skip
    spec = SweepSpec.from_mapping({**content, "seeds": 5})
    assert spec.seeds == (0, 1, 2, 3, 4)
    assert spec == SweepSpec.from_mapping({**content, "seeds": [0, 1, 2, 3, 4]})
    assert spec.to_mapping()["seeds"] == [0, 1, 2, 3, 4]
    for refused in (0, -1, True, 10**6):
        with pytest.raises(InvalidInput, match="seeds"):
            SweepSpec.from_mapping({**content, "seeds": refused})


def test_rules_are_listed_without_a_store(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["select", "--rule", "list", "--storage", "/nonexistent"]) == 0
    out = capfd.readouterr().out
    assert "max_reward_safe" in out and "Pareto front" in out


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_space_fits_100_columns(algorithm: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["space", algorithm]) == 0
    narrow = capfd.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 100
    assert main(["space", algorithm, "--wide"]) == 0
    wide = capfd.readouterr().out
    assert "source" in wide and len(wide) > len(narrow)
    assert len(wide.splitlines()) == len(narrow.splitlines())


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_command(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    out = capfd.readouterr().out
    for word in ("reproduce", "select", "--cost-limit"):
        assert word in out


def test_without_locks_of_files_it_is_an_error_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fcntl", None)
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="has no locks"):
        file_lock.flock(file.fileno(), file_lock.LOCK_EX)
