r"""Interaction of gradient noise with the curvature of the *full* loss.

Interaction-aware sharpness :math:`E[g_B^\top H g_B] / E\|g_B\|^2` (Lee & Jang 2023) and gradient-noise interaction
:math:`E[g_B^\top H g_B] / \|g\|^2` (code of Andreyev & Beneventano 2412.20553) share their numerator. The second is
2 / lr where the full loss no longer changes in mean: it says that the loss oscillates, not that the run is at an edge.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from typing import TypedDict, Unpack

import torch

from sgdscope import vectors
from sgdscope.estimate import Estimate
from sgdscope.hessian import Hessian
from sgdscope.measure.sampling import mean_with_error, ratio_with_error
from sgdscope.risk import Risk, whole

CURVATURE = "loss / parameter²"
_SIGNAL_PARTS = 4
"""Independent batches whose Hessians are taken along the full gradient."""


def gradient_noise_interaction(
    risk: Risk,
    batch_size: int,
    *,
    batches: int = 64,
    curvature_samples: int = 512,
    replacement: bool = False,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Gradient-noise interaction, with interaction-aware sharpness in `beside`.

    Units: loss per squared parameter. `beside` also holds ``gradient_signal``, :math:`\|g\|^2 / E\|g_B\|^2`: where it
    is small the interaction is noisy; and ``critical_batch_size``, :math:`\mathrm{tr}(H \Sigma) / g^\top H g` in
    samples (McCandlish et al. 1812.06162, there the noise scale): at that batch size noise costs a step of the best
    length half of its progress. It has no value where :math:`g^\top H g` is not positive beyond its error.

    If all data fit one chunk of at most `curvature_samples` samples, each product uses all of them. Else each draw
    pairs its gradient with the Hessian of an *independent* batch of `curvature_samples` samples, which is unbiased for
    the full Hessian and costs a fraction. The full gradient is exact either way.

    Cost: about one full gradient, `batches` · (1 + 2 · curvature samples / batch size) batch gradients, and a product
    or four for the critical batch size, given in `cost` as gradient evaluations over all data.

    Raises ValueError for fewer than 2 batches, no curvature samples or a batch size that the data cannot give.
    """
    if batches < 2:
        raise ValueError(f"expected at least 2 batches, got {batches}")
    if curvature_samples < 1:
        raise ValueError(f"expected curvature_samples ≥ 1, got {curvature_samples}")
    risk.source.check_batch_size(batch_size, replacement=replacement)
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    exact = risk.size <= curvature_samples and whole(risk) is not None
    curvatures, norms = [], []
    cost = 0.0
    name = "gradient_noise_interaction"
    part_size = batch_size if risk.source.batch_lengths is not None else min(curvature_samples, risk.size)
    along_signal: list[float] = []  # gᵀHg
    with Hessian(risk) if exact else nullcontext() as full:
        if full is not None:
            square = vectors.dot(full.gradient, full.gradient)
            along_signal.append(full.curvature(full.gradient))
        else:
            _, gradient = risk.gradient()
            square = vectors.dot(gradient, gradient)
            cost += 1
            for index in range(_SIGNAL_PARTS):
                with Hessian(risk, risk.draw(part_size, generator), seed=index) as part:
                    along_signal.append(part.curvature(gradient))
                cost += part.cost * part_size / risk.size
            del gradient
        for index in range(batches):
            _, g = risk.gradient(risk.draw(batch_size, generator, replacement=replacement), seed=index)
            cost += batch_size / risk.size
            if full is not None:
                curvatures.append(full.curvature(g))
            else:
                with Hessian(risk, risk.draw(part_size, generator), seed=index) as part:
                    curvatures.append(part.curvature(g))
                cost += part.cost * part_size / risk.size
            norms.append(vectors.dot(g, g))
        if full is not None:
            cost += full.cost
    if not all(map(math.isfinite, (*curvatures, *norms, *along_signal, square))):
        return Estimate.failed(name, "the loss or its derivatives are not finite", status="diverged", cost=cost)
    if square == 0 or not any(norms):
        return Estimate.failed(name, "the gradient is zero", cost=cost)
    mean, error = mean_with_error(curvatures)
    signal, signal_error = mean_with_error(norms)
    return Estimate(
        name, mean / square, error / square, count=batches, cost=cost, unit=CURVATURE,
        settings={"batch_size": batch_size, "mode": risk.mode, "curvature_samples": risk.size if exact else part_size},
        beside={
            "interaction_aware_sharpness": Estimate(
                "interaction_aware_sharpness", *ratio_with_error(curvatures, norms), count=batches, unit=CURVATURE),
            "gradient_signal": Estimate(
                "gradient_signal", square / signal, square / signal**2 * signal_error, count=batches),
            "critical_batch_size": _critical(
                curvatures, along_signal, batch_size * (1 if replacement else _without(risk.size, batch_size))),
        },
    )  # fmt: skip


def _without(size: int, batch_size: int) -> float:
    """Drawing without replacement makes the covariance of a batch smaller by this factor's inverse."""
    return (size - 1) / (size - batch_size) if batch_size < size else math.inf


def _critical(curvatures: list[float], along_signal: list[float], scale: float) -> Estimate:
    """tr(HΣ) / gᵀHg from ``E g_BᵀHg_B = gᵀHg + tr(HΣ) / scale``."""
    name, unit = "critical_batch_size", "samples"
    if math.isinf(scale):
        return Estimate.failed(name, "batches of all data have no noise", unit=unit)
    mean, error = mean_with_error(curvatures)
    signal, signal_error = mean_with_error(along_signal)
    if signal <= 2 * signal_error:
        return Estimate.failed(name, f"gᵀHg = {signal:.2g} ± {signal_error:.2g} cannot be told from zero", unit=unit,
                               count=len(curvatures))  # fmt: skip
    ratio = mean / signal
    doubt = ratio * math.hypot(error / mean if mean else 0.0, signal_error / signal)
    return Estimate(name, scale * (ratio - 1), scale * abs(doubt), count=len(curvatures), unit=unit)


class Draws(TypedDict, total=False):
    """Further arguments of `gradient_noise_interaction`, with its defaults."""

    batches: int
    curvature_samples: int
    replacement: bool
    generator: torch.Generator | None


def interaction_aware_sharpness(risk: Risk, batch_size: int, **draws: Unpack[Draws]) -> Estimate:
    r"""Interaction-aware sharpness, :math:`E[g_B^\top H g_B] / E\|g_B\|^2`: full Hessian, batch gradient.

    Units: loss per squared parameter; at most λ_max. Source: Lee & Jang 2023. `beside` holds the gradient-noise
    interaction of the same draws. Cost, arguments and errors as for `gradient_noise_interaction`.
    """
    found = gradient_noise_interaction(risk, batch_size, **draws)
    name = "interaction_aware_sharpness"
    if name not in found.beside:
        return replace(found, name=name)
    return replace(
        found.beside[name], cost=found.cost, settings=found.settings, beside={found.name: replace(found, beside={})}
    )
