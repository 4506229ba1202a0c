"""The schema for editors and the loader agree."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps import cli
from safesweep.sweeps.spec.schema import sweep_file_schema
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.sweeps.spec.yaml_file import parse, read_text, shipped_specs
from safesweep.trainables.methods.registry import ALGORITHMS
from tests.docs.blocks import Block, blocks

BASE: dict[str, Any] = {
    "name": "example",
    "algorithm": "flrp",
    "tasks": ["BoatNavigation-v0"],
    "steps": 100,
    "space": {"tau_h": [0.7, 0.9]},
}
VALIDATOR = Draft202012Validator(sweep_file_schema())


def faults(content: object) -> list[str]:
    """Where the schema finds fault."""
    return [error.json_path for error in VALIDATOR.iter_errors(content)]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(sweep_file_schema())


@pytest.mark.parametrize("name", shipped_specs())
def test_shipped_files_are_valid(name: str) -> None:
    assert faults(parse(read_text(name), (), name)) == []


# A task's file is another kind.
@pytest.mark.parametrize(
    "block", [b for b in blocks("yaml") if b.runs and b.file_name != "my_task.yaml"], ids=str
)
def test_what_the_documentation_shows_is_valid(block: Block) -> None:
    shown = parse(block.text, (), block.page)
    content = {**BASE, "space": None, "search": {"method": "random", "num_configs": 4}, **shown}
    if "budget" in shown:
        content = {key: value for key, value in content.items() if key != "search"}
    assert faults(content) == []
    SweepSpec.from_mapping(content)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_complete_file_is_valid(algorithm: str) -> None:
    search = {"method": "tpe", "num_configs": 9, "points": [{}]}
    content = {**BASE, "algorithm": algorithm, "search": search, "space": None}
    everything = {**content, "fixed": ALGORITHMS[algorithm].config_class().to_dict()}
    assert faults(everything) == []
    assert faults(SweepSpec.from_mapping(content).to_mapping()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": ["flrp", "lspc"], "space": {"learning_rate": [1e-4]}},
        {"algorithm": ["flrp"], "tasks": "BallRun"},
        {"space": {"tau_h": {"low": 0.6, "high": 0.9}}, "search": {"method": "random",
                                                                   "num_configs": 1e2}},
        {"dataset": {"BoatNavigation": "collect"}},
        {"dataset": "minari:safe/car-v0"},
        {"search": None, "evaluate": None, "objective": {"subject_to": None}, "resources": None},
        {"evaluate": {"every": 5}, "early_stopping": {}},
        {"evaluate": {"episodes": "auto"}},
        {"evaluate": {"episodes": {"BoatNavigation": 3}}},
        {"configs_per_trial": "auto", "compile": "auto", "early_stopping": None},
        {"fixed": {"T": 2, "lambda_r": 1}},
        {"methods": {"flrp": {"fixed": {"T": 2}, "space": {"tau_h": [0.8]}}}},
        {"search": {"method": "tpe", "num_configs": 3, "warm_start": True}},
        {"search": {"method": "grid", "warm_start": False}},
        {"budget": {"runs": 20}, "search": {"warm_start": True}},
    ],
)  # fmt: skip
def test_what_the_loader_takes_the_schema_takes(changes: dict[str, Any]) -> None:
    SweepSpec.from_mapping({**BASE, **changes})
    assert faults({**BASE, **changes}) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"stepz": 3},
        {"steps": "many"},
        {"steps": 1.5},
        {"steps": True},
        {"steps": None},
        {"name": "../up"},
        {"name": False},
        {"algorithm": "flrpp"},
        {"algorithm": []},
        {"algorithm": ["flrp", "lspc"]},  # tau_h is no hyperparameter of LSPC.
        {"tasks": ["BoatNavigatoin-v0"]},
        {"tasks": []},
        {"seeds": 0},
        {"seeds": [0, 0]},
        {"seeds": [-1]},
        {"seeds": {"from": 2}},
        {"seeds": {"from": 2, "to": 0}},
        {"budget": {"runs": 0}},
        {"dataset": 3},
        {"dataset": {"BalRun": "auto"}},
        {"search": {"method": "gird"}},
        {"search": {"methd": "grid"}},
        {"search": {"method": "tpe"}},
        {"search": {"num_configs": 3}},
        {"search": {"method": "random", "num_configs": 3, "parallel": 2}},
        {"search": {"method": "random", "num_configs": 3, "warm_start": True}},
        {"search": {"method": "tpe", "num_configs": 3, "warm_start": "yes"}},
        {"search": {"method": "random", "num_configs": 3, "points": [{"tauh": 0.7}]}},
        {"search": {"method": "random", "num_configs": 3, "points": [0.7]}},
        {"fixed": {"hiden_dim": 8}},
        {"fixed": {"tau_r": 1.2}},
        {"fixed": {"prior": False}},
        {"fixed": ["prior"]},
        {"methods": {"flrpp": {}}},
        {"methods": {"flrp": {"fixd": {}}}},
        {"methods": {"flrp": {"fixed": {"hiden_dim": 8}}}},
        {"methods": {"flrp": {"space": {"tau_h": 0.9}}}},
        {"space": {"tauh": [0.9]}},
        {"space": {"tau_h": 0.9}},
        {"space": {"tau_h": []}},
        {"space": {"tau_h": [0.9, 0.9]}},
        {"space": {"tau_h": [1.2]}},
        {"space": {"tau_h": {"low": 0.6}}},
        {"space": {"tau_h": {"low": 0.6, "high": 0.9, "log": 1}}},
        {"space": {"prior": {"low": 1, "high": 2}}},
        {"evaluate": {"episodes": 0}},
        {"evaluate": {"episodes": "many"}},
        {"evaluate": {"episodes": {"BalRun": 3}}},
        {"evaluate": {"episodes": {"BoatNavigation": 0}}},
        {"evaluate": {"every": None}},
        {"objective": {"maximize": "reward"}},
        {"objective": {"subject_to": {"cost": 1}}},
        {"cost_limit": -1},
        {"resources": {"gpu": 2}},
        {"configs_per_trial": 0},
        {"compile": "yes please"},
        {"early_stopping": {"reduction": 1}},
        {"early_stopping": "halving"},
    ],
)
def test_what_the_schema_refuses_the_loader_refuses(changes: dict[str, Any]) -> None:
    assert faults({**BASE, **changes})
    with pytest.raises(InvalidInput):
        SweepSpec.from_mapping({**BASE, **changes})


WORDS = st.sampled_from(
    ["auto", "grid", "tpe", "method", "seed", "every", "episodes", "low", "high", "log", "tau_h",
     "T", "flrp", "lspc", "BoatNavigation", "halving", "min_steps", "normalized_cost", "subject_to",
     "maximize", "cpu", "num_configs", "points", "parallel", "collect"]
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 200)
    | st.floats()
    | WORDS
    | st.sampled_from([date(2024, 5, 1), b"bytes", 1e300, 10**400, 1e4])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | SCALARS, inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([field.alias or name for name, field in SweepSpec.model_fields.items()])


@given(st.dictionaries(KEYS | WORDS | SCALARS, ANYTHING, max_size=3))
@example({"seeds": None})
@example({"methods": None})
@example({"methods": {0.0: {"auto": None}}})
@example({"methods": {date(2024, 5, 1): {"auto": None}}})
def test_whatever_a_file_holds_is_refused_in_lines_or_taken_by_loader_and_schema(
    changes: dict[Any, Any],
) -> None:
    content = {**BASE, **changes}
    try:
        spec = SweepSpec.from_mapping(content)
    except InvalidInput as problem:
        assert problem.lines
        assert not any("\n" in line for line in problem.lines)
        return
    assert SweepSpec.from_yaml(spec.to_yaml()) == spec
    assert faults(content) == []


@pytest.mark.parametrize("key", ["name", "algorithm", "tasks", "steps"])
def test_what_is_missing_is_refused(key: str) -> None:
    assert faults({name: value for name, value in BASE.items() if name != key})


def test_every_field_says_what_it_is() -> None:
    def undescribed(node: Any, path: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        fields = node.get("properties", {})
        bare = [f"{path}.{name}" for name, field in fields.items() if "description" not in field]
        return bare + [found for name, part in node.get("$defs", {}).items()
                       if "." not in name for found in undescribed(part, name)]  # fmt: skip

    assert undescribed(sweep_file_schema(), "") == []


def test_the_command_prints_the_schema_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["schema"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads(json.dumps(sweep_file_schema()))
    assert captured.err == ""


def test_four_mistakes_are_four_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sweep.yaml"
    mistakes = {"stepz": 3, "seeds": [-1], "search": {"method": "gird"}, "fixed": {"hiden_dim": 8}}
    path.write_text(yaml.safe_dump({**BASE, **mistakes}))
    assert cli.main(["run", str(path), "--dry-run"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    said = [
        line.removeprefix("safesweep: ").partition(":")[0] for line in captured.err.splitlines()
    ]
    assert sorted(said) == ["fixed.hiden_dim", "search.method", "seeds", "stepz"]


def test_what_a_plugin_adds_is_in_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALGORITHMS, "another", ALGORITHMS["bc"])
    found = Draft202012Validator(sweep_file_schema())
    content = {**BASE, "algorithm": "another", "space": {"hidden_dim": [8]}}
    assert not list(found.iter_errors(content)) and faults(content)
    assert list(found.iter_errors({**content, "space": {"tau_h": [0.7]}}))
