"""NoisyQuadratic: one quadratic per batch, and the exact expected loss of SGD on it, last iterate or average.

The loss of batch b is ½ (θ − c_b)ᵀ H (θ − c_b) + e_b with one Hessian H for all batches and independent minima c_b of
covariance C (Sandler et al. 2301.02312, Sec. 4). In the eigenbasis of H the expected full loss of any iterate or
average splits into modes, whatever C is: the mode of curvature h only asks for σ² = uᵀ C u along its eigenvector u. So
the case of matrices that do not commute is the diagonal one after a rotation, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.averaging import recursions
from sgdscope.theory.averaging.arguments import (
    MODEL,
    Array,
    count,
    curvature_values,
    fraction,
    numbers,
    stable,
)  # fmt: skip
from sgdscope.theory.averaging.average import Average
from sgdscope.theory.averaging.path import Path
from sgdscope.theory.prediction import Prediction

_SCOPE = "one Hessian for all batches, batch minima independent from step to step"


@dataclass(frozen=True, eq=False)
class NoisyQuadratic:
    """SGD on ½ h (x − c)² in each mode, c of variance σ² drawn afresh at every step. Immutable.

    Attributes:
        curvatures: h, shape (modes,), loss / parameter², positive.
        noise: σ², shape (modes,), parameter²: variance of the minimum of a batch about that of the full loss.
        start: x_0, shape (modes,), distance of the start from the minimum of the full loss (for a random start: the
            root of its second moment). None: the run is stationary from the beginning, at its (first) learning rate.
        basis: columns are the modes in the coordinates of the parameters, shape (parameters, modes); None: diagonal.
        covariance: C in that basis, shape (modes, modes), its diagonal is `noise`; None: diagonal.

    Wherever `lr` is asked for it is one learning rate, then with `steps` and below 2 (1 + momentum) / h, or an array of
    them, one per step. Momentum is PyTorch's heavy ball, ``v ← momentum · v + g; θ ← θ − lr · v``, v_0 = 0 at a start.
    Raises ValueError for shapes that do not fit and for what is not positive.
    """

    curvatures: Array
    noise: Array
    start: Array | None = None
    basis: Array | None = None
    covariance: Array | None = None

    def __post_init__(self) -> None:
        curvatures = curvature_values(self.curvatures)
        noise = numbers(self.noise, "noise (variance of the batch minimum per mode)")
        if not (noise >= 0).all():
            raise ValueError(f"expected noise as variances ≥ 0, got {noise.min()}")
        start = None if self.start is None else numbers(self.start, "start (distance from the minimum per mode)")
        for what, array in (("noise", noise), ("start", start)):
            if array is not None and array.shape != curvatures.shape:
                raise ValueError(f"expected {what} for {curvatures.size} modes, got {array.size}")
        for name, value in (("curvatures", curvatures), ("noise", noise), ("start", start)):
            object.__setattr__(self, name, value)

    @classmethod
    def from_matrices(cls, hessian: ArrayLike, covariance: ArrayLike, start: ArrayLike | None = None) -> NoisyQuadratic:
        """From H and C of shape (parameters, parameters), which need not commute, and θ_0 − θ*. Cost: one `eigh` of H.

        Raises ValueError unless both are symmetric, H is positive definite and C positive semidefinite.
        """
        H, C = (numbers(m, what, 2) for m, what in ((hessian, "Hessian"), (covariance, "covariance")))
        for matrix, what in ((H, "Hessian"), (C, "covariance")):
            if matrix.shape != (len(H), len(H)) or not np.allclose(matrix, matrix.T, rtol=1e-9, atol=0):
                raise ValueError(f"expected a symmetric {what} in the shape of the Hessian, got shape {matrix.shape}")
        curvatures, basis = np.linalg.eigh(H)
        lowest = float(np.linalg.eigvalsh(C)[0])
        if lowest < -1e-12 * float(np.trace(C)):
            raise ValueError(f"expected a covariance without negative eigenvalues, got {lowest:.3g}")
        rotated = basis.T @ C @ basis
        x = None if start is None else numbers(start, "start")
        if x is not None and x.shape != (len(H),):
            raise ValueError(f"expected a start of {len(H)} parameters, got {x.size}")
        return cls(curvatures, rotated.diagonal().clip(0), None if x is None else basis.T @ x, basis, rotated)

    def excess(self, second_moments: ArrayLike) -> Array:
        """½ Σ h E x²: expected excess of the full loss for second moments of shape (…, modes)."""
        return np.asarray(0.5 * (np.asarray(second_moments, dtype=np.float64) * self.curvatures).sum(axis=-1))

    def stationary_variance(self, lr: float, *, momentum: float = 0.0) -> Array:
        """V = λ h σ² (1 + μ) / ((1 − μ) (2 (1 + μ) − λ h)), shape (modes,), parameter²."""
        stable(lr, self.curvatures, momentum)
        return recursions.stationary_variance(lr, self.curvatures, self.noise, momentum)

    def path(self, lr: ArrayLike, steps: int | None = None, *, momentum: float = 0.0) -> Path:
        """Joint second moments of all iterates of a run. Memory and cost: (steps · modes)."""
        fraction(momentum, "momentum")
        rates = self._rates(lr, steps, momentum)
        transitions, kicks = recursions.sgd(rates[:1] if np.ndim(lr) == 0 else rates, self.curvatures, momentum)
        transitions = np.broadcast_to(transitions, (rates.size, *transitions.shape[1:]))
        kicks = np.broadcast_to(kicks, (rates.size, *kicks.shape[1:]))
        if self.start is None:
            first = stable(float(rates[0]), self.curvatures, momentum)
            start = recursions.stationary_moment(first, self.curvatures, self.noise, momentum)
        else:
            start = np.zeros((self.curvatures.size, *transitions.shape[2:]))
            start[:, 0, 0] = self.start**2
        return Path(transitions, kicks, self.noise, start)

    def _rates(self, lr: ArrayLike, steps: int | None, momentum: float) -> Array:
        if np.ndim(lr) == 0:
            rate = stable(float(np.asarray(lr)), self.curvatures, momentum)
            if steps is None:
                raise ValueError("expected the number of steps of a run at constant learning rate, got none")
            return np.full(count(steps, "steps"), rate)
        rates = numbers(lr, "learning rates")
        if not (rates >= 0).all():
            raise ValueError(f"expected learning rates ≥ 0, got {rates.min()}")
        if steps not in (None, rates.size):
            raise ValueError(f"expected one learning rate per step, got {rates.size} for {steps} steps")
        return rates

    def last(self, lr: ArrayLike, steps: int | None = None, *, momentum: float = 0.0) -> Prediction:
        """Expected excess loss of the last iterate; without start, at constant learning rate, that of any."""
        if self.start is None and np.ndim(lr) == 0:
            variance = self.stationary_variance(float(np.asarray(lr)), momentum=momentum)
            formula = "½ Σ h V, V = λ h σ² (1 + μ) / ((1 − μ) (2 (1 + μ) − λ h))"
            return self.prediction(variance, "the last iterate", formula)
        rates = self._rates(lr, steps, momentum)
        moments = self.path(lr, steps, momentum=momentum).variances[-1]
        formula = "½ Σ h S_T, S_t = (1 − λ_t h)² S_{t−1} + λ_t² h² σ²" if momentum == 0 else "½ Σ h S_T by recursion"
        return self.prediction(moments, "the last iterate", formula, self.warnings(rates, momentum))

    def averaged(
        self, average: Average, lr: ArrayLike, steps: int | None = None, *, momentum: float = 0.0
    ) -> Prediction:
        """Expected excess loss of an average of the iterates. Cost: (steps · modes).

        `steps` may be left out where the run is stationary (the reach of the average is enough) or `lr` is an array.
        Raises ValueError if the average reaches back beyond the run.
        """
        if steps is None and self.start is None and np.ndim(lr) == 0:
            steps = max(average.steps, 1)
        rates = self._rates(lr, steps, momentum)
        path = self.path(lr, steps, momentum=momentum)
        moments = path.averaged(average.over(path.steps).weights)
        warnings = (*average.warnings, *self.warnings(rates, momentum))
        return self.prediction(moments, average.name, "½ Σ h wᵀ K w, K_st = E x_s x_t", warnings)

    def endless_ema(self, decay: float, lr: float, *, momentum: float = 0.0) -> Prediction:
        """Expected excess loss of an EMA that has run for ever on the stationary iterates, whatever the start.

        Per mode (1 − β) / (1 + β) · (2 (I − β A)⁻¹ P − P)_xx, with A and P transition and second moment of the
        state; for plain SGD V (1 − β) / (1 + β) · (1 + β q) / (1 − β q) with q = 1 − λ h.
        """
        fraction(decay, "decay")
        stable(lr, self.curvatures, momentum)
        transition = recursions.sgd(np.array([lr]), self.curvatures, momentum)[0][0]
        moment = recursions.stationary_moment(lr, self.curvatures, self.noise, momentum)
        summed = np.linalg.solve(np.eye(transition.shape[-1]) - decay * transition, moment)
        variance = (1 - decay) / (1 + decay) * (2 * summed - moment)[:, 0, 0]
        formula = "½ Σ h V (1 − β) / (1 + β) · (1 + β q) / (1 − β q), q = 1 − λ h; with momentum its 2 × 2 form"
        return self.prediction(variance, f"EMA {decay:g}", formula)

    def schedule_free(self, lr: float, steps: int, mix: float = 0.9) -> Prediction:
        """Expected excess loss of the average x of schedule-free SGD (Defazio et al. 2405.15682), warm-up left out.

        y = (1 − mix) z + mix x, z ← z − λ g(y), x ← (1 − 1/t) x + z / t; mix 0 is the uniform average of SGD's
        iterates. Raises ValueError without a start.
        """
        if self.start is None:
            raise ValueError("expected a start: schedule-free SGD is never stationary, its average goes back to step 1")
        if not 0 <= mix <= 1:
            raise ValueError(f"expected mix in [0, 1], got {mix}")
        transitions, kicks = recursions.schedule_free(
            stable(lr, self.curvatures), self.curvatures, count(steps, "steps"), mix
        )
        start = np.broadcast_to((self.start**2)[:, None, None], (self.curvatures.size, 2, 2))
        moments = Path(transitions, kicks, self.noise, start).variances[-1]
        return self.prediction(moments, "schedule-free SGD", "½ Σ h E x_T², by the recursion of (x, z)")

    def warnings(self, rates: Array, momentum: float) -> tuple[str, ...]:
        """What a schedule breaks without losing its number: steps above the stable learning rate."""
        edge = 2 * (1 + momentum) / float(self.curvatures.max())
        above = int((rates >= edge).sum())
        return (f"{above} of {rates.size} learning rates lie above the stable {edge:.4g}",) if above else ()

    def prediction(self, second_moments: Array, of: str, formula: str, warnings: tuple[str, ...] = ()) -> Prediction:
        """Second moments per mode, shape (modes,), as expected excess loss of what they belong to."""
        if not np.isfinite(second_moments).all():
            raise ValueError(f"expected a run that stays finite, got one where {of} diverges: lower the learning rates")
        value = float(self.excess(second_moments))
        return Prediction(value, f"expected excess loss of {of}", formula, _SCOPE, MODEL, "loss", warnings=warnings)

    @property
    def floor_gap(self) -> Prediction:
        """½ tr(H C): mean depth of a batch's own minimum below the least full loss.

        It is also the excess of the full loss that standing on one batch's minimum costs, in the mean.
        """
        formula = "½ tr(H C)"
        return Prediction(
            float(self.excess(self.noise)), "mean depth of a batch's minimum below the least full loss", formula,
            "one Hessian for all batches", MODEL, "loss",
        )  # fmt: skip
