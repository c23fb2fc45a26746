"""Regions: the slices that all units of a part own together, whatever way they lie in a parameter."""

import pytest
import torch
from torch import nn

from sgdscope.measure.symmetries import Part, Symmetries, Symmetry
from sgdscope.monitor.charge_window import Layers
from sgdscope.monitor.charges import ChargeStream
from sgdscope.monitor.discovery import Discovery
from sgdscope.monitor.regions import Region, regions_of
from sgdscope.monitor.schedule import Stride
from sgdscope.risk import Risk

OWNERS = torch.tensor([-1, 0, 0, -1, 1, 1])
PARTS = [
    (Part("w", (6, 4), (0,)), [Region("w")]),
    (Part("w", (3, 2, 4), (0,)), [Region("w")]),
    (Part("w", (6, 4), (0,), 1.0, torch.arange(6)), [Region("w")]),
    (Part("w", (6, 4), (0,), -1.0, OWNERS), [Region("w", (6, 4), 0, 1, 2), Region("w", (6, 4), 0, 4, 2)]),
    (Part("w", (4, 6), (1,), 1.0, OWNERS), [Region("w", (4, 6), 1, 1, 2), Region("w", (4, 6), 1, 4, 2)]),
    (Part("w", (2, 4, 3), (0, 2), 1.0, OWNERS), [Region("w", (24,), 0, a, b) for a, b in (
        (1, 2), (4, 2), (7, 2), (10, 2), (13, 2), (16, 2), (19, 2), (22, 2))]),
]  # fmt: skip


@pytest.mark.parametrize(("part", "regions"), PARTS[:5])
def test_they_are_ranges_of_the_parameter(part, regions):
    assert regions_of(part) == regions


@pytest.mark.parametrize("part", [part for part, _ in PARTS])
def test_together_they_hold_what_the_units_own(part):
    values = torch.arange(24, dtype=torch.float64)
    squares = sum(float(region.of(values).square().sum()) for region in regions_of(part))
    assert part.power * squares == float(part.sums(values.square()).sum())


def test_of_a_sparse_tensor():
    values = torch.arange(12.0).reshape(6, 2)
    assert torch.equal(Region("w", (6, 2), 0, 2, 3).of(values.to_sparse()), values[2:5])


def test_powers_given_by_hand_are_refused():
    with pytest.raises(ValueError, match="expected one power for all of w, got a tensor of powers"):
        regions_of(Part("w", (2,), (), torch.tensor([1.0, -1.0])))


class Fused(nn.Module):
    """One layer that writes a ReLU and a tanh branch: the first half of its rows can be rescaled, the other not."""

    def __init__(self):
        super().__init__()
        self.both, self.relu, self.tanh = nn.Linear(4, 6), nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        a, b = self.both(x).chunk(2, 1)
        return self.relu(torch.relu(a)) + self.tanh(torch.tanh(b))


def test_the_law_holds_for_slices_of_parameters():
    torch.manual_seed(0)
    model = Fused().double()
    data = torch.randn(20, 4).double(), torch.randn(20, 2).double()
    risk = Risk(model, lambda m, b: (m(b[0]) - b[1]).square().sum(1).mean(), data)
    halves = torch.tensor([0, 1, 2, -1, -1, -1])
    parts = (Part("relu.weight", (2, 3), (1,), 1.0), Part("both.weight", (6, 4), (0,), -1.0, halves),
             Part("both.bias", (6,), (0,), -1.0, halves))  # fmt: skip
    discovery = Discovery(risk)
    discovery.looked, discovery.symmetries = True, Symmetries((Symmetry("both → relu", "rescaling", 3, parts),))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    stream = ChargeStream(risk, optimizer, discovery, Stride(1.0, fixed=1), every=10)
    rows = []
    for step in range(21):
        optimizer.zero_grad()
        risk.loss_fn(model, tuple(t[step % 5 :: 5] for t in data)).backward()
        rows.append(stream.before_step(step, 1e-3))
        optimizer.step()
    found = [row for row in rows if row is not None]
    assert [row.settings["from_step"] for row in found] == [0, 0, 10]
    u, w, b = (p.detach().square() for p in (model.relu.weight, model.both.weight, model.both.bias))
    assert Layers.of(discovery.symmetries, risk).regions == (
        Region("relu.weight"), Region("both.weight", (6, 4), 0, 0, 3), Region("both.bias", (6,), 0, 0, 3)
    )  # fmt: skip
    assert stream.close(21).value == pytest.approx([float(u.sum() - w[:3].sum() - b[:3].sum())])
    for row in found[1:]:
        assert row.settings["law"] == []
        assert float(row.beside["identity_residual"]) < 1e-8
