import json

import pytest

from safesweep.analysis.published import load_published
from safesweep.search_spaces import SEARCH_SPACES
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.cli import main
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.methods.printed_only import PRINTED_ONLY
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


@pytest.mark.parametrize("name", ["trebi", "Cal-QL", "SRPO"])
def test_of_methods_that_are_only_printed_it_is_said_where_their_numbers_are(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["space", name]) == 2
    sent = capfd.readouterr()
    assert sent.out == "" and len(sent.err.splitlines()) == 1
    assert f"{name!r} cannot be run" in sent.err and "`published`" in sent.err
    with pytest.raises(InvalidInput, match="cannot be run"):
        SweepSpec.from_mapping({"name": "s", "algorithm": name, "tasks": ["CarRun"], "steps": 10})
    printed = set(load_published()["method"])
    assert printed >= set(PRINTED_ONLY.values())
