"""The documentation's ablation of one's own works as it stands."""

from pathlib import Path

import pytest

from safesweep import register_ablation
from safesweep.analysis.reproduction import ABLATIONS, reproduce
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from tests.docs.blocks import files


def test_the_ablation_of_the_documentation_is_registered_run_and_drawn(
    write_ablation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defined: dict[str, object] = {}
    exec(files()["my_ablation.py"], defined)
    try:
        ablation = register_ablation(defined["OWN_WIDTH"])
        assert ABLATIONS["own-width"] is ablation
        for sweeps in ablation.sweeps.values():
            for sweep in sweeps:
                SweepSpec.from_mapping(sweep)
        done = reproduce(ablation, write_ablation(ablation), "smoke", tmp_path / "figures", "")
        assert done.paths[0].is_file()
        assert done.missing == []
        assert set(done.scorecard["claim"]) == {"width-raises-reward"}
    finally:
        ABLATIONS.pop("own-width", None)
