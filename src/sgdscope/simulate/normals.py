r"""Random numbers of a shape out of random words, for compiled code: normal, uniform, sums of signs.

Normals are Box & Muller's pair, :math:`\sqrt{-2 \ln u}\,(\cos 2\pi v, \sin 2\pi v)` with u of 24 bits and v of 32, by
polynomials in single precision and without branches, so that lanes vectorise; rejection methods cannot. Coefficients
are least squares at Chebyshev points. Errors: logarithm 3e-7, sine 2e-7. As u ≥ 2^−24, no normal is beyond 5.77.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import int32, uint32

from sgdscope.simulate.compiling import inlined

Word = Any  # numpy.uint32 in compiled code
Float = Any  # numpy.float32

LOGARITHM = tuple(
    map(np.float32, (1.0000001, -0.5000022, 0.3332981, -0.24976534, 0.20106368, -0.17373969, 0.14149196, -0.06665659))
)
"""ln(1 + m) / m on −1/4 ≤ m ≤ 1/2, in powers of m."""
SINE = tuple(map(np.float32, (3.1415927, -5.167711, 2.5500865, -0.59834266, 0.0777535)))
"""sin(πt) / t on |t| ≤ 1/2, in powers of t²."""

_A0, _A1, _A2, _A3, _A4, _A5, _A6, _A7 = LOGARITHM
_S0, _S1, _S2, _S3, _S4 = SINE
_ONE, _HALF, _MINUS_TWO = np.float32(1), np.float32(0.5), np.float32(-2)
_LN_2 = np.float32(math.log(2))
_HALF_TURN = np.float32(2.0**-31)
_GRAIN = np.float32(2.0**-23)
_THREE_QUARTERS = 0x3F400000  # 0.75 as bits


@inlined
def log_of_fraction(k: Word) -> Float:
    """ln((k + 1) / 2^24) for 0 ≤ k < 2^24."""
    whole: Any = int32(k + uint32(1))
    bits: Any = np.float32(whole).view(np.int32)
    exponent: Any = int32(bits - int32(_THREE_QUARTERS)) >> int32(23)
    mantissa: Any = np.int32(bits - int32(exponent << int32(23)))
    m = mantissa.view(np.float32) - _ONE  # in [−1/4, 1/2)
    series = _A0 + m * (_A1 + m * (_A2 + m * (_A3 + m * (_A4 + m * (_A5 + m * (_A6 + m * _A7))))))
    powers: Any = int32(exponent - int32(24))
    return m * series + np.float32(powers) * _LN_2


@inlined
def sine_of_half_turns(t: Float) -> Float:
    """sin(πt) for |t| ≤ 1/2."""
    q = t * t
    return t * (_S0 + q * (_S1 + q * (_S2 + q * (_S3 + q * _S4))))


@inlined
def normals(x0: Word, x1: Word) -> tuple[Float, Float]:
    """Two independent standard normal numbers."""
    radius = math.sqrt(_MINUS_TWO * log_of_fraction(uint32(x0 >> uint32(8))))
    signed: Any = int32(x1)
    turn = np.float32(signed) * _HALF_TURN  # in [−1, 1]
    size = abs(turn)
    cosine = sine_of_half_turns(_HALF - size)
    sine = sine_of_half_turns(_HALF - abs(size - _HALF))
    return radius * cosine, radius * math.copysign(sine, turn)


@inlined
def uniforms(x0: Word, x1: Word) -> tuple[Float, Float]:
    """Two independent numbers, the middles of 2^23 equal parts of (0, 1)."""
    a = np.float32(int32(x0 >> uint32(9))) + _HALF
    b = np.float32(int32(x1 >> uint32(9))) + _HALF
    return a * _GRAIN, b * _GRAIN


@inlined
def sum_of_signs(x: Word, mask: Word) -> Float:
    """Sum of as many random signs as the mask has bits, all among its 24 lowest, out of the high bits of a word."""
    kept = uint32(uint32(x >> uint32(8)) & mask)
    return np.float32(int32(uint32(2) * population(kept)) - int32(population(mask)))


@inlined
def population(x: Word) -> Word:
    """Number of bits set, by Wilkes, Wheeler and Gill's sums of neighbours."""
    x = uint32(x - uint32(uint32(x >> uint32(1)) & uint32(0x55555555)))
    x = uint32(uint32(x & uint32(0x33333333)) + uint32(uint32(x >> uint32(2)) & uint32(0x33333333)))
    x = uint32(uint32(x + uint32(x >> uint32(4))) & uint32(0x0F0F0F0F))
    return uint32(uint32(x * uint32(0x01010101)) >> uint32(24))
