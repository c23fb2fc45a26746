"""Units of escape: time of the diffusion, kinetic time and iterations, which are never mixed silently.

One iteration is ``lr`` of the diffusion's time and ``√lr`` of kinetic time (heavy ball). A `Prediction` carries
its unit as text; the functions here read that text, convert, and refuse what does not fit.
"""

from __future__ import annotations

import math
from dataclasses import replace

from sgdscope.theory.prediction import Prediction

TIME = "learning rate · iterations"
KINETIC_TIME = "√(learning rate) · iterations"
ITERATIONS = "iterations"
_POWER_OF_LR = {TIME: 1.0, KINETIC_TIME: 0.5, ITERATIONS: 0.0}
_FORMS = {"{}": 1, "1 / ({})": -1, "ln({})": 0}  # a time, a rate, the logarithm of a time
_FORM_OF = {form: text for text, form in _FORMS.items()}


def rate_unit(unit: str) -> str:
    """Unit of a rate whose times are in `unit`."""
    return _FORM_OF[-1].format(unit)


def log_unit(unit: str) -> str:
    """How the logarithm of a time in `unit` is marked."""
    return _FORM_OF[0].format(unit)


def time_unit(prediction: Prediction) -> tuple[str, int]:
    """Unit of time behind a prediction, and its form: 1 a time, −1 a rate, 0 the logarithm of a time.

    Raises ValueError for a prediction that is none of these.
    """
    for unit in _POWER_OF_LR:
        for text, form in _FORMS.items():
            if prediction.unit == text.format(unit):
                return unit, form
    raise ValueError(
        f"expected a time, a rate or the logarithm of a time, in {', '.join(_POWER_OF_LR)}; "
        f"got {prediction.quantity} in {prediction.unit or 'no unit'}"
    )


def _convert(prediction: Prediction, lr: float, wanted: str) -> Prediction:
    if not 0 < lr < math.inf:
        raise ValueError(f"expected a learning rate > 0, got {lr}")
    unit, form = time_unit(prediction)
    power = _POWER_OF_LR[wanted] - _POWER_OF_LR[unit]
    value = prediction.value * lr ** (form * power) if form else prediction.value + power * math.log(lr)
    return replace(prediction, value=value, unit=_FORM_OF[form].format(wanted))


def in_iterations(prediction: Prediction, lr: float) -> Prediction:
    """The same time, rate or logarithm of a time counted in iterations of step size `lr`.

    A prediction that is in iterations already comes back as it is. Raises ValueError for any other unit.
    """
    return _convert(prediction, lr, ITERATIONS)


def in_time(prediction: Prediction, lr: float) -> Prediction:
    """The same time, rate or logarithm of a time in the diffusion's time, learning rate · iterations."""
    return _convert(prediction, lr, TIME)


def common_unit(*predictions: Prediction) -> str:
    """The unit that all predictions share. Raises ValueError where they do not."""
    units = {prediction.unit for prediction in predictions}
    if len(units) != 1:
        found = ", ".join(sorted(unit or "no unit" for unit in units)) or "none"
        raise ValueError(f"expected predictions in one unit, got {found}; convert with in_iterations or in_time first")
    return units.pop()


def time_ratio(first: Prediction, second: Prediction) -> float:
    """``first / second`` of two times, two rates or two logarithms of times (then the ratio of the times themselves).

    Raises ValueError for different units, and for a ratio beyond floating point.
    """
    common_unit(first, second)
    if time_unit(first)[1] == 0:
        difference = first.value - second.value
        if abs(difference) > 700:
            raise ValueError(f"the ratio is e^{difference:.6g}, beyond floating point; subtract the logarithms instead")
        return math.exp(difference)
    if second.value == 0:
        raise ValueError(f"expected a second {second.quantity} other than 0")
    return first.value / second.value
