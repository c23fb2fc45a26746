r"""Critical sharpness: how far along the optimizer's step the loss first comes back to where it started.

With an update direction :math:`d` (one step is :math:`\theta - \eta d`) the critical learning rate is

.. math:: \eta_c = \min \{\eta > 0 : L(\theta - \eta d) \ge L(\theta)\}, \qquad \lambda_c = 2 / \eta_c .

On a quadratic :math:`\lambda_c = d^\top H d / g^\top d`, the curvature along the gradient where :math:`d = g`. A step
of size lr raises the loss it is measured on where :math:`\lambda_c > 2 / \mathrm{lr}`. Source: Kalra et al. 2601.16979.

Measured on digits (256 samples, a tanh network, squared loss), in units of 2 / lr: 1.000, with a spread of 0.006, along
full-batch descent at its edge (λ_max 1.02); 0.92 in mean along SGD's steps with batches of 8 on their own batches,
where batch sharpness is 0.94 and λ_max 0.70; four forward passes each.

Needs the loss alone: no second derivative and, for a step handed over, no derivative at all. So it works with fused
attention, in low precision and at any size that fits a forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from sgdscope import vectors
from sgdscope.batches import Batch, length
from sgdscope.estimate import Estimate
from sgdscope.measure.points import Point, here, moved, rounding, vector_of
from sgdscope.risk import Risk

NAME, UNIT = "critical_sharpness", "1 / learning rate"
_FAR = 4.0
"""Factor by which the search goes on in one direction, after a first factor of two."""


def critical_sharpness(
    risk: Risk,
    step: Sequence[Tensor] | None = None,
    *,
    lr: float | None = None,
    batch: Batch | None = None,
    at: Point | None = None,
    tolerance: float = 0.02,
    max_passes: int = 9,
    seed: int = 0,
) -> Estimate:
    r"""Critical sharpness :math:`\lambda_c = 2 / \eta_c` along a step of any optimizer, or along the gradient.

    Units: 1 / learning rate (loss per squared parameter along the gradient), so that the threshold is 2 / lr for every
    optimizer. `beside` holds ``critical_learning_rate``.

    Args:
        risk: where to measure; the loss is that of `batch`, or over all data.
        step: a realised step :math:`s = \theta^+ - \theta` at learning rate `lr`, shaped like the parameters
            (``after - before`` around ``optimizer.step()``): then :math:`d = -s / \mathrm{lr}`. None: plain gradient
            descent, :math:`d = g`.
        lr: learning rate of the step; the search begins there. Needed with a step.
        batch: loss of this batch; all data if None.
        at: where the step starts, if not at the present parameters (they lie at its end once the optimizer has moved).
        tolerance: relative change of :math:`\eta_c` at which the search ends.
        max_passes: forward passes at most.
        seed: fixes dropout masks, the same at every point.

    Found by secants on :math:`(L(\theta - \eta d) - L(\theta)) / \eta`, which is straight on a quadratic, inside a
    bracket once there is one; before that by factors of two and four. A rise and fall of the loss between two points
    looked at is not seen: the crossing is the first among those points. `residual` is the last change of
    :math:`\lambda_c` plus what rounding of the loss in the parameters' precision may move it by (lower precision inside
    loss_fn is not known here).

    Cost: 1/3 per forward pass, four or five of them on smooth losses, and 1 for the gradient if `step` is None.
    Memory: three copies of the parameters.

    Status ``failed`` with the reason if there is no crossing in reach: the loss falls on and on (the reason gives the
    upper bound on :math:`\lambda_c`), rises from the start, or changes by rounding only. Raises ValueError for a step
    without lr, of another shape, or zero; lr, tolerance ≤ 0 or fewer than 4 passes.
    """
    _check(step, lr, tolerance, max_passes)
    start = here(risk) if at is None else vector_of(risk, at, "a starting point")
    settings: dict[str, object] = {
        "direction": "gradient" if step is None else "step", "mode": risk.mode, "tolerance": tolerance,
        "samples": risk.size if batch is None else length(batch),
    }  # fmt: skip
    known_slope = None
    if step is None:
        first, g = risk.gradient(batch, at=start, seed=seed)
        square, cost = vectors.dot(g, g), 1.0
        if not math.isfinite(first) or not math.isfinite(square):
            return _failed("the loss or its gradient is not finite", cost, settings, status="diverged")
        if square == 0:
            return _failed("the gradient is zero", cost, settings)
        lr = _first_guess(first, square, vectors.norm(start)) if lr is None else lr
        direction, known_slope = vectors.scaled(g, -lr), -lr * square
    else:
        assert lr is not None
        direction = vector_of(risk, step, "a step")
        if vectors.norm(direction) == 0:
            raise ValueError("expected a step that moves the parameters, got zero\n"
                             "hint: take it as after - before, with clones from before optimizer.step()")  # fmt: skip
        first = risk.value(batch, at=start, seed=seed)
        cost = 1 / 3
        if not math.isfinite(first):
            return _failed("the loss is not finite", cost, settings, status="diverged")
    search = _Search(tolerance, known_slope)
    passes = 0 if known_slope is not None else 1
    while not search.found and passes < max_passes:
        t = search.next
        change = risk.value(batch, at=moved(start, direction, t), seed=seed) - first
        search.add(t, change)
        passes += 1
    cost += (passes if known_slope is not None else passes - 1) / 3
    settings |= {"passes": passes, "lr": lr}
    return _estimate(search, lr, rounding(risk, first), cost, settings)


def _check(step: Sequence[Tensor] | None, lr: float | None, tolerance: float, max_passes: int) -> None:
    if step is not None and lr is None:
        raise ValueError("expected lr with a step: the learning rate it was made with\n"
                         "hint: lr=optimizer.param_groups[0]['lr']")  # fmt: skip
    if lr is not None and not (lr > 0 and math.isfinite(lr)):
        raise ValueError(f"expected a learning rate > 0, got {lr}")
    if not 0 < tolerance < 1:
        raise ValueError(f"expected a tolerance between 0 and 1, got {tolerance}")
    if max_passes < 4:
        raise ValueError(f"expected max_passes ≥ 4 (a start, a bracket and one refinement), got {max_passes}")


def _first_guess(loss: float, square: float, size: float) -> float:
    """A hundredth of the parameters' length, or less where a parabola whose least loss is zero would turn earlier.

    Near, so that the search comes from below and meets the first crossing.
    """
    near = 0.01 * (size or 1.0) / math.sqrt(square)
    return min(near, 4 * loss / square) if loss > 0 else near


@dataclass
class _Search:
    """Looks for the root of ψ(t) = (L(t) − L(0)) / t, in units of one step; ψ is straight on a quadratic."""

    tolerance: float
    slope: float | None
    low: float = 0.0
    """Largest point where the loss is below its start, before any where it is not."""
    high: float = math.inf
    next: float = 1.0
    found: float = 0.0
    change: float = 0.0
    """Difference of the last two guesses of the root."""
    tilt: float = 0.0
    """Slope of ψ by the last secant."""
    largest: float = 0.0
    """Largest change of the loss seen."""
    seen: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.slope is not None:
            self.seen.append((0.0, self.slope))

    def add(self, t: float, change: float) -> None:
        """The loss has changed by `change` at t: bracket, and where to look next."""
        finite = math.isfinite(change)
        if finite and change < 0:
            self.low = max(self.low, t)
        else:
            self.high = min(self.high, t)
        if finite:
            self.largest = max(self.largest, abs(change))
            self.seen.append((t, change / t))
        guess = self._secant() if finite else None
        if guess is not None and abs(guess - t) <= self.tolerance * t:
            self.found, self.change = guess, abs(guess - t)
            return
        if math.isinf(self.high):
            far = (2.0 if t == 1 else _FAR) * self.low
            self.next = min(guess, far * _FAR) if guess is not None and guess > t else far
        elif self.low == 0:
            near = self.high / (2.0 if t == 1 else _FAR)
            self.next = max(guess, near / _FAR) if guess is not None and 0 < guess < t else near
        else:
            inside = guess is not None and self.low < guess < self.high
            self.next = guess if inside and guess is not None else math.sqrt(self.low * self.high)

    def _secant(self) -> float | None:
        """Root of the straight line through the last two points; None if it does not rise."""
        if len(self.seen) < 2:
            return None
        (a, before), (b, after) = self.seen[-2:]
        tilt = (after - before) / (b - a) if a != b else 0.0
        if not (tilt > 0 and math.isfinite(tilt)):
            return None
        root = b - after / tilt
        self.tilt = tilt
        return root if root > 0 and math.isfinite(root) else None


def _estimate(search: _Search, lr: float, noise: float, cost: float, settings: dict[str, object]) -> Estimate:
    """The search's outcome with its doubt, or why there is none."""
    if search.largest <= 4 * noise and (search.found or search.seen):
        return _failed("the loss changes along the step by rounding only", cost, settings)
    settings["reached"] = lr * max(search.low, 0.0 if math.isinf(search.high) else search.high)
    if not search.found:
        if math.isinf(search.high):
            reach = lr * search.low
            return _failed(f"no crossing up to the learning rate {reach:.3g}: the loss is still below its start there, "
                           f"so critical sharpness is below {2 / reach:.3g}", cost, settings)  # fmt: skip
        if search.low == 0:
            return _failed(f"the loss rises along the step from its start (down to the learning rate "
                           f"{lr * search.high:.3g}): no descent direction of this loss", cost, settings)  # fmt: skip
    bracket = (search.low, search.high)
    root = search.found or math.sqrt(bracket[0] * bracket[1])
    doubt = search.change if search.found else max(root - bracket[0], bracket[1] - root)
    if search.tilt > 0:
        doubt += noise / (root * search.tilt)
    doubt = min(doubt, root)
    eta = lr * root
    accurate = bool(search.found) and doubt <= 2 * search.tolerance * root
    reason = "" if accurate else (
        f"the critical learning rate is known to {100 * doubt / root:.2g} % only, after {settings['passes']} passes"
        + ("" if search.found == 0 else ": rounding of the loss")
    )  # fmt: skip
    return Estimate(
        NAME, 2 / eta, residual=2 / eta * doubt / root, cost=cost, unit=UNIT, settings=settings,
        status="ok" if accurate else "not_converged", reason=reason,
        beside={"critical_learning_rate": Estimate("critical_learning_rate", eta, residual=lr * doubt,
                                                   unit="learning rate")},
    )  # fmt: skip


def _failed(reason: str, cost: float, settings: dict[str, object], *, status: str = "failed") -> Estimate:
    return Estimate.failed(
        NAME, reason, status="diverged" if status == "diverged" else "failed", cost=cost, unit=UNIT, settings=settings
    )
