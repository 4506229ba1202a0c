"""The population's Adam against torch's, member by member."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from safesweep.trainables.training.optimizer import (
    adam_,
    clipped,
    decay_,
    gradients_of,
    init_adam,
    one_a_leaf,
    polyak_,
)


def test_adam_equals_torch_for_every_member() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, 5, generator=generator)
    rates = torch.tensor([1e-3, 1e-2, 1e-1])
    stacked = {"layer": {"weight": start.clone()}}
    state = init_adam(stacked)
    references = [start[member].clone().requires_grad_(True) for member in range(3)]
    optimizers = [
        torch.optim.Adam([reference], lr=float(rate))
        for reference, rate in zip(references, rates, strict=True)
    ]
    for _ in range(50):
        gradient = torch.randn(3, 4, 5, generator=generator)
        adam_(stacked, [gradient], state, rates)
        for member, (reference, optimizer) in enumerate(zip(references, optimizers, strict=True)):
            reference.grad = gradient[member].clone()
            optimizer.step()
    expected = torch.stack([reference.detach() for reference in references])
    torch.testing.assert_close(stacked["layer"]["weight"], expected, rtol=1e-5, atol=1e-6)


def test_polyak_moves_each_member_at_its_rate() -> None:
    target = {"weight": torch.zeros(2, 3)}
    polyak_(target, {"weight": torch.ones(2, 3)}, torch.tensor([0.1, 0.5]))
    torch.testing.assert_close(target["weight"], torch.tensor([[0.1] * 3, [0.5] * 3]))


def test_losses_by_name_reach_their_own_network_alone() -> None:
    first = torch.ones(2, 3, requires_grad=True)
    second = torch.ones(2, 3, requires_grad=True)
    product = (first * second).sum(-1)
    separate = gradients_of(
        {"first": 2 * product, "second": 5 * product}, {"first": first, "second": second}
    )
    torch.testing.assert_close(separate, [torch.full((2, 3), 2.0), torch.full((2, 3), 5.0)])


def test_a_network_that_a_loss_does_not_touch_gets_zero() -> None:
    used = torch.ones(2, 3, requires_grad=True)
    idle = torch.ones(2, 3, requires_grad=True)
    gradients = gradients_of(used.sum(-1), {"used": used, "idle": idle})
    torch.testing.assert_close(gradients, [torch.ones(2, 3), torch.zeros(2, 3)])


def test_networks_with_rates_decays_and_norms_of_their_own_equal_torchs_adamw() -> None:
    """Stacked members, and each alone without the members' axis, as a CPU trains large ones."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"actor": [(4, 5), (5,)], "critic": [(3,), ()]}
    start = {
        name: [torch.randn(2, *shape, generator=generator) for shape in leaves]
        for name, leaves in shapes.items()
    }
    rates = {"actor": torch.tensor([1e-2, 1e-1])}
    decays = {"actor": torch.tensor([0.1, 0.5]), "critic": torch.tensor([0.3, 0.0])}
    largest = {"critic": torch.tensor([0.5, 2.0])}
    usual = torch.tensor([1e-3, 3e-3])

    def stepped(networks: Any, gradients: list[Tensor], state: Any, member: int | None) -> None:
        def own(values: dict[str, Tensor]) -> dict[str, Tensor]:
            return values if member is None else {n: v[member] for n, v in values.items()}

        rate = one_a_leaf(own(rates), networks, usual if member is None else usual[member])
        cut = clipped(gradients, networks, own(largest))
        decay_(networks, rate, own(decays))
        adam_(networks, cut, state, rate)

    stacked = {name: [leaf.clone() for leaf in leaves] for name, leaves in start.items()}
    single = [
        {name: [leaf[member].clone() for leaf in leaves] for name, leaves in start.items()}
        for member in range(2)
    ]
    reference = [
        {
            n: [leaf[m].clone().requires_grad_(True) for leaf in leaves]
            for n, leaves in start.items()
        }
        for m in range(2)
    ]
    optimizers = [
        torch.optim.AdamW(
            [
                {
                    "params": network[name],
                    "lr": float(rates.get(name, usual)[member]),
                    "weight_decay": float(decays[name][member]),
                }
                for name in shapes
            ]
        )
        for member, network in enumerate(reference)
    ]
    states = [init_adam(networks) for networks in (stacked, *single)]
    for _ in range(20):
        gradients = [torch.randn(leaf.shape, generator=generator) for leaf in tree_leaves(stacked)]
        stepped(stacked, gradients, states[0], None)
        for member, optimizer in enumerate(optimizers):
            stepped(single[member], [g[member] for g in gradients], states[1 + member], member)
            for leaf, gradient in zip(tree_leaves(reference[member]), gradients, strict=True):
                leaf.grad = gradient[member].clone()
            torch.nn.utils.clip_grad_norm_(
                reference[member]["critic"], float(largest["critic"][member])
            )
            optimizer.step()
    for member in range(2):
        triples = zip(
            tree_leaves(reference[member]), tree_leaves(stacked), tree_leaves(single[member]),
            strict=True,
        )  # fmt: skip
        for expected, together, alone in triples:
            torch.testing.assert_close(together[member], expected.detach(), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(alone, expected.detach(), rtol=1e-5, atol=1e-6)
