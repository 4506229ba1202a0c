import json

import pytest

from safesweep.search_spaces import SEARCH_SPACES
from safesweep.sweeps.cli import main
from safesweep.trainables.methods.registry import ALGORITHMS


def test_algorithms_lists_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["algorithms", "--format", "json"]) == 0
    rows = {row["algorithm"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(ALGORITHMS)
    assert rows["flrp"]["searched"] == len(SEARCH_SPACES["flrp"].entries)
    assert all(row["description"] for row in rows.values())


def test_space_prints_every_hyperparameter(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["space", "flrp", "--format", "json"]) == 0
    rows = {row["hyperparameter"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ALGORITHMS["flrp"].config_class.field_names()
    tau = rows["feasibility_expectile"]
    assert (tau["symbol"], tau["kind"], tau["default"]) == ("tau_h", "batched", "0.9")
    assert (tau["allowed"], tau["searched"]) == ("[0.5, 0.999]", "[0.6, 0.95]")
    assert rows["refinement_steps"]["kind"] == "static"
    assert rows["reward_weight"]["when"] == "refinement_steps in {1, 2, 3, 4, 6, 8}"
    assert rows["hidden_dim"]["searched"] == ""
    assert all(row["source"] for row in rows.values())


def test_space_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["space", "flrp"]) == 0
    assert "tau_h" in capsys.readouterr().out
