"""Sweep files that build on others, and what a sweep tells at its end."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.sweeps.spec.yaml_file import parse

BASE = {
    "algorithm": "bc", "tasks": ["BoatNavigation-v0"], "steps": 10, "seeds": [0, 1],
    "fixed": {"hidden_dim": 8, "batch_size": 16}, "space": {"learning_rate": [0.001]},
}  # fmt: skip


def write(path: Path, **content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_file_goes_before_what_it_includes(tmp_path: Path) -> None:
    write(tmp_path / "bases" / "base.yaml", **BASE)
    write(tmp_path / "bases" / "longer.yaml", include="base.yaml", steps=20, cost_limit=5)
    path = write(
        tmp_path / "sweep.yaml",
        include=["bases/longer.yaml"],
        name="own",
        fixed={"batch_size": 32},
        seeds=[3],
    )
    spec = SweepSpec.load(path)
    assert spec == SweepSpec.from_mapping(
        {
            **BASE, "name": "own", "steps": 20, "cost_limit": 5, "seeds": [3],
            "fixed": {"hidden_dim": 8, "batch_size": 32},
        }
    )  # fmt: skip
    assert SweepSpec.load(path, ["steps=30"]).steps == 30
    # What a store keeps needs none of the files.
    recorded = spec.to_recorded_yaml()
    assert "include" not in recorded and SweepSpec.from_yaml(recorded) == spec


def test_later_files_go_before_earlier_ones_and_null_takes_away(tmp_path: Path) -> None:
    write(tmp_path / "one.yaml", **BASE, cost_limit=5)
    write(tmp_path / "two.yaml", steps=20, space={"batch_size": [8, 16]}, fixed=None)
    path = write(tmp_path / "sweep.yaml", include=["one.yaml", "two.yaml"], name="x",
                 cost_limit=None)  # fmt: skip
    spec = SweepSpec.load(path)
    assert spec.steps == 20 and spec.cost_limit is None and spec.fixed == {}
    assert list(spec.space or {}) == ["learning_rate", "batch_size"]


def test_a_shipped_sweep_can_be_included(tmp_path: Path) -> None:
    path = write(tmp_path / "sweep.yaml", include="demo", name="mine")
    own, demo = SweepSpec.load(path).to_mapping(), SweepSpec.load("demo").to_mapping()
    assert own == {**demo, "name": "mine"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"sweep": {"include": "none.yaml"}}, r"include: there is no file '.*none.yaml', which "),
        ({"sweep": {"include": 3}}, "include: 3 is not allowed; it must be a file or a list"),
        ({"sweep": {"include": []}}, r"include: \[\] is not allowed"),
        ({"sweep": {"include": [None]}}, r"include: \[None\] is not allowed"),
        ({"sweep": {"include": "sweep.yaml"}}, r"in a circle \(.*sweep.yaml -> .*sweep.yaml\)"),
        (
            {
                "sweep": {"include": "a.yaml"},
                "a": {"include": "b.yaml"},
                "b": {"include": "a.yaml"},
            },
            r"in a circle \(\S*a.yaml -> \S*b.yaml -> \S*a.yaml\)",
        ),
        ({"sweep": {"include": "a.yaml"}, "a": {"include": "gone"}}, r"'.*gone', which .*a.yaml i"),
    ],
)
def test_bad_includes_are_one_line(
    tmp_path: Path, files: dict[str, dict[str, Any]], message: str
) -> None:
    for name, content in files.items():
        write(tmp_path / f"{name}.yaml", **{**BASE, "name": "x", **content})
    with pytest.raises(InvalidInput, match=message) as problem:
        SweepSpec.load(tmp_path / "sweep.yaml")
    assert len(problem.value.lines) == 1


def test_the_same_file_may_be_included_by_two(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", **BASE)
    write(tmp_path / "a.yaml", include="base.yaml", steps=20)
    write(tmp_path / "b.yaml", include="base.yaml")
    path = write(tmp_path / "sweep.yaml", include=["a.yaml", "b.yaml"], name="x")
    # `b` is the later one, and says what its base says.
    assert SweepSpec.load(path).steps == 10


def test_faults_of_an_included_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("steps: [1")
    path = write(tmp_path / "sweep.yaml", include="base.yaml", name="x")
    with pytest.raises(InvalidInput, match=r"base.yaml: not valid YAML"):
        SweepSpec.load(path)
    (tmp_path / "base.yaml").write_text("- 1")
    with pytest.raises(InvalidInput, match=r"base.yaml: must hold keys and values, not a list"):
        SweepSpec.load(path)
    with pytest.raises(InvalidInput, match="-o include: only a sweep file includes others"):
        parse("name: x", ["include=base.yaml"], "text")


def test_on_end_is_a_key_that_no_store_keeps() -> None:
    content = {**BASE, "name": "x", "on_end": "https://example.org/hook?token=secret"}
    spec = SweepSpec.from_mapping(content)
    assert spec.on_end == content["on_end"]
    assert SweepSpec.from_mapping(spec.to_mapping()) == spec
    assert "secret" not in spec.to_recorded_yaml()
    assert "on_end" not in SweepSpec.from_mapping({**BASE, "name": "x"}).to_mapping()
    for bad in (3, "", ["mail"], True):
        with pytest.raises(InvalidInput, match=r"on_end: .* it must be a command, or the http"):
            SweepSpec.from_mapping({**content, "on_end": bad})
