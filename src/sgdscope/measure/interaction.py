r"""Interaction of gradient noise with the curvature of the *full* loss.

Interaction-aware sharpness :math:`E[g_B^\top H g_B] / E\|g_B\|^2` (Lee & Jang 2023) and gradient-noise interaction
:math:`E[g_B^\top H g_B] / \|g\|^2` (code of Andreyev & Beneventano 2412.20553) share their numerator. The second is
2 / lr where the full loss no longer changes in mean: it says that the loss oscillates, not that the run is at an edge.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace

import torch

from sgdscope import vectors
from sgdscope.estimate import Estimate
from sgdscope.hessian import Hessian
from sgdscope.measure.sampling import mean_with_error, ratio_with_error
from sgdscope.risk import Risk, whole

CURVATURE = "loss / parameter²"


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
    is small the interaction is noisy.

    If all data fit one chunk of at most `curvature_samples` samples, each product uses all of them. Else each draw
    pairs its gradient with the Hessian of an *independent* batch of `curvature_samples` samples, which is unbiased for
    the full Hessian and costs a fraction. The full gradient is exact either way.

    Cost: about one full gradient and `batches` · (1 + 2 · curvature samples / batch size) batch gradients, given in
    `cost` as gradient evaluations over all data.

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
    with Hessian(risk) if exact else nullcontext() as full:
        if full is not None:
            square = vectors.dot(full.gradient, full.gradient)
        else:
            _, gradient = risk.gradient()
            square = vectors.dot(gradient, gradient)
            del gradient
            cost += 1
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
    if not all(map(math.isfinite, (*curvatures, *norms, square))):
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
        },
    )  # fmt: skip


def interaction_aware_sharpness(
    risk: Risk,
    batch_size: int,
    *,
    batches: int = 64,
    curvature_samples: int = 512,
    replacement: bool = False,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Interaction-aware sharpness, :math:`E[g_B^\top H g_B] / E\|g_B\|^2`: full Hessian, batch gradient.

    Units: loss per squared parameter; at most λ_max. Source: Lee & Jang 2023. `beside` holds the gradient-noise
    interaction of the same draws. Cost, arguments and errors as for `gradient_noise_interaction`.
    """
    found = gradient_noise_interaction(
        risk, batch_size, batches=batches, curvature_samples=curvature_samples, replacement=replacement,
        generator=generator,
    )  # fmt: skip
    name = "interaction_aware_sharpness"
    if name not in found.beside:
        return replace(found, name=name)
    return replace(
        found.beside[name], cost=found.cost, settings=found.settings, beside={found.name: replace(found, beside={})}
    )
