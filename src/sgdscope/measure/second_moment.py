r"""Second moment: by how much one step of SGD can multiply the mean square distance from a minimum.

On batch losses that are quadratic around a common minimum :math:`\theta^*`, a step gives

.. math:: \mathbb{E} \|d^+\|^2 = d^\top \, \mathbb{E}[(I - \eta H_B)^2] \, d
    \le \lambda_{\max}(\mathbb{E}[(I - \eta H_B)^2]) \, \|d\|^2, \qquad d = \theta - \theta^* .

Below 1 the mean square contracts from every direction; above 1 there is a direction from which one step enlarges it.
That is no instability yet in more than one dimension, since later steps leave that direction. In one dimension 1 is
the exact boundary in mean square, ``lr = 2 E[h] / E[h²]``. Source: an option in the code of Andreyev & Beneventano
2412.20553, which takes four batches with replacement; the bound is derived here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext

import torch
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from sgdscope import vectors
from sgdscope.batches import Batch, length
from sgdscope.chain.products import Kind
from sgdscope.estimate import Estimate
from sgdscope.hessian import Hessian
from sgdscope.measure.ritz_pairs import mixed_with_noise, ritz_pairs
from sgdscope.measure.sampling import mean_with_error
from sgdscope.risk import Risk
from sgdscope.vectors import Vector

NAME = "second_moment_contraction"


def second_moment_contraction(
    risk: Risk,
    batch_size: int,
    lr: float,
    *,
    kind: Kind = "hessian",
    batches: int = 32,
    tolerance: float = 0.1,
    eigenvalue_tolerance: float = 0.01,
    max_products: int = 40,
    replacement: bool = False,
    generator: torch.Generator | None = None,
) -> Estimate:
    r""":math:`\lambda_{\max}(\mathbb{E}[(I - \eta H_B)^2])` at the risk's present parameters, for η = `lr`.

    Dimensionless; see the module for what it bounds. Networks have directions without curvature, so it hardly falls
    below 1; and negative curvature raises it too, without any step being too large: ``kind="gauss_newton"``, the
    Gauss-Newton matrices of the batches in place of their Hessians, has none. (Digits, b = 8: 1.00 at batch sharpness
    0.52 in edge units, 1.40 at 0.88; with the Hessians 1.24 and 1.40.) `beside` says where the growth comes from:

    - ``curvature_along``: mean of :math:`v^\top H_B v` along the direction v of largest growth. Positive where the
      steps are too large for the curvature; negative where the weights fall away from a saddle.
    - ``held_out_growth``: mean of :math:`\|(I - \eta H_B) v\|^2` over as many further batches.
    - ``contraction_rate``: 1 minus the value, per step; negative for growth.

    The expectation is that over one fixed set of `batches` batches, for which Lanczos iteration finds the eigenvalue
    with a certified `residual`. A finite set is biased: the value lies too high in mean (λ_max is convex), the held-out
    growth too low, so the truth lies between their means; status ``few_samples`` says that they are further apart
    than ``tolerance · value`` (beyond two standard errors of the difference). `standard_error` is that over batches
    along v, of the first order. If a batch is all data, nothing is sampled.

    Cost: two gradient evaluations of a batch per batch of the set and product, with 8 to 25 products; memory: the
    graphs of all batches if together they fit one chunk, else those of one batch (cost then three), and two copies of
    the parameters per product.

    Raises ValueError unless lr > 0, for fewer than 2 batches, a tolerance that is not positive, an unknown kind or a
    batch size that the data cannot give.
    """
    if not (lr > 0 and math.isfinite(lr)):
        raise ValueError(f"expected a learning rate > 0, got {lr}")
    if batches < 2 or max_products < 1:
        raise ValueError(f"expected at least 2 batches and 1 product, got {batches} and {max_products}")
    if not (tolerance > 0 and eigenvalue_tolerance > 0):
        raise ValueError(f"expected tolerances > 0, got {tolerance} and {eigenvalue_tolerance}")
    risk.source.check_batch_size(batch_size, replacement=replacement)
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    exhaustive = batch_size == risk.size and not replacement and not risk.random
    count = 1 if exhaustive else batches
    drawn = [risk.draw(batch_size, generator, replacement=replacement) for _ in range(count)]
    steps = _Steps(risk, drawn, lr, kind)
    try:
        with steps:
            start = mixed_with_noise(steps.gradient(), generator)
            pairs = ritz_pairs(
                steps.mean_square, [start], k=1, keep=1, tolerance=eigenvalue_tolerance, max_products=max_products,
                settle=2,
            )  # fmt: skip
            v = pairs.vectors[0]
            own = steps.along(v)
        if not exhaustive:
            fresh = [risk.draw(batch_size, generator, replacement=replacement) for _ in range(count)]
            with _Steps(risk, fresh, lr, kind, seed=count) as held_out:
                tested = held_out.along(v)
            steps.cost += held_out.cost
        else:
            tested = own
    except (ArithmeticError, LinAlgError) as failure:
        return Estimate.failed(NAME, str(failure), status="diverged", cost=steps.cost)
    value = pairs.values[0]
    _, error = mean_with_error([growth for growth, _ in own])
    growth, growth_error = mean_with_error([growth for growth, _ in tested])
    curvature, curvature_error = mean_with_error([curvature for _, curvature in tested])
    gap = value - growth
    wide = gap - 2 * math.hypot(error, growth_error) > tolerance * value
    reason = ""
    if not pairs.converged:
        reason = f"residual {pairs.residuals[0]:.2g} after {pairs.products} products"
    elif wide:
        reason = (f"{value:.3g} on the {count} batches it was found on, {growth:.3g} on as many others: "
                  "the truth lies between")  # fmt: skip
    return Estimate(
        NAME, value, error, pairs.residuals[0], count=count, cost=steps.cost,
        status="not_converged" if not pairs.converged else "few_samples" if wide else "ok", reason=reason,
        settings={"batch_size": batch_size, "lr": lr, "batches": count, "kind": kind, "mode": risk.mode,
                  "products": pairs.products},
        beside={
            "contraction_rate": Estimate("contraction_rate", 1 - value, error, pairs.residuals[0], count=count),
            "held_out_growth": Estimate("held_out_growth", growth, growth_error, count=count),
            "curvature_along": Estimate("curvature_along", curvature, curvature_error, count=count,
                                        unit="loss / parameter²"),
        },
    )  # fmt: skip


class _Steps:
    """The maps I − lr H_B of a fixed set of batches; their graphs are kept where one chunk would take as much."""

    def __init__(self, risk: Risk, batches: list[Batch], lr: float, kind: Kind, *, seed: int = 0) -> None:
        self.lr = lr
        self.cost = 0.0
        self._hessians = [Hessian(risk, b, seed=seed + i + 1, kind=kind) for i, b in enumerate(batches)]
        self._keep = sum(length(batch) for batch in batches) <= risk.chunk_size
        self._stack = ExitStack()

    def __enter__(self) -> _Steps:
        with ExitStack() as stack:
            for hessian in self._hessians if self._keep else []:
                stack.enter_context(hessian)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.cost = sum(hessian.cost for hessian in self._hessians)

    def _each(self) -> Iterator[Hessian]:
        """One batch after the other."""
        for hessian in self._hessians:
            with nullcontext() if self._keep else hessian:
                yield hessian

    def _stepped(self, hessian: Hessian, v: Vector) -> Vector:
        return vectors.plus(v, hessian.product(v), -self.lr)

    def gradient(self) -> Vector:
        """Sum over the batches."""
        total: Vector = []
        for hessian in self._each():
            gradient = hessian.gradient
            total = vectors.plus(total, gradient) if total else list(gradient)
        return total

    def mean_square(self, vs: list[Vector]) -> list[Vector]:
        """The mean of (I − lr H_B)² v, for each v."""
        totals = [[torch.zeros_like(x) for x in v] for v in vs]
        for hessian in self._each():
            for total, v in zip(totals, vs, strict=True):
                twice = self._stepped(hessian, self._stepped(hessian, v))
                torch._foreach_add_(total, twice, alpha=1 / len(self._hessians))
        return totals

    def along(self, v: Vector) -> list[tuple[float, float]]:
        """Per batch the growth ‖(I − lr H_B) v‖² and the curvature vᵀ H_B v, for v of unit length."""
        found = []
        for hessian in self._each():
            image = hessian.product(v)
            stepped = vectors.plus(v, image, -self.lr)
            found.append((vectors.dot(stepped, stepped), vectors.dot(v, image)))
        if not all(math.isfinite(number) for pair in found for number in pair):
            raise ArithmeticError("the Hessian product is not finite")
        return found
