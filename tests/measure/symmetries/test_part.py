"""Part: sums and factors of the slices that units own, whatever way they lie in a parameter."""

from __future__ import annotations

import torch

from sgdscope.measure.symmetries import Part
from sgdscope.measure.symmetries.part import quadratic

VALUES = torch.arange(12, dtype=torch.float64).reshape(6, 2)


def test_a_range_of_rows_with_two_rows_to_a_unit():
    """As the keys in a layer that holds queries, keys and values."""
    part = Part("qkv.weight", (6, 2), (0,), -1.0, torch.tensor([-1, -1, 0, 0, 1, 1]))
    assert part.sums(VALUES).tolist() == [-(4 + 5 + 6 + 7), -(8 + 9 + 10 + 11)]
    factors = part.factors(torch.tensor([2.0, 4.0]), VALUES)
    assert factors[:, 0].tolist() == factors[:, 1].tolist() == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert part.slices == "qkv.weight[i in 2:6]"
    assert not part.whole


def test_owners_and_dimensions_say_the_same():
    split = Part("w", (3, 2, 2), (0,), 1.0)
    owned = Part("w", (6, 2), (0,), 1.0, torch.arange(3).repeat_interleave(2))
    scales = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    assert torch.equal(split.sums(VALUES), owned.sums(VALUES))
    assert torch.equal(split.factors(scales, VALUES), owned.factors(scales, VALUES))
    assert split.whole
    assert owned.whole
    assert quadratic((split,), {"w": VALUES}, 3).tolist() == [14, 126, 366]


def test_units_in_two_dimensions():
    part = Part("w", (2, 3, 2), (0, 2), 2.0)
    assert part.sums(VALUES).tolist() == [2 * s for s in (0 + 2 + 4, 1 + 3 + 5, 6 + 8 + 10, 7 + 9 + 11)]
    assert part.factors(torch.tensor([1.0, 2.0, 3.0, 4.0]), VALUES)[:3].tolist() == [[1, 4]] * 3
