"""The generators of `simulate.keyed` for compiled code, one lane at a time: branch-free, so that lanes vectorise.

Every operation is cast back to 32 bits, which Numba would widen to 64 and halve the lanes of a register.
"""

from __future__ import annotations

from typing import Any

from numba import uint32

from sgdscope.simulate.compiling import inlined

Word = Any  # numpy.uint32 in compiled code


@inlined
def rotated(x: Word, turn: int) -> Word:
    """A word turned left."""
    return uint32(uint32(x << uint32(turn)) | uint32(x >> uint32(32 - turn)))


@inlined
def four_rounds(x0: Word, x1: Word, t0: int, t1: int, t2: int, t3: int) -> tuple[Word, Word]:
    """Rounds of Threefry between two injections of the key."""
    x0 = uint32(x0 + x1)
    x1 = uint32(rotated(x1, t0) ^ x0)
    x0 = uint32(x0 + x1)
    x1 = uint32(rotated(x1, t1) ^ x0)
    x0 = uint32(x0 + x1)
    x1 = uint32(rotated(x1, t2) ^ x0)
    x0 = uint32(x0 + x1)
    x1 = uint32(rotated(x1, t3) ^ x0)
    return x0, x1


@inlined
def threefry(k0: Word, k1: Word, c0: Word, c1: Word) -> tuple[Word, Word]:
    """Two words for a key and a counter, by 13 rounds."""
    k2 = uint32(uint32(0x1BD11BDA) ^ k0 ^ k1)
    x0, x1 = four_rounds(uint32(c0 + k0), uint32(c1 + k1), 13, 15, 26, 6)
    x0, x1 = four_rounds(uint32(x0 + k1), uint32(x1 + k2 + uint32(1)), 17, 29, 16, 24)
    x0, x1 = four_rounds(uint32(x0 + k2), uint32(x1 + k0 + uint32(2)), 13, 15, 26, 6)
    x0 = uint32(x0 + k0)
    x1 = uint32(x1 + k1 + uint32(3))
    x0 = uint32(x0 + x1)
    return x0, uint32(rotated(x1, 17) ^ x0)


@inlined
def xoshiro(s0: Word, s1: Word, s2: Word, s3: Word) -> tuple[Word, Word, Word, Word, Word]:
    """A word of xoshiro128+ and the next state. Its lowest bits are weak: all that is made of it uses the high ones."""
    result = uint32(s0 + s3)
    shifted = uint32(s1 << uint32(9))
    s2 = uint32(s2 ^ s0)
    s3 = uint32(s3 ^ s1)
    s1 = uint32(s1 ^ s2)
    s0 = uint32(s0 ^ s3)
    s2 = uint32(s2 ^ shifted)
    return result, s0, s1, s2, rotated(s3, 11)
