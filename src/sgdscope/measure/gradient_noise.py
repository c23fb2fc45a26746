r"""Gradient noise: how much the gradients of single samples scatter, and what batch size that asks for.

With :math:`\Sigma` the covariance of the per-sample gradient and g their mean, a batch of b (with replacement) has the
gradient covariance :math:`\Sigma / b`. Source: McCandlish et al. 1812.06162 (noise scales).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sgdscope import vectors
from sgdscope.estimate import Estimate
from sgdscope.per_sample import gradient_gram
from sgdscope.per_sample.gram import GradientGram, Method
from sgdscope.risk import Risk

SQUARED_SLOPE = "loss² / parameter²"
_FULL_GRADIENT_UP_TO = 64
"""Times the samples drawn: beyond that a gradient over all data is no longer a small addition."""


def gradient_noise(
    risk: Risk,
    *,
    samples: int = 256,
    exact_gradient: bool | None = None,
    method: Method = "auto",
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Trace of the per-sample gradient covariance, :math:`\mathrm{tr}\,\Sigma = E\|g_i\|^2 - \|g\|^2`.

    Units: loss² / parameter². From `samples` samples drawn without replacement, unbiased; the standard error is a
    jackknife over samples (0 where all data were taken). In `beside`:

    - ``squared_gradient_norm``, ‖g‖²: exact over all data (`exact_gradient`; None: where they are at most 64 times the
      samples), else unbiased from pairs of different samples, and then possibly below zero;
    - ``simple_noise_scale``, tr Σ / ‖g‖², in samples: the batch size at which noise and signal are alike in a step,
      a common guide to the largest useful batch (McCandlish et al. 1812.06162, there B_simple);
    - ``effective_rank``, (tr Σ)² / tr Σ²: over how many directions the noise is spread (1: one; never more than the
      number of parameters), with the unbiased tr Σ² of Chen & Qin 2010;
    - ``signal_to_noise``: for each layer ‖g_l‖² / tr Σ_l, named in ``settings["layers"]``.

    Cost: about one gradient of the samples on linear and convolutional layers (see `per_sample.gradient_gram`), which
    `cost` counts in gradients over all data, and one more for the exact gradient.

    Raises ValueError for fewer than 4 samples, more than the data, data that come in batches, or a loss that mixes
    samples.
    """
    if risk.source.batch_lengths is not None:
        raise ValueError("expected data that can be drawn sample by sample, got a list of batches\n"
                         "hint: give the risk tensors or a dataset")  # fmt: skip
    if samples < 4:
        raise ValueError(f"expected at least 4 samples, got {samples}")
    samples = min(samples, risk.size)
    if samples < 4:
        raise ValueError(f"expected data of at least 4 samples, got {risk.size}")
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    exhaustive = samples == risk.size and not risk.random
    exact = exact_gradient if exact_gradient is not None else risk.size <= _FULL_GRADIENT_UP_TO * samples
    found = gradient_gram(risk, risk.draw(samples, generator), method=method)
    cost = found.cost * samples / risk.size
    settings = {"samples": samples, "mode": risk.mode, "method": found.method, "layers": list(found.layers)}
    known: float | None = None
    if exact and not exhaustive and bool(torch.isfinite(found.total).all()):
        _, gradient = risk.gradient()
        known = vectors.dot(gradient, gradient)
        cost += 1
    return noise_of(found, settings, cost=cost, known=known, exhaustive=exhaustive)


def noise_of(
    found: GradientGram, settings: dict[str, Any], *, cost: float, known: float | None = None, exhaustive: bool = False
) -> Estimate:
    """Gradient noise out of the Gram matrix of per-sample gradients; see `gradient_noise`.

    `known`: ‖g‖² over all data. `exhaustive`: these samples are all data.
    """
    gram, count = found.total, len(found.total)
    if not bool(torch.isfinite(gram).all()):
        return Estimate.failed("gradient_noise", "the loss or its derivatives are not finite", status="diverged",
                               cost=cost, unit=SQUARED_SLOPE)  # fmt: skip

    def error(of: Tensor, statistic: Callable[[Tensor], float]) -> float:
        return 0.0 if exhaustive else _jackknife(of, statistic)

    if exhaustive:
        known = float(gram.mean())
    signal, signal_error = (_signal(gram), error(gram, _signal)) if known is None else (known, 0.0)
    of_layer = [(_quotient(g), error(g, _quotient)) for g in found.layers.values()]
    return Estimate(
        "gradient_noise", _trace(gram), error(gram, _trace), count=count, cost=cost, unit=SQUARED_SLOPE,
        settings=settings,
        beside={
            "squared_gradient_norm": Estimate(
                "squared_gradient_norm", signal, signal_error, count=count, unit=SQUARED_SLOPE),
            "simple_noise_scale": _noise_scale(gram, known, signal, signal_error, exhaustive),
            "effective_rank": _effective_rank(gram, exhaustive),
            "signal_to_noise": Estimate("signal_to_noise", tuple(q for q, _ in of_layer),
                                        tuple(e for _, e in of_layer), count=count),
        },
    )  # fmt: skip


def _quotient(gram: Tensor) -> float:
    """Signal to noise ‖g‖² / tr Σ of one layer."""
    return _signal(gram) / max(_trace(gram), 1e-300)


def _trace(gram: Tensor) -> float:
    """Unbiased tr Σ."""
    n = len(gram)
    return (float(gram.trace()) - float(gram.sum()) / n) / (n - 1)


def _signal(gram: Tensor) -> float:
    """Unbiased ‖g‖²: inner products of different samples."""
    n = len(gram)
    return (float(gram.sum()) - float(gram.trace())) / (n * (n - 1))


def _squared_covariance(gram: Tensor) -> float:
    """Unbiased tr Σ² (Chen & Qin 2010, section 2): pairs, less those that share a mean."""
    n = len(gram)
    off = gram - torch.diag(gram.diagonal())
    rows = off.sum(1)
    pairs, chains, total = float(off.square().sum()), float(rows.square().sum()), float(rows.sum())
    return (
        pairs / (n * (n - 1))
        - 2 * (chains - pairs) / (n * (n - 1) * (n - 2))
        + (total**2 - 4 * chains + 2 * pairs) / (n * (n - 1) * (n - 2) * (n - 3))
    )


def _jackknife(gram: Tensor, statistic: Callable[[Tensor], float], most: int = 32) -> float:
    """Standard error of a statistic of the samples; leaves out groups of them where they are many."""
    groups = torch.arange(len(gram)).tensor_split(min(most, len(gram)))
    values = []
    for group in groups:
        rest = torch.ones(len(gram), dtype=torch.bool)
        rest[group] = False
        values.append(statistic(gram[rest][:, rest]))
    mean, count = math.fsum(values) / len(values), len(values)
    return math.sqrt((count - 1) / count * math.fsum((v - mean) ** 2 for v in values))


def _noise_scale(gram: Tensor, known: float | None, signal: float, signal_error: float, exhaustive: bool) -> Estimate:
    """The scale tr Σ / ‖g‖²; no number where the signal cannot be told from zero."""
    name, unit, count = "simple_noise_scale", "samples", len(gram)
    if signal <= 2 * signal_error:
        reason = f"the gradient cannot be told from zero: ‖g‖² = {signal:.2g} ± {signal_error:.2g}"
        return Estimate.failed(name, reason, count=count, unit=unit)
    if known is not None:
        error = 0.0 if exhaustive else _jackknife(gram, _trace) / known
        return Estimate(name, _trace(gram) / known, error, count=count, unit=unit)
    error = _jackknife(gram, lambda k: _trace(k) / _signal(k))
    return Estimate(name, _trace(gram) / signal, error, count=count, unit=unit)


def _effective_rank(gram: Tensor, exhaustive: bool) -> Estimate:
    name = "effective_rank"
    square = _squared_covariance(gram)
    if exhaustive:  # of these samples' own covariance
        centred = gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()
        square = float((centred / (len(gram) - 1)).square().sum())
    if square <= 0:
        return Estimate.failed(name, f"tr Σ² cannot be told from zero with {len(gram)} samples",
                               count=len(gram))  # fmt: skip

    def rank(k: Tensor) -> float:
        return _trace(k) ** 2 / max(_squared_covariance(k), 1e-300)

    return Estimate(name, _trace(gram) ** 2 / square, 0.0 if exhaustive else _jackknife(gram, rank), count=len(gram))
