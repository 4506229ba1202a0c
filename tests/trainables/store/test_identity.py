import subprocess
from pathlib import Path

import pytest

from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store.identity import added_later, code_version, config_id


def test_full_precision_is_no_part_of_a_configurations_identity() -> None:
    def identity(**config: object) -> str:
        return config_id("bc", config, "task", "data", 10)

    plain = identity(hidden_dim=64)
    assert identity(hidden_dim=64, matmul_precision="fp32") == plain
    assert identity(hidden_dim=64, matmul_precision="bf16") != plain


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_field_that_came_later_leaves_identities_as_they_were(algorithm: str) -> None:
    """At its default, which is what held before, it is not told apart from no field at all."""
    config = ALGORITHMS[algorithm].config_class()
    later = added_later(algorithm)
    before = {name: v for name, v in config.to_dict().items() if name not in later}
    plain = config_id(algorithm, before, "task", "data", 10)
    assert config_id(algorithm, config.to_dict(), "task", "data", 10) == plain
    for name in later.keys() & config.to_dict().keys():
        assert config_id(algorithm, {**before, name: 0.5}, "task", "data", 10) != plain


def test_rows_name_the_commit_of_a_checkout() -> None:
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    described = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert f"+{described}" in code_version().removesuffix("-dirty")
