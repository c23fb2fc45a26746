r"""Leading eigenvalues of the Hessian, certified by their residuals; cheap to follow along training.

The method is that of `ritz_pairs`. Cold starts first solve the same problem on a part of the data, where products are
cheap, and refine the vectors found there on all data.

A residual certifies an eigenvalue within that distance of the value. That it is the largest is made likely, not
certain, by the guard vectors: see `EigenvalueTracker`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from sgdscope import vectors
from sgdscope.batches import Batch, length
from sgdscope.chain.products import Kind
from sgdscope.chain.span import Span
from sgdscope.estimate import Estimate
from sgdscope.hessian import Hessian
from sgdscope.measure.ritz_pairs import RitzPairs, mixed_with_noise, ritz_pairs
from sgdscope.risk import Risk
from sgdscope.vectors import Basis, Vector

CURVATURE = "loss / parameter²"
_COARSE_FROM, _COARSE_PART = 128, 256
"""Samples from which a cold start begins on a part of the data: a quarter of them up to the second number, beyond that
at least so many. On smaller parts the search was seen to end on the second eigenvalue, 5 % below the first."""
_SEARCH_EVERY, _SEARCH, _SEARCH_COLD = 5, 5, 3
"""How often an update looks for eigenvalues it does not follow, and the products it then spends; and for several
eigenvalues from cold, after all seem found and again after a random vector is added."""


def leading_eigenvalues(
    risk: Risk,
    k: int = 1,
    *,
    batch: Batch | None = None,
    tolerance: float = 0.01,
    max_products: int = 60,
    generator: torch.Generator | None = None,
    kind: Kind = "hessian",
) -> Estimate:
    r"""Largest `k` eigenvalues of the Hessian :math:`\nabla^2 L`, over all data or on `batch`.

    With ``kind="gauss_newton"`` those of its Gauss-Newton part.

    Units: loss per squared parameter. `value` and `residual`: tuples of length `k`, descending. Each value has an
    eigenvalue within its residual; the residual asked for is ``tolerance`` times the largest. Cost: about ten gradient
    evaluations for k = 1 on image classifiers, two products at most per further eigenvalue; memory: two copies of the
    parameters per basis vector, at most ``14 + 2 (k + 3)`` of them.

    Raises ValueError if `k` is not in ``1 … number of parameters``. Out of budget: status ``not_converged`` with the
    values so far. Source: Cohen et al. 2103.00065 (the quantity); Davidson 1975 (the method).
    """
    tracker = EigenvalueTracker(k, tolerance=tolerance, max_products=max_products, generator=generator, kind=kind)
    return tracker.update(risk, batch=batch)


def leading_eigenpairs(
    risk: Risk,
    k: int = 1,
    *,
    tolerance: float = 0.02,
    max_products: int = 60,
    generator: torch.Generator | None = None,
    kind: Kind = "hessian",
) -> tuple[Estimate, list[Vector]]:
    """As `leading_eigenvalues`, with the eigenvectors: unit vectors shaped like the parameters, as many as values.

    Memory as there, and costlier where samples are fewer than features: no compact vectors. An eigenvector's error is
    about the residual over the gap to the neighbours: within a tight cluster only the span is meaningful.
    """
    tracker = EigenvalueTracker(
        k, tolerance=tolerance, max_products=max_products, generator=generator, kind=kind, compact=False
    )
    estimate = tracker.update(risk)
    found = estimate.value if isinstance(estimate.value, tuple) else ()
    return estimate, tracker.vectors[: len(found)]


@dataclass
class EigenvalueTracker:
    """Follows the leading eigenvalues along training: each `update` starts from the vectors of the one before.

    A single carried vector can lock onto a neighbour that was once the largest. So `carry` extra vectors are kept; an
    update whose first vector is still good multiplies one of them too, in turn, and every fifth update adds the
    gradient (which the unstable direction dominates) with a random part, and searches on for five products more.

    Attributes:
        k: number of eigenvalues wanted.
        tolerance: residual asked for, relative to the largest eigenvalue; its error is of second order in that.
        max_products: Hessian products per update at most.
        carry: extra vectors kept; memory `k + carry` copies of the parameters.
        kind: of the Hessian or its Gauss-Newton part.
        compact: carry vectors in coordinates of the data where they are shorter (see `Hessian`).
        vectors: the leading Ritz vectors, as the Hessian's products take them.
    """

    k: int = 1
    tolerance: float = 0.05
    max_products: int = 60
    carry: int = 3
    generator: torch.Generator | None = None
    kind: Kind = "hessian"
    compact: bool = True
    vectors: list[Vector] = field(default_factory=list)
    updates: int = 0
    _span: Span | None = None

    def update(self, risk: Risk, *, batch: Batch | None = None) -> Estimate:
        """Leading eigenvalues at the risk's present parameters. See `leading_eigenvalues`."""
        count = risk.parameter_count
        if not 1 <= self.k <= count:
            raise ValueError(f"expected k between 1 and {count} (the number of parameters), got {self.k}")
        generator = self.generator if self.generator is not None else torch.Generator().manual_seed(self.updates)
        size = risk.size if batch is None else length(batch)
        coarse_cost = 0.0
        with Hessian(risk, batch, compact=self.compact, kind=self.kind) as hessian:
            keep = min(self.k + self.carry, count)
            try:
                if hessian.span is not self._span:
                    self.vectors = []  # other data, other coordinates
                first = not self.vectors
                if first:
                    self.vectors, coarse_cost = self._cold_start(hessian, batch, size, generator)
                self._span = hessian.span
                several = first and self.k > 1
                cold, search = not self.vectors, self.updates % _SEARCH_EVERY == _SEARCH_EVERY - 1
                guards = self.vectors[self.k :]
                start, guard = self.vectors[: self.k], None
                if cold or first or search or not guards:
                    start = [*start, mixed_with_noise(hessian.gradient, generator)]
                else:
                    guard = guards[self.updates % len(guards)]
                pairs = ritz_pairs(
                    hessian.products, start, k=self.k, keep=keep, guard=guard,
                    tolerance=self.tolerance, max_products=self.max_products,
                    settle=2 if first and not several else 1, repeat=several,
                    explore=_SEARCH if search else _SEARCH_COLD if several else 0,
                    another=lambda: vectors.random_like(start[0], generator),
                )  # fmt: skip
            except (ArithmeticError, LinAlgError) as error:
                return Estimate.failed("lambda_max", str(error), status="diverged", cost=hessian.cost, unit=CURVATURE)
            cost = hessian.cost + coarse_cost
        self.updates += 1
        self._remember(pairs, keep)
        settings = {
            "kind": self.kind,
            "samples": size,
            "mode": risk.mode,
            "products": pairs.products,
            "tolerance": self.tolerance,
        }
        worst = max(pairs.residuals)
        reason = "" if pairs.converged else (
            f"{len(pairs.residuals)} of {self.k} eigenvalues, residual {worst:.2g} where "
            f"{self.tolerance * abs(pairs.values[0]):.2g} was asked for, after {pairs.products} products"
        )  # fmt: skip
        return Estimate(
            "lambda_max", tuple(pairs.values[: self.k]), residual=tuple(pairs.residuals[: self.k]), cost=cost,
            status="ok" if pairs.converged else "not_converged", reason=reason, unit=CURVATURE, settings=settings,
        )  # fmt: skip

    def _cold_start(
        self, hessian: Hessian, batch: Batch | None, size: int, generator: torch.Generator
    ) -> tuple[list[Vector], float]:
        """Vectors to begin with: solved for on a part of the data if there is enough, else none."""
        risk = hessian.risk
        part = min(max(size // 8, min(size // 4, _COARSE_PART)), risk.chunk_size)
        if batch is not None or size < _COARSE_FROM or risk.source.batch_lengths is not None:
            return [], 0.0
        with Hessian(risk, risk.draw(part, generator), compact=self.compact, kind=self.kind) as coarse:
            pairs = ritz_pairs(
                coarse.products, [mixed_with_noise(coarse.gradient, generator)], k=self.k, keep=self.k,
                tolerance=max(self.tolerance, 0.02), max_products=5 + 2 * self.k,
            )  # fmt: skip
            return [hessian.restrict(coarse.lift(v)) for v in pairs.vectors], coarse.cost * part / size

    def _remember(self, pairs: RitzPairs, keep: int) -> None:
        """New Ritz vectors, filled up with old ones that are not yet among them."""
        old = self.vectors
        self.vectors = pairs.vectors[:keep]
        if len(self.vectors) < keep and old:
            span = Basis(old[0], 2 * keep + 1)
            for v in self.vectors:
                unit = span.orthogonalise(v)
                if unit is not None:
                    span.append(unit)
            for v in old:
                rest = span.orthogonalise(v)
                if rest is not None and len(self.vectors) < keep:
                    span.append(rest)
                    self.vectors.append(rest)
