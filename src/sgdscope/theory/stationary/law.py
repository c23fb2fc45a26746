r"""The stationary law of SGD on a deep diagonal linear network: density, distribution function, moments, samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sgdscope.theory.stationary.closed_form_mode import nonzero_mode
from sgdscope.theory.stationary.coordinates import Interval
from sgdscope.theory.stationary.dynamics import DiagonalDynamics, plain
from sgdscope.theory.stationary.fate import Collapse, Living, fate
from sgdscope.theory.stationary.noise import DiagonalNoise
from sgdscope.theory.stationary.panels import Panels
from sgdscope.theory.stationary.profile import Profile
from sgdscope.theory.stationary.zero_flux import ZeroFlux

Array = npt.NDArray[np.float64]

PARTS = 256
"""Pieces per panel of the table that samples are drawn from: the law of samples is off by less than 1e-5."""


@dataclass(frozen=True)
class DiagonalLaw:
    """Stationary law of the weight v = Σ_i Π_k u_i^(k) that SGD on ``(v x − y)²`` reaches. Immutable.

    A law *collapses* when no density solves its equation: all mass then sits at single weights (`places`, `masses`),
    `reason` says why, `density` and `modes` raise ValueError, and everything else works on the point masses.

    Because 0 holds a network of depth ≥ 1 for good, the sign of v, the number d of live subnetworks and the mass lost
    at 0 are remembered from the start: this is the law of runs on one side of 0 with d subnetworks.

    Attributes:
        noise: moments of the data.
        temperature: T = lr / batch size > 0.
        depth: D: 0 (regression), 1, any number ≥ 1.01 (D + 1 layers), or ``math.inf``.
        width: d, number of subnetworks that are alive; leave it 1 at infinite depth.
        weight_decay: γ ≥ 0, in the loss as γ ‖θ‖².
        width_per_depth: d / D at infinite depth, where only this ratio counts.
        start: weight the run starts from. None: on the side of the optimum. The value matters for interpolating data
            above the critical temperature only.
        metastable: at depth > 1 with weight decay, give the law around the optimum before the runs collapse to 0, cut
            off where the density of log v is least; `warnings` says so.

    Raises ValueError for values out of range, and where the law depends on a start that is not given.

    Source: Ziyin, Li & Ueda, arXiv 2308.06671, Theorem 4.2, Eqs. 12 and 15 and Table 1; weight decay at depth > 1 and
    the point masses derived here. Relative accuracy of densities 1e-10, at very low temperatures 1e-15 / T; a law costs
    about 3 ms.
    """

    noise: DiagonalNoise
    temperature: float
    depth: float
    width: float = 1.0
    weight_decay: float = 0.0
    width_per_depth: float | None = None
    start: float | None = None
    metastable: bool = False

    def __post_init__(self) -> None:
        if self.start is not None and not math.isfinite(self.start):
            raise ValueError(f"expected a finite start, got {self.start}")
        if self.metastable and not (self.depth > 1 and self.weight_decay > 0):
            raise ValueError("metastable: the law is metastable with weight decay at depth > 1 only")
        if not self.collapsed:
            _ = self._profile

    @cached_property
    def dynamics(self) -> DiagonalDynamics:
        """The equation of motion that this law solves."""
        return DiagonalDynamics(
            self.noise, self.temperature, self.depth, self.width, self.weight_decay, self.width_per_depth
        )

    @property
    def collapsed(self) -> bool:
        """Whether all mass sits at single weights."""
        return isinstance(self._fate, Collapse)

    @property
    def reason(self) -> str:
        """Why the law collapsed; empty if it has a density."""
        return self._fate.reason if isinstance(self._fate, Collapse) else ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What restricts the meaning of this law."""
        return () if isinstance(self._fate, Collapse) else self._fate.warnings

    @property
    def places(self) -> tuple[float, ...]:
        """Weights that carry point masses, ascending; empty if the law has a density."""
        if not isinstance(self._fate, Collapse):
            return ()
        return tuple(sorted(self._sign * place + 0.0 for place in self._fate.places))

    @property
    def masses(self) -> tuple[float, ...]:
        """Probabilities of `places`."""
        return self._fate.masses[:: self._sign] if isinstance(self._fate, Collapse) else ()

    @property
    def support(self) -> tuple[float, float]:
        """Ends of the weights that the law reaches; ±∞ where it has no end."""
        if isinstance(self._fate, Collapse):
            return self.places[0], self.places[-1]
        low, high = self._fate.coordinate.support
        if self._profile.least is not None:
            low = float(self._profile.coordinate.value(np.array(self._profile.least)))
        return (low, high) if self._sign > 0 else (-high, -low + 0.0)

    def log_density(self, v: npt.ArrayLike) -> Any:
        """Log p(v), normalised (scalar or array); −∞ off the support. Raises ValueError for a collapsed law."""
        self._refuse_collapse("density")
        panels, offset = self._panels
        inner = self._sign * _numbers(v)
        low, high = sorted(self._sign * end for end in self.support)
        inside = (inner > low) & (inner < high)
        log_density = np.full(inner.shape, -math.inf)
        with np.errstate(divide="ignore"):
            log_density[inside] = self._profile.flux.log_density(inner[inside])
        return plain(log_density - offset - math.log(panels.total))

    def density(self, v: npt.ArrayLike) -> Any:
        """P(v), normalised (scalar or array); 0 off the open support. Raises ValueError for a collapsed law."""
        return plain(np.exp(self.log_density(v)))

    def cdf(self, v: npt.ArrayLike) -> Any:
        """Probability of weights ≤ v (scalar or array). Absolute accuracy 1e-13."""
        values = _numbers(v)
        if self.collapsed:
            return plain(sum(mass * (values >= place) for place, mass in zip(self.places, self.masses, strict=True)))
        inner = self._sign * values
        low, high = sorted(self._sign * end for end in self.support)
        share = np.where(inner >= high, 1.0, 0.0)
        inside = (inner > low) & (inner < high)
        share[inside] = self._panels[0].share_below(self._profile.coordinate.place(inner[inside]))
        return plain(share if self._sign > 0 else 1 - share)

    def quantile(self, share: npt.ArrayLike) -> Any:
        """The least weight v with cdf(v) ≥ share (scalar or array), for shares strictly between 0 and 1."""
        wanted = np.asarray(share, dtype=float)
        if not ((wanted > 0) & (wanted < 1)).all():
            raise ValueError("expected shares strictly between 0 and 1: the law may have no end")
        if self.collapsed:
            return plain(np.asarray(self.places)[np.searchsorted(np.cumsum(self.masses)[:-1], wanted)])
        place = self._panels[0].place(wanted if self._sign > 0 else 1 - wanted)
        return plain(self._sign * self._profile.coordinate.value(place))

    def sample(self, n: int, seed: int | np.random.Generator) -> Array:
        """N independent weights, shape (n,), by the inverse distribution function. Million samples: about 0.2 s.

        Args:
            n: how many.
            seed: of the generator, or a generator to draw from.
        """
        rng = np.random.default_rng(seed)
        if self.collapsed:
            return rng.choice(self.places, size=n, p=self.masses)
        x = self._panels[0].quick_place(rng.random(n), self._table)
        return self._sign * self._profile.coordinate.value(x)

    def moment(self, n: float) -> float:
        """E[vⁿ]; n ≥ 0, and whole where v takes both signs.

        Raises ValueError where the tail is too heavy for it: n ≥ `tail_exponent` − 1 (the third moment at depth 1, the
        fourth at any depth).
        """
        if not n >= 0:
            raise ValueError(f"expected a moment of order ≥ 0, got {n}")
        if n != int(n) and min(self.support) < 0:
            raise ValueError(f"expected a whole order where weights are negative, got {n}")
        if self.collapsed:
            return float(sum(mass * place**n for place, mass in zip(self.places, self.masses, strict=True)))
        sign = self._sign if n == int(n) and int(n) % 2 else 1
        return sign * self._expectation(lambda v: v**n, n, f"moment {n:g}")

    @cached_property
    def mean(self) -> float:
        """E[v]. Raises ValueError if it does not exist."""
        return self.moment(1)

    @cached_property
    def variance(self) -> float:
        """Var[v], from deviations. Raises ValueError if it does not exist.

        Variances of samples converge slowly to it: the fourth moment is infinite.
        """
        if self.collapsed:
            return float(sum(m * (place - self.mean) ** 2 for place, m in zip(self.places, self.masses, strict=True)))
        mean = self._sign * self.mean
        return self._expectation(lambda v: (v - mean) ** 2, 2, "variance")

    @property
    def median(self) -> float:
        """The weight with half of the mass below it."""
        return float(self.quantile(0.5))

    @cached_property
    def modes(self) -> tuple[float, ...]:
        """Weights where the density has a local maximum, ascending; a divergence at 0 is not among them.

        Raises ValueError for a collapsed law.
        """
        self._refuse_collapse("mode")
        if self.depth == 1 and self._sign == self.noise.sign:  # in closed form: a scan may step over a shallow one
            mode = nonzero_mode(self.noise, self.temperature, self.weight_decay)
            return () if mode is None else (mode,)
        maxima, _ = self._profile.value_extrema()
        return tuple(sorted(self._sign * float(self._profile.coordinate.value(np.array(x))) for x in maxima))

    @property
    def mode(self) -> float:
        """The highest of `modes`. Raises ValueError where there is none: the density then falls all the way from 0."""
        if not self.modes:
            raise ValueError("there is no mode but the divergence at 0: the density falls all the way")
        return max(self.modes, key=self.log_density)

    @property
    def tail_exponent(self) -> float:
        """Exponent a of p ~ |v|^{−a} at large weights.

        At depth ≥ 1 it is 5 − 3 / (D + 1), whatever the data and the temperature; at depth 0 it is 2 + β₁ / (T α₁).
        Raises ValueError where there is no power law: collapsed laws, bounded ones, and inputs all of one size.

        Source: Ziyin, Li & Ueda, arXiv 2308.06671, section 4.3.
        """
        self._refuse_collapse("tail")
        exponent = self._tail_exponent
        if math.isinf(exponent):
            raise ValueError("there is no power law: the law is bounded, or its tail falls faster than any power")
        return exponent

    @property
    def _tail_exponent(self) -> float:
        dynamics, noise = self.dynamics, self.noise
        assert isinstance(self._fate, Living)
        if isinstance(self._fate.coordinate, Interval):
            return math.inf
        if noise.square_variance == 0:
            if math.isinf(self.depth):
                return 3 + 2 * noise.square_mean / (dynamics.speed * self.temperature * noise.product_variance)
            return math.inf
        if self.depth == 0:
            curvature = noise.square_mean + self.weight_decay / self.width
            return 2 + curvature / (self.temperature * self.width * noise.square_variance)
        return 2 + 1.5 * dynamics.power

    @cached_property
    def _oriented(self) -> tuple[int, Collapse | Living]:
        """The sign that turns v into the coordinate's side, and what happens there."""
        sign = -1 if self.depth and self.noise.product_mean < 0 else 1
        dynamics = self._oriented_dynamics(sign)
        found = fate(dynamics, None if self.start is None else sign * self.start, self.metastable)
        if self.depth == 0 and isinstance(found, Living) and self.noise.discriminant == 0 < self.noise.square_variance:
            # regression whose noise vanishes at k: the law lies on the side to which the gradient pushes from there
            sign = 1 if dynamics.drift(found.coordinate.support[0]) > 0 else -1
            found = fate(self._oriented_dynamics(sign), None, False)
        return sign, found

    def _oriented_dynamics(self, sign: int) -> DiagonalDynamics:
        noise = self.noise.flipped if sign < 0 else self.noise
        return DiagonalDynamics(
            noise, self.temperature, self.depth, self.width, self.weight_decay, self.width_per_depth
        )

    @property
    def _sign(self) -> int:
        return self._oriented[0]

    @property
    def _fate(self) -> Collapse | Living:
        return self._oriented[1]

    @cached_property
    def _profile(self) -> Profile:
        assert isinstance(self._fate, Living)
        whole = Profile(ZeroFlux(self._oriented_dynamics(self._sign)), self._fate.coordinate)
        if not self.metastable:
            return whole
        maxima, minima = whole.extrema()
        if not minima or not maxima or maxima[-1] < minima[-1]:
            raise ValueError("there is no metastable state: at this temperature and weight decay v falls to 0 at once")
        return Profile(whole.flux, whole.coordinate, minima[-1])

    @cached_property
    def _panels(self) -> tuple[Panels, float]:
        return self._profile.panels()

    @cached_property
    def _table(self) -> tuple[Array, Array]:
        return self._panels[0].table(PARTS)

    def _expectation(self, function: Callable[[Array], Array], growth: float, name: str) -> float:
        """E[function(|v|)] for a function that grows like |v| ** growth."""
        if growth >= self._tail_exponent - 1:
            raise ValueError(f"the {name} does not exist: the density falls like |v|^-{self._tail_exponent:g} only")
        panels, offset = self._panels
        coordinate = self._profile.coordinate
        # close to the critical temperature the median is far below the weights that make up the moments
        typical = max(float(panels.place(np.array(0.5))), *self._profile.extrema()[0], -math.inf)
        weighted, weighted_offset = self._profile.panels(growth, typical)

        def ratio(x: Array) -> Array:
            return function(coordinate.value(x)) * np.exp(-growth * coordinate.log_envelope(x, typical))

        return weighted.expectation(ratio) / panels.total * math.exp(weighted_offset - offset)

    def _refuse_collapse(self, name: str) -> None:
        if self.collapsed:
            raise ValueError(f"a collapsed law has no {name}: {self.reason}")


def _numbers(v: npt.ArrayLike) -> Array:
    values = np.asarray(v, dtype=float)
    if np.isnan(values).any():
        raise ValueError("expected weights that are numbers, got NaN: did the run diverge?")
    return values
