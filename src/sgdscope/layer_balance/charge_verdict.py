"""Charge verdict: whether charges move as gradient noise predicts, per step and over a run, with all that is in doubt.

What theory predicts it predicts for the weights of a reading; what was measured is a mean over steps. So the doubt
holds the sampling of the noise, the scatter of single steps, the trend between reading and steps, and how far a
reading scatters about the mean along the path.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from sgdscope.estimate import Estimate
from sgdscope.layer_balance.rows import Move, Reading, error_of
from sgdscope.verdict import Verdict, compare

SOURCE = "Ziyin, Li & Ueda 2308.06671, Theorem 3.1; for steps of finite length derived here from its Eq. 26"
TOLERANCE, EPOCHS = 0.1, 0.3
"""Relative band for batches drawn independently, and for those of an epoch: these hold the samples unseen for longest,
whose gradients are larger, and moved charges 5 to 25 % faster (ReLU networks on digits, batch sizes 1 to 64)."""
_CONFIDENCE, _CLOSE = 3.0, 2.0
"""Standard errors by which a difference is one, and within which it is none."""
_PRECISE = 0.1
"""Doubt over the push of noise up to which a difference within the doubt is agreement: at noise balance next to nothing
is predicted, and a share of that is no measure."""
_WANDER, _FARTHEST = 0.65, 1.5
"""Scatter of a reading about the mean along the path at the edge of stability, over the push of noise (or what was
measured, if that is more); below it falls as the position in edge units to the power 3/2. No more than that was seen on
the same networks, 0.002 to 0.75 of the push at 0.04 to 1.03 of the edge. It counts where readings are few."""
SEVERAL, _FEWEST = 10, 4
"""Readings from which they tell, by second differences: at the edge noise comes in bursts, which fewer miss. And the
fewest of which an integral is taken."""
_KNOWN = 16
"""Steps from which the scatter of single steps is known."""
_PER_STEP = "parameter² / step"
_first = attrgetter("first")


class Test(NamedTuple):
    """A prediction and a measurement.

    Attributes:
        predicted: mean change per step by theory, over the readings in the window; its error is all doubt of it.
        measured: mean change per step over the steps of the window.
        push: change per step if the noise of both sides moved the charge the same way.
        verdict: on the two.
    """

    predicted: Estimate
    measured: Estimate
    push: float
    verdict: Verdict


def per_step(
    like: Sequence[Reading], i: int, moves: Sequence[Move], window: tuple[int, int], claim: str, law: Sequence[str],
    edge: float = 1.0,
) -> Test:  # fmt: skip
    """The readings in a window of steps beside the steps in it (or nearest to the last reading).

    Args:
        like: readings at the same settings, in order of step.
        i: which symmetry.
        moves: of its charge.
        window: first and last step of the window.
        claim: in words.
        law: reasons why no claim is made.
        edge: where the run stands in edge units; needed where there are few readings.
    """
    pooled = [r for r in like if r.step >= window[0]]
    count = len(pooled)
    mean = math.fsum(float(r.change(i)) for r in pooled) / count
    sampling = math.sqrt(math.fsum(error_of(r.change(i)) ** 2 for r in pooled)) / count
    push = math.fsum(r.push(i) for r in pooled) / count
    measured, trend = _measured(moves, window, math.fsum(r.step for r in pooled) / count)
    rate = 0.0 if measured.value is None else abs(float(measured))
    wander = math.sqrt(math.fsum(w * w for w in _wander(like, i, edge, rate)[-count:])) / count
    doubt = math.hypot(sampling, wander, trend)
    predicted = Estimate("expected_change", mean, doubt, count=count, unit=_PER_STEP)
    verdict = _held(measured, mean, doubt, push, f"{claim}, per step", law, epochs=not like[-1].independent)
    return Test(predicted, measured, push, verdict)


def over_run(
    like: Sequence[Reading], i: int, moves: Sequence[Move], claim: str, law: Sequence[str], edge: float = 1.0
) -> Verdict | None:
    """The change from the first reading to the last beside the integral of what was predicted; see `per_step`."""
    if len(like) < _FEWEST:
        return None
    first, last = like[0], like[-1]
    weights, variance = [0.0] * len(like), 0.0
    for j, (a, b) in enumerate(pairwise(like)):
        n = float(b.step - a.step)
        weights[j] += n / 2
        weights[j + 1] += n / 2
        # between two readings what is predicted may have gone from the one to the other at any time
        variance += (n * (float(b.change(i)) - float(a.change(i)))) ** 2 / 12
    predicted = math.fsum(n * float(r.change(i)) for n, r in zip(weights, like, strict=True))
    push = math.fsum(n * r.push(i) for n, r in zip(weights, like, strict=True))
    change, steps = float(last.found["charge"][i]) - float(first.found["charge"][i]), last.step - first.step
    for weight, r, wander in zip(weights, like, _wander(like, i, edge, abs(change) / steps), strict=True):
        variance += weight**2 * (error_of(r.change(i)) ** 2 + wander**2)
    scatter = _scatter([m for m in moves if first.step <= m.first and m.last <= last.step])
    measured = _estimate("change", change, None if scatter is None else scatter * math.sqrt(steps), steps, "parameter²")
    over = f"{claim}, over steps {first.step:,} to {last.step:,}"
    return _held(measured, predicted, math.sqrt(variance), push, over, law, epochs=not last.independent)


def _wander(like: Sequence[Reading], i: int, edge: float, rate: float) -> list[float]:
    """How far each reading may lie off the mean along the path, which goes at `rate`.

    By second differences where there are several, else by how near the edge is.
    """
    points = [(float(r.change(i)), r.push(i)) for r in like]
    if len(like) < SEVERAL or min(push for _, push in points) <= 0:
        typical = _WANDER * min(max(edge, 0.0), _FARTHEST) ** 1.5
        return [typical * max(abs(change), push, rate) for change, push in points]
    bends = [
        3 * (b - (a + c) / 2) / (p + q + r)
        for (a, p), (b, q), (c, r) in zip(points, points[1:], points[2:], strict=False)
    ]
    typical = math.sqrt(math.fsum(bend * bend for bend in bends) / len(bends) / 1.5)
    return [typical * push for _, push in points]


def _measured(moves: Sequence[Move], window: tuple[int, int], at: float) -> tuple[Estimate, float]:
    """Mean change per step about step `at`, and what the trend makes until there.

    Of the moves in the window (or the nearest one) 1, 2, 4, … are taken, nearest first, so that the two are least
    together.
    """
    valued = sorted((m for m in moves if m.rate is not None), key=_first)
    if not valued:
        return Estimate.failed("measured_change", "no change of the charge was recorded beside the prediction"), 0.0
    near = sorted(valued, key=lambda m: abs(m.middle - at))
    inside = [m for m in near if window[0] <= m.first and m.last <= window[1]] or near[:1]
    sizes = [1 << k for k in range(len(inside).bit_length()) if 1 << k < len(inside)] + [len(inside)]
    found = [_mean_over(inside[:size], valued, at) for size in sizes]
    return min(found, key=lambda each: math.hypot(error_of(each[0]) or math.inf, each[1]))


def _mean_over(taken: Sequence[Move], valued: Sequence[Move], at: float) -> tuple[Estimate, float]:
    taken = sorted(taken, key=_first)
    place = bisect_left(valued, taken[0].first, key=_first)
    steps = sum(m.steps for m in taken)
    mean = math.fsum(m.steps * (m.rate or 0.0) for m in taken) / steps
    rounding = math.sqrt(math.fsum((m.steps * m.rounding) ** 2 for m in taken)) / steps
    looked_at, samples = list(taken), sum(m.samples for m in taken)
    for m in reversed(valued[max(place - _KNOWN, 0) : place]):
        if samples >= _KNOWN:
            break
        looked_at.append(m)
        samples += m.samples
    scatter = _scatter(looked_at)
    error = None if scatter is None else math.hypot(scatter / math.sqrt(steps), rounding)
    start, end = (valued[place - 1] if place and len(taken) == 1 else taken[0]), taken[-1]
    apart = end.middle - start.middle
    slope = ((end.rate or 0.0) - (start.rate or 0.0)) / apart if apart > 0 else 0.0
    middle = math.fsum(m.steps * m.middle for m in taken) / steps
    return _estimate("measured_change", mean, error, steps, _PER_STEP), slope * (at - middle)


def _scatter(moves: Sequence[Move]) -> float | None:
    """Standard deviation of the change in a single step; None where too few steps were looked at."""
    known = [(m.samples, m.scatter) for m in moves if m.scatter is not None]
    count = sum(n for n, _ in known)
    return math.sqrt(math.fsum(n * s * s for n, s in known) / count) if count >= _KNOWN // 2 else None


def _estimate(name: str, value: float, error: float | None, steps: int, unit: str) -> Estimate:
    if error is not None:
        return Estimate(name, value, error, count=steps, unit=unit)
    return Estimate(name, value, None, count=steps, status="few_samples", unit=unit,
                    reason="of the scatter of single steps too little is known")  # fmt: skip


def _held(
    measured: Estimate, predicted: float, doubt: float, push: float, claim: str, law: Sequence[str], *, epochs: bool
) -> Verdict:
    """Measured beside predicted: agreement within the tolerance, or within a doubt that is small beside the push."""
    tolerance = EPOCHS if epochs else TOLERANCE
    scope = "plain SGD at constant learning rate, batches drawn independently"
    if epochs:
        scope += "; here batches are those of epochs, whose samples were unseen for longest and move charges faster"
    if law:
        scope += f"; no claim with {', '.join(law)}"
        measured = Estimate.failed(measured.name, f"no claim is made with {', '.join(law)}")
    # no share of a prediction of nothing is a tolerance: then the smallest number stands for it
    verdict = compare(measured, predicted or 5e-324, predicted_error=doubt, claim=claim, tolerance=tolerance,
                      confidence=_CONFIDENCE, scope=scope, source=SOURCE)  # fmt: skip
    spread = _CLOSE * math.hypot(error_of(measured), doubt)
    consistent = measured.status == "ok" and abs(float(measured) - predicted) <= tolerance * abs(predicted) + spread
    agrees = verdict.outcome == "undecided" and consistent and spread <= _PRECISE * push
    return replace(
        verdict,
        predicted=predicted,
        outcome="agrees" if agrees else verdict.outcome,
        margin=verdict.margin if predicted else None,
    )
