"""Noise parameters and laws that several tests share."""

import math

import numpy as np
from hypothesis import strategies as st

from sgdscope.theory.stationary import DiagonalNoise

GENERAL = DiagonalNoise(1.5, 0.7, 2, 1.2, 0.9)
GAUSSIAN = DiagonalNoise.gaussian(1, 1)


@st.composite
def noises(draw):
    """Noise that vanishes nowhere, with a positive optimum."""
    spread, product = draw(st.floats(0.2, 4)), draw(st.floats(0.2, 4))
    correlation = draw(st.floats(-0.95, 0.95))
    return DiagonalNoise(
        spread, correlation * math.sqrt(spread * product), product, draw(st.floats(0.3, 3)), draw(st.floats(0.3, 3))
    )


def fitted(k=0.5, offset=0.0):
    """Data with xy + offset = k x²: the noise vanishes at v = k, and the gradient too if offset is 0."""
    x = np.array([1.0, 2.0, 0.5, -1.0])
    return DiagonalNoise.of_data(x, k * x - offset / x)
