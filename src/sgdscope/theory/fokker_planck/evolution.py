"""Evolution of masses: dp/dt = Q p, positive, with the mass kept and the error of every step measured.

One step of length h is a combination Σ c_j p_j of implicit Euler states, p_j = (1 − γ h Q)⁻¹ p_{j−1}. Each of these is
positive and has the mass of p_0, for any h; one factorisation serves them all. Five of them, with 1/γ the middle zero
of the fifth Laguerre polynomial, give order 5 and damp stiff modes entirely (Nørsett 1974; restricted Padé
approximations of the exponential). p_1 … p_4 alone give order 3, p_0 … p_4 order 4 without damping: the distance to the
first is too large for smooth states, to the second for stiff ones, so the smaller of the two is the error that steers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.polynomial import laguerre
from scipy import sparse

from sgdscope.theory.fokker_planck.markov import Floats, factored

_STAGES = 5
GAMMA = float(1 / np.sort(laguerre.lagroots([0] * _STAGES + [1]))[_STAGES // 2])
_MARGIN = 8.0  # steps may become e^7 shorter than the first guess
_GROWTH = 32  # of the error, in twice the step
_ROUNDING = 1e-14
_SHORTEST = 1e-14  # step, relative to the time passed and to the time of first change
_KEPT = 3  # factorisations at hand


def _weights(powers: range, share: float) -> Floats:
    """c_0 … c_5 with Σ c_j (1 − γ z)^−j = e^(share · z) + O(z^k), k = len(powers); zero outside `powers`."""
    order = range(len(powers))
    taylor = [[math.comb(j + k - 1, k) * GAMMA**k if j else float(k == 0) for j in powers] for k in order]
    found = np.zeros(_STAGES + 1)
    found[powers.start : powers.stop] = np.linalg.solve(taylor, [share**k / math.factorial(k) for k in order])
    return found


def step_weights(share: float = 1.0) -> Floats:
    """Weights of p_0 … p_5 that give the state after a share of the step, shape ``(3, 6)``.

    Rows: the answer (order 5 for the whole step, 4 within), damped order 3, undamped order 4.
    """
    return np.stack([_weights(range(1, 6), share), _weights(range(1, 5), share), _weights(range(0, 5), share)])


class Evolution:
    """Steps of one rate matrix, each half or twice the length of the one before.

    Attributes:
        matrix: the generator Q.
        tolerance: bound on the sum over a run of the estimated errors of all steps, in L1 of the masses. Exact
            evolution contracts L1, so that errors of steps add up and do not grow.
    """

    def __init__(self, matrix: Any, tolerance: float) -> None:
        if not 1e-11 <= tolerance < 1:
            raise ValueError(f"expected a tolerance between 1e-11 and 1, got {tolerance}")
        self.matrix = matrix
        self.tolerance = tolerance
        self._factors: dict[float, Any] = {}

    def run(self, masses: Floats, times: Floats) -> Floats:
        """Masses at each time, rising and ≥ 0, the start being at 0. Shape ``(len(times), cells)``.

        Steps do not stop at the times asked for: states within a step come from the same systems, with their errors.
        """
        total = float(masses.sum())
        states = np.empty((len(times), len(masses)))
        states[times == 0] = masses
        done = int((times == 0).sum())
        state, now = masses / total, 0.0
        change = float(np.abs(self.matrix @ state).sum())
        if done == len(times) or change == 0:
            states[done:] = masses
            return states
        last = float(times[-1])
        step = min(self.tolerance**0.25 / change, last)
        # A step from t to t + h may err by h / (t + h) of the share: these parts add up to ln(last time / first step)
        share = self.tolerance / (_MARGIN + math.log(last / step))
        while done < len(times):
            stages = self._stages(state, step)
            after, error = _combined(stages, 1.0)
            inside = times[done:][times[done:] <= now + step]
            found = [_combined(stages, float(time - now) / step) for time in inside]
            allowed = share * step / (now + step) + _ROUNDING
            if max([error, *(e for _, e in found)]) > allowed:
                step /= 2
                if step < _SHORTEST * (now + step) or step * change < _SHORTEST:
                    raise ValueError(f"evolution does not reach its tolerance of {self.tolerance:.1g}: raise it")
                continue
            for kept, _ in found:
                states[done] = kept * total
                done += 1
            state, now = after, now + step
            if _GROWTH * error < share * step / (now + 2 * step):
                step *= 2
        return states

    def _stages(self, state: Floats, length: float) -> Floats:
        """p_0 … p_5, shape ``(6, cells)``."""
        if length not in self._factors:
            while len(self._factors) >= _KEPT:
                del self._factors[next(iter(self._factors))]
            self._factors[length] = factored(sparse.eye_array(self.matrix.shape[0]) - GAMMA * length * self.matrix)
        solver = self._factors[length]
        stages = [state]
        for _ in range(_STAGES):
            stage = solver.solve(stages[-1])
            stages.append(stage / stage.sum())  # columns of 1 − γ h Q sum to 1 only beside rates · h: kept to rounding
        return np.stack(stages)


def _combined(stages: Floats, share: float) -> tuple[Floats, float]:
    """State after a share of the step, made ≥ 0 with its mass kept, and its error; what is cut is part of it."""
    fine, damped, undamped = step_weights(share) @ stages
    positive = np.maximum(fine, 0)
    error = min(np.abs(fine - damped).sum(), np.abs(fine - undamped).sum()) + (positive - fine).sum()
    return positive / positive.sum(), float(error)
