r"""Spectrum: the leading eigenvalues of the Hessian, where in the network they live, and what lies below them."""

from __future__ import annotations

import math

import torch

from sgdscope.estimate import Estimate
from sgdscope.measure.eigenvector_error import angle_sines, participation
from sgdscope.measure.leading_eigenvalues import leading_eigenpairs
from sgdscope.measure.spectral_density import spectral_density
from sgdscope.risk import Risk
from sgdscope.vectors import Vector


def spectrum(
    risk: Risk,
    k: int = 5,
    *,
    tolerance: float = 0.02,
    density_steps: int = 30,
    density_probes: int = 2,
    generator: torch.Generator | None = None,
    eigenpairs: tuple[Estimate, list[Vector]] | None = None,
) -> Estimate:
    r"""Leading `k` eigenvalues of the Hessian over all data, with the rest of the spectrum in outline.

    `value` and `residual` as in `leading_eigenvalues`. In `beside`:

    - ``log_determinant``: of the leading block, :math:`\sum_j \log \lambda_j` over its positive eigenvalues, with the
      residuals carried through;
    - ``participation``: for each eigenvector 1 / Σ_l p_l² over the shares p_l of its squared length in each parameter
      tensor: over how many tensors it is spread. ``settings["shares"]`` holds the p_l, named in
      ``settings["parameters"]``, ``settings["angle_sines"]`` the sine of the angle by which each eigenvector may be
      off (`eigenvector_error.angle_sines`; each p_l is off by that at most), None where neighbours are too near for
      the residuals or, for the last, nothing is known of the gap below it. The residual follows from it; without such
      a bound it is the whole range, 1 to the number of tensors, and the status ``not_converged``. A smaller
      `tolerance` or a larger `k` helps;
    - from Lanczos quadrature (`spectral_density`; left out with ``density_probes=0``): ``hessian_trace``,
      ``frobenius_norm``, ``negative_share`` of the eigenvalues, and ``smallest_eigenvalue``, an upper bound of it whose
      residual is the resolution. ``settings["density"]`` holds nodes and weights, for a picture.

    Units: loss per squared parameter. Cost: the eigenpairs, and ``density_steps · density_probes`` gradients.
    """
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    count = risk.parameter_count
    pairs, axes = eigenpairs if eigenpairs is not None else leading_eigenpairs(
        risk, min(k, count), tolerance=tolerance, generator=generator)  # fmt: skip
    if not isinstance(pairs.value, tuple) or not isinstance(pairs.residual, tuple):
        return Estimate.failed("spectrum", f"no eigenpairs: {pairs.reason}", status=pairs.status, cost=pairs.cost)
    shares = [[float(x.square().sum()) for x in v] for v in axes]
    sines = angle_sines(pairs.value, pairs.residual, complete=len(pairs.value) == count)
    beside = {"participation": _participation(shares, sines)}
    positive = [(x, r) for x, r in zip(pairs.value, pairs.residual, strict=True) if x > 0]
    if positive:
        beside["log_determinant"] = Estimate(
            "log_determinant", math.fsum(math.log(x) for x, _ in positive),
            residual=math.sqrt(math.fsum((r / x) ** 2 for x, r in positive)), count=len(positive),
        )  # fmt: skip
    settings = {**pairs.settings, "parameters": risk.names, "shares": shares, "angle_sines": sines}
    cost = pairs.cost
    if density_probes > 0:
        density = spectral_density(risk, steps=density_steps, probes=density_probes, generator=generator)
        square = density.squared_norm
        assert isinstance(square.value, float)
        norm = math.sqrt(square.value)
        error = None if square.standard_error is None else _float(square.standard_error) / (2 * norm) if norm else 0.0
        beside |= {
            "hessian_trace": density.trace,
            "frobenius_norm": Estimate("frobenius_norm", norm, error, count=square.count, unit=pairs.unit),
            "negative_share": density.negative,
            "smallest_eigenvalue": Estimate("smallest_eigenvalue", density.smallest, residual=density.resolution,
                                            count=density_probes, unit=pairs.unit),
        }  # fmt: skip
        settings["density"] = {"nodes": density.nodes, "weights": density.weights, "resolution": density.resolution}
        cost += density.cost
    return Estimate("spectrum", pairs.value, residual=pairs.residual, cost=cost, unit=pairs.unit, status=pairs.status,
                    reason=pairs.reason, settings=settings, beside=beside)  # fmt: skip


def _participation(shares: list[list[float]], sines: list[float | None]) -> Estimate:
    found = [participation(each, sine) for each, sine in zip(shares, sines, strict=True)]
    unknown = [str(j + 1) for j, sine in enumerate(sines) if sine is None and len(shares[j]) > 1]
    reason = (f"no bound for eigenvector {', '.join(unknown)}: a neighbour is nearer than the residuals can tell, or "
              "nothing is known of the gap below the last") if unknown else ""  # fmt: skip
    return Estimate("participation", tuple(n for n, _ in found), residual=tuple(r for _, r in found),
                    status="not_converged" if unknown else "ok", reason=reason)  # fmt: skip


def _float(value: object) -> float:
    assert isinstance(value, float)
    return value
