"""What a change would do: exact on quadratics, right on the cases of a network at its edge."""

import pytest
import torch
from torch import nn

from sgdscope.data import load_digits
from sgdscope.estimate import Estimate
from sgdscope.models import build
from sgdscope.risk import Risk
from sgdscope.sampler import Sampler
from sgdscope.theory import stability
from sgdscope.what_if import SPIKE, predict_change, usual_changes


def quadratic(samples=16):
    """½ h x² per sample in one dimension, with h = 3 for all: every curvature there is, is 3."""
    return Risk.of_function(
        lambda p, batch: 0.5 * (batch * p[0] ** 2).mean(),
        [torch.ones(1, dtype=torch.float64)],
        torch.full((samples, 1), 3.0, dtype=torch.float64),
    )


def test_the_position_is_curvature_over_the_new_threshold():
    found = predict_change(quadratic(), lr=0.5, batch_size=4)
    assert float(found) == pytest.approx(3 * 0.5 / 2)
    assert found.settings == {"change": "lr 0.5, batch size 4", "lr": 0.5, "batch_size": 4}
    momentum = predict_change(quadratic(), lr=0.5, batch_size=4, momentum=0.9, change="mine")
    assert float(momentum) == pytest.approx(3 * 0.5 / (2 * 0.1))
    assert momentum.settings["change"] == "mine"


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_all_data_in_one_batch_is_full_batch_descent(momentum, nesterov):
    found = predict_change(quadratic(), lr=0.5, batch_size=16, momentum=momentum, nesterov=nesterov)
    level = stability.full_batch_threshold(0.5, momentum, nesterov=nesterov).value
    assert float(found) == pytest.approx(3 / level)
    drawn = predict_change(quadratic(), lr=0.5, batch_size=16, momentum=momentum, replacement=True)
    assert float(drawn) == pytest.approx(3 / stability.threshold(0.5, momentum).value)


def test_full_batch_descent_is_judged_by_the_largest_eigenvalue():
    # the gradient lies along the flat direction: along it nothing would be seen
    risk = Risk.of_function(
        lambda p, batch: (batch * (p[0][0] ** 2 / 20 + 2 * (p[0][1] - 1e-3) ** 2)).mean(),
        [torch.tensor([5.0, 0.0], dtype=torch.float64)], torch.ones(8, 1, dtype=torch.float64),
    )  # fmt: skip
    assert float(predict_change(risk, lr=1.0, batch_size=8)) == pytest.approx(2.0, rel=1e-3)


def test_the_usual_changes():
    doubled, halved = usual_changes(quadratic(), {"method": "sgd"}, lr=0.1, batch_size=8)
    assert [e.settings["change"] for e in (doubled, halved)] == ["double the learning rate", "halve the batch"]
    assert (doubled.settings["lr"], doubled.settings["batch_size"]) == (0.2, 8)
    assert (halved.settings["lr"], halved.settings["batch_size"]) == (0.1, 4)
    assert float(doubled) == pytest.approx(0.3)
    assert float(halved) == pytest.approx(0.15)
    assert len(usual_changes(quadratic(), {"method": "sgd"}, lr=0.1, batch_size=1)) == 1


def test_what_is_known_is_not_measured_again():
    known = Estimate("batch_sharpness", 7.0, 0.5, count=9)
    doubled, _ = usual_changes(quadratic(), {"method": "sgd"}, lr=0.1, batch_size=8, known=known)
    assert (float(doubled), doubled.standard_error, doubled.count) == (pytest.approx(0.7), pytest.approx(0.05), 9)
    doubled, _ = usual_changes(quadratic(), {"method": "sgd"}, lr=0.1, batch_size=16, known=known)
    assert float(doubled) == pytest.approx(0.3)  # all data: batch sharpness is not the quantity


@pytest.mark.parametrize(("method", "lr"), [("AdamW", 0.1), ("SGD with dampening", 0.1), ("sgd", 0.0)])
def test_where_no_theory_names_a_threshold_nothing_is_predicted(method, lr):
    assert usual_changes(quadratic(), {"method": method}, lr=lr, batch_size=8) == []


def test_what_cannot_be_measured_says_why():
    risk = quadratic()
    with torch.no_grad():
        risk.parameters[0].fill_(float("inf"))
    found = predict_change(risk, lr=0.5, batch_size=4)
    assert (found.value, found.status) == (None, "diverged")
    assert found.reason == "the loss or its derivatives are not finite"
    with pytest.raises(ValueError, match="expected a learning rate > 0, got 0"):
        predict_change(quadratic(), lr=0.0, batch_size=4)
    with pytest.raises(ValueError, match="expected a batch size between 1 and 16"):
        predict_change(quadratic(), lr=0.1, batch_size=17)


# -- a network at its edge (eoss.md, section 8.9 and the edge tests of section 9) -------------------------------------


def loss_fn(model, batch):
    return 0.5 * (model(batch[0]) - batch[1]).square().sum(1).mean()


class AtTheEdge:
    """256 digits, tanh, width 32, float64, η = 0.5, b = 8, after 15,000 steps; and four times 1500 steps later.

    Batch sharpness wanders along the plateau (0.88 to 1.00 here), and all positions with it: means are held against
    the values of theory's table.
    """

    def __init__(self):
        digits = load_digits(subset=256, test=False)
        self.data = digits.inputs.double(), nn.functional.one_hot(digits.labels, 10).double()
        self.model = build("mlp", input_shape=digits.input_shape, classes=10, width=32, depth=1, activation="tanh",
                           initialisation="uniform-zero-bias").double()  # fmt: skip
        self.risk = Risk(self.model, loss_fn, self.data)
        self.train(15_000, lr=0.5, batch_size=8, seed=0)
        self.states = [self.state()]
        for seed in range(4):
            self.train(1500, lr=0.5, batch_size=8, seed=10 + seed)
            self.states.append(self.state())

    def state(self):
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def predicted(self, **change):
        """The prediction at each of the states."""
        found = []
        for state in self.states:
            self.model.load_state_dict(state)
            found.append(predict_change(self.risk, **change))
        return found

    def train(self, steps, *, lr, batch_size, seed):
        """Largest full loss on the way, looked at every ten steps."""
        sampler = Sampler(256, batch_size, replacement=False, seed=seed)
        parameters = list(self.model.parameters())
        peak = 0.0
        for step in range(steps):
            chosen = sampler.next()
            loss = loss_fn(self.model, (self.data[0][chosen], self.data[1][chosen]))
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, gradients, alpha=-lr)
            if steps < 1000 and step % 10 == 0:
                peak = max(peak, self.risk.value())
        return peak

    def fork(self, seed=1, **change):
        """Peak of the full loss over 200 steps after a change, against its value before."""
        self.model.load_state_dict(self.states[0])
        before = self.risk.value()
        return self.train(200, **{"lr": 0.5, "batch_size": 8, **change}, seed=seed) / before


@pytest.fixture(scope="session")
def at_the_edge():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more only cost
    yield AtTheEdge()
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "low", "high"),
    [
        ({"lr": 0.5, "batch_size": 8}, 0.84, 1.03),
        ({"lr": 0.5, "batch_size": 4}, 1.30, 1.55),
        ({"lr": 0.5, "batch_size": 32}, 0.57, 0.69),
        ({"lr": 0.75, "batch_size": 8}, 1.28, 1.55),
        ({"lr": 0.25, "batch_size": 8}, 0.42, 0.52),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_positions_at_the_edge(at_the_edge, change, low, high):
    found = at_the_edge.predicted(**change)
    assert low < sum(map(float, found)) / len(found) < high
    assert all(e.standard_error < 0.03 * float(e) for e in found)


@pytest.mark.slow
def test_what_is_predicted_happens(at_the_edge):
    control = at_the_edge.fork()
    for change, spikes in (({"batch_size": 4}, True), ({"lr": 0.75}, True), ({"batch_size": 32}, False),
                           ({"lr": 0.25}, False)):  # fmt: skip
        predicted = at_the_edge.predicted(**{"lr": 0.5, "batch_size": 8, **change})[0]
        assert (float(predicted) > SPIKE) == spikes
        peak = at_the_edge.fork(**change)
        assert (not peak < 4 * control) if spikes else peak < 1.5 * control  # divergence may end in NaN
