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
