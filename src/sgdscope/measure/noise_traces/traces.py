r"""Noise traces: what minibatch noise does to a charge is the difference of two traces of variance.

With Σ the covariance of the gradients of single samples over the data and :math:`C = \theta^\top A \theta` the charge
of a rescaling u → λu, w → w/λ, its mean rate of change is T Tr[AΣ] = T (Tr Cov[∇_u ℓ] − Tr Cov[∇_w ℓ]), T = lr / batch
size. Source: Ziyin, Li & Ueda 2308.06671, Theorem 3.1 (in the form of Eq. 30); Ziyin, Wang, Li & Wu 2402.07193.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sgdscope.measure.noise_traces.gather import Gathered, gather, gather_batches
from sgdscope.measure.noise_traces.share import Share, by_name, shares_of, squared_norms
from sgdscope.measure.noise_traces.sums import Sums
from sgdscope.measure.symmetries.find import symmetries
from sgdscope.measure.symmetries.symmetry import Symmetry
from sgdscope.risk import Risk


class Totals(NamedTuple):
    """All units of a symmetry together."""

    noise_u: float
    noise_w: float
    mean_gradient_charge: float


@dataclass(frozen=True, eq=False)
class NoiseTraces:
    """Noise on both sides of one symmetry. Tensors have shape ``(units,)``, in float64 on the CPU.

    Attributes:
        symmetry: the symmetry; u is the side with positive powers, w that with negative ones.
        charge: θᵀAθ = ‖u‖² − ‖w‖².
        squared_norm_u: Σ |power| θ² on the side of u; ‖u‖² for powers ±1.
        squared_norm_w: the same of w.
        noise_u: trace of the covariance of per-sample gradients by u over the data (divided by their number, not by
            one less), Σ |power| Var(g); an unbiased estimate. loss² / parameter².
        noise_w: the same of w.
        mean_gradient_charge: ∇Lᵀ A ∇L = ‖∇_u L‖² − ‖∇_w L‖², unbiased, so that either sign may be noise.
        total: the last three summed over units.
        replicates: totals with one block of samples left out each: a jackknife, from which `error` has the errors of
            anything derived. Empty if these samples are all data: then there is no sampling error.
        fraction: share of the data taken; 0 where samples are without end (batches, dropout).
        samples: how many were taken.
        unit: samples in each gradient: 1, or those of a batch where samples have no gradients of their own. Noise is
            then the covariance of batch gradients times their size, and the mean is that over such batches.
        method: how gradients were had.
        cost: gradients over all data, of all symmetries together.
    """

    symmetry: Symmetry
    charge: Tensor
    squared_norm_u: Tensor
    squared_norm_w: Tensor
    noise_u: Tensor
    noise_w: Tensor
    mean_gradient_charge: Tensor
    total: Totals
    replicates: tuple[Totals, ...]
    fraction: float
    samples: int
    unit: int
    method: str
    cost: float

    def error(self, statistic: Callable[[Totals], float]) -> float:
        """Standard error of a function of the totals, from the jackknife; 0 where all data were taken."""
        count = len(self.replicates)
        if not count:
            return 0.0
        values = [statistic(replicate) for replicate in self.replicates]
        mean = math.fsum(values) / count
        spread = (count - 1) / count * math.fsum((v - mean) ** 2 for v in values)
        return math.sqrt(spread * (1 - self.fraction))


def noise_traces(
    risk: Risk,
    found: Iterable[Symmetry] | None = None,
    *,
    samples: int = 256,
    batch_size: int | None = None,
    replacement: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[NoiseTraces, ...]:
    """Traces of the covariance of per-sample gradients on both sides of every symmetry that holds, unit by unit.

    Args:
        risk: the loss as the mean over its samples.
        found: from `symmetries`; looked for if None.
        samples: drawn without replacement; all data where there are fewer. Then nothing is sampled.
        batch_size: of the gradients that stand in for those of samples where these have none of their own (BatchNorm
            in train mode, contrastive losses): `samples` / `batch_size` batches are drawn. Not used otherwise.
        replacement: whether those batches are drawn with replacement.
        generator: of the samples.

    Cost: 1.4 to 2 gradients of the samples where layers are known (linear, convolutional, norms, embeddings), measured;
    on other models the gradient of every single sample, counted as such. Memory: a copy of the parameters; of those
    whose gradients are formed (all but linear layers, and all where the samples do not fit one chunk or layers are not
    known) up to 16 more for the errors, fewer where they would not fit `Risk.memory`, none where all data are taken.

    Raises ValueError for fewer than 4 samples, data that come in batches, symmetries of another model, and a loss that
    mixes samples without a `batch_size` that gives at least 4 batches; FloatingPointError if gradients are not finite.
    """
    if risk.source.batch_lengths is not None:
        raise ValueError("expected data that can be drawn sample by sample, got a list of batches\n"
                         "hint: give the risk tensors or a dataset")  # fmt: skip
    if min(samples, risk.size) < 4:
        raise ValueError(f"expected at least 4 samples, got {min(samples, risk.size)}")
    held = [s for s in (symmetries(risk) if found is None else found) if s.holds]
    parameters = dict(zip(risk.names, risk.parameters, strict=True))
    unknown = [part.name for symmetry in held for part in symmetry.parts if part.name not in parameters]
    if unknown:
        raise ValueError(f"expected symmetries of this risk's model, got one of {unknown[0]}, which it does not train")
    if not held:
        return ()
    shares = [shares_of(symmetry, parameters) for symmetry in held]
    asked = by_name(share for of_one in shares for share in of_one)
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    if risk.batch_dependent:
        size = _checked(risk, samples, batch_size)
        gathered = gather_batches(risk, asked, samples // size, size, replacement, generator)
    else:
        gathered = gather(risk, asked, min(samples, risk.size), generator)
    if not gathered.finite:
        raise FloatingPointError("the gradients of single samples are not finite")
    return tuple(_traces(s, own, parameters, gathered) for s, own in zip(held, shares, strict=True))


def _checked(risk: Risk, samples: int, batch_size: int | None) -> int:
    if batch_size is None:
        raise ValueError(f"expected a loss in which each sample stands alone, got {risk.mixing}: samples have no "
                         "gradients of their own\nhint: give the batch_size of training, or Risk(..., mode='eval') for "
                         "BatchNorm")  # fmt: skip
    if samples < 4 * batch_size:
        raise ValueError(f"expected samples for at least 4 batches of {batch_size}, got {samples}\n"
                         f"hint: samples={16 * batch_size}")  # fmt: skip
    return batch_size


def _traces(
    symmetry: Symmetry, shares: list[Share], parameters: Mapping[str, Tensor], gathered: Gathered
) -> NoiseTraces:
    count = int(gathered.counts.sum())
    u, w = ([share for share in shares if share.side == side] for side in ("u", "w"))
    noise_u, mean_u = _Moments.of(u, gathered.sums, symmetry.units).noise_and_mean(count, gathered)
    noise_w, mean_w = _Moments.of(w, gathered.sums, symmetry.units).noise_and_mean(count, gathered)
    norm_u, norm_w = (_squared_norms(side, parameters, symmetry.units) for side in (u, w))
    return NoiseTraces(
        symmetry, norm_u - norm_w, norm_u, norm_w, noise_u, noise_w, mean_u - mean_w,
        Totals(float(noise_u.sum()), float(noise_w.sum()), float((mean_u - mean_w).sum())), _replicates(u, w, gathered),
        0.0 if gathered.population is None else count / gathered.population, count * gathered.unit, gathered.unit,
        gathered.method, gathered.cost,
    )  # fmt: skip


def _squared_norms(shares: list[Share], parameters: Mapping[str, Tensor], units: int) -> Tensor:
    total = torch.zeros(units, dtype=torch.float64)
    for share in shares:
        total += squared_norms(share, parameters[share.part.name])
    return total


def _replicates(u: list[Share], w: list[Share], gathered: Gathered) -> tuple[Totals, ...]:
    """Totals with each block left out; none if there is one block only."""
    if len(gathered.counts) == 1:
        return ()
    left = gathered.counts.sum() - gathered.counts.double()
    noise_u, mean_u = _Moments.without_blocks(u, gathered.sums).noise_and_mean(left, gathered)
    noise_w, mean_w = _Moments.without_blocks(w, gathered.sums).noise_and_mean(left, gathered)
    rows = torch.stack(torch.broadcast_tensors(noise_u, noise_w, mean_u - mean_w), 1)
    return tuple(Totals(*row) for row in rows.tolist())


class _Moments(NamedTuple):
    """Of one side: Σ_i ‖g_i‖² and ‖Σ_i g_i‖², by unit or with each block left out."""

    squares: Tensor
    total_squared: Tensor

    @classmethod
    def of(cls, shares: list[Share], sums: dict[str, Sums], units: int) -> _Moments:
        """By unit."""
        squares, total = (torch.zeros(units, dtype=torch.float64) for _ in range(2))
        for share in shares:
            of_share = sums[share.part.name].of_units(share)
            squares, total = squares + of_share[0], total + of_share[1]
        return cls(squares, total)

    @classmethod
    def without_blocks(cls, shares: list[Share], sums: dict[str, Sums]) -> _Moments:
        """All units, with each block left out."""
        squares = total = torch.zeros((), dtype=torch.float64)
        for share in shares:
            of_share = sums[share.part.name].of_blocks(share)
            squares, total = squares + of_share[0], total + of_share[1]
        return cls(squares, total)

    def noise_and_mean(self, count: int | Tensor, gathered: Gathered) -> tuple[Tensor, Tensor]:
        """Unbiased trace of the covariance of single samples, and squared norm of the mean gradient."""
        variance = ((self.squares - self.total_squared / count) / (count - 1)).clamp(min=0)
        population = gathered.population
        missing = 1 / count if population is None else 1 / count - 1 / population
        of_data = variance if population is None else variance * (population - 1) / population
        return of_data * gathered.unit, self.total_squared / count**2 - missing * variance
