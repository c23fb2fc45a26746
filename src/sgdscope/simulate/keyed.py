"""Keyed random numbers: what a trajectory draws depends on the seed, its number and the step, and on nothing else.

The generator is Threefry2x32 (Salmon, Moraes, Dror & Shaw, SC 2011): a bijection of a counter of two 32-bit words under
a key of two. Three levels use it:

- the *key of a trajectory* is its number (64 bits: low word, high word) encrypted with 20 rounds under the seed
  (64 bits: low word, high word), so that seeds and trajectories may be as many as one likes;
- the *words of a draw* are its counter encrypted with 13 rounds under the key of the trajectory. The counter is the low
  32 bits of the draw's number and, in the second word, 16 bits of stream below the next 16 bits of the number;
- the *state of the fast generator* (xoshiro128+, Blackman & Vigna 2018) is two encrypted counters of a stream no draw
  uses.

This file is the plain reading of all this in NumPy. `simulate.generators` has the same for compiled code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Words = np.ndarray[Any, np.dtype[np.uint32]]

PARITY = 0x1BD11BDA
ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PART = 1 << 18
MAX_DRAWS = 1 << 48
"""Draws of a trajectory: steps times draws in a step."""
MAX_STREAMS = (1 << 16) - 2
"""Streams of a draw; the two last are kept for the state of the fast generator."""


def threefry(key: tuple[ArrayLike, ArrayLike], counter: tuple[ArrayLike, ArrayLike], rounds: int = 13) -> Words:
    """Two words for each key and counter, whose entries are broadcast against each other; of shape (2, ...).

    The published vectors for key and counter zero are 9d1c5ec6 8bd50731 after 13 rounds, 6b200159 99ba4efe after 20.
    """
    k0, k1, c0, c1 = np.broadcast_arrays(*(np.asarray(word, dtype=np.uint32) for word in (*key, *counter)))
    schedule = (k0, k1, k0 ^ k1 ^ np.uint32(PARITY))
    with np.errstate(over="ignore"):  # words wrap around
        x0, x1 = c0 + k0, c1 + k1
        for i in range(rounds):
            turn = ROTATIONS[i % 8]
            x0 = x0 + x1
            x1 = (x1 << np.uint32(turn) | x1 >> np.uint32(32 - turn)) ^ x0
            if i % 4 == 3:
                n = i // 4 + 1
                x0, x1 = x0 + schedule[n % 3], x1 + schedule[(n + 1) % 3] + np.uint32(n)
    return np.stack([x0, x1])


def trajectory_keys(seed: int, first: int, count: int) -> Words:
    """Keys of the trajectories first, first + 1, …; of shape (2, count). Raises ValueError beyond 64 bits."""
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"expected a seed from 0 to 2**64 − 1, got {seed}")
    if first < 0 or count < 0 or first + count > 1 << 64:
        raise ValueError(f"expected trajectories numbered from 0 to 2**64 − 1, got {count} from {first} on")
    keys = np.empty((2, count), np.uint32)
    for part in _parts(count):
        number = np.uint64(first) + np.arange(part.start, part.stop, dtype=np.uint64)
        words = number.astype(np.uint32), (number >> np.uint64(32)).astype(np.uint32)
        keys[:, part] = threefry(_words(seed), words, rounds=20)
    return keys


def draw_words(keys: Words, draw: int, stream: int = 0) -> Words:
    """The two words of one draw for each trajectory; of shape (2, count)."""
    return threefry((keys[0], keys[1]), (draw & 0xFFFFFFFF, (draw >> 32) << 16 | stream))


def xoshiro_words(keys: Words) -> Words:
    """States of the fast generator for each trajectory, none of them all zero; of shape (4, count)."""
    state = np.empty((4, keys.shape[1]), np.uint32)
    for part in _parts(keys.shape[1]):
        for i in (0, 1):
            state[2 * i : 2 * i + 2, part] = draw_words(keys[:, part], 0, MAX_STREAMS + i)
    state[0] |= (state == 0).all(axis=0)
    return state


def _parts(count: int) -> list[slice]:
    """Slices that bound the memory that words are worked out in."""
    return [slice(begin, min(begin + _PART, count)) for begin in range(0, count, _PART)]


def _words(number: int) -> tuple[int, int]:
    return number & 0xFFFFFFFF, number >> 32
