"""Elementary functions for kernels in single precision, by polynomials and without branches, so that lanes vectorise.

The library's would work on one lane at a time. Coefficients are least squares at Chebyshev points. Errors, relative to
the value or to 1, whichever is larger: below 4e-7; of sine and cosine up to |x| = 1000, and growing with the spacing of
floats beyond, until at 65536 they give NaN. Kernels in double precision use the library's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import int32

from sgdscope.simulate.compiling import inlined
from sgdscope.simulate.normals import LOGARITHM

Float = Any  # numpy.float32 in compiled code

EXPONENTIAL = tuple(map(np.float32, (1.0, 1.0, 0.5, 0.16666415, 0.041666217, 0.0083751315, 0.0013948585)))
"""e^r on |r| ≤ ln 2 / 2, in powers of r."""
SINE = tuple(map(np.float32, (1.0, -0.16666667, 0.008333331, -0.00019840861, 2.7525286e-06, -2.3889498e-08)))
"""sin r / r on |r| ≤ π / 2, in powers of r²."""

_E0, _E1, _E2, _E3, _E4, _E5, _E6 = EXPONENTIAL
_S0, _S1, _S2, _S3, _S4, _S5 = SINE
_A0, _A1, _A2, _A3, _A4, _A5, _A6, _A7 = LOGARITHM
_ZERO, _ONE, _TWO, _HALF, _NAN, _INFINITY = map(np.float32, (0, 1, 2, 0.5, np.nan, np.inf))
_MAGIC = np.float32(1.5 * 2**23)  # added and taken away again, it rounds to the nearest whole number
_LN_2, _LOG2_E = np.float32(math.log(2)), np.float32(math.log2(math.e))
_LN_2_HIGH, _LN_2_LOW = np.float32(0.693359375), np.float32(-0.00021219444)
_INVERSE_PI = np.float32(1 / math.pi)
_PI_HIGH, _PI_MIDDLE, _PI_LOW = map(np.float32, (3.140625, 0.0009675025939941406, 1.509958e-07))
_LOWEST, _HIGHEST = np.float32(-104), np.float32(89)
_SMALLEST, _LIFT, _LIFTED = np.float32(2.0**-126), np.float32(2.0**24), np.float32(24)
_FARTHEST = np.float32(65536)
_THREE_QUARTERS = 0x3F400000  # 0.75 as bits


@inlined
def power_of_two(n: Any) -> Float:
    """2^n for −126 ≤ n ≤ 127."""
    bits: Any = np.int32((n + int32(127)) << int32(23))
    return bits.view(np.float32)


@inlined
def exp32(x: Float) -> Float:
    """e^x as 2^n e^r, r between −ln 2 / 2 and ln 2 / 2."""
    x = _LOWEST if x < _LOWEST else (_HIGHEST if x > _HIGHEST else x)
    whole = (x * _LOG2_E + _MAGIC) - _MAGIC
    r = (x - whole * _LN_2_HIGH) - whole * _LN_2_LOW
    series = _E0 + r * (_E1 + r * (_E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6)))))
    n: Any = int32(whole)
    half: Any = int32(n >> int32(1))
    return series * power_of_two(half) * power_of_two(int32(n - half))  # in two parts: n reaches from −150 to 128


@inlined
def log32(x: Float) -> Float:
    """The natural logarithm; −∞ at zero and NaN below."""
    tiny = x < _SMALLEST
    y: Any = np.float32(x * _LIFT if tiny else x)
    bits: Any = y.view(np.int32)
    exponent: Any = int32(bits - int32(_THREE_QUARTERS)) >> int32(23)
    mantissa: Any = np.int32(bits - int32(exponent << int32(23)))
    m = mantissa.view(np.float32) - _ONE  # in [−1/4, 1/2)
    series = _A0 + m * (_A1 + m * (_A2 + m * (_A3 + m * (_A4 + m * (_A5 + m * (_A6 + m * _A7))))))
    powers = np.float32(exponent) - (_LIFTED if tiny else _ZERO)
    found = m * series + powers * _LN_2
    found = found if x < _INFINITY else x  # infinity and NaN
    return found if x > _ZERO else (-_INFINITY if x == _ZERO else _NAN)


@inlined
def sine_near(x: Float, multiple: Float, sign: Float) -> Float:
    """± sin(x − π · multiple) for a multiple that brings it within π / 2 of zero."""
    r = ((x - multiple * _PI_HIGH) - multiple * _PI_MIDDLE) - multiple * _PI_LOW
    q = r * r
    found = sign * r * (_S0 + q * (_S1 + q * (_S2 + q * (_S3 + q * (_S4 + q * _S5)))))
    return found if abs(x) < _FARTHEST else _NAN


@inlined
def alternating(n: Any) -> Float:
    """(−1)^n."""
    odd: Any = int32(n & int32(1))
    return _ONE - _TWO * np.float32(odd)


@inlined
def sin32(x: Float) -> Float:
    """Sine of x within ±65536."""
    whole = (x * _INVERSE_PI + _MAGIC) - _MAGIC
    return sine_near(x, whole, alternating(int32(whole)))


@inlined
def cos32(x: Float) -> Float:
    """Cosine of x within ±65536."""
    whole = (x * _INVERSE_PI - _HALF + _MAGIC) - _MAGIC
    return sine_near(x, whole + _HALF, -alternating(int32(whole)))


@inlined
def tanh32(x: Float) -> Float:
    """Hyperbolic tangent."""
    t = exp32(-_TWO * abs(x))
    return math.copysign((_ONE - t) / (_ONE + t), x)
