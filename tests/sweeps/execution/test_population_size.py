from pathlib import Path
from typing import Any

import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.execution import population_size as calibration
from safesweep.sweeps.execution import ray_tune as launch
from safesweep.sweeps.execution.population_size import calibrate
from safesweep.sweeps.spec.sweep_spec import SweepSpec

TAU_H = [0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


def spec(**changes: Any) -> SweepSpec:
    return SweepSpec.from_mapping(
        {
            "name": "example",
            "algorithm": "flrp",
            "tasks": ["BoatNavigation-v0"],
            "seeds": [0, 1],
            "space": {"tau_h": TAU_H},
            "steps": 100,
            "configs_per_trial": "auto",
            **changes,
        }
    )


def speeds_of(monkeypatch: pytest.MonkeyPatch, speeds: dict[int, float]) -> list[list[int]]:
    """Let `speeds` be measured; returns the lists of choices that were asked for."""
    asked: list[list[int]] = []

    def measured(spec: Any, name: str, datasets: Any, choices: list[int], device: str) -> Any:
        asked.append(choices)
        return {choice: speeds[choice] for choice in choices}

    monkeypatch.setattr(calibration, "_speeds", measured)
    return asked


def test_auto_survives_the_sweep_file_and_other_words_do_not() -> None:
    assert spec().to_mapping()["configs_per_trial"] == "auto"
    assert SweepSpec.from_mapping(spec().to_mapping()) == spec()
    with pytest.raises(InvalidInput, match="configs_per_trial: 'many' is not allowed"):
        spec(configs_per_trial="many")


def test_the_fastest_is_chosen_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = speeds_of(monkeypatch, {1: 10.0, 2: 18.0, 4: 30.0})
    chosen, why = calibrate(spec(), {}, 2, 0, None)
    assert chosen.configs_per_trial == 4
    assert chosen.to_mapping()["configs_per_trial"] == 4
    assert "4: 30" in why
    # Eight configurations on two processors: four in a trial leave none without work.
    assert asked == [[1, 2, 4]]


def test_a_larger_population_has_to_be_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds_of(monkeypatch, {1: 10.0, 2: 10.2, 4: 10.4})
    assert calibrate(spec(), {}, 2, 0, None)[0].configs_per_trial == 1


def test_what_the_sweep_began_with_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = speeds_of(monkeypatch, {})
    began = spec(configs_per_trial=3).to_yaml()
    chosen, why = calibrate(spec(), {}, 2, 0, began)
    assert chosen.configs_per_trial == 3
    assert "as this sweep began" in why
    assert asked == []


def test_processors_without_work_are_not_worth_any_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = speeds_of(monkeypatch, {})
    assert calibrate(spec(), {}, 8, 0, None)[0].configs_per_trial == 1
    assert asked == []


def test_several_methods_share_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"flrp": {1: 10.0, 2: 20.0}, "lspc": {1: 1.0, 2: 0.9}}

    def measured(spec: Any, name: str, datasets: Any, choices: list[int], device: str) -> Any:
        return both[name]

    monkeypatch.setattr(calibration, "_speeds", measured)
    example = spec(algorithm=["flrp", "lspc"], space={"learning_rate": [1e-4, 2e-4, 3e-4, 4e-4]})
    assert calibrate(example, {}, 4, 0, None)[0].configs_per_trial == 1


@pytest.mark.parametrize(("began", "starts"), [(False, 1), (True, 0)])
def test_ray_is_started_for_a_measurement_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, began: bool, starts: int
) -> None:
    speeds_of(monkeypatch, {1: 10.0, 2: 20.0, 4: 30.0})
    recorded = spec(configs_per_trial=4).to_yaml() if began else None
    monkeypatch.setattr(launch, "previous_spec", lambda storage, name: recorded)
    started: list[int] = []

    class Data(launch._Datasets):
        def loaded(self, spec: SweepSpec) -> dict[str, Any]:
            assert not started  # Bad data is reported before Ray's start.
            return {}

    chosen = launch._calibrated(
        spec(), str(tmp_path), Data(False), lambda: started.append(1), 2, 0, False
    )
    assert chosen.configs_per_trial == 4
    assert len(started) == starts
