"""Survival: escape times of many replicas, some of which never escaped while they were watched, and what they tell.

A replica that had not escaped when the simulation ended is censored: all that is known is that its time is longer.
Leaving it out, or taking the end for its time, makes escape look faster than it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from sgdscope.estimate import Estimate

Floats = npt.NDArray[np.float64]
_ENOUGH = 20
"""Escapes from which on standard errors are taken at their word."""


@dataclass(frozen=True)
class SurvivalCurve:
    """Kaplan–Meier estimate of the share of replicas still inside, at each time an escape was seen.

    Attributes:
        times: rising, shape (n,).
        share: still inside just after each time.
        low, high: limits of 95 % confidence (log-log).
    """

    times: Floats
    share: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class EscapeTimes:
    """First-passage times with right censoring. Immutable.

    Attributes:
        times: of each replica, ≥ 0; of a censored one the time until which it was watched.
        escaped: whether it escaped; False is censored.
        unit: of the times, e.g. ``"lr · iterations"``.

    Raises ValueError for times that are negative or not finite, and for arrays of other or different shapes.
    """

    times: Floats
    escaped: npt.NDArray[np.bool_]
    unit: str = ""

    def __post_init__(self) -> None:
        times, escaped = np.asarray(self.times, dtype=np.float64), np.asarray(self.escaped, dtype=bool)
        if times.ndim != 1 or not times.size or times.shape != escaped.shape:
            raise ValueError(f"expected times and escaped of one shape (replicas,), got {times.shape}, {escaped.shape}")
        if not (np.isfinite(times).all() and times.min() >= 0):
            raise ValueError("expected finite escape times ≥ 0; of a replica that did not escape give the time watched")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "escaped", escaped)

    @classmethod
    def watched_until(cls, times: npt.ArrayLike, end: float, unit: str = "") -> EscapeTimes:
        """From times of which those beyond `end`, infinite or NaN stand for replicas that had not escaped by then."""
        found = np.asarray(times, dtype=np.float64)
        escaped = found <= end  # False for NaN
        return cls(np.where(escaped, found, end), escaped, unit)

    @property
    def censored(self) -> float:
        """Share of replicas that had not escaped."""
        return float(1 - self.escaped.mean())

    def survival(self) -> SurvivalCurve:
        """The Kaplan–Meier curve with limits of confidence. Raises ValueError if nothing escaped."""
        self._some("a survival curve")
        data = stats.CensoredData(uncensored=self.times[self.escaped], right=self.times[~self.escaped])
        found = stats.ecdf(data).sf
        with np.errstate(divide="ignore", invalid="ignore"):
            limits = found.confidence_interval(method="log-log")
        share = found.probabilities
        low, high = (np.where(np.isfinite(limit), limit, share) for limit in
                     (limits.low.probabilities, limits.high.probabilities))  # fmt: skip
        return SurvivalCurve(found.quantiles, share, low, high)

    def rate(self, *, after: float = 0.0) -> Estimate:
        """Escapes per unit of time under an exponential law: escapes over the total time at risk, ± its / √escapes.

        `after` leaves out the time before the replicas have settled inside the well (of those that last so long).
        Unbiased under censoring. Status ``few_samples`` below 20 escapes, where ± is not to be trusted.
        """
        risk, count = self._at_risk(after)
        if count == 0:
            return Estimate.failed(
                "escape_rate", f"nothing escaped in a total time of {risk:.4g}: the rate is below {3 / risk:.2g} "
                "(95 %)" if risk > 0 else f"no replica was watched beyond {after:g}",
            )  # fmt: skip
        value = count / risk
        return _unless_few(Estimate(
            "escape_rate", value, value / math.sqrt(count), count=count, unit=f"1 / ({self.unit})" if self.unit else "",
            settings={"after": after, "censored": self.censored},
        ))  # fmt: skip

    def mean_time(self, *, after: float = 0.0) -> Estimate:
        """Mean escape time: plain mean and its error if every replica escaped, else total time at risk over escapes.

        The second assumes the exponential law of small noise (see `hazard_ratio`); `after` as in `rate`, the time
        before being added again.
        """
        if self.escaped.all() and after == 0:
            n = len(self.times)
            error = float(self.times.std(ddof=1)) / math.sqrt(n) if n > 1 else None
            mean = Estimate("mean_escape_time", float(self.times.mean()), error, count=n, unit=self.unit)
            return _unless_few(mean)
        rate = self.rate(after=after)
        if rate.value is None:
            return Estimate.failed("mean_escape_time", rate.reason)
        value = 1 / float(rate)
        return Estimate(
            "mean_escape_time", after + value, value / math.sqrt(rate.count), count=rate.count, unit=self.unit,
            settings=rate.settings, status=rate.status, reason=rate.reason,
        )  # fmt: skip

    def hazard_ratio(self, *, after: float = 0.0) -> Estimate:
        """Rate in the later half of the escapes over that in the earlier half: 1 for an exponential law.

        Below 1 escape slows down (a mixture of wells, a start close to the exit), above 1 it speeds up (replicas still
        on their way to the exit). ``beside["z"]`` is its logarithm in standard errors.
        """
        _, count = self._at_risk(after)
        if count < 4:
            return Estimate.failed("hazard_ratio", f"expected at least 4 escapes to compare two halves, got {count}")
        middle = float(np.median(self.times[self.escaped & (self.times > after)]))
        early = EscapeTimes.watched_until(np.where(self.escaped, self.times, np.inf), middle)
        early = EscapeTimes(np.minimum(self.times, middle), early.escaped)
        first, last = early.rate(after=after), self.rate(after=middle)
        if last.value is None or first.value is None:
            return Estimate.failed("hazard_ratio", "expected escapes at different times to compare two halves")
        ratio = float(last) / float(first)
        spread = math.sqrt(1 / first.count + 1 / last.count)
        z = Estimate("z", math.log(ratio) / spread, unit="standard errors")
        return _unless_few(Estimate("hazard_ratio", ratio, ratio * spread, count=count, beside={"z": z}))

    def _at_risk(self, after: float) -> tuple[float, int]:
        if not 0 <= after < math.inf:
            raise ValueError(f"expected a time ≥ 0 to start from, got {after}")
        later = self.times > after
        return float((self.times[later] - after).sum()), int((self.escaped & (later if after else True)).sum())

    def _some(self, what: str) -> None:
        if not self.escaped.any():
            raise ValueError(f"expected at least one escape for {what}, got none: watch longer, or raise the noise")


@dataclass(frozen=True)
class LogRateFit:
    """A straight line through −ln rate: ``slope · x + intercept``. Immutable.

    Attributes:
        slope, intercept: with standard errors from those of the rates, as estimates.
        chi_squared: sum of squared deviations in standard errors; about `degrees` if the line holds.
        degrees: points minus 2.
    """

    slope: Estimate
    intercept: Estimate
    chi_squared: float
    degrees: int

    @property
    def p_value(self) -> float | None:
        """Chance of deviations this large if the line holds; None with two points, which always lie on one."""
        return float(stats.chi2.sf(self.chi_squared, self.degrees)) if self.degrees else None


def fit_log_rates(x: npt.ArrayLike, rates: Sequence[Estimate], *, offset: npt.ArrayLike = 0.0) -> LogRateFit:
    """Weighted least squares of ``−ln rate − offset`` on x: the slope is what theories of escape predict.

    A straight line alone supports none of them: its slope does. Where the theory has a logarithm of its own, give it
    as `offset`: −ln k for landscapes rescaled in sharpness by k (then x = 1 / k).

    Args:
        x: what was varied (batch size, 1 / lr, 1 / k, …), shape (n,).
        rates: escape rates with standard errors, one per x, as `EscapeTimes.rate` gives them.
        offset: subtracted from −ln rate, shape (n,).

    Raises ValueError for fewer than two different x, and for a rate without value or error.
    """
    places = np.asarray(x, dtype=np.float64)
    if places.ndim != 1 or len(places) != len(rates) or len(np.unique(places)) < 2:
        raise ValueError(f"expected at least two different x with a rate each, got x of shape {places.shape} and "
                         f"{len(rates)} rates")  # fmt: skip
    for at, rate in zip(places, rates, strict=True):
        if rate.value is None or not rate.standard_error or float(rate) <= 0:
            raise ValueError(f"expected a rate > 0 with a standard error at x = {at:g}, got {rate}")
    values = np.array([float(rate) for rate in rates])
    errors = np.array([rate.standard_error for rate in rates], dtype=np.float64) / values
    y = -np.log(values) - np.broadcast_to(np.asarray(offset, dtype=np.float64), values.shape)
    centre = float(np.average(places, weights=errors**-2))
    design = np.stack([places - centre, np.ones_like(places)], axis=1) / errors[:, None]
    (slope, level), *_ = np.linalg.lstsq(design, y / errors)
    variance = 1 / (design**2).sum(0)  # about the weighted centre slope and level do not correlate
    deviations = design @ [slope, level] - y / errors
    settings = {"points": len(places)}
    return LogRateFit(
        Estimate("slope of −ln rate", slope, math.sqrt(variance[0]), count=len(places), settings=settings),
        Estimate(
            "intercept of −ln rate", level - slope * centre, math.sqrt(variance[1] + variance[0] * centre**2),
            count=len(places), settings=settings,
        ),
        float(deviations @ deviations), len(places) - 2,
    )  # fmt: skip


def _unless_few(found: Estimate) -> Estimate:
    if found.count >= _ENOUGH:
        return found
    reason = f"{found.count} escapes: with fewer than {_ENOUGH} the error is rough"
    return replace(found, status="few_samples", reason=reason)
