"""How far a leading-order law is from the exact time, on request."""

from __future__ import annotations

import math
from dataclasses import replace

from sgdscope.theory.escape.first_passage import first_passage
from sgdscope.theory.escape.law import Interpretation
from sgdscope.theory.escape.panels import Profile
from sgdscope.theory.escape.units import TIME, log_unit
from sgdscope.theory.prediction import Prediction


def with_exact_error(
    prediction: Prediction,
    gradient: Profile | None,
    diffusion: Profile,
    start: float,
    target: float,
    *,
    value: Profile | None = None,
    reflecting: float | None = None,
    interpretation: Interpretation = "ito",
) -> Prediction:
    """The same prediction with its `error` set by comparison with the exact mean first-passage time on a line.

    The target is the minimum on the other side of the saddle, which is what the laws of escape are about. `prediction`
    is a mean escape time in learning rate · iterations, or its logarithm, for which the error is still that of the
    time. The other arguments, cost and errors as in `first_passage`. Raises ValueError for another unit.
    """
    if prediction.unit not in (TIME, log_unit(TIME)):
        raise ValueError(
            f"expected a time in {TIME} or its logarithm, got {prediction.quantity} in {prediction.unit or 'no unit'}; "
            "convert with in_time first"
        )
    exact = first_passage(
        gradient, diffusion, start, target, value=value, reflecting=reflecting, interpretation=interpretation
    )
    log_value = prediction.value if prediction.unit == log_unit(TIME) else math.log(prediction.value)
    return replace(prediction, error=abs(math.expm1(log_value - exact.log_mean)))
