"""Shape: what was recorded of the spectrum and of the noise along it, checked, since rows may come from anywhere."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeGuard

from sgdscope.estimate import Estimate
from sgdscope.records import Run

MOST = 64
"""Eigenvectors looked at."""


@dataclass(frozen=True)
class NoiseShape:
    """Variance of single samples' gradients along eigenvectors, against the curvature there; both above zero.

    Attributes:
        row: the row ``noise_covariance`` as recorded.
        curvatures, variances, errors: one number per direction, by descending curvature; errors are standard errors.
        mean: curvature and variance of the mean direction, tr H and tr Σ over the number of parameters, with errors.
    """

    row: Estimate
    curvatures: tuple[float, ...]
    variances: tuple[float, ...]
    errors: tuple[float, ...]
    mean: tuple[Estimate, Estimate] | None = None

    @classmethod
    def of(cls, run: Run) -> NoiseShape | None:
        """The last one of a run; None if none can be drawn."""
        row = run.get("noise_covariance").latest
        if row is None or not isinstance(row.value, tuple) or "eigenvalues" not in row.beside:
            return None
        curvatures = row.beside["eigenvalues"].value
        errors = row.standard_error
        if not isinstance(curvatures, tuple) or not isinstance(errors, tuple) or len(curvatures) != len(row.value):
            return None
        points = sorted(
            (x, y, e)
            for x, y, e in zip(curvatures, row.value, errors, strict=True)
            if _small(x) and _small(y) and y > 0
        )[::-1]
        drawn = [(x, y, min(e, 1e40)) for x, y, e in points if x > 0][:MOST]
        if not drawn:
            return None
        xs, ys, es = zip(*drawn, strict=True)
        return cls(row, xs, ys, es, _mean_direction(run))

    def beside(self, name: str) -> Estimate | None:
        """A companion that is a single number, or None."""
        found = self.row.beside.get(name)
        return found if found is not None and isinstance(found.value, float) else None

    @property
    def supported(self) -> str:
        """The noise model that the exponent supports, in the words of the measurement."""
        return str(self.row.settings.get("supported", "undecided"))


@dataclass(frozen=True)
class SpectrumShape:
    """Distribution of the eigenvalues of the Hessian, and the largest ones with where they live.

    Attributes:
        row: the row ``spectrum`` as recorded.
        top: largest eigenvalues, descending.
        nodes, weights: of the Lanczos quadrature, all random vectors together; weights sum to one. May be empty.
        resolution: what is finer is not resolved.
        parameters: number of eigenvalues, if the record of the run names it.
        homes: share of the top eigenvectors' squared length in each parameter, largest first, with that of the first.
    """

    row: Estimate
    top: tuple[float, ...]
    nodes: tuple[float, ...]
    weights: tuple[float, ...]
    resolution: float
    parameters: int | None
    homes: tuple[tuple[str, float, float], ...]

    @classmethod
    def of(cls, run: Run) -> SpectrumShape | None:
        """The last one of a run; None if none can be drawn."""
        row = run.get("spectrum").latest
        if row is None or not isinstance(row.value, tuple) or not all(map(_small, row.value)):
            return None
        nodes, weights, resolution = _density(row.settings.get("density"))
        top = tuple(sorted(row.value, reverse=True)[:MOST])
        return cls(row, top, nodes, weights, resolution, _parameters(run), _homes(row.settings))

    @property
    def part(self) -> tuple[int, int] | None:
        """Samples looked at and samples in all, where those were not all."""
        return part_of(self.row)


def part_of(row: Estimate) -> tuple[int, int] | None:
    """Samples a row looked at and samples in all, where those were not all."""
    samples, of = row.settings.get("samples"), row.settings.get("of")
    if not isinstance(samples, int) or not isinstance(of, int) or not 0 < samples < of:
        return None
    return samples, of


def _mean_direction(run: Run) -> tuple[Estimate, Estimate] | None:
    """Trace of the Hessian and of the noise over the number of parameters, where both are known and positive."""
    trace, noise = run.get("spectrum").component("hessian_trace").latest, run.get("gradient_noise").latest
    count = _parameters(run)
    if trace is None or noise is None or count is None:
        return None
    found = trace.scaled(1 / count), noise.scaled(1 / count)
    return found if all(isinstance(e.value, float) and _small(e.value) and e.value > 0 for e in found) else None


def _parameters(run: Run) -> int | None:
    risk = run.manifest.get("risk")
    count = risk.get("parameters") if isinstance(risk, dict) else None
    return count if isinstance(count, int) and 0 < count < 10**15 else None


def _small(x: object) -> TypeGuard[float]:
    """Whether a number can be drawn: neither text nor beyond what powers of it hold."""
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < 1e40 and (x == 0 or abs(x) > 1e-40)


def _density(found: Any) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    nothing: tuple[tuple[float, ...], tuple[float, ...], float] = ((), (), 0.0)
    if not isinstance(found, dict):
        return nothing
    nodes, weights, resolution = found.get("nodes"), found.get("weights"), found.get("resolution")
    if not isinstance(nodes, list) or not isinstance(weights, list) or len(nodes) != len(weights) or not nodes:
        return nothing
    pairs: list[tuple[float, float]] = []
    for xs, ws in zip(nodes, weights, strict=True):
        if not isinstance(xs, list) or not isinstance(ws, list) or len(xs) != len(ws):
            return nothing
        pairs += zip(xs, ws, strict=True)
    if not all(isinstance(w, float | int) and 0 <= w <= 1.01 and _size(x) for x, w in pairs) or not _size(resolution):
        return nothing
    total = math.fsum(w for _, w in pairs)
    if not total > 0 or not resolution > 0 or len(pairs) > 10_000:
        return nothing
    return tuple(float(x) for x, _ in pairs), tuple(w / total for _, w in pairs), float(resolution)


def _size(x: object) -> TypeGuard[float]:
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < 1e40


def _homes(settings: Any) -> tuple[tuple[str, float, float], ...]:
    names, shares = settings.get("parameters"), settings.get("shares")
    if not isinstance(names, list) or not isinstance(shares, list) or not shares:
        return ()
    if not all(isinstance(s, list) and len(s) == len(names) and all(_size(p) and p >= 0 for p in s) for s in shares):
        return ()
    mean: Counter[str] = Counter()
    for each in shares:
        for name, share in zip(names, each, strict=True):
            mean[str(name)] += share / len(shares)
    first = dict(zip(map(str, names), shares[0], strict=True))
    return tuple((name, share, first[name]) for name, share in mean.most_common())
