"""Low-rank adapters, gated units, embeddings, and models that are written in ways that are hard to read."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from tests.measure.symmetries.attention import CLASSES, TOKENS, WIDTH
from torch import Tensor, nn

HIDDEN, RANK = 6, 3


class LowRank(nn.Module):
    """y = W x + s B A x, W trained or not; parts in dictionaries by the name of the adapter, as libraries have them."""

    def __init__(self, layer: nn.Linear, *, dropout: float = 0.0, frozen: bool = True) -> None:
        super().__init__()
        self.base_layer, self.scaling = layer.requires_grad_(not frozen), {"default": 1.7}
        self.lora_A = nn.ModuleDict({"default": nn.Linear(layer.in_features, RANK, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(RANK, layer.out_features, bias=False)})
        self.lora_dropout = nn.ModuleDict({"default": nn.Dropout(dropout) if dropout else nn.Identity()})

    def forward(self, x: Tensor) -> Tensor:
        y = self.base_layer(x)
        for name in self.lora_A:
            y = y + self.lora_B[name](self.lora_A[name](self.lora_dropout[name](x))) * self.scaling[name]
        return y


class Merged(nn.Module):
    """The same with the product of both factors added to the weight before it is used."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.a, self.b = (nn.Parameter(0.5 * torch.randn(*s)) for s in ((RANK, WIDTH), (layer.out_features, RANK)))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.layer.weight + 0.5 * self.b @ self.a, self.layer.bias)


def adapted(make: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    return nn.Sequential(make(nn.Linear(WIDTH, HIDDEN)), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))


class Gated(nn.Module):
    """down(gate'(x) · up(x)), by two layers or one for both."""

    def __init__(self, activation: Callable[[Tensor], Tensor], *, fused: bool = False, bias: bool = False) -> None:
        super().__init__()
        self.activation, self.fused = activation, fused
        if fused:
            self.gate_up = nn.Linear(WIDTH, 2 * HIDDEN, bias=bias)
        else:
            self.gate, self.up = nn.Linear(WIDTH, HIDDEN, bias=bias), nn.Linear(WIDTH, HIDDEN, bias=bias)
        self.down = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1) if self.fused else (self.gate(x), self.up(x))
        return self.down(self.activation(gate) * up)


class Library(nn.Module):
    """Takes keywords, branches on values, gives back a dictionary with the loss in it."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner = nn.Embedding(TOKENS, WIDTH), nn.Linear(WIDTH, HIDDEN)
        self.experts = nn.ModuleList(nn.Linear(HIDDEN, HIDDEN) for _ in range(2))
        self.head = nn.Linear(HIDDEN, TOKENS)

    def forward(
        self, *, ids: Tensor | None = None, mask: Tensor | None = None, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        if ids is None or mask is None or labels is None:
            raise ValueError("expected ids, mask and labels")
        x = torch.relu(self.inner(self.table(ids)))
        mixed = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            chosen = ids % 2 == number
            if bool(chosen.any()):
                mixed[chosen] = torch.relu(expert(x[chosen]))
        if mixed.sum().item() > 1e9:
            mixed = -mixed
        logits = self.head(x + mixed * mask[..., None])
        return {"logits": logits, "loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten())}
