r"""Noise covariance against the Hessian: is the noise of SGD shaped like the curvature?

With :math:`v_j, \lambda_j` the leading eigenpairs of the Hessian and Σ the covariance of the per-sample gradient (b
times that of a batch of b drawn with replacement), the elements :math:`\Sigma_{jk} = v_j^\top \Sigma v_k` are compared
with those of the Hessian, :math:`\lambda_j \delta_{jk}`. For a well specified log-likelihood Σ = H at the optimum; for
½ (f − y)² Σ is the mean squared residual times H, 2 L H for one output; high correlation is no evidence for slope one.
Source: Xie, Sato & Sugiyama 2002.03495 (noise covariance ∝ Hessian), with the cautions of its replications.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from sgdscope.batches import Batch, length, map_tensors
from sgdscope.estimate import Estimate
from sgdscope.measure.gradient_noise import SQUARED_SLOPE, gradient_noise
from sgdscope.measure.leading_eigenvalues import leading_eigenpairs
from sgdscope.per_sample import directional_derivatives
from sgdscope.risk import Risk
from sgdscope.vectors import Vector

Kind = Literal["hessian", "gauss_newton"]

_GROUPS = 32
"""Groups of samples that the jackknife leaves out in turn, and whose mean losses are compared."""


def noise_covariance(
    risk: Risk,
    k: int = 10,
    *,
    samples: int = 1024,
    kind: Kind = "hessian",
    tolerance: float = 0.02,
    generator: torch.Generator | None = None,
    eigenpairs: tuple[Estimate, list[Vector]] | None = None,
) -> Estimate:
    r"""Variance of the per-sample gradient along the `k` leading eigenvectors of the Hessian, against the eigenvalues.

    `value`: the variances :math:`\Sigma_{jj}`, in loss² / parameter², by descending eigenvalue, with standard errors
    as estimates of those over all data, for these eigenvectors (jackknife over samples, times
    :math:`\sqrt{1 - n/N}` for n of N: 0 where all were taken). In `beside`:

    - ``eigenvalues``: :math:`\lambda_j` with residuals;
    - ``slope``: of the elements of Σ on those of H through the origin, :math:`\sum_j \Sigma_{jj} \lambda_j / \sum_j
      \lambda_j^2`, in units of the loss: 1 where Σ = H;
    - ``correlation``: of the variances with the eigenvalues (k ≥ 3);
    - ``cosine``: of the two k × k matrices, off-diagonal elements of Σ included, :math:`\langle\Sigma, H\rangle /
      \|\Sigma\| \|H\|`: 1 where one is a multiple of the other;
    - ``trace_ratio``: the mean of :math:`\Sigma_{jj} / \lambda_j` over positive eigenvalues, tr(Σ H⁻¹) / k;
    - ``exponent``: of :math:`\Sigma_{jj} \propto \lambda_j^p`, by least squares in logarithms (k ≥ 3): 0 is noise that
      does not know the curvature, 1 noise proportional to it;
    - ``alignment``: share of tr Σ along these eigenvectors;
    - ``loss``: mean over the samples, to tell Σ ∝ loss × H from Σ ∝ H at several points of a run.

    ``settings["supported"]`` is the noise model that the exponent supports within two standard errors: ``"constant"``,
    ``"proportional to the Hessian"``, ``"neither"`` or ``"undecided"``.

    Cost: the eigenpairs, one gradient of the samples, and two thirds (chains) to two of them per eigenvector.
    `eigenpairs` already known are taken as they are.

    Raises ValueError for k not in 1 … number of parameters, fewer than 8 samples, a model whose output is not one
    tensor with the samples first, or a loss that mixes samples.
    """
    if samples < 8:
        raise ValueError(f"expected at least 8 samples, got {samples}")
    if risk.batch_dependent:
        raise ValueError(f"expected a loss in which each sample stands alone, got {risk.mixing}\n"
                         "hint: Risk(..., mode='eval') for BatchNorm")  # fmt: skip
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    name = "noise_covariance"
    pairs, vectors = eigenpairs if eigenpairs is not None else leading_eigenpairs(
        risk, min(k, risk.parameter_count), tolerance=tolerance, generator=generator, kind=kind)  # fmt: skip
    if not isinstance(pairs.value, tuple):
        return Estimate.failed(name, f"no eigenpairs: {pairs.reason}", status=pairs.status, cost=pairs.cost)
    samples = min(samples, risk.size)
    noise = gradient_noise(risk, samples=samples if samples <= 256 else 256, exact_gradient=False, generator=generator)
    cost = pairs.cost + noise.cost
    batch = risk.draw(samples, generator)
    count = length(batch)
    left = 1.0 if risk.random else 1 - count / risk.size  # of a variance, drawing without replacement
    loss, loss_error = _mean_loss(risk, batch)
    slopes = directional_derivatives(risk, batch, vectors).double().cpu()
    cost += (1 / 3 + len(vectors)) * count / risk.size
    if not bool(torch.isfinite(slopes).all()) or not math.isfinite(loss_error) or noise.value is None:
        return Estimate.failed(name, "the loss or its derivatives are not finite", status="diverged", cost=cost)
    eigenvalues = torch.tensor(pairs.value, dtype=torch.float64)
    leave_out = _leaving_out(slopes)

    def with_error(statistic: Callable[[Tensor], float]) -> tuple[float, float]:
        """Of a statistic of the (k, n) slopes."""
        spread = _spread([statistic(rest) for rest in leave_out]) if left > 0 else 0.0
        return statistic(slopes), math.sqrt(left) * spread

    variances = [with_error(lambda x, j=j: float(x[j].var())) for j in range(len(slopes))]  # type: ignore[misc]
    found: dict[str, Estimate] = {
        "eigenvalues": pairs,
        "loss": Estimate("loss", loss, math.sqrt(left) * loss_error, count=count, unit="loss"),
    }  # fmt: skip

    def add(what: str, statistic: Callable[[Tensor], float], unit: str = "") -> None:
        value, error = with_error(statistic)
        found[what] = Estimate(what, value, error, count=count, unit=unit)

    add("slope", lambda x: _slope(_covariance(x), eigenvalues), "loss")
    add("cosine", lambda x: _cosine(_covariance(x), eigenvalues))
    if len(slopes) >= 3:
        add("correlation", lambda x: _correlation(x.var(1), eigenvalues))
    positive = eigenvalues > 0
    if bool(positive.any()):
        add("trace_ratio", lambda x: float((x[positive].var(1) / eigenvalues[positive]).mean()), "loss")
    enough = int(positive.sum()) >= 3 and bool((slopes[positive].var(1) > 0).all())
    supported = "undecided"
    if enough and float(eigenvalues[positive].log().var()) > 1e-6:
        exponent, sampling = with_error(lambda x: _exponent(x, eigenvalues, positive)[0])
        error = math.hypot(sampling, _exponent(slopes, eigenvalues, positive)[1])
        found["exponent"] = Estimate("exponent", exponent, error, count=count)
        supported = _supported(exponent, error)
    total, total_error = noise.value, noise.standard_error
    assert isinstance(total, float)
    assert isinstance(total_error, float)
    if total > 0:
        share, error = with_error(lambda x: float(x.var(1).sum()) / total)
        error = math.hypot(error, share * total_error / total)  # the total is of other samples, often fewer
        found["alignment"] = Estimate("alignment", share, error, count=count)
    return Estimate(
        name, tuple(v for v, _ in variances), tuple(e for _, e in variances), count=count, cost=cost,
        unit=SQUARED_SLOPE, beside=found, status=pairs.status, reason=pairs.reason,
        settings={"samples": count, "mode": risk.mode, "kind": kind, "supported": supported, "noise": noise.value},
    )  # fmt: skip


def _mean_loss(risk: Risk, batch: Batch) -> tuple[float, float]:
    """Mean loss of a batch of independent samples, and its standard error from the means of groups of them."""
    count = length(batch)
    means, weights = [], []
    for index, group in enumerate(torch.arange(count).tensor_split(min(_GROUPS, count))):
        first, past = int(group[0]), int(group[-1]) + 1
        part = map_tensors(lambda t: t[first:past] if t.ndim else t, batch)  # noqa: B023 (used at once)
        means.append(risk.value(part, seed=index))
        weights.append(len(group) / count)
    m, w = torch.tensor([means, weights], dtype=torch.float64)
    mean = (w * m).sum()
    return float(mean), float(((w * (m - mean).square()).sum() / (len(means) - 1)).sqrt())


def _covariance(slopes: Tensor) -> Tensor:
    return torch.cov(slopes).reshape(len(slopes), len(slopes))


def _slope(covariance: Tensor, eigenvalues: Tensor) -> float:
    return float((covariance.diagonal() * eigenvalues).sum() / eigenvalues.square().sum())


def _cosine(covariance: Tensor, eigenvalues: Tensor) -> float:
    product = float((covariance.diagonal() * eigenvalues).sum())
    return product / max(float(covariance.norm() * eigenvalues.norm()), 1e-300)


def _correlation(variances: Tensor, eigenvalues: Tensor) -> float:
    both = torch.stack([variances, eigenvalues])
    spread = both.std(1)
    return float(torch.corrcoef(both)[0, 1].clamp(-1, 1)) if float(spread.min()) > 0 else 0.0


def _exponent(slopes: Tensor, eigenvalues: Tensor, positive: Tensor) -> tuple[float, float]:
    """The p of Σ_jj ∝ λ_j^p, and its error from the scatter of the directions around the line."""
    x = eigenvalues[positive].log()
    x = x - x.mean()
    y = slopes[positive].var(1).log()
    p = float((x * y).sum() / x.square().sum())
    rest = y - y.mean() - p * x
    return p, math.sqrt(float(rest.square().sum()) / max(len(x) - 2, 1) / float(x.square().sum()))


def _supported(exponent: float, error: float) -> str:
    """The noise model within two standard errors, if they are small enough to tell the two apart."""
    if 2 * error >= 0.5:
        return "undecided"
    models = {"constant": 0.0, "proportional to the Hessian": 1.0}
    near = [name for name, p in models.items() if abs(exponent - p) <= 2 * error]
    return near[0] if near else "neither"


def _leaving_out(slopes: Tensor) -> list[Tensor]:
    parts = slopes.tensor_split(min(_GROUPS, slopes.shape[1]), dim=1)
    return [torch.cat([p for i, p in enumerate(parts) if i != out], 1) for out in range(len(parts))]


def _spread(values: list[float]) -> float:
    """Jackknife standard error from the values with one group left out each."""
    mean, count = math.fsum(values) / len(values), len(values)
    return math.sqrt((count - 1) / count * math.fsum((v - mean) ** 2 for v in values))
