"""The transformer: torch's own attention as the answer, and causality."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

from safesweep.trainables.components.transformer import (
    causal_attention,
    causal_transformer,
    init_transformer,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def parameters(seed: int = 0) -> dict[str, object]:
    return init_transformer(torch.Generator().manual_seed(seed), 12, 2)


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_is_torchs(heads: int) -> None:
    block = parameters()["blocks"][0]  # type: ignore[index]
    attention = nn.MultiheadAttention(12, heads, batch_first=True)
    with torch.no_grad():
        layer, out = block["queries_keys_values"][0], block["mixed"][0]
        layer["bias"].copy_(normal(36, seed=3))
        attention.in_proj_weight.copy_(layer["weight"].T)
        attention.in_proj_bias.copy_(layer["bias"])
        attention.out_proj.weight.copy_(out["weight"].T)
        tokens = normal(4, 7, 12, seed=1)
        later = torch.ones(7, 7, dtype=torch.bool).triu(1)
        expected, _ = attention(tokens, tokens, tokens, attn_mask=later)
        found = causal_attention(block, tokens, heads) @ out["weight"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_token_depends_on_none_after_it() -> None:
    network, tokens = parameters(), normal(2, 5, 12)
    before = causal_transformer(network, tokens, 3)
    changed = tokens.clone()
    changed[:, 3, 0] += 1
    after = causal_transformer(network, changed, 3)
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert bool(((after - before)[:, 3:].abs().amax(-1) > 1e-4).all())


def test_members_are_transformed_apart() -> None:
    stacked = torch.utils._pytree.tree_map(
        lambda *leaves: torch.stack(leaves), parameters(0), parameters(1)
    )
    tokens = normal(2, 4, 5, 12)
    together = vmap(lambda network, own: causal_transformer(network, own, 3))(stacked, tokens)
    for member in range(2):
        alone = causal_transformer(parameters(member), tokens[member], 3)
        torch.testing.assert_close(together[member], alone, rtol=1e-4, atol=1e-6)
