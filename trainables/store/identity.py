"""Names that follow from content: the same request always has the same identity."""

import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def _digest(content: object, length: int) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


ADDED_LATER = {
    "matmul_precision": "fp32",
    "learning_rate_schedule": "constant",
    # LSPC's
    "weight_clip": 200.0,
    # FLRP's
    "reward_weight_clip": 100.0,
    "safety_weight_clip": 150.0,
    "decoder_log_std_low": -3.0,
    "decoder_log_std_high": 0.0,
}
"""Hyperparameters that there were not always, with what holds where there is none: an identity does
not tell the two apart, so that stores stay what they are."""


_VALUES = {"done_signal": "terminals", "reward_scaling": "normalized", "reward_scale": 1.0}
_NETWORKS = {
    "activation": "relu",
    "layer_norm": "none",
    "critic_hidden_dim": 0,
    "critic_hidden_layers": 0,
    "critic_activation": "same",
}
ADDED_LATER_TO: dict[str, dict[str, object]] = {
    "bc": {"frontier_degree": 2, "frontier_range": 0.2},
    "flrp": {**_VALUES, "safety_margin": 0.0},
    "lspc": {**_NETWORKS, "reward_scale": 1.0, "clamp_in_regression": False},
    "r2pac": {
        **_NETWORKS, "activation": "gelu", "reward_scaling": "normalized", "reward_scale": 1.0,
        "safety_margin": 0.0,
    },
    "flp": {**_VALUES, **_NETWORKS, "online_share": 0.0, "replay_capacity": 1_000_000},
    "safefql": {
        **_VALUES, **_NETWORKS, "safety_margin": 0.0, "normalize_safety": False,
        "critic_batch_size": 0,
    },
    "caps": {"weight_clip": 100.0},
}  # fmt: skip
"""The same of single methods, where others had a hyperparameter of that name or hold another value
without it."""


def added_later(algorithm: str) -> dict[str, object]:
    """Hyperparameters that a method had not always, with what holds where there is none."""
    return {**ADDED_LATER, **ADDED_LATER_TO.get(algorithm, {})}


def config_id(
    algorithm: str,
    config: Mapping[str, object],
    task: str,
    dataset_id: str,
    steps: int,
    cost_limit: float | None = None,
) -> str:
    """Identity of one configuration: 12 hex digits.

    Hashes the fully resolved `config` (every field, defaults included), the method, the task, the
    dataset's digest, the training budget in gradient steps (phases divide the budget) and the
    `cost_limit` where one is given, which is where the configuration trains to it. Elsewhere a
    limit only judges results, and runs serve every limit.
    """
    later = added_later(algorithm)
    said = {
        name: value for name, value in config.items() if name not in later or value != later[name]
    }
    content = [algorithm, said, task, dataset_id, steps]
    return _digest(content if cost_limit is None else [*content, float(cost_limit)], 12)


def run_id(configuration: str, seed: int) -> str:
    """Identity of one run: its configuration and its seed."""
    return f"{configuration}-{seed}"


def trial_id(run_ids: Iterable[str]) -> str:
    """Identity of a population: 12 hex digits over its members, whatever their order."""
    return _digest(sorted(run_ids), 12)


@cache
def code_version() -> str:
    """Package version, with the commit when the code runs from a git checkout."""
    try:
        release = version("safesweep-rl")
    except PackageNotFoundError:
        release = "unknown"
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return release
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    except OSError:  # There is no git program.
        return release
    return f"{release}+{described}" if described else release
