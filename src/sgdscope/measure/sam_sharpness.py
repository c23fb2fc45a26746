r"""SAM sharpness: by how much the loss rises at most within a ball around the parameters.

.. math:: S(\rho) = \max_{\|e\| \le \rho} L(\theta + e) - L(\theta), \qquad
   \text{adaptive: } \|e / |\theta|\,\| \le \rho \text{ (component by component)}

Sources: Foret et al. 2010.01412 (SAM; m-sharpness: the mean over batches of m samples, each with its own maximum);
Kwon et al. 2102.11600 (ASAM, the adaptive form).
"""

from __future__ import annotations

import math

import torch

from sgdscope import vectors
from sgdscope.estimate import Estimate
from sgdscope.measure.ascent import BOUND, Maximum, highest, left_to_gain
from sgdscope.measure.keskar_sharpness import check_ascent
from sgdscope.measure.points import here
from sgdscope.measure.sampling import mean_with_error
from sgdscope.risk import Risk
from sgdscope.vectors import Vector

NAME, UNIT = "sam_sharpness", "loss"


def sam_sharpness(
    risk: Risk,
    rho: float = 0.05,
    *,
    batch_size: int | None = None,
    batches: int = 16,
    adaptive: bool = False,
    steps: int = 10,
    tolerance: float = 0.01,
    starts: int = 3,
    replacement: bool = False,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Largest rise of the loss within a ball of radius `rho`, over all data or as the mean over batches (m-sharpness).

    For comparison with the literature; unit: that of the loss. To leading order :math:`\rho \|g\|` far from a minimum
    and :math:`\rho^2 \lambda_{\max} / 2` at one. **Known flaw: it is no property of the function that the network
    computes.** Multiplying one layer of a ReLU network by α and dividing the next by α changes no output and changes
    this number by any factor (Dinh et al. 1703.04933). ``adaptive=True`` measures the displacement relative to each
    parameter, which is invariant to that; parameters that are zero do not move, and no constant is added for them as
    ASAM does in training, for it would spoil the invariance.

    Args:
        risk: where to measure.
        rho: radius: length of the displacement, or with `adaptive` of its ratio to the parameters (dimensionless; the
            papers train with 0.05 and 0.5).
        batch_size: the m of m-sharpness; None takes all data at once.
        batches: number of batches drawn.
        adaptive: ball relative to the parameters.
        steps: of ascent per batch at most; the first one is SAM's own.
        tolerance: the ascent ends where a linear loss would gain less than this part of what was gained.
        starts: places to climb from: the parameters, then random points of the sphere.
        replacement: draw the samples of a batch with replacement.
        generator: for the batches and the random starts.

    `value` is the refined maximum, by conditional gradient (see `ascent`), **a lower bound**: not certified to be the
    highest. `residual`: what would still be gained if the loss were linear from there on, and what rounding of the loss
    in the parameters' precision may hide, mean over the batches. `beside`: ``one_step``, the rise after SAM's single
    step :math:`\rho g / \|g\|` (it may be negative beyond a crest).

    Cost: per batch 1 gradient evaluation, and 1 or 2 per step and start. Memory: about seven copies of the parameters.

    Status ``not_converged`` where the steps did not suffice or rounding hides the rise, ``few_samples`` from a single
    batch, ``diverged`` where the loss is not finite in the ball. Raises ValueError for rho, tolerance ≤ 0, batches,
    steps or starts < 1, or a batch size that the data cannot give.
    """
    if not rho > 0:
        raise ValueError(f"expected rho > 0, got {rho}")
    if batches < 1:
        raise ValueError(f"expected batches ≥ 1, got {batches}")
    check_ascent(steps, tolerance, starts)
    if batch_size is not None:
        risk.source.check_batch_size(batch_size, replacement=replacement)
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    ball = _Ball(here(risk), rho, relative=adaptive)
    found: list[Maximum] = []
    for index in range(1 if batch_size is None else batches):
        batch = None if batch_size is None else risk.draw(batch_size, generator, replacement=replacement)
        found.append(highest(risk, ball, batch=batch, steps=steps, tolerance=tolerance, starts=starts, seed=index,
                             generator=generator))  # fmt: skip
        if not found[-1].finite:
            break
    settings: dict[str, object] = {
        "rho": rho, "adaptive": adaptive, "batch_size": risk.size if batch_size is None else batch_size,
        "mode": risk.mode, "steps": steps, "starts": starts, "solver": "conditional gradient",
    }  # fmt: skip
    return _estimate(found, settings, sampled=batch_size is not None)


def _estimate(found: list[Maximum], settings: dict[str, object], *, sampled: bool) -> Estimate:
    """The mean over the batches, with its error if they were drawn."""
    cost, unsettled = sum(m.cost for m in found), sum(not m.converged for m in found)
    if not found[-1].finite:
        return Estimate.failed(NAME, "the loss is not finite everywhere in the ball", status="diverged", cost=cost,
                               unit=UNIT, settings=settings)  # fmt: skip
    gain, error = mean_with_error([m.gain for m in found])
    first, first_error = mean_with_error([m.first for m in found])
    gap, noise = (math.fsum(numbers) / len(found) for numbers in ([m.gap for m in found], [m.noise for m in found]))
    errors = (error, first_error) if len(found) > 1 else (None, None)
    alone = sampled and len(found) == 1
    where = f"in {unsettled} of {len(found)} batches " if sampled else ""
    left = left_to_gain(gain, gap, noise, int(str(settings["steps"])), where=where)
    return Estimate(
        NAME, gain, errors[0], residual=gap + noise, count=len(found), cost=cost, unit=UNIT, settings=settings,
        status="not_converged" if unsettled else "few_samples" if alone else "ok",
        reason=(left if unsettled else "one batch only; " if alone else "") + BOUND,
        beside={"one_step": Estimate("one_step", first, errors[1], count=len(found), unit=UNIT)},
    )  # fmt: skip


class _Ball:
    """Displacements up to a length, or with `relative` up to a length of their ratio to the parameters."""

    def __init__(self, parameters: Vector, rho: float, *, relative: bool) -> None:
        self._parameters, self._rho, self._relative = parameters, rho, relative

    def corner(self, slope: Vector) -> Vector:
        with torch.no_grad():
            return self._at(self._stretched(slope))

    def random_corner(self, generator: torch.Generator) -> Vector:
        return self._at(vectors.random_like(self._parameters, generator))

    def _at(self, direction: Vector) -> Vector:
        """The displacement whose (relative) direction this is."""
        unit = vectors.normalised(direction)
        if unit is None:
            return [torch.zeros_like(x) for x in direction]
        return self._stretched(vectors.scaled(unit, self._rho))

    def _stretched(self, v: Vector) -> Vector:
        """``T v`` with T = |θ|, or 1."""
        return [p.abs() * x for p, x in zip(self._parameters, v, strict=True)] if self._relative else v
