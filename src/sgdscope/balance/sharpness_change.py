"""Sharpness change: what a rescaling does to curvature, which the function alone does not determine."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sgdscope.balance.rescaled import Rescaled
from sgdscope.estimate import Estimate
from sgdscope.measure.batch_sharpness import batch_sharpness
from sgdscope.measure.leading_eigenvalues import leading_eigenvalues
from sgdscope.measure.trace import gauss_newton_trace
from sgdscope.risk import Risk

Measurement = Callable[[Risk], Estimate]


def sharpness_change(
    rescaled: Rescaled, *, batch_size: int | None = None, seed: int = 0
) -> dict[str, tuple[Estimate, Estimate]]:
    """Sharpness before and after a rescaling, by name: λ_max and Gauss-Newton trace of the loss, batch sharpness.

    Batch sharpness, for the `batch_size` of training, is left out without it. Both sides are measured alike, on the
    same batches and with the same random vectors, so that errors are shared and the ratio is known better than either
    side. What cannot be measured is an estimate with status ``failed`` and the reason.

    Cost: twice that of `measure.leading_eigenvalues`, `measure.gauss_newton_trace` and `measure.batch_sharpness`: some
    20 to 30 gradients over all data, and up to some hundred of the batch. Units: loss per squared parameter.
    """

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    quantities: dict[str, Measurement] = {
        "λ_max": lambda risk: leading_eigenvalues(risk, generator=generator()),
        "Gauss-Newton trace": lambda risk: gauss_newton_trace(risk, generator=generator()),
    }
    if batch_size is not None:
        quantities["batch sharpness"] = lambda risk: batch_sharpness(
            risk, batch_size, tolerance=0.03, generator=generator())  # fmt: skip
    points = rescaled.risk, rescaled.there()
    return {
        name: (_measured(name, points[0], measure), _measured(name, points[1], measure))
        for name, measure in quantities.items()
    }


def _measured(name: str, risk: Risk, measure: Measurement) -> Estimate:
    try:
        return measure(risk)
    except (ValueError, RuntimeError) as error:
        return Estimate.failed(name, str(error).splitlines()[0] if str(error) else type(error).__name__)
