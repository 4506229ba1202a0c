"""OSRL's methods keep to recorded steps of OSRL's own algorithms, with its defects switched on.

`osrl_recordings` holds one gradient step of each, in the layout of `tests.benchmarks.osrl_parity`:
networks of 16 units, 32 transitions of BallRun, the random numbers that were drawn.
"""

from pathlib import Path

import pytest
import torch

from tests.benchmarks.osrl_parity import READERS, TOLERANCE, Recording, recordings

FOLDER = Path(__file__).with_name("osrl_recordings")
# What OSRL logged in that step, and of some gradients the Euclidean norm.
RECORDED = {
    "bc": {"loss/actor_loss": 0.15154314, "gradient of actor": 0.32518664},
    "bcql": {
        "loss/loss_vae": 0.19172764,
        "loss/critic_loss": 3.7593286,
        "loss/cost_critic_loss": 1.4412886,
        "loss/actor_loss": 0.10027482,
    },
    "bearl": {
        "loss/critic_loss": 4.4779673,
        "loss/cost_critic_loss": 1.5025886,
        "loss/actor_loss": 0.15096584,
        "loss/mmd_loss": 0.070836373,
        "loss/alpha_value": 1.0000209,
    },
    "cpq": {
        "loss/critic_loss": 2.1730223,
        "loss/cost_critic_loss": 10.328633,
        "loss/alpha_value": 1.0009581,
        "loss/actor_loss": 0.12612984,
    },
    "coptidice": {
        "loss/nu_loss": 0.36050972,
        "loss/chi_loss": 1.8294966,
        "loss/tau_loss": -0.55600715,
        "loss/lmbda_loss": 5.9236355,
        "loss/actor_loss": 2.5362999,
    },
}


@pytest.fixture(scope="module")
def found() -> dict[str, Recording]:
    return recordings(FOLDER)


@pytest.mark.parametrize("name", READERS)
def test_losses_and_gradients_are_the_recorded_ones(name: str, found: dict[str, Recording]) -> None:
    rows = {row["quantity"]: row for row in found[f"{name}.pt"].differences()}
    for quantity, value in RECORDED[name].items():
        assert rows[quantity]["ours"] == pytest.approx(value, rel=TOLERANCE), quantity
    beyond = {quantity: row for quantity, row in rows.items() if row["difference"] > TOLERANCE}
    assert not beyond


def test_the_gradient_of_cloning_is_the_recorded_one(found: dict[str, Recording]) -> None:
    """Of the last layer's biases."""
    params, outputs = found["bc.pt"].outputs(0, 0)
    (gradient,) = torch.autograd.grad(outputs.losses, params["policy"][-1]["bias"])
    assert gradient.tolist() == pytest.approx([-0.091872513, 0.019975830], rel=TOLERANCE)


def test_a_wrong_number_is_found(found: dict[str, Recording]) -> None:
    """The comparison can fail: with another limit the policy's gradient is another."""
    recording = found["cpq.pt"]
    changed = {**recording.config, "cost_limit": -1.0}
    content = {"config": changed, "steps": recording.steps}
    rows = Recording("cpq", content).differences()
    beyond = {row["quantity"] for row in rows if row["difference"] > TOLERANCE}
    assert {"loss/critic_loss", "gradient of actor", "loss/actor_loss"} <= beyond
    assert "loss/loss_vae" not in beyond


def test_what_the_layout_lacks_is_found_from_it(found: dict[str, Recording]) -> None:
    """BallRun's episodes have 100 steps, and the last number of its states is constant."""
    recording = found["coptidice.pt"]
    assert recording.initial_share == pytest.approx(0.01)
    deviations = recording.deviations["observations"]
    assert float(deviations[-1].abs()) < 1e-4
    assert bool(((deviations > 0.1) & (deviations < 1.0))[:-1].all())
    assert torch.isfinite(recording.deviations["actions"]).all()
