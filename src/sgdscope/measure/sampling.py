"""Sampling statistics: means and ratios of means over drawn batches, with standard errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def mean_with_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error ``sd / √n`` (0 for a single value)."""
    x = np.asarray(values, dtype=np.float64)
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x))) if len(x) > 1 else 0.0


def ratio_with_error(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, float]:
    """``Σ a / Σ b`` over paired draws and its standard error by the delta method.

    The error is that of the mean of ``a − R b``, over the mean of b: R is biased by O(1/n), well inside it.
    """
    a, b = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    ratio = float(a.mean() / b.mean())
    error = mean_with_error((a - ratio * b).tolist())[1] / abs(float(b.mean()))
    return ratio, error


def serial_ratio_with_error(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, float]:
    """``Σ a / Σ b`` over draws in order of time, with the error that neighbours which resemble each other leave.

    As `ratio_with_error`, times the root of the integrated autocorrelation time of ``a − R b`` (at least 1): the sum of
    its autocorrelations in pairs as long as the pairs are positive (Geyer, Statist. Sci. 7, 473, 1992).
    """
    ratio, error = ratio_with_error(numerators, denominators)
    x = np.asarray(numerators, dtype=np.float64) - ratio * np.asarray(denominators, dtype=np.float64)
    n = len(x)
    spread = float(x @ x)
    if n < 4 or spread == 0:
        return ratio, error
    correlations = [float(x[: n - lag] @ x[lag:]) / spread for lag in range(n // 2)]
    time = -1.0
    for even, odd in zip(correlations[::2], correlations[1::2], strict=False):
        if even + odd <= 0:
            break
        time += 2 * (even + odd)
    return ratio, error * math.sqrt(max(time, 1.0))
