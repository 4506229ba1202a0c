"""Choosing among candidates by hand."""

import torch

from safesweep.trainables.components.candidates import best_candidate, select


def test_the_best_candidate_is_the_richest_of_those_allowed() -> None:
    reward = torch.tensor([[1.0, 1.0, 3.0], [2.0, 2.0, 1.0], [3.0, 3.0, 2.0]])
    assert best_candidate(reward, None, torch.tensor(0.0)).tolist() == [2, 2, 0]
    cost = torch.tensor([[0.0, 9.0, 9.0], [1.0, 8.0, 0.5], [5.0, 7.0, 1.0]])
    chosen = best_candidate(reward, cost, torch.tensor(1.0))
    assert chosen.tolist() == [1, 2, 2]
    candidates = torch.arange(18.0).reshape(3, 3, 2)
    expected = torch.stack([candidates[1, 0], candidates[2, 1], candidates[2, 2]])
    torch.testing.assert_close(select(candidates, chosen), expected)
    torch.testing.assert_close(select(reward, chosen), torch.tensor([2.0, 3.0, 2.0]))
