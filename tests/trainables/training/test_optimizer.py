"""The population's Adam against torch's, member by member."""

import torch

from safesweep.trainables.training.optimizer import adam_, gradients_of, init_adam, polyak_


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
