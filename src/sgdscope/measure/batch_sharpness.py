r"""Batch sharpness: the curvature of a batch's own loss along the batch's own gradient.

.. math:: \mathrm{BS} = \mathbb{E}_B \left[ \frac{g_B^\top H_B\, g_B}{\|g_B\|^2} \right]

Source: Andreyev & Beneventano 2412.20553, Definition 3 / Eq. (3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn

from sgdscope import vectors
from sgdscope.batches import Batch, Sweep, draw_indices
from sgdscope.chain import NotAChainError, check_chain
from sgdscope.chain.curvature import batch_curvatures
from sgdscope.chain.products import Kind
from sgdscope.estimate import Estimate
from sgdscope.hessian import Hessian
from sgdscope.measure import probes
from sgdscope.measure.sampling import mean_with_error, ratio_with_error
from sgdscope.risk import Risk
from sgdscope.self_check import SelfCheck, allowed

Statistic = Literal["expectation_of_ratio", "ratio_of_expectations"]
Method = Literal["auto", "exact", "gradient_difference", "central_difference", "loss_change"]

CURVATURE = "loss / parameter²"
_STATISTICS = ("expectation_of_ratio", "ratio_of_expectations")
_GROUP, _GROUP_CONVOLVED = 4096, 32
"""Samples done in one pass where many batches are done at once; activations of convolutions soon outgrow the caches."""


def batch_sharpness(
    risk: Risk,
    batch_size: int,
    *,
    statistic: Statistic = "expectation_of_ratio",
    kind: Kind = "hessian",
    method: Method = "auto",
    lr: float | None = None,
    tolerance: float = 0.01,
    min_batches: int = 20,
    max_batches: int = 500,
    replacement: bool = False,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Batch sharpness at the risk's present parameters, over freshly drawn batches.

    Units: loss per squared parameter. `value` is the expectation of the ratio, :math:`E[r_B]` with
    :math:`r_B = g_B^\top H_B g_B / \|g_B\|^2` (the paper's definition), or with
    ``statistic="ratio_of_expectations"`` :math:`E[g_B^\top H_B g_B] / E\|g_B\|^2`, which is exactly 2 / lr where the
    batch's own loss does not change in mean over its own step. The other one is in `beside`, and
    ``squared_gradient_norm``, E‖g_B‖², too.

    Drawing stops once the standard error of the statistic asked for is below ``tolerance · value`` (after
    `min_batches`), or at `max_batches`, then with status ``few_samples``. At the edge 1 % needs about 370 batches
    (570 for the ratio of expectations).

    ``kind="gauss_newton"`` puts the Gauss-Newton matrix of the batch in place of its Hessian (``exact`` only): what the
    network's own curvature adds is left out. Near the edge the two agree, to 0.5 % on small networks; early in
    training they do not. The estimate is then named ``gauss_newton_batch_sharpness``.

    Methods: ``exact`` (Gram form on chains of linear layers, else one Hessian product on the gradient's graph);
    without second derivatives ``gradient_difference``, ``central_difference`` and ``loss_change`` (one extra forward
    pass per batch; needs `lr`), with probe sizes by the rules in `probes`. ``auto`` is exact where the model's kernels
    have second derivatives, else the gradient difference; ``settings["method"]`` says which was used.

    Cost in gradient evaluations of `batch_size` samples per batch: measured 0.2 (batches of 8) to 1.8 (of 1000) in Gram
    form on linear layers, 1.5 with convolutions, 2 to 3 by Hessian product. The `cost` stated is no timing: it counts
    multiplications in Gram form, and is 2 otherwise.

    Raises ValueError for a batch size below 1 or above the data's size, an unknown statistic, kind or method, and for
    the Gauss-Newton matrix by a method without second derivatives or of a loss that has none.
    """
    if statistic not in _STATISTICS:
        raise ValueError(f"expected statistic 'expectation_of_ratio' or 'ratio_of_expectations', got {statistic!r}")
    if kind not in ("hessian", "gauss_newton"):
        raise ValueError(f"expected kind 'hessian' or 'gauss_newton', got {kind!r}")
    if kind == "gauss_newton" and method not in ("auto", "exact"):
        raise ValueError(f"expected method 'auto' or 'exact' with kind 'gauss_newton', got {method!r}\n"
                         "hint: differences of losses or gradients see the whole Hessian")  # fmt: skip
    name = "batch_sharpness" if kind == "hessian" else "gauss_newton_batch_sharpness"
    if not tolerance > 0 or max_batches < 1 or min_batches < 1:
        raise ValueError(f"expected tolerance, min_batches and max_batches > 0, got {tolerance}, {min_batches}, "
                         f"{max_batches}")  # fmt: skip
    if lr is not None and not lr > 0:
        raise ValueError(f"expected a learning rate > 0, got {lr}")
    risk.source.check_batch_size(batch_size, replacement=replacement)
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    exhaustive = batch_size == risk.size and not replacement and not risk.random  # all there is: nothing is sampled
    curvatures: list[float] = []
    norms: list[float] = []
    used, vanished, cost = "", 0, 0.0
    limit = 1 if exhaustive else max_batches
    look = min_batches  # the error is looked at each time the count has grown by a twentieth
    for described, part_cost, pairs in draws(risk, batch_size, kind, method, lr, replacement, generator, limit):
        used = described
        cost += part_cost
        for curvature, norm in pairs:
            if not (math.isfinite(curvature) and math.isfinite(norm)):
                return Estimate.failed(name, "the loss or its derivatives are not finite",
                                       status="diverged", cost=cost, unit=CURVATURE)  # fmt: skip
            vanished += norm == 0
            curvatures.append(curvature)
            norms.append(norm)
        if len(norms) - vanished >= look:
            if _relative_error(statistic, curvatures, norms) <= tolerance:
                break
            look = math.ceil(1.05 * len(norms))
    if vanished == len(norms):
        return Estimate.failed(name, f"the gradient of all {vanished} batches is zero", cost=cost, unit=CURVATURE)
    settings = {"batch_size": batch_size, "method": used, "mode": risk.mode, "statistic": statistic}
    if vanished:
        settings["batches_without_gradient"] = vanished
    error = 0.0 if exhaustive else _relative_error(statistic, curvatures, norms)
    alone = len(norms) - vanished < 2 and not exhaustive
    enough = exhaustive or (error <= tolerance and not alone)
    both = _both(curvatures, norms, exhaustive, alone)
    other = next(name for name in both if name != statistic)
    value, standard_error = both[statistic]
    mean, mean_error = mean_with_error(norms)
    return Estimate(
        name, value, standard_error, count=len(norms), cost=cost, unit=CURVATURE, settings=settings,
        status="ok" if enough else "few_samples",
        reason="" if enough else "one batch only" if alone else f"standard error {100 * error:.2g} % after "
        f"{len(norms)} batches, {100 * tolerance:.2g} % was asked for",
        beside={
            other: Estimate(other, *both[other], count=len(norms), unit=CURVATURE),
            "squared_gradient_norm": Estimate("squared_gradient_norm", mean, None if alone else mean_error,
                                              count=len(norms), unit="loss² / parameter²"),
        },
    )  # fmt: skip


def _both(
    curvatures: list[float], norms: list[float], exhaustive: bool, alone: bool
) -> dict[str, tuple[float, float | None]]:
    """Both statistics with their errors: 0 if all there is was measured, None if one draw was."""
    both: dict[str, tuple[float, float | None]] = {s: _statistic(s, curvatures, norms) for s in _STATISTICS}
    if exhaustive or alone:
        both = {name: (value, 0.0 if exhaustive else None) for name, (value, _) in both.items()}
    return both


def _statistic(statistic: str, curvatures: list[float], norms: list[float]) -> tuple[float, float]:
    """Value and standard error; a batch without gradient has no ratio, and adds nothing to either sum."""
    if statistic == "expectation_of_ratio":
        return mean_with_error([c / n for c, n in zip(curvatures, norms, strict=True) if n])
    return ratio_with_error(curvatures, norms)


def _relative_error(statistic: str, curvatures: list[float], norms: list[float]) -> float:
    if len(norms) < 2:
        return math.inf
    value, error = _statistic(statistic, curvatures, norms)
    return error / abs(value) if value else math.inf


def draws(
    risk: Risk, batch_size: int, kind: Kind, method: Method, lr: float | None, replacement: bool,
    generator: torch.Generator, limit: int, sweep: Sweep | None = None,
) -> Iterator[tuple[str, float, list[tuple[float, float]]]]:  # fmt: skip
    """Groups of draws as (method used, cost in batch gradients, pairs of gᵀHg and ‖g‖²).

    Independent draws, or those of `sweep`, which a source that gives whole batches only does not take.
    """
    drawn = 0
    if method in ("auto", "exact") and chain_refusal(risk) == "":
        convolved = any(isinstance(m, nn.Conv2d) for m in risk.model.modules())
        at_once = max(1, min((_GROUP_CONVOLVED if convolved else min(_GROUP, risk.chunk_size)) // batch_size, 64))
        while drawn < limit:
            count = min(at_once, limit - drawn)
            batch = _drawn(risk, batch_size, count, replacement, generator, sweep)
            found = batch_curvatures(risk, batch, batch_size)
            curvatures = found.curvatures if kind == "hessian" else found.gauss_newton
            pairs = list(zip(curvatures.tolist(), found.squared_norms.tolist(), strict=True))
            drawn += count
            yield "exact, Gram form", found.cost, pairs
        return
    probe = probes.Probe(risk, lr)
    while drawn < limit:
        if risk.source.batch_lengths is None:
            batch = _drawn(risk, batch_size, 1, replacement, generator, sweep)
        else:
            batch = risk.draw(batch_size, generator, replacement=replacement)
        drawn += 1
        if method in ("auto", "exact"):
            try:
                pair = exact_curvature(risk, batch, seed=drawn, kind=kind)
            except RuntimeError as error:
                if method == "exact" or kind != "hessian" or not probes.lacks_second_derivative(error):
                    raise
                method = "gradient_difference"  # a fused kernel: say so, and go on without second derivatives
            else:
                yield "exact, Hessian product", 2.0, [pair]
                continue
        pair, cost = probe.curvature(batch, method, seed=drawn)
        yield probes.described(method), cost, [pair]


def exact_curvature(risk: Risk, batch: Batch, *, seed: int = 0, kind: Kind = "hessian") -> tuple[float, float]:
    """gᵀHg and ‖g‖² of one batch by a Hessian product on the gradient's graph. Cost: 2."""
    with Hessian(risk, batch, seed=seed, kind=kind) as hessian:
        gradient = hessian.gradient
        return hessian.curvature(gradient), vectors.dot(gradient, gradient)


def _drawn(
    risk: Risk, batch_size: int, count: int, replacement: bool, generator: torch.Generator, sweep: Sweep | None
) -> Batch:
    """`count` batches one after the other in one."""
    with torch.inference_mode(False):
        if sweep is not None:
            indices = [sweep() for _ in range(count)]
        else:
            indices = [draw_indices(risk.size, batch_size, generator, replacement=replacement) for _ in range(count)]
        return risk.to_device(risk.source.take(torch.cat(indices)))


def chain_refusal(risk: Risk) -> str:
    """Why the Gram form cannot be used on this risk; empty if it can.

    On first use it is compared with the plain way on two small batches; a difference (a loss that is no mean over
    samples, or reaches the parameters past the output) refuses it for good.
    """
    try:
        check_chain(risk)
    except NotAChainError as error:
        return str(error)
    if risk.source.batch_lengths is not None:
        return "batches of different shapes"
    return _gram_check.refusal(risk)


def _difference(risk: Risk) -> str | None:
    """What differs between the Gram form and one Hessian product on two small batches; see `SelfCheck`."""
    size = max(1, min(16, risk.size // 2))
    # spread over the data: sorted by class, the first samples would not show that a loss weighs its classes
    rows = torch.randperm(risk.size, generator=torch.Generator().manual_seed(0))[: 2 * size]
    rows = rows.repeat(2)[: 2 * size]  # a single sample stands for both halves
    with torch.inference_mode(False):
        halves = [risk.to_device(risk.source.take(half)) for half in rows.split(size)]
        both = risk.to_device(risk.source.take(rows))
    found = batch_curvatures(risk, both, size)
    for index, half in enumerate(halves):
        with Hessian(risk, half, method="graph") as hessian:
            gradient, image = hessian.gradient, hessian.product(hessian.gradient)
        norm, curvature, rounding = (vectors.dot(a, b) for a, b in (
            (gradient, gradient), (gradient, image), (image, image)))  # fmt: skip
        fast = (float(found.curvatures[index]), float(found.squared_norms[index]))
        if not all(map(math.isfinite, (norm, curvature, rounding, *fast))) or norm == 0:
            return None
        off = abs(fast[0] - curvature) > allowed(risk) * math.sqrt(norm * rounding)
        if off or abs(fast[1] - norm) > allowed(risk) * norm:
            return f"gᵀHg, ‖g‖² are {curvature:.6g}, {norm:.6g}, the Gram form gives {fast[0]:.6g}, {fast[1]:.6g}"
    return ""


_gram_check = SelfCheck(_difference, NotAChainError)
