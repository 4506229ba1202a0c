"""CDT beside a step of OSRL's own: its parameters and windows, and what it logged and moved by."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.benchmarks.osrl_cdt import compare

RECORDED = Path(__file__).with_name("cdt_recorded_step.npz")
CONFIG = {
    "embedding_dim": 16, "num_layers": 3, "num_heads": 8, "seq_len": 10, "clip_grad": 0.25,
    "weight_decay": 1e-4, "loss_cost_weight": 0.02, "episode_len": 100, "cost_limit": 10,
}  # fmt: skip
LOGGED = {
    "train/nll": 0.9355231523513794, "train/ent": 1.4209538698196411, "train/ent_reg": 0.1,
    "train/act_loss": 0.7934277653694153, "train/cost_loss": 0.6338287591934204,
    "train/all_loss": 0.8061043405532837,
}  # fmt: skip
TEMPERATURE_GRADIENT = 0.3421
MEAN_HEAD_BIAS = (-0.004831405356526375, -0.00026586715830489993)
DEVIATION_HEAD_BIAS = (0.038961444050073624, 0.03990187868475914)
COST_HEAD_BIAS = (-0.0008235484710894525, 0.0008235483546741307)
FIRST_NORM_SHIFT = 0.00457347696647048


@pytest.fixture
def step() -> dict[str, Any]:
    """The recorded step, without gradients."""
    stored = {name: torch.as_tensor(value) for name, value in np.load(RECORDED).items()}
    batch = [value for name, value in stored.items() if name.startswith("batch.")]
    state = {
        name.removeprefix("state."): value
        for name, value in stored.items()
        if name.startswith("state.")
    }
    model = {
        "state": state, "scalars": {"log_temperature": np.log(0.1)},
        "gradients": {name: torch.ones_like(value) for name, value in state.items()},
    }  # fmt: skip
    temperature = {"gradients": {"log_temperature": torch.tensor(TEMPERATURE_GRADIENT)}}
    return {"batch": batch, "metrics": LOGGED, "optimizer_steps": [model, temperature]}


def test_losses_are_osrls(step: dict[str, Any]) -> None:
    found = compare(CONFIG, step)
    for name, (ours, recorded) in found.items():
        if name != "gradient of the model":
            assert float(ours) == pytest.approx(float(recorded), rel=2e-4), name
    assert found.keys() >= LOGGED.keys()


def test_the_models_gradient_is_osrls(step: dict[str, Any]) -> None:
    """Some of its entries, at their places among the leaves; and the norm that it is cut to."""
    gradient, places = compare(CONFIG, step)["gradient of the model"]
    assert float(gradient.norm()) == pytest.approx(0.25, rel=1e-4)
    # The recorded gradient's place is taken by each name's number.
    names = list(step["optimizer_steps"][0]["gradients"])
    for number, name in enumerate(names, 1):
        step["optimizer_steps"][0]["gradients"][name].fill_(number)
    _, places = compare(CONFIG, step)["gradient of the model"]

    def of(name: str) -> torch.Tensor:
        return gradient[places == names.index(name) + 1]

    assert of("action_head.mu.bias").tolist() == pytest.approx(MEAN_HEAD_BIAS, rel=2e-4)
    assert of("action_head.log_std.bias").tolist() == pytest.approx(DEVIATION_HEAD_BIAS, rel=2e-4)
    assert of("cost_pred_head.bias").tolist() == pytest.approx(COST_HEAD_BIAS, rel=2e-4)
    assert float(of("emb_norm.bias").norm()) == pytest.approx(FIRST_NORM_SHIFT, rel=2e-4)
