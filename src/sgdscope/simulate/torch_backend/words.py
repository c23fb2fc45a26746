"""Words: the generators of `simulate.keyed` in torch operations on signed 32-bit integers, which wrap around alike.

Torch has no shift of unsigned integers: a shift to the right copies the sign and is masked. Bits are turned by shifting
one part to the right and adding the word times a power of two, as both do not overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sgdscope.simulate.keyed import PARITY, ROTATIONS

Counter = Tensor | int


def signed(word: int) -> int:
    """The signed 32-bit integer of the same bits as the lowest 32 of a number."""
    return (word + (1 << 31)) % (1 << 32) - (1 << 31)


def shifted(x: Tensor, places: int) -> Tensor:
    """Bits moved to the right by 1 to 31 places, zeros coming in."""
    return (x >> places).bitwise_and_((1 << (32 - places)) - 1)


class Schedule:
    """The words that Threefry2x32 adds between its rounds, from the two words of the key of each lane."""

    def __init__(self, keys: Sequence[Tensor]) -> None:
        third = (keys[0] ^ keys[1]).bitwise_xor_(PARITY)
        words = (keys[0], keys[1], third)
        self.start = (keys[0], keys[1])
        self.added = [(words[n % 3], words[(n + 1) % 3] + n) for n in (1, 2, 3)]
        self._buffers = [torch.empty_like(keys[0]) for _ in range(3)]

    def words(self, low: Counter, high: Counter) -> tuple[Tensor, Tensor]:
        """Two words for the counter (signed integers, or tensors without dimension) in each lane, by 13 rounds.

        They are overwritten by the next call: on a CPU fresh memory costs as much as an operation.
        """
        x0, x1, turned = self._buffers
        torch.add(self.start[0], low, out=x0)
        torch.add(self.start[1], high, out=x1)
        for i in range(13):
            places = ROTATIONS[i % 8]
            x0 += x1
            torch.bitwise_right_shift(x1, 32 - places, out=turned)
            turned &= (1 << places) - 1
            turned.add_(x1, alpha=1 << places)
            torch.bitwise_xor(turned, x0, out=x1)
            if i % 4 == 3:
                first, second = self.added[i // 4]
                x0 += first
                x1 += second
        return x0, x1


def xoshiro(state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """A word of xoshiro128+ in each lane, and the next state, of four words."""
    s0, s1, s2, s3 = state
    result = s0 + s3
    a, b = s2 ^ s0, s3 ^ s1
    return result, [s0 ^ b, s1 ^ a, a ^ (s1 << 9), torch.add(shifted(b, 21), b, alpha=1 << 11)]
