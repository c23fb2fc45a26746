r"""Keskar's ε-sharpness: by how many per cent the loss rises at most within a small box around the parameters.

.. math:: \phi(\varepsilon) = 100 \, \frac{\max_{y \in C} L(\theta + A y) - L(\theta)}{1 + L(\theta)}, \qquad
   C = \{ y : |y_i| \le \varepsilon \, (|(A^+ \theta)_i| + 1) \}

with A the identity (full space) or a random n × p matrix. Source: Keskar et al. 1609.04836, Metric 2.1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sgdscope import vectors
from sgdscope.batches import Batch, length
from sgdscope.estimate import Estimate
from sgdscope.measure.ascent import BOUND, highest, left_to_gain
from sgdscope.measure.points import here
from sgdscope.risk import Risk
from sgdscope.vectors import Basis, Vector

NAME, UNIT = "keskar_sharpness", "%"


def keskar_sharpness(
    risk: Risk,
    epsilon: float = 1e-3,
    *,
    subspace: int | None = None,
    offset: float = 1.0,
    batch: Batch | None = None,
    steps: int = 10,
    tolerance: float = 0.01,
    starts: int = 3,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Largest rise of the loss in the box of half-widths :math:`\varepsilon (|\theta_i| + 1)`, in per cent of 1 + L.

    For comparison with the literature; unit: per cent. **Known flaw: it is no property of the function that the network
    computes.** Multiplying one layer of a ReLU network by α and dividing the next by α changes no output and changes
    this number without limit (Dinh et al. 1703.04933); 1 + L adds a pure number to a loss, so a loss in another unit
    has another sharpness; and at equal widths of the box more parameters mean a longer way out. ``offset=0`` makes the
    box purely relative, :math:`\varepsilon |\theta_i|`, which is invariant to such rescaling.

    Args:
        risk: where to measure; the loss is that of `batch`, or over all data.
        epsilon: size of the box; the paper uses 1e-3 and 5e-4.
        subspace: dimension p of a random subspace (100 in the paper), None for the full space. A has independent
            standard normal entries, drawn from `generator`.
        offset: the 1 in the box's half-widths.
        batch: loss of this batch; all data if None.
        steps: of ascent at most (the paper: 10 of L-BFGS-B).
        tolerance: the ascent ends where a linear loss would gain less than this part of what was gained.
        starts: number of places to climb from: the parameters, then random corners of the box.
        generator: for A and the random corners.

    The maximum is searched by conditional gradient (see `ascent`), in place of the paper's L-BFGS-B: no memory of past
    gradients, no copy in double precision. **A lower bound**, as with any ascent: the highest point found is not
    certified to be the highest. `residual`: what would still be gained if the loss were linear from there on, and what
    rounding of the loss in the parameters' precision may hide, in per cent. `beside`: ``loss_increase`` (in units of
    the loss) and ``one_step`` (per cent, after one full step along the sign of the gradient).

    Cost: 1 gradient evaluation, and 1 or 2 per step and start. Memory: about seven copies of the parameters, with a
    subspace p more.

    Status ``not_converged`` where the steps did not suffice or rounding hides the rise, ``diverged`` where the loss is
    not finite in the box, ``failed`` where 1 + L ≤ 0. Raises ValueError for ε, tolerance ≤ 0, offset < 0, steps or
    starts < 1, or a subspace that is not within 1 … number of parameters.
    """
    if not epsilon > 0:
        raise ValueError(f"expected epsilon > 0, got {epsilon}")
    if not offset >= 0:
        raise ValueError(f"expected offset ≥ 0, got {offset}")
    if subspace is not None and not 1 <= subspace <= risk.parameter_count:
        raise ValueError(f"expected subspace between 1 and {risk.parameter_count} (the number of parameters), "
                         f"got {subspace}")  # fmt: skip
    check_ascent(steps, tolerance, starts)
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    box = (
        _Box(here(risk), epsilon, offset)
        if subspace is None
        else _BoxInSubspace(here(risk), epsilon, offset, subspace, generator)
    )
    found = highest(risk, box, batch=batch, steps=steps, tolerance=tolerance, starts=starts, seed=0,
                    generator=generator)  # fmt: skip
    settings: dict[str, object] = {
        "epsilon": epsilon, "offset": offset, "subspace": subspace, "mode": risk.mode, "steps": steps, "starts": starts,
        "samples": risk.size if batch is None else length(batch), "solver": "conditional gradient",
        "gains": found.gains,
    }  # fmt: skip
    known: dict[str, Any] = {"cost": found.cost, "unit": UNIT, "settings": settings}
    if not found.finite:
        return Estimate.failed(NAME, "the loss is not finite everywhere in the box", status="diverged", **known)
    if not 1 + found.start > 0:
        return Estimate.failed(NAME, f"1 + L = {1 + found.start:.3g} is not positive, so per cent of it mean nothing",
                               **known)  # fmt: skip
    scale = 100 / (1 + found.start)
    doubt, left = found.gap + found.noise, left_to_gain(found.gain, found.gap, found.noise, steps)
    return Estimate(
        NAME, scale * found.gain, residual=scale * doubt, **known, status="ok" if found.converged else
        "not_converged", reason=BOUND if found.converged else left + BOUND,
        beside={
            "loss_increase": Estimate("loss_increase", found.gain, residual=doubt, unit="loss"),
            "one_step": Estimate("one_step", scale * found.first, unit=UNIT),
        },
    )  # fmt: skip


def check_ascent(steps: int, tolerance: float, starts: int) -> None:
    """Raises ValueError for settings of an ascent that cannot be."""
    if steps < 1 or starts < 1 or not tolerance > 0:
        raise ValueError(f"expected steps, starts ≥ 1 and tolerance > 0, got {steps}, {starts}, {tolerance}")


class _Box:
    """The box in full space."""

    def __init__(self, parameters: Vector, epsilon: float, offset: float) -> None:
        self._parameters, self._epsilon, self._offset = parameters, epsilon, offset

    def corner(self, slope: Vector) -> Vector:
        with torch.no_grad():
            return [
                self._epsilon * (p.abs() + self._offset) * g.sign()
                for p, g in zip(self._parameters, slope, strict=True)
            ]

    def random_corner(self, generator: torch.Generator) -> Vector:
        return self.corner(vectors.random_like(self._parameters, generator))


class _BoxInSubspace:
    """The box in the space spanned by random columns."""

    def __init__(
        self, parameters: Vector, epsilon: float, offset: float, dimension: int, generator: torch.Generator
    ) -> None:
        self._columns = Basis(parameters, dimension)
        for _ in range(dimension):
            self._columns.append(vectors.random_like(parameters, generator))
        rows = [self._columns.coefficients(self._columns.row(i)) for i in range(dimension)]
        inside = torch.linalg.solve(torch.stack(rows), self._columns.coefficients(parameters))  # A⁺θ
        self._widths: Tensor = epsilon * (inside.abs() + offset)

    def corner(self, slope: Vector) -> Vector:
        return self._columns.combine(self._widths * self._columns.coefficients(slope).sign())

    def random_corner(self, generator: torch.Generator) -> Vector:
        signs = torch.randn(len(self._widths), generator=generator, device=generator.device).sign()
        return self._columns.combine(self._widths * signs.to(self._widths))
