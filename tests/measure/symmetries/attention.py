"""Attention in the ways in which it is written, and the blocks around it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS, POSITIONS, TOKENS, CLASSES = 8, 2, 5, 7, 3


def by_hand(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """softmax(QKᵀ/√d) V with a mask that is filled in."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    return scores.softmax(-1) @ v


def fused_kernel(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def turned(x: Tensor) -> Tensor:
    """Rotary embedding: pairs of numbers are turned by an angle that grows with the position."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] / 3.0 ** torch.arange(half, dtype=x.dtype)
    cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin


def turned_as_complex(x: Tensor) -> Tensor:
    """The same of neighbours, as complex numbers."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    angle = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] / 3.0 ** torch.arange(pairs.shape[-1], dtype=x.dtype)
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


class Separate(nn.Module):
    """A layer each for queries, keys and values; fewer heads of keys and values if asked for."""

    def __init__(
        self, *, bias: bool = True, key_heads: int = HEADS, attend=by_hand, causal: bool = False, rotary=None,
        norm: bool = False, relu: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        size = WIDTH // HEADS
        self.q = nn.Linear(WIDTH, WIDTH, bias=bias)
        self.k, self.v = (nn.Linear(WIDTH, key_heads * size, bias=bias) for _ in range(2))
        self.out = nn.Linear(WIDTH, WIDTH, bias=bias)
        self.q_norm, self.k_norm = (nn.RMSNorm(size, eps=1e-5) if norm else nn.Identity() for _ in range(2))
        self.key_heads, self.attend, self.causal, self.rotary, self.relu = key_heads, attend, causal, rotary, relu

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = self.q_norm(self.q(x).view(b, t, HEADS, -1)).transpose(1, 2)
        k = self.k_norm(self.k(x).view(b, t, self.key_heads, -1)).transpose(1, 2)
        v = self.v(x).view(b, t, self.key_heads, -1).transpose(1, 2)
        if self.relu:
            v = torch.relu(v)
        if self.rotary is not None:
            q, k = self.rotary(q), self.rotary(k)
        k, v = (each.repeat_interleave(HEADS // self.key_heads, dim=1) for each in (k, v))
        return self.out(self.attend(q, k, v, causal=self.causal).transpose(1, 2).reshape(b, t, WIDTH))


class Fused(nn.Module):
    """One layer for all three, laid out in one of the ways in use."""

    def __init__(self, layout: str, *, bias: bool = True) -> None:
        super().__init__()
        self.qkv, self.out, self.layout = nn.Linear(WIDTH, 3 * WIDTH, bias=bias), nn.Linear(WIDTH, WIDTH), layout

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        made = self.qkv(x)
        if self.layout == "chunk":
            q, k, v = (each.view(b, t, HEADS, -1).transpose(1, 2) for each in made.chunk(3, dim=-1))
        elif self.layout == "split":
            q, k, v = (each.reshape(b, t, HEADS, -1).movedim(2, 1) for each in made.split(WIDTH, dim=2))
        elif self.layout == "unbind":
            q, k, v = made.view(b, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
        else:  # heads first, queries, keys and values of each in a row
            q, k, v = made.view(b, t, HEADS, 3, -1).transpose(1, 2).unbind(3)
        return self.out(fused_kernel(q, k, v, causal=True).transpose(1, 2).flatten(2))


class Stacked(nn.Module):
    """A matrix for each head in one parameter, by einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Parameter(0.4 * torch.randn(HEADS, WIDTH, 3)) for _ in range(3))
        self.out = nn.Parameter(0.4 * torch.randn(HEADS, 3, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (torch.einsum("btd,hdk->bhtk", x, each) for each in (self.q, self.k, self.v))
        return torch.einsum("bhtk,hkd->btd", by_hand(q, k, v), self.out)


class Torch(nn.Module):
    """torch's own, of a sequence on itself or on another."""

    def __init__(self, *, other: int = 0, bias: bool = True) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(
            WIDTH, HEADS, bias=bias, batch_first=True, kdim=other or None, vdim=other or None
        )
        self.other = other

    def forward(self, x: Tensor) -> Tensor:
        keys = x[..., : self.other] if self.other else x
        return self.attention(x, keys, keys, need_weights=False)[0]


class Block(nn.Module):
    """Attention and a hidden layer, each after a norm and added to what it read."""

    def __init__(self, attention: nn.Module, norm: type[nn.Module] = nn.LayerNorm, *, activation=F.relu) -> None:
        super().__init__()
        self.one, self.attention, self.two = norm(WIDTH, eps=1e-5), attention, norm(WIDTH, eps=1e-5)
        self.up, self.down, self.activation = nn.Linear(WIDTH, 6), nn.Linear(6, WIDTH), activation

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.one(x))
        return x + self.down(self.activation(self.up(self.two(x))))


class Language(nn.Module):
    """Tokens, positions, a block, a last norm and a head, which may be the table of tokens."""

    def __init__(self, *, tied: bool = False, norm: type[nn.Module] = nn.RMSNorm) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(TOKENS, WIDTH), nn.Parameter(torch.randn(2 * POSITIONS, WIDTH))
        self.block, self.norm = Block(Separate(causal=True), norm, activation=F.gelu), norm(WIDTH, eps=1e-5)
        self.head = nn.Linear(WIDTH, TOKENS, bias=False)
        if tied:
            self.head.weight = self.token.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.block(self.token(tokens) + self.position[: tokens.shape[1]])))


class Vision(nn.Module):
    """Patches, a class token and positions that are added to both, so that their gradients share memory."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(1, WIDTH, 4, 4), nn.Parameter(torch.randn(1, 1, WIDTH))
        self.position = nn.Parameter(torch.randn(1, 5, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 6, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.position
        return self.head(self.encoder(x)[:, 0])
