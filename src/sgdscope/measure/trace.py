r"""Trace of the Hessian, from single samples' derivatives.

The Gauss-Newton part :math:`\frac1N \sum_i J_i^\top H_i J_i` has the trace :math:`\frac1N \sum_{i,c} \|J_i^\top
s_{ic}\|^2` with :math:`H_i = \sum_c s_{ic} s_{ic}^\top` the Hessian of sample i's loss by the model's output. Each term
is the squared norm of a per-sample gradient, which needs no gradient to be formed (`per_sample`): exactly by one pass
back per output, or without bias by passes with random signs. What the Hessian has besides, the network's own
curvature, is zero for piecewise linear networks and small for others, so that few probe vectors tell its trace.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from sgdscope import vectors
from sgdscope.batches import Batch, length, map_tensors
from sgdscope.estimate import Estimate
from sgdscope.hessian import Hessian
from sgdscope.hessian.refusal import chain_refusal
from sgdscope.measure.sampling import mean_with_error
from sgdscope.per_sample import layers
from sgdscope.per_sample.gram import layers_refusal
from sgdscope.per_sample.sides import NoSidesError, OutputSides, Side
from sgdscope.risk import Risk

Method = Literal["auto", "exact", "signs", "probes"]

CURVATURE = "loss / parameter²"
_LEAST_PROBES = 8
"""Fewer do not tell their own scatter."""
_FEW, _MANY = 64, 4096
"""Samples in one pass, with convolutions and without."""
_MOST_OUTPUTS = 64
"""Outputs per sample up to which the loss Hessian of a sample is formed."""
_STRAIGHT = (
    nn.Linear, nn.Conv2d, nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Flatten, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.Sequential,
)  # fmt: skip
"""A chain of these has no curvature of its own in any one parameter."""


def gauss_newton_trace(
    risk: Risk, *, method: Method = "auto", generator: torch.Generator | None = None, max_probes: int = 100,
    tolerance: float = 0.01,
) -> Estimate:  # fmt: skip
    r"""Trace of the Gauss-Newton matrix over all data.

    Units: loss per squared parameter. ``exact``: one pass back per output (at most 64 per sample), standard error 0;
    ``signs``: two passes with random signs, unbiased, the standard error from their difference; ``auto``: exact up to
    16 outputs, else signs; ``probes``: Hutchinson's estimator on Gauss-Newton products, for models whose
    layers do not allow the others, to a relative standard error of `tolerance` or `max_probes` products. Where a method
    is not possible `auto` falls back to probes, and ``settings["method"]`` says why.

    Cost, measured for 10 outputs: exact 1.2 gradients over all data on an MLP, 6 on a CNN; signs 0.7 and 1.3. The
    `cost` stated counts passes back as a third of a gradient.

    Raises ValueError for an unknown method, one that the model does not allow, or a loss without Gauss-Newton matrix.
    """
    if method not in ("auto", "exact", "signs", "probes"):
        raise ValueError(f"expected method 'auto', 'exact', 'signs' or 'probes', got {method!r}")
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    name, reason = "gauss_newton_trace", ""
    if method != "probes":
        try:
            return _from_samples(risk, method, generator)
        except NoSidesError as error:
            reason = str(error)
            if method != "auto":
                raise ValueError(f"expected a model to be taken layer by layer, got one that cannot: {reason}\n"
                                 "hint: method='probes'") from None  # fmt: skip
    probes, cost = _probed(risk, "gauss_newton", tolerance, max_probes, generator)
    return _of_probes(name, probes, cost, tolerance, {"method": "probes" + (f": {reason}" if reason else "")})


def hessian_trace(
    risk: Risk, *, tolerance: float = 0.01, max_probes: int = 100, generator: torch.Generator | None = None
) -> Estimate:
    r"""Trace of the Hessian over all data.

    Units: loss per squared parameter. The Gauss-Newton trace (`gauss_newton_trace`, in `beside`) plus the trace of the
    rest by Hutchinson's estimator, drawn until the standard error is below `tolerance` times the whole, or `max_probes`
    products; on chains without curvature of their own (ReLU) the rest is zero and not probed. Models whose
    Gauss-Newton trace cannot be had are probed as they are.

    Cost: that of the Gauss-Newton trace, and about one gradient (chains) to four per probe; at least eight probes.
    """
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    name = "hessian_trace"
    try:
        straight = gauss_newton_trace(risk, method="auto", generator=generator)
    except ValueError:
        straight = None
    if straight is None or straight.value is None or str(straight.settings["method"]).startswith("probes"):
        probes, cost = _probed(risk, "hessian", tolerance, max_probes, generator)
        return _of_probes(name, probes, cost, tolerance, {"method": "probes"})
    assert isinstance(straight.value, float)
    error = straight.standard_error
    assert isinstance(error, float)
    beside = {straight.name: straight}
    if chain_refusal(risk) == "" and all(isinstance(m, _STRAIGHT) for m in risk.model.modules()):
        return Estimate(name, straight.value, error, count=risk.size, cost=straight.cost, unit=CURVATURE, beside=beside,
                        settings={"method": "Gauss-Newton, the rest is zero"})  # fmt: skip
    allowed = tolerance * abs(straight.value)
    probes, cost = _probed(risk, "residual", tolerance, max_probes, generator, allowed=allowed)
    rest, rest_error = mean_with_error(probes)
    both = math.hypot(error, rest_error)
    enough = both <= tolerance * abs(straight.value + rest)
    return Estimate(
        name, straight.value + rest, both, count=len(probes), cost=straight.cost + cost, unit=CURVATURE, beside=beside,
        settings={"method": "Gauss-Newton, the rest by probes"}, status="ok" if enough else "few_samples",
        reason="" if enough else f"standard error {both:.2g} after {len(probes)} probes",
    )  # fmt: skip


def _from_samples(risk: Risk, method: Method, generator: torch.Generator) -> Estimate:
    """Exact, or with random signs, over all data in chunks."""
    # The same layers, compared once with plain gradients of single samples
    if reason := layers_refusal(risk) or risk.mixing:
        raise NoSidesError(reason)
    by_hand = chain_refusal(risk) == ""
    convolved = any(isinstance(m, nn.Conv2d) for m in risk.model.modules())
    total, noise, passes, outputs = 0.0, 0.0, 0.0, 0
    exact = False
    with risk.evaluating(second_order=True) as leaves:
        for few in (part for chunk in risk.chunks() for part in _parts(chunk, _FEW if convolved else _MANY)):
            part = OutputSides(risk, few, leaves, by_hand=by_hand)
            count = length(few)
            outputs = part.output[0].numel()
            if outputs > _MOST_OUTPUTS and method == "exact":
                raise NoSidesError(f"{outputs} outputs per sample, at most {_MOST_OUTPUTS} can be taken one by one")
            exact = method == "exact" or (method == "auto" and outputs <= 16)
            values = _norms(part, count, exact, generator).double()
            if not exact:  # a second shot halves the variance, and tells it
                again = _norms(part, count, exact, generator).double()
                values, halves = (values + again) / 2, (values - again) / 2
                noise += float(halves.square().sum())
            total += float(values.sum())
            passes += count * (1 + (outputs if exact else 2)) / 3
    name, settings = "gauss_newton_trace", {"method": "exact" if exact else "signs", "outputs": outputs}
    if not math.isfinite(total):
        return Estimate.failed(name, "the loss or its derivatives are not finite", status="diverged", unit=CURVATURE)
    error = 0.0 if exact else math.sqrt(noise) / risk.size
    return Estimate(name, total / risk.size, error, count=risk.size, cost=passes / risk.size, unit=CURVATURE,
                    settings=settings)  # fmt: skip


def _parts(chunk: Batch, size: int) -> Iterator[Batch]:
    """A chunk in parts of about so many samples: each sample stands alone here, and the caches hold few of them."""
    for start in range(0, length(chunk), size):
        yield map_tensors(lambda t: t[start : start + size] if t.ndim else t, chunk)  # noqa: B023 (used at once)


def _norms(part: OutputSides, count: int, exact: bool, generator: torch.Generator) -> Tensor:
    """For each sample ``Σ_c ‖Jᵀ s_c‖²``, or the squared norm of one random combination of the s_c."""
    output = part.output
    outputs = output[0].numel()
    if outputs > _MOST_OUTPUTS:  # E[(Jᵀ u) · (Jᵀ H u)] over signs u is the same trace
        u = _signs(output, generator)
        one, other = part.sides(u), part.sides(part.loss_hessian(u) * count)
        return _sum([layers.products(a.layer, a.input, a.slope, b.slope) for a, b in zip(one, other, strict=True)])
    factors, signs = _factors(part, count)
    if exact:
        passes = [_squared(part.sides(factors[:, :, c].reshape(output.shape))) * signs[:, c] for c in range(outputs)]
        return _sum(passes)
    if bool((signs < 0).any()):  # a loss that is not convex in the output: the two parts apart
        halves = [factors * (signs == sign)[:, None] for sign in (1, -1)]
        up, down = (_squared(part.sides(_mixed(half, output, generator))) for half in halves)
        return up - down
    return _squared(part.sides(_mixed(factors, output, generator)))


def _factors(part: OutputSides, count: int) -> tuple[Tensor, Tensor]:
    """``s_ic`` of shape ``(n, outputs, c)`` and the sign of each, with ``H_i = Σ_c sign s sᵀ``."""
    output = part.output
    columns = []
    for c in range(output[0].numel()):
        unit = torch.zeros_like(output)
        unit.view(count, -1)[:, c] = 1
        columns.append(part.loss_hessian(unit).reshape(count, -1) * count)  # of each sample's own loss
    matrices = torch.stack(columns, 2)
    values, axes = torch.linalg.eigh(matrices.double())
    rounding = 1e-12 * values.abs().amax(1, keepdim=True)
    signs = torch.where(values < -rounding, -1.0, 1.0).to(output)
    return (axes * values.abs().sqrt()[:, None]).to(output), signs


def _mixed(factors: Tensor, output: Tensor, generator: torch.Generator) -> Tensor:
    """``Σ_c ± s_c`` with random signs for each sample."""
    return (factors * _signs(factors[:, :1], generator)).sum(2).reshape(output.shape)


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(2, like.shape, generator=generator, device=generator.device)
    return drawn.to(like).mul_(2).sub_(1)


def _squared(sides: list[Side]) -> Tensor:
    with torch.no_grad():
        return _sum([layers.squared_norms(side.layer, side.input, side.slope) for side in sides])


def _sum(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(0)


def _probed(
    risk: Risk, kind: Literal["hessian", "gauss_newton", "residual"], tolerance: float, most: int,
    generator: torch.Generator, *, allowed: float | None = None,
) -> tuple[list[float], float]:  # fmt: skip
    """``zᵀ M z`` for random signs z, until the standard error is small enough; and the cost."""
    values: list[float] = []
    like = [p.detach() for p in risk.parameters]
    with Hessian(risk, kind=kind) as hessian:
        while len(values) < most:
            z = [_signs(p, generator) for p in like]
            values.append(vectors.dot(z, hessian.product(z)))
            if not math.isfinite(values[-1]):
                break
            mean, error = mean_with_error(values)
            if len(values) >= _LEAST_PROBES and error <= (allowed if allowed is not None else tolerance * abs(mean)):
                break
        return values, hessian.cost


def _of_probes(name: str, values: list[float], cost: float, tolerance: float, settings: dict[str, str]) -> Estimate:
    if not all(map(math.isfinite, values)):
        return Estimate.failed(name, "the loss or its derivatives are not finite", status="diverged", cost=cost,
                               unit=CURVATURE)  # fmt: skip
    mean, error = mean_with_error(values)
    enough = error <= tolerance * abs(mean)
    return Estimate(
        name, mean, error, count=len(values), cost=cost, unit=CURVATURE, settings=settings,
        status="ok" if enough else "few_samples",
        reason="" if enough else f"standard error {error:.2g} after {len(values)} probes, {tolerance * abs(mean):.2g} "
        "was asked for",
    )  # fmt: skip
