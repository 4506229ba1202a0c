"""A causal transformer (Vaswani et al., 2017; pre-norm, as decision transformers have it), for one
run, as functions of plain parameters."""

import math
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.networks import (
    Layers,
    Parameters,
    init_norm,
    layer_norm,
    mlp,
)

INITIAL_DEVIATION = 0.02
EXPANSION = 4


def init_linear(generator: torch.Generator, *sizes: int) -> Layers:
    """Linear layers from normal weights of deviation 0.02, without biases at first (GPT's)."""
    return [
        {
            "weight": torch.randn(before, after, generator=generator) * INITIAL_DEVIATION,
            "bias": torch.zeros(after),
        }
        for before, after in pairwise(sizes)
    ]


def init_transformer(generator: torch.Generator, width: int, blocks: int) -> Parameters:
    """Parameters of `blocks` blocks between two layer norms."""
    return {
        "first_norm": init_norm(width),
        "blocks": [
            {
                "attention_norm": init_norm(width),
                "queries_keys_values": init_linear(generator, width, 3 * width),
                "mixed": init_linear(generator, width, width),
                "layers_norm": init_norm(width),
                "layers": init_linear(generator, width, EXPANSION * width, width),
            }
            for _ in range(blocks)
        ],
        "last_norm": init_norm(width),
    }


def causal_transformer(parameters: Parameters, tokens: Tensor, heads: int) -> Tensor:
    """What is made of each token [..., L, width] by those up to it: [..., L, width].

    A block adds to the tokens what attention and then two layers (GELU) make of their norms.
    """
    hidden = layer_norm(parameters["first_norm"], tokens)
    for block in parameters["blocks"]:
        attended = causal_attention(block, layer_norm(block["attention_norm"], hidden), heads)
        hidden = hidden + mlp(block["mixed"], attended)
        normal = layer_norm(block["layers_norm"], hidden)
        hidden = hidden + mlp(block["layers"], normal, functional.gelu)
    return layer_norm(parameters["last_norm"], hidden)


def causal_attention(block: Parameters, tokens: Tensor, heads: int) -> Tensor:
    """softmax(q k' / sqrt(d)) v of each head, over tokens [..., L, width] that are not later."""
    length, width = tokens.shape[-2:]
    parts = mlp(block["queries_keys_values"], tokens)
    parts = parts.reshape(*parts.shape[:-1], 3, heads, width // heads)
    query, key, value = parts.movedim(-3, 0).transpose(-2, -3)
    scores = (query / math.sqrt(width // heads)) @ key.transpose(-1, -2)
    later = torch.full((length, length), -math.inf, device=tokens.device).triu(1)
    shares = (scores + later).softmax(-1)
    found: Tensor = (shares @ value).transpose(-2, -3).flatten(-2)
    return found
