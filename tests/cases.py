"""Shared tables: small models, losses and data in float64, each small enough for a dense Hessian."""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgdscope.evaluation import _PlainWeightNorm
from sgdscope.models import build
from sgdscope.risk import Risk

CLASSES, SAMPLES = 3, 12


def squared(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return 0.5 * (model(x) - y).square().sum(-1).mean()


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return F.cross_entropy(model(x), y.argmax(-1))


def of_dict(model: nn.Module, batch: Any) -> Tensor:
    return squared(model, (batch["x"], batch.pop("y")))  # popping, as trainers of language models do


class Block(nn.Module):
    """A transformer block on sequences of 4 with 4 channels; heads by fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.qkv, self.out, self.head = nn.Linear(4, 12, bias=False), nn.Linear(4, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(len(x), 4, 4)
        q, k, v = self.qkv(self.norm(x)).reshape(len(x), 4, 3, 2, 2).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
        return self.head((x + self.out(mixed)).mean(1))


class HeadsModule(nn.Module):
    """nn.MultiheadAttention, which takes fast paths of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(len(x), 4, 4)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Tied(nn.Module):
    """One matrix used twice, and registered under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 16, bias=False), nn.Linear(16, 16)
        self.second.weight = self.first.weight
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x.flatten(1))))))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.reshape(len(x), 4, 4))[0][:, -1])


def mlp(activation: str, depth: int = 2) -> nn.Module:
    return build("mlp", input_shape=(1, 4, 4), classes=CLASSES, width=6, depth=depth, activation=activation)


def dropout() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Dropout(0.4), nn.Linear(8, CLASSES))


def frozen() -> nn.Module:
    model = mlp("tanh")
    next(model.parameters()).requires_grad_(False)
    return model


def normed_weights() -> nn.Module:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(16, 6))
    return nn.Sequential(nn.Flatten(), layer, nn.Tanh(), nn.Linear(6, CLASSES))


def small_cnn() -> nn.Module:
    return build("cnn", input_shape=(1, 4, 4), classes=CLASSES, width=2, depth=1, activation="gelu")


def batch_norm() -> nn.Module:
    layers = [nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.GELU(), nn.Flatten(), nn.Linear(8, 4)]
    return nn.Sequential(*layers, nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, CLASSES))


@dataclass(frozen=True)
class Case:
    name: str
    model: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Any], Tensor] = squared
    kind: type = tuple
    chain: bool = False
    """Whether batch sharpness takes the Gram form."""
    additive: bool = True
    """Whether the loss over all data is the mean over any chunks."""

    def data(self) -> Any:
        g = torch.Generator().manual_seed(1)
        x = torch.randn(SAMPLES, 1, 4, 4, dtype=torch.float64, generator=g)
        y = F.one_hot(torch.randint(CLASSES, (SAMPLES,), generator=g), CLASSES).double()
        return (x, y) if self.kind is tuple else self.kind({"x": x, "y": y})

    def risk(self, **options: Any) -> Risk:
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(3)
            model = self.model().double()
        return Risk(model, self.loss, self.data(), **options)


CASES = [
    Case("mlp tanh", lambda: mlp("tanh"), chain=True),
    Case("mlp relu", lambda: mlp("relu"), cross_entropy, chain=True),
    Case("mlp gelu", lambda: mlp("gelu"), cross_entropy, chain=True),
    Case("linear", lambda: mlp("tanh", 0), chain=True),
    Case("cnn", small_cnn, chain=True),
    Case("BatchNorm", batch_norm, cross_entropy, additive=False),
    Case("attention", Block, cross_entropy),
    Case("MultiheadAttention", HeadsModule),
    Case("dropout", dropout, additive=False),
    Case("tied", Tied),
    Case("frozen", frozen),
    Case("LSTM", Recurrent),
    Case("weight norm", normed_weights, cross_entropy),
    Case("dict", lambda: mlp("tanh"), of_dict, dict, chain=True),
    Case("mapping", lambda: mlp("tanh"), of_dict, UserDict, chain=True),
]


def by_case(*, only: Callable[[Case], bool] = lambda _: True) -> dict[str, Any]:
    """Arguments of pytest.mark.parametrize over the table."""
    chosen = [case for case in CASES if only(case)]
    return {"argnames": "case", "argvalues": chosen, "ids": [case.name for case in chosen]}


def dense(risk: Risk, batch: Any, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian of one batch, flat, by torch.func with nothing of ours in between."""
    model, names = risk.model, risk.names
    shapes = [p.shape for p in risk.parameters]
    flat = torch.cat([p.detach().reshape(-1) for p in risk.parameters])
    others = {k: v.detach() for k, v in model.named_parameters() if k not in names}

    class Held(nn.Module):
        def __init__(self, values: dict[str, Tensor]) -> None:
            super().__init__()
            self.__dict__["values"] = values

        def forward(self, *args: Any) -> Tensor:
            return torch.func.functional_call(model, self.__dict__["values"], args)

    def loss(theta: Tensor) -> Tensor:
        parts = theta.split([math.prod(s) for s in shapes])
        values = {n: p.reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        buffers = {k: v.clone() for k, v in model.named_buffers()}
        torch.manual_seed(seed)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), _PlainWeightNorm():
            return risk.loss_fn(Held({**values, **others, **buffers}), dict(batch) if risk_is_mapping(batch) else batch)

    model.train(risk.mode == "train")
    gradient = torch.autograd.functional.jacobian(loss, flat)
    batched = not any(isinstance(m, nn.Conv2d | nn.LSTM) for m in model.modules())  # convolutions are slow that way
    return gradient, torch.autograd.functional.hessian(loss, flat, vectorize=batched)


def risk_is_mapping(batch: Any) -> bool:
    return hasattr(batch, "keys")


def flat(v: Any) -> Tensor:
    """A vector as one tensor."""
    return torch.cat([x.reshape(-1) for x in v])


def quadratics(curvatures: list[float], *, start: float = 0.7) -> Risk:
    """1-d quadratics ½ h_i θ², one per sample: everything about them is known."""
    h = torch.tensor(curvatures, dtype=torch.float64)
    return Risk.of_function(
        lambda p, batch: 0.5 * (batch * p[0].square()).mean(), [torch.tensor([start], dtype=torch.float64)], h
    )


def diagonal(eigenvalues: Any, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Risk:
    """½ Σ λ_i θ_i² at a random point: a Hessian with a known spectrum."""
    spectrum = torch.as_tensor(eigenvalues, dtype=dtype)
    start = torch.randn(len(spectrum), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return Risk.of_function(lambda p: 0.5 * (spectrum * p[0].square()).sum(), [start])
