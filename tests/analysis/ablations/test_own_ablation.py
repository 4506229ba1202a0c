"""The README's ablation of one's own works as it stands."""

import re
from pathlib import Path

import pytest

from safesweep.analysis.reproduction import ABLATIONS, reproduce
from safesweep.sweeps import cli
from safesweep.sweeps.spec.sweep_spec import SweepSpec

README = (Path(__file__).parents[3] / "README.md").read_text()


def test_the_ablation_of_the_readme_is_registered_run_and_drawn(
    write_ablation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = [
        code
        for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if "register_ablation" in code
    ]
    asked: list[list[str]] = []
    monkeypatch.setattr(cli, "main", asked.append)
    try:
        exec(block, {})
        assert asked == [["reproduce", "own-depth", "--scale", "smoke"]]
        ablation = ABLATIONS["own-depth"]
        for sweeps in ablation.sweeps.values():
            for sweep in sweeps:
                SweepSpec.from_mapping(sweep)
        done = reproduce(ablation, write_ablation(ablation), "smoke", tmp_path / "figures", "")
        assert done.paths[0].is_file()
        assert done.missing == []
        assert set(done.scorecard["claim"]) == {"depth-raises-reward", "safe"}
    finally:
        ABLATIONS.pop("own-depth", None)
