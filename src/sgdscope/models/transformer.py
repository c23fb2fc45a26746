"""Transformer: a small causal language model, pre-norm, whose output at a position foretells the next token."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from sgdscope.models.activations import activation_module
from sgdscope.models.architecture import Architecture, whole_number

EXPANSION = 4
"""Hidden units of a block per number of its width. Source: Vaswani et al., section 3.3."""


class CausalSelfAttention(nn.Module):
    """Attention of every position to itself and those before it, in `heads` parts.

    By torch's ``scaled_dot_product_attention``, so that training takes its fused kernels; second derivatives are taken
    through the one kernel that has them (see `evaluation`).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``(b, positions, width)`` to the same."""
        batch, positions, width = x.shape
        parts = self.queries_keys_values(x).reshape(batch, positions, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)  # each (b, heads, positions, width / heads)
        mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, positions, width))
        return out


class TransformerBlock(nn.Module):
    """``x + s · attention(norm(x))``, then ``x + s · hidden(norm(x))``, with the fixed number s = `residual_scale`."""

    def __init__(self, width: int, heads: int, *, activation: str, norm: str, residual_scale: float) -> None:
        super().__init__()
        self.attention_norm = _norm(norm, width)
        self.attention = CausalSelfAttention(width, heads)
        self.hidden_norm = _norm(norm, width)
        self.hidden = nn.Sequential(
            nn.Linear(width, EXPANSION * width), activation_module(activation), nn.Linear(EXPANSION * width, width)
        )
        self.residual_scale = residual_scale

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``(b, positions, width)`` to the same."""
        x = x + self.residual_scale * self.attention(self.attention_norm(x))
        out: Tensor = x + self.residual_scale * self.hidden(self.hidden_norm(x))
        return out


class Transformer(nn.Module):
    """Embeddings of token and position, blocks, a last norm, a linear output at every position. See `transformer`."""

    def __init__(
        self, vocabulary: int, context_length: int, outputs: int, *, width: int, depth: int, heads: int,
        activation: str, norm: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context_length, width)
        residual_scale = 1 / math.sqrt(2 * depth) if norm == "none" else 1.0
        self.blocks = nn.Sequential(*(
            TransformerBlock(width, heads, activation=activation, norm=norm, residual_scale=residual_scale)
            for _ in range(depth)
        ))  # fmt: skip
        self.norm = _norm(norm, width)
        self.out = nn.Linear(width, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """Whole numbers of shape ``(b, positions)`` to logits of shape ``(b, positions, outputs)``.

        The logits at a position depend on the tokens up to it and on no later one. Fewer positions than the context
        length are allowed.
        """
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        out: Tensor = self.out(self.norm(self.blocks(x)))
        return out


def transformer(architecture: Architecture) -> Transformer:
    """`depth` blocks (2 unless given) of `width` numbers per position (32 unless given) in `heads` heads (4).

    Unless given, heads are the largest number up to 4 that divides the width. Inputs are tokens, shape ``(b, context
    length)``; outputs ``(b, context length, outputs)``. Norm "layer" is LayerNorm before attention and hidden layer;
    without, the 2·`depth` branches are multiplied by 1/√(2·`depth`), as in the resnet. There is no dropout, and the
    embedding is not tied to the output. Weights are left as torch made them: `build` draws them.
    Source: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762; norms before the branches: Xiong et al.,
    "On Layer Normalization in the Transformer Architecture", arXiv:2002.04745.
    Raises ValueError if the inputs are no tokens, on a width or depth < 1, or heads that do not divide the width.
    """
    if architecture.vocabulary is None or len(architecture.input_shape) != 1:
        raise ValueError(
            f"expected tokens of a text for transformer, got inputs of shape {architecture.input_shape}\n"
            "hint: images go into a cnn or resnet, other numbers into an mlp"
        )
    width, depth = architecture.width_or(32), architecture.depth_or(2)
    heads = math.gcd(4, width) if architecture.heads is None else whole_number("heads", architecture.heads, 1)
    if width % heads:
        raise ValueError(f"expected heads that divide the width {width}, got {heads}")
    return Transformer(
        architecture.vocabulary, architecture.input_shape[0], architecture.outputs, width=width, depth=depth,
        heads=heads, activation=architecture.activation, norm=architecture.norm_among("transformer", ("layer", "none")),
    )  # fmt: skip


def _norm(name: str, width: int) -> nn.Module:
    return nn.LayerNorm(width) if name == "layer" else nn.Identity()
