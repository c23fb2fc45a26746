r"""Batch sharpness along the step that momentum makes, rather than along the batch's gradient.

.. math:: \mathbb{E}_B \left[ \frac{s^\top H_B\, s}{s^\top g_B} \right] \quad\text{and}\quad
    \frac{\mathbb{E}[s^\top H_B\, s]}{\mathbb{E}[s^\top g_B]}, \qquad s = \mu v + g_B

with the momentum v of the optimizer as it stands, and the same batch in all places. Without momentum s is the gradient,
and this is `batch_sharpness`. Source: an exploratory option in the code of Andreyev & Beneventano 2412.20553 (the
first form). The second is `edge_ratio` over the learning rate, for the next step, exactly and before it is made.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sgdscope import vectors
from sgdscope.estimate import Estimate
from sgdscope.hessian import Hessian
from sgdscope.measure.batch_sharpness import CURVATURE, Statistic
from sgdscope.measure.sampling import mean_with_error, ratio_with_error
from sgdscope.risk import Risk
from sgdscope.vectors import Vector

NAME = "momentum_batch_sharpness"


def momentum_batch_sharpness(
    risk: Risk,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    *,
    statistic: Statistic = "ratio_of_expectations",
    tolerance: float = 0.02,
    min_batches: int = 20,
    max_batches: int = 500,
    replacement: bool = False,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Batch sharpness of the next step of SGD with momentum, over freshly drawn batches.

    Units: loss per squared parameter. The ratio of expectations is 2 / lr where the batch's own loss does not change in
    mean over the next step; no theory says where it settles with momentum (the thresholds of 2604.14108 are for
    `batch_sharpness`). The expectation of the ratio, in `beside` unless asked for, has heavy tails: s can be nearly
    orthogonal to a batch's gradient, and its error then says little.

    `optimizer` is a ``torch.optim.SGD`` of the risk's parameters; momentum, dampening, Nesterov and weight decay enter
    s as they enter its step, and before its first step s has no momentum. `beside` holds ``step_alignment``, the mean
    of :math:`s^\top g_B` over the root of the mean of :math:`\|s\|^2` times that of :math:`\|g_B\|^2`. Drawing stops
    once the standard error is below ``tolerance · value``, or at `max_batches`, with status ``few_samples``. Cost: 2
    gradient evaluations of a batch per batch.

    Raises ValueError for another optimizer or one of other parameters, an unknown statistic, a tolerance that is not
    positive, or a batch size that the data cannot give.
    """
    if statistic not in ("expectation_of_ratio", "ratio_of_expectations"):
        raise ValueError(f"expected statistic 'expectation_of_ratio' or 'ratio_of_expectations', got {statistic!r}")
    if not tolerance > 0 or min(min_batches, max_batches) < 2:
        raise ValueError(f"expected tolerance > 0 and at least 2 batches, got {tolerance}, {min_batches} and "
                         f"{max_batches}")  # fmt: skip
    risk.source.check_batch_size(batch_size, replacement=replacement)
    step = _Step(risk, optimizer)
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    exhaustive = batch_size == risk.size and not replacement and not risk.random
    rows: list[tuple[float, float, float, float]] = []  # sᵀHs, sᵀg, ‖s‖², ‖g‖²
    value, error, look = 0.0, 0.0, min_batches
    while len(rows) < (1 if exhaustive else max_batches):
        batch = risk.draw(batch_size, generator, replacement=replacement)
        with Hessian(risk, batch, seed=len(rows) + 1) as hessian:
            g = hessian.gradient
            s = step.direction(g)
            rows.append((hessian.curvature(s), vectors.dot(s, g), vectors.dot(s, s), vectors.dot(g, g)))
        if not all(map(math.isfinite, rows[-1])):
            return Estimate.failed(NAME, "the loss or its derivatives are not finite", status="diverged",
                                   cost=2.0 * len(rows), unit=CURVATURE)  # fmt: skip
        if len(rows) >= look:
            value, error = _statistic(statistic, rows)
            if error <= tolerance * abs(value):
                break
            look = math.ceil(1.05 * len(rows))
    descent = sum(row[1] for row in rows)
    if descent <= 0 or (statistic == "expectation_of_ratio" and not all(row[1] for row in rows)):
        return Estimate.failed(
            NAME, "the step does not descend its own batch's loss in mean (s·g ≤ 0), so the ratio says nothing",
            count=len(rows), cost=2.0 * len(rows), unit=CURVATURE,
        )  # fmt: skip
    value, error = _statistic(statistic, rows)
    enough = exhaustive or error <= tolerance * abs(value)
    other: Statistic = "expectation_of_ratio" if statistic == "ratio_of_expectations" else "ratio_of_expectations"
    alignment = descent / math.sqrt(sum(row[2] for row in rows) * sum(row[3] for row in rows))
    beside = {"step_alignment": Estimate("step_alignment", alignment, count=len(rows))}
    if all(row[1] for row in rows):
        beside[other] = Estimate(other, *_statistic(other, rows), count=len(rows), unit=CURVATURE)
    return Estimate(
        NAME, value, error, count=len(rows), cost=2.0 * len(rows), unit=CURVATURE,
        status="ok" if enough else "few_samples",
        reason="" if enough else f"standard error {100 * error / abs(value) if value else math.inf:.2g} % after "
        f"{len(rows)} batches, {100 * tolerance:.2g} % was asked for",
        settings={"batch_size": batch_size, "mode": risk.mode, "statistic": statistic, "momentum": step.momentum},
        beside=beside,
    )  # fmt: skip


def _statistic(statistic: str, rows: list[tuple[float, float, float, float]]) -> tuple[float, float]:
    if statistic == "expectation_of_ratio":
        return mean_with_error([row[0] / row[1] for row in rows])
    if sum(row[1] for row in rows) == 0:
        return 0.0, math.inf
    return ratio_with_error([row[0] for row in rows], [row[1] for row in rows])


class _Step:
    """Direction s of an optimizer's next step, −lr s, as a function of the batch gradient."""

    def __init__(self, risk: Risk, optimizer: torch.optim.Optimizer) -> None:
        if not isinstance(optimizer, torch.optim.SGD):
            raise ValueError(
                f"expected a torch.optim.SGD, got {type(optimizer).__name__}\n"
                "hint: for any other optimizer `edge_ratio_of_step` takes the step itself"
            )
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        missing = [name for name, p in zip(risk.names, risk.parameters, strict=True) if id(p) not in groups]
        if missing:
            raise ValueError(
                f"expected the optimizer of the risk's own parameters, but {missing[0]} is not in it\n"
                "hint: build Risk and optimizer from the same model, after it was moved to its device"
            )
        self._parameters = risk.parameters
        self._groups = [groups[id(p)] for p in self._parameters]
        self._buffers: list[Tensor | None] = [
            optimizer.state.get(p, {}).get("momentum_buffer") for p in risk.parameters
        ]
        self.momentum = float(self._groups[0]["momentum"])

    def direction(self, gradient: Vector) -> Vector:
        """The direction for a batch gradient, as `torch.optim.SGD` computes it; weight decay included."""
        found = []
        with torch.no_grad():
            for p, g, group, buffer in zip(self._parameters, gradient, self._groups, self._buffers, strict=True):
                if group["weight_decay"]:
                    g = g.add(p, alpha=group["weight_decay"])
                if group["momentum"]:
                    v = g if buffer is None else buffer * group["momentum"] + (1 - group["dampening"]) * g
                    g = g.add(v, alpha=group["momentum"]) if group["nesterov"] else v
                found.append(-g if group["maximize"] else g)
        return found
