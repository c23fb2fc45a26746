"""Hostile models: what real code does that measurements must survive, each with a plain reference beside it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tests.cases import CASES, CLASSES, batch_norm, cross_entropy, dropout, squared
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sgdscope.risk import Risk

SAMPLES = 12


def around(*middle: nn.Module, outputs: int = CLASSES) -> nn.Module:
    """A small network with modules in the middle."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), *middle, nn.Linear(6, outputs))


class TiedByFunction(nn.Module):
    """One parameter used twice, transposed the second time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.randn(16, 6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(x.flatten(1) @ self.weight), self.weight)[:, :CLASSES]


class RunningMean(nn.Module):
    """Subtracts a running mean that its forward has just updated, in place or by a new tensor, and counts calls."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            new = 0.9 * self.mean + 0.1 * x.mean(0)
            if self.in_place:
                self.mean.copy_(new)
                self.calls += 1
            else:
                self.mean, self.calls = new, self.calls + 1
        return x - self.mean


class Attributes(nn.Module):
    """Keeps state where no state_dict sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x.detach()
        self.new = self.calls  # not there before the first call
        return torch.tanh(x)


class Checkpointed(nn.Module):
    """A block whose activations are computed again on the way back."""

    def __init__(self, middle: nn.Module, *, used: bool, reentrant: bool = False) -> None:
        super().__init__()
        self.used, self.reentrant = used, reentrant
        self.start, self.head = nn.Linear(16, 6), nn.Linear(6, CLASSES)
        self.block = nn.Sequential(nn.Linear(6, 6), middle, nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.start(x.flatten(1)))
        return self.head(checkpoint(self.block, x, use_reentrant=self.reentrant) if self.used else self.block(x))


def contrastive(model: nn.Module, batch: Any) -> Tensor:
    """Supervised: samples of one class attract each other; the batch as a whole, one call."""
    x, y = batch
    z = F.normalize(model(x), dim=-1)
    other = ~torch.eye(len(z), dtype=torch.bool)
    same = (y.argmax(-1)[:, None] == y.argmax(-1)[None]) & other
    similar = (z @ z.T / 0.5).masked_fill(~other, -50.0)
    return -(F.log_softmax(similar, -1) * same).sum() / len(z)


def two_views(model: nn.Module, batch: Any) -> Tensor:
    """Each sample finds its other view among those of the batch; two calls."""
    x, _ = batch
    a, b = F.normalize(model(x), dim=-1), F.normalize(model(x.flip(-1)), dim=-1)
    return F.cross_entropy(a @ b.T / 0.3, torch.arange(len(x)))


def decorrelated(model: nn.Module, batch: Any) -> Tensor:
    """The mean over samples and a term of the batch's covariance (as Barlow twins and VICReg have)."""
    outputs = model(batch[0])
    centred = outputs - outputs.mean(0)
    return 0.5 * (outputs - batch[1]).square().sum(-1).mean() + (centred.T @ centred / len(outputs)).square().sum()


Loss = Callable[[nn.Module, Any], Tensor]


@dataclass(frozen=True)
class Hostile:
    """A model and loss; `twin` is the same function without what is hostile about it."""

    name: str
    model: Callable[[], nn.Module]
    loss: Loss = squared
    twin: Callable[[], nn.Module] | None = None
    additive: bool = True
    """Whether the loss of a batch is the mean over its samples."""
    random: bool = False
    """Whether the loss depends on a seed."""
    calls: int = 1

    def risk(self, *, twin: bool = False, **options: Any) -> Risk:
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(3)
            model = (self.twin or self.model)() if twin else self.model()
        return Risk(model.double(), self.loss, CASES[0].data(), **options)


def checkpointed(name: str, middle: Callable[[], nn.Module], **known: Any) -> Hostile:
    return Hostile(name, lambda: Checkpointed(middle(), used=True),
                   twin=lambda: Checkpointed(middle(), used=False), **known)  # fmt: skip


HOSTILE = [
    Hostile("BatchNorm", batch_norm, cross_entropy, additive=False),
    Hostile("dropout", dropout, random=True),
    Hostile("tied", lambda: next(c for c in CASES if c.name == "tied").model()),
    Hostile("tied by function", TiedByFunction),
    Hostile("buffer in place", lambda: around(RunningMean(in_place=True), nn.Tanh()), additive=False),
    Hostile("buffer replaced", lambda: around(RunningMean(in_place=False), nn.Tanh()), additive=False),
    Hostile("attributes", lambda: around(Attributes())),
    Hostile("spectral norm", lambda: nn.Sequential(
        nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(16, 6)), nn.Tanh(), nn.Linear(6, CLASSES))),
    checkpointed("checkpoint", nn.Identity),
    checkpointed("checkpoint, dropout", lambda: nn.Dropout(0.3), random=True),
    checkpointed("checkpoint, BatchNorm", lambda: nn.BatchNorm1d(6), additive=False),
    Hostile("contrastive", lambda: around(nn.Tanh()), contrastive, additive=False),
    Hostile("two views", lambda: around(nn.Tanh()), two_views, additive=False, calls=2),
    Hostile("decorrelated", lambda: around(nn.Tanh()), decorrelated, additive=False),
]  # fmt: skip


def state_of(model: nn.Module) -> tuple[dict[str, Tensor], list[Any]]:
    """All that a measurement must leave alone, comparable."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    tensors |= {f"grad of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    others: list[Any] = [{name: id(tensor) for name, tensor in tensors.items()}]
    for module in model.modules():
        others.append({k: v if isinstance(v, int | float | str | bool) else id(v) for k, v in vars(module).items()})
        others.append([list(vars(module)[kind]) for kind in ("_forward_hooks", "_backward_hooks", "_buffers")])
    numpy = np.random.get_state()  # noqa: NPY002
    others += [random.getstate(), numpy[1].tolist(), numpy[2:], torch.get_rng_state().tolist(), torch.is_grad_enabled()]
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}, others


class Plain:
    """The loss of a risk's own batch at any parameters, by copying the model and putting them in: no tricks."""

    def __init__(self, risk: Risk, batch: Any, seed: int = 0) -> None:
        self._risk, self._batch, self._seed = risk, batch, seed
        self.parameters = [p.detach().clone() for p in risk.parameters]
        self._sizes = [p.numel() for p in self.parameters]

    @property
    def flat(self) -> Tensor:
        return torch.cat([p.reshape(-1) for p in self.parameters])

    def loss(self, theta: Tensor | None = None) -> float:
        model = copy.deepcopy(self._risk.model).train(self._risk.mode == "train")
        own = dict(model.named_parameters())
        with torch.no_grad():
            parts = (self.flat if theta is None else theta).split(self._sizes)
            for name, part in zip(self._risk.names, parts, strict=True):
                own[name].copy_(part.reshape(own[name].shape))
        with torch.random.fork_rng([]):
            torch.manual_seed(self._seed)
            return self._risk.loss_fn(model, self._batch).item()


def gauss_newton(risk: Risk, batch: Any) -> Tensor:
    """Jᵀ H_ℓ J of a batch, dense, from all outputs together."""
    model = copy.deepcopy(risk.model).train(risk.mode == "train")
    parameters = {n: p.detach() for n, p in model.named_parameters()}

    def outputs(values: dict[str, Tensor]) -> Tensor:
        with torch.random.fork_rng([]):
            torch.manual_seed(risk.seed)
            buffers = {n: b.clone() for n, b in model.named_buffers()}
            return torch.func.functional_call(model, {**values, **buffers}, (batch[0],))

    jacobian = torch.func.jacrev(outputs)(parameters)
    found = outputs(parameters)
    rows = torch.cat([jacobian[n].reshape(found.numel(), -1) for n in risk.names], 1)

    class Fixed(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            return self.outputs

    def loss(y: Tensor) -> Tensor:
        fixed = Fixed()
        fixed.outputs = y.reshape(found.shape)
        return risk.loss_fn(fixed, batch)

    curvature = torch.autograd.functional.hessian(loss, found.reshape(-1))
    return rows.T @ curvature @ rows
