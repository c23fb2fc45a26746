r"""What if: where a change of learning rate or batch size would put the run, before it is made.

Batch sharpness depends on the batch size at fixed weights, so a change is predicted by measuring it *at the new batch
size* on the present weights and holding it against the new threshold. Source: first-order statement of the authors'
blog to Andreyev & Beneventano 2412.20553 (raising lr or lowering the batch size puts the run above its edge at once).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sgdscope.edge_map import NAME, EdgeMap
from sgdscope.edge_map import SPIKE as SPIKE
from sgdscope.estimate import Estimate
from sgdscope.measure import batch_sharpness, batch_sharpness_curve, leading_eigenvalues
from sgdscope.risk import Risk
from sgdscope.theory import stability
from sgdscope.theory.prediction import Prediction

_REACH = 3
"""Doublings of the batch size that a map reaches to each side."""


def predict_change(
    risk: Risk, *, lr: float, batch_size: int, momentum: float = 0.0, nesterov: bool = False, change: str = "",
    tolerance: float = 0.02, max_batches: int = 256, replacement: bool = False,
    generator: torch.Generator | None = None,
) -> Estimate:  # fmt: skip
    """Position in edge units right after changing to `lr` and `batch_size` at the present weights.

    Above 1.2 expect a spike of the loss or divergence; below 1 none. It says nothing of what follows: batch sharpness
    then drifts back to the new threshold. With all data in one batch it is λ_max that is held against the threshold
    of full-batch descent. Cost: that of `measure.batch_sharpness` at the new batch size, or of
    `measure.leading_eigenvalues`. Raises ValueError for lr ≤ 0 or a batch size that the data cannot give.
    """
    full_batch = batch_size == risk.size and not replacement
    threshold = stability.threshold(lr, momentum, nesterov=nesterov, full_batch=full_batch)
    change = change or f"lr {lr:g}, batch size {batch_size}"
    if full_batch:
        measured = leading_eigenvalues(risk, tolerance=tolerance, generator=generator)
        return _position(measured, threshold, change, lr, batch_size)
    measured = batch_sharpness(
        risk, batch_size, lr=lr, tolerance=tolerance, max_batches=max_batches, replacement=replacement,
        generator=generator,
    )  # fmt: skip
    return _position(measured, threshold, change, lr, batch_size)


def usual_changes(
    risk: Risk, optimizer: Mapping[str, Any], *, lr: float, batch_size: int, known: Estimate | None = None,
    replacement: bool = False, seed: int = 0,
) -> list[Estimate]:  # fmt: skip
    """Doubling the learning rate, and halving the batch. Empty where no theory names a threshold.

    `optimizer` is its description as in the manifest: ``method`` and ``momentum``. `known` is batch sharpness at the
    present batch size and weights, if it was just measured: doubling the learning rate then costs nothing.
    """
    if optimizer.get("method") not in ("sgd", "momentum", "nesterov") or lr <= 0:
        return []
    momentum = float(optimizer.get("momentum", 0.0))
    nesterov = optimizer["method"] == "nesterov"
    doubled = "double the learning rate"
    if known is not None and (batch_size < risk.size or replacement):  # full batch: another quantity decides
        found = [_position(known, stability.threshold(2 * lr, momentum), doubled, 2 * lr, batch_size)]
    else:
        found = [predict_change(
            risk, lr=2 * lr, batch_size=batch_size, momentum=momentum, nesterov=nesterov, change=doubled,
            replacement=replacement,
            generator=torch.Generator().manual_seed(seed),
        )]  # fmt: skip
    if batch_size > 1:
        found.append(predict_change(
            risk, lr=lr, batch_size=batch_size // 2, momentum=momentum, change="halve the batch",
            replacement=replacement, max_batches=128, generator=torch.Generator().manual_seed(seed),
        ))  # fmt: skip
    return found


def edge_map(
    risk: Risk, *, lr: float, batch_size: int, momentum: float = 0.0, nesterov: bool = False, tolerance: float = 0.03,
    max_cost: float = 60.0, known: Estimate | None = None, replacement: bool = False,
    generator: torch.Generator | None = None,
) -> EdgeMap:  # fmt: skip
    """The learning rate at the edge from an eighth to eight times the batch size, at the present weights.

    It is the threshold of `theory.stability` over batch sharpness at each batch size (2 / batch sharpness for SGD), in
    parameter² / loss, with standard errors of `tolerance` at most. The map's `estimate` is its row for the records;
    `EdgeMap.of` reads it back together with the way of the run. What holds of `predict_change` holds of every point.
    With momentum the threshold is that of small batches, which is too low at large ones. `known` is batch sharpness at
    `batch_size` if it was just measured on the same weights.

    Cost: at most `max_cost` gradient evaluations of the largest batch; see `measure.batch_sharpness_curve`. Where the
    map has no meaning the estimate has no value, but a reason: a batch of all data (λ_max decides there), curvature
    along the gradient that is not positive. Raises ValueError for lr ≤ 0, momentum out of range or a batch size that
    the data cannot give.
    """
    threshold = stability.threshold(lr, momentum, nesterov=nesterov)
    risk.source.check_batch_size(batch_size, replacement=replacement)
    settings: dict[str, Any] = {
        "lr": lr, "batch_size": batch_size, "threshold": threshold.formula, "threshold_times_lr": threshold.value * lr,
        "scope": threshold.scope,
    }  # fmt: skip
    most = max(risk.size, batch_size) if replacement else risk.size - 1
    if batch_size > most:
        reason = "a batch of all data: λ_max decides there, and batch sharpness says nothing"
        return EdgeMap(Estimate.failed(NAME, reason, settings=settings))
    wanted = {round(batch_size * 2.0**k) for k in range(-_REACH, _REACH + 1)}
    sizes = [size for size in sorted(wanted) if 1 <= size <= most]
    if risk.source.batch_lengths is not None:  # whole batches only
        sizes = sorted({size for size in risk.source.batch_lengths if sizes[0] <= size <= sizes[-1]})
    curve = batch_sharpness_curve(
        risk, sizes, tolerance=tolerance, max_cost=max_cost, known=known, lr=lr, replacement=replacement,
        generator=generator,
    )  # fmt: skip
    settings |= curve.settings
    if curve.value is None:
        return EdgeMap(Estimate.failed(NAME, curve.reason, status=curve.status, cost=curve.cost, settings=settings))
    assert isinstance(curve.value, tuple)
    assert isinstance(curve.standard_error, tuple)
    if min(curve.value) <= 0:
        flat = sizes[curve.value.index(min(curve.value))]
        reason = f"batch sharpness is not positive at batch size {flat}: no learning rate is the edge there"
        return EdgeMap(Estimate.failed(NAME, reason, cost=curve.cost, settings=settings))
    edges = tuple(threshold.value * lr / value for value in curve.value)
    errors = tuple(
        edge * error / value for edge, error, value in zip(edges, curve.standard_error, curve.value, strict=True)
    )
    return EdgeMap(Estimate(
        NAME, edges, errors, count=curve.count, cost=curve.cost, status=curve.status, reason=curve.reason,
        unit="parameter² / loss", settings=settings, beside={curve.name: curve},
    ))  # fmt: skip


def _position(measured: Estimate, threshold: Prediction, change: str, lr: float, batch_size: int) -> Estimate:
    settings = {"change": change, "lr": lr, "batch_size": batch_size}
    if measured.value is None:
        return Estimate.failed("predicted_edge", measured.reason, status=measured.status, settings=settings)
    position = measured.scaled(1 / threshold.value)
    residual = position.residual[0] if isinstance(position.residual, tuple) else position.residual
    return Estimate(
        "predicted_edge", float(position), position.standard_error, residual, count=position.count, cost=position.cost,
        status=position.status, reason=position.reason, settings=settings,
    )  # fmt: skip
