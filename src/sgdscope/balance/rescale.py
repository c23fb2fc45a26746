r"""Rescale: move a network along its rescaling symmetries to where its layers are in balance.

Rescaling u → λu, w → w/λ leaves the function as it is. Of all networks that rescalings of all units make of one, the
balanced ones are minima of a convex function of the log scales s:

- norm balance, ‖u‖ = ‖w‖ for every unit, is where :math:`\|\theta\|^2` is least;
- noise balance, Tr Cov[∇_u ℓ] = Tr Cov[∇_w ℓ] for every unit, is where Tr Σ, all gradient noise together, is least;
- with weight decay γ‖θ‖² the equilibrium of both is where :math:`T\,\mathrm{tr}\,\Sigma + 4 \gamma \|\theta\|^2` is.

For the slope by the log scale of a unit is 2 (‖u‖² − ‖w‖²), −2 (Tr Cov_u − Tr Cov_w), or the rate of change of the
charge in the law of balance. A weight that is scaled by f has its gradients divided by f, so that all of this follows
from what is measured once. So balance is unique but for units that nothing changes. Sources: Ziyin, Li & Ueda
2308.06671, Theorem 3.1 and Eq. 3; Ziyin, Wang, Li & Wu 2402.07193 (uniqueness on one orbit); Stock et al. 1902.10416
(norms of all layers made equal by descent); the convex function for noise and for weight decay is derived here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from sgdscope.balance.element_noise import element_noise
from sgdscope.balance.layer_pair import LayerPair
from sgdscope.balance.orbit import Floats, Orbit
from sgdscope.balance.posynomial import least
from sgdscope.balance.rescaled import Goal, Rescaled, rescaled_weights, risk_at
from sgdscope.balance.training import Training, training_of
from sgdscope.measure.noise_traces import NoiseTraces, noise_traces
from sgdscope.measure.symmetries import Symmetries, Symmetry, symmetries
from sgdscope.measure.symmetries.verify import outputs
from sgdscope.risk import Risk

LIMIT = 1e3
_COMPARED = 64
"""Samples on which outputs before and after are compared."""
_TOLERANCE = 1e-10


def rescale(
    risk: Risk,
    found: Iterable[Symmetry] | None = None,
    *,
    to: Goal = "noise",
    lr: float | None = None,
    batch_size: int | None = None,
    weight_decay: float = 0.0,
    replacement: bool = False,
    samples: int = 256,
    exact: bool = False,
    limit: float = LIMIT,
    up_to_eps: bool = False,
    generator: torch.Generator | None = None,
) -> Rescaled:
    """The same function at balance of noise, or of norms, between all its layers. The model stays as it is.

    Acts on symmetries that hold exactly, all units of all layers at once. Biases go along; layers that share weights,
    residual streams and everything else that the symmetries say is kept.

    Args:
        risk: model, loss and data.
        found: symmetries to act on (those that hold), from `measure.symmetries`; looked for if None.
        to: ``noise`` or ``norm``.
        lr: learning rate; asked for with weight decay, which noise is weighed against.
        batch_size: samples per step; asked for with weight decay, and where samples have no gradients of their own
            (BatchNorm in train mode): noise is then that of such batches.
        weight_decay: as torch has it (2 γ), towards noise balance only.
        replacement: whether a batch may hold a sample twice.
        samples: drawn to measure noise, once before and once after; all data where there are fewer. 0 towards norm
            balance: noise is not looked at.
        exact: round all scales to powers of two: every number inside the network changes by exact factors, so that
            outputs are the same bit for bit, and scales are off the balanced ones by up to a factor of √2.
        limit: largest scale of a unit, and one over the smallest.
        up_to_eps: act on symmetries too that hold but for the eps of a norm. Weights in front of a norm have no other
            side: weight decay alone gives them an equilibrium.
        generator: of the samples.

    Units without anything on one side (dead ReLUs, zero weights, no noise in these samples) are left alone.

    Cost: three times `measure.noise_traces`, about 6 gradients of the samples; the search for symmetries, if they are
    not given; 2/3 of a gradient of 64 samples. Memory: a copy of the model, two more in double precision, and about
    150 bytes for each weight that two layers of units share.

    Raises ValueError for settings out of range, no symmetry to act on, weights that are not finite, a model that cannot
    be copied, and as `measure.noise_traces` does; FloatingPointError if gradients are not finite.
    """
    training = _checked(risk, to, lr, batch_size, weight_decay, replacement, samples, limit)
    every = symmetries(risk) if found is None else tuple(found)
    acting = [s for s in every if s.holds and (up_to_eps or s.status == "exact")]
    if not acting:
        raise ValueError(f"expected a symmetry to move along, got none that holds {'' if up_to_eps else 'exactly '}"
                         f"among {len(every)} proposed\nhint: print(measure.symmetries(risk)) says why")  # fmt: skip
    parameters = {name: p.detach() for name, p in zip(risk.names, risk.parameters, strict=True)}
    if strange := [part.name for s in acting for part in s.parts if part.name not in parameters]:
        raise ValueError(f"expected symmetries of this risk's model, got one of {strange[0]}, which it does not train")
    orbit = Orbit(acting, parameters)
    if bad := [name for name in orbit.names if not bool(torch.isfinite(parameters[name]).all())]:
        raise ValueError(f"expected finite weights, got some in {bad[0]} that are not")
    noise = _Noise.like(acting, samples, batch_size, replacement, generator)
    before = noise.of(risk)
    form = _form(risk, orbit, parameters, to, training, noise, before)
    minimum = least(form.exponents, form.coefficients, limit=math.log(limit), tolerance=_TOLERANCE)
    scales = np.exp2(np.round(minimum.at / math.log(2))) if exact else np.exp(minimum.at)
    weights = rescaled_weights(parameters, orbit.factors(scales, parameters))
    after = noise.of(risk_at(risk, weights), fresh=True)
    settings = {
        "lr": lr, "batch_size": batch_size, "weight_decay": weight_decay, "samples": min(samples, risk.size),
        "of": risk.size, "exact": exact, "limit": limit, "mode": risk.mode, "iterations": minimum.iterations,
    }  # fmt: skip
    return Rescaled(
        risk=risk, to=to, weights=weights, settings=settings, orbit=orbit, scale_of_units=scales,
        scales={name: torch.from_numpy(own) for name, own in orbit.by_symmetry(scales).items()},
        before=_pairs(acting, parameters, before), after=_pairs(acting, weights, after),
        least=(form.value(np.ones(orbit.units)), form.value(scales)), residual=minimum.residual,
        left_alone=_counts(orbit, minimum.held), at_limit=_counts(orbit, minimum.at_limit),
        difference=_difference(risk, weights, noise.seeds[0]),
        cost=form.cost + sum(traces[0].cost for traces in (before, after) if traces)
        + (every.cost / risk.size if found is None and isinstance(every, Symmetries) else 0.0),
    )  # fmt: skip


class _Noise(NamedTuple):
    """How noise is measured: alike before and while solving, and after on samples drawn anew."""

    acting: list[Symmetry]
    samples: int
    batch_size: int | None
    replacement: bool
    seeds: tuple[int, int]

    @classmethod
    def like(
        cls, acting: list[Symmetry], samples: int, batch_size: int | None, replacement: bool,
        generator: torch.Generator | None,
    ) -> _Noise:  # fmt: skip
        generator = generator if generator is not None else torch.Generator().manual_seed(0)
        first, second = torch.randint(2**62, (2,), generator=generator, device=generator.device).tolist()
        return cls(acting, samples, batch_size, replacement, (first, second))

    def generator(self, fresh: bool = False) -> torch.Generator:
        return torch.Generator().manual_seed(self.seeds[fresh])

    def of(self, risk: Risk, *, fresh: bool = False) -> tuple[NoiseTraces, ...]:
        if not self.samples:
            return ()
        return noise_traces(
            risk, self.acting, samples=self.samples, batch_size=self.batch_size, replacement=self.replacement,
            generator=self.generator(fresh),
        )  # fmt: skip


class _Form(NamedTuple):
    """What is least at balance, Σ c e^{a·s} in the log scales s of all units; and what finding it cost."""

    exponents: csr_matrix
    coefficients: Floats
    cost: float = 0.0

    def value(self, scales: Floats) -> float:
        return float((self.coefficients * np.exp(self.exponents @ np.log(scales))).sum())


def _checked(
    risk: Risk, to: str, lr: float | None, batch_size: int | None, weight_decay: float, replacement: bool, samples: int,
    limit: float,
) -> Training | None:  # fmt: skip
    """The training that weight decay is weighed in; None without. Raises ValueError."""
    if to not in ("noise", "norm"):
        raise ValueError(f"expected to='noise' or to='norm', got {to!r}")
    if not 1 < limit < math.inf:
        raise ValueError(f"expected a limit > 1, got {limit}")
    if samples == 0 and to == "noise":
        raise ValueError("expected samples to measure noise on, got 0")
    if not weight_decay:
        return None
    if to == "norm":
        raise ValueError(f"expected no weight decay towards norm balance, got {weight_decay}\n"
                         "hint: norm balance is where weight decay alone would lead; leave it out")  # fmt: skip
    if lr is None or batch_size is None:
        raise ValueError("expected the learning rate and the batch size with weight decay, which noise is weighed "
                         f"against, got lr={lr} and batch_size={batch_size}")  # fmt: skip
    return training_of(risk, lr, batch_size, weight_decay, replacement)


def _form(
    risk: Risk, orbit: Orbit, parameters: dict[str, Tensor], to: Goal, training: Training | None, noise: _Noise,
    traces: tuple[NoiseTraces, ...],
) -> _Form:  # fmt: skip
    squares = orbit.sums({name: parameters[name].double().square() for name in orbit.names})
    if to == "norm":
        return _Form(2 * orbit.powers, squares)
    variances, cost = element_noise(
        risk, orbit.names, samples=noise.samples, batch_size=noise.batch_size, replacement=noise.replacement,
        generator=noise.generator(),
    )  # fmt: skip
    noisy = orbit.sums(variances)
    if training is None:
        return _Form(-2 * orbit.powers, noisy, cost)
    temperature, decay = training.temperature(risk, traces[0]), 4 * training.decay
    both = csr_matrix(vstack([-2 * orbit.powers, 2 * orbit.powers]))
    return _Form(both, np.concatenate([temperature * noisy, decay * squares]), cost)


def _pairs(
    acting: list[Symmetry], parameters: dict[str, Tensor], traces: tuple[NoiseTraces, ...]
) -> tuple[LayerPair, ...]:
    of = {id(t.symmetry): t for t in traces}
    return tuple(LayerPair.of(s, parameters, of.get(id(s))) for s in acting)


def _counts(orbit: Orbit, units: npt.NDArray[np.generic]) -> dict[str, int]:
    counted = {name: int(own.sum()) for name, own in orbit.by_symmetry(units).items()}
    return {name: count for name, count in counted.items() if count}


def _difference(risk: Risk, weights: dict[str, Tensor], seed: int) -> float:
    """Largest relative change of the model's outputs on a few samples."""
    generator = torch.Generator().manual_seed(seed)
    if risk.source.batch_lengths is not None:
        batch = next(risk.chunks())
    else:
        batch = risk.draw(min(_COMPARED, risk.size), generator)
    worst = 0.0
    pairs = zip(outputs(risk, batch, None, 0)[:-1], outputs(risk, batch, list(weights.values()), 0)[:-1], strict=True)
    for before, after in pairs:
        if before.numel():
            scale = max(float(before.abs().max()), torch.finfo(before.dtype).tiny)
            worst = max(worst, float((after - before).abs().max()) / scale)
    return worst
