"""The README's ablation of one's own works as it stands."""

import re
from pathlib import Path

import pytest

from safesweep import register_ablation
from safesweep.analysis.reproduction import ABLATIONS, reproduce
from safesweep.sweeps.spec.sweep_spec import SweepSpec

README = (Path(__file__).parents[3] / "README.md").read_text()


def test_the_ablation_of_the_readme_is_registered_run_and_drawn(
    write_ablation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(r"```python\n(# my_ablation.py\n.*?)```", README, re.DOTALL)
    defined: dict[str, object] = {}
    exec(block, defined)
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
