r"""Gram matrix of per-sample gradients, :math:`K_{ij} = g_i \cdot g_j`: all that the noise of SGD is, but for its axes.

Its diagonal are the squared norms, its mean is :math:`\|\bar g\|^2`, its centred eigenvalues over n - 1 are those of
the noise covariance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sgdscope.batches import Batch, length, map_tensors
from sgdscope.per_sample import layers
from sgdscope.per_sample.gradients import per_sample_gradients
from sgdscope.per_sample.sides import NoSidesError, sides
from sgdscope.risk import Risk
from sgdscope.self_check import SelfCheck, allowed

Method = Literal["auto", "layers", "explicit"]

_FEW = 8
"""Samples of the self-check where data come in batches."""
_BYTES = 1 << 31
"""Of explicit per-sample gradients at once."""


@dataclass(frozen=True)
class GradientGram:
    """``layers``: for each layer (or, explicitly, parameter) by name its ``(n, n)`` Gram matrix, double precision.

    ``loss``: of the batch. ``method``: how it was found; with the reason where it was not layer by layer. ``cost`` in
    gradients of the batch, a convention.
    """

    layers: dict[str, Tensor]
    loss: float
    method: str
    cost: float

    @property
    def total(self) -> Tensor:
        """The sum over layers, ``(n, n)``."""
        return torch.stack(list(self.layers.values())).sum(0)


def gradient_gram(risk: Risk, batch: Batch, *, method: Method = "auto", seed: int = 0) -> GradientGram:
    """Inner products of the per-sample gradients of a batch, layer by layer where the model allows.

    For losses that are the mean over samples. On first use on a risk the fast way is compared with plain gradients of a
    few samples, and refused with the reason if they differ. Measured cost: about one gradient of the batch layer by
    layer, 30 to 150 explicitly on wide linear layers.

    Raises ValueError for an unknown method, if ``layers`` was asked for and is refused, for fewer than two samples, if
    the loss mixes the samples (BatchNorm in train mode), or if explicit gradients would not fit two gigabytes.
    """
    if method not in ("auto", "layers", "explicit"):
        raise ValueError(f"expected method 'auto', 'layers' or 'explicit', got {method!r}")
    count = length(batch)
    if count < 2:
        raise ValueError(f"expected at least 2 samples, got {count}")
    if risk.batch_dependent:
        raise ValueError(f"expected a loss in which each sample stands alone, got {risk.mixing}: samples have no "
                         "gradients of their own\nhint: Risk(..., mode='eval') for BatchNorm")  # fmt: skip
    refusal = "" if method == "explicit" else layers_refusal(risk)
    if method == "layers" and refusal:
        raise ValueError(f"expected a model to be taken layer by layer, got one that cannot: {refusal}\n"
                         "hint: method='auto'")  # fmt: skip
    if method == "explicit" or refusal:
        how = "explicit" + (f": {refusal}" if refusal else "")
        return GradientGram(*_explicit(risk, batch, seed), how, float(count))
    found, loss = _by_layers(risk, batch, seed)
    return GradientGram(found, loss, "layer by layer", 1.0)


def _by_layers(risk: Risk, batch: Batch, seed: int) -> tuple[dict[str, Tensor], float]:
    names = {module: name for name, module in risk.model.named_modules()}
    both, loss = sides(risk, batch, seed=seed)
    count = length(batch)
    with torch.no_grad():  # slopes are those of the mean loss
        grams = {names[s.layer]: layers.gram(s.layer, s.input, s.slope).double() * count**2 for s in both}
    return grams, loss


def _explicit(risk: Risk, batch: Batch, seed: int) -> tuple[dict[str, Tensor], float]:
    count = length(batch)
    needed = count * sum(p.numel() * p.element_size() for p in risk.parameters)
    if needed > _BYTES:
        most = max(2, _BYTES * count // needed)
        raise ValueError(f"expected per-sample gradients within {_BYTES >> 30} GiB, got {needed / 2**30:.1f}\n"
                         f"hint: at most {most} samples")  # fmt: skip
    rows = [g.flatten(1).double() for g in per_sample_gradients(risk, batch, seed=seed)]
    return {name: g @ g.t() for name, g in zip(risk.names, rows, strict=True)}, risk.value(batch, seed=seed)


def layers_refusal(risk: Risk) -> str:
    """Why per-sample gradients of this risk are not had layer by layer; empty if they are."""
    return _check.refusal(risk)


def _difference(risk: Risk) -> str | None:
    """What differs between inner products layer by layer and those of plain gradients; see `SelfCheck`."""
    batch = map_tensors(lambda t: t[:_FEW] if t.ndim else t, risk.few())
    found, _ = _by_layers(risk, batch, 0)
    fast = torch.stack(list(found.values())).sum(0)
    rows = torch.cat([g.flatten(1).double() for g in per_sample_gradients(risk, batch, method="loop")], 1)
    right = rows @ rows.t()
    size, difference = float(right.diagonal().mean()), float((fast - right).abs().max())
    if not math.isfinite(size) or not math.isfinite(difference) or size == 0:
        return None
    if difference > allowed(risk) * float(right.abs().max()):
        return f"inner products of gradients differ from plain ones by {difference / size:.2g} of their size"
    return ""


_check = SelfCheck(_difference, NoSidesError)
