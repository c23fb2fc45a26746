"""Half learning rate: settled SGD passes the check, and what does not says why."""

import pytest
import torch

from sgdscope.risk import Risk
from sgdscope.trajectory import half_learning_rate

SPECTRUM = torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64)


def noisy_quadratic(scale=1.0, third=0.0):
    minima = torch.randn(64, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    minima = scale * (minima - minima.mean(0))

    def loss(parameters, batch):
        x = parameters[0] - batch
        return (0.5 * (SPECTRUM * x.square()).sum(-1) + third * (parameters[0] ** 4).sum(-1)).mean()

    return Risk.of_function(loss, [torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)], minima)


def sgd(risk, lr, steps, every, *, momentum=0.0, skip=0):
    """Iterates of SGD with single samples drawn with replacement, each `every` steps."""
    generator = torch.Generator().manual_seed(1)
    theta = risk.parameters[0].detach().clone()
    velocity = torch.zeros_like(theta)
    minima = risk.source.batch
    for t in range(steps):
        row = torch.randint(64, (1,), generator=generator)
        velocity = momentum * velocity + SPECTRUM * (theta - minima[row][0])
        theta = theta - lr * velocity
        if t >= skip and t % every == 0:
            yield [theta.clone()]


@pytest.mark.slow
def test_settled_sgd_passes_and_with_momentum_at_its_own_constant():
    risk, lr = noisy_quadratic(), 0.3
    plain = half_learning_rate(risk, 1, lr, points=sgd(risk, lr, 20000, 25, skip=1000), replacement=True,
                               batches=4, tolerance=0.2)  # fmt: skip
    ratio = plain.verdict.measured
    assert plain.settled, str(plain)
    assert ratio.standard_error < 0.03
    assert abs(float(ratio) - 0.5) < 3 * ratio.standard_error
    heavy = list(sgd(risk, 0.01, 30000, 100, momentum=0.9, skip=3000))
    known = half_learning_rate(risk, 1, 0.01, points=heavy, momentum=0.9, replacement=True, batches=4,
                               tolerance=0.3)  # fmt: skip
    assert known.settled, str(known)
    assert known.verdict.predicted == pytest.approx(5.0)
    unknown = half_learning_rate(risk, 1, 0.01, points=heavy, replacement=True, batches=2)
    assert unknown.settled is False
    assert any(f"a momentum of about {guess}" in r for r in unknown.reasons for guess in ("0.88", "0.89", "0.9"))


def test_a_run_that_still_descends_fails_for_that_reason():
    risk = noisy_quadratic(scale=0.1)
    found = half_learning_rate(risk, 4, 0.1, points=sgd(risk, 0.1, 40, 2), replacement=True, batches=4)
    assert found.settled is False
    assert float(found.verdict.measured) > 1
    assert any(reason.startswith("not stationary: from the earlier half of the points to the later the loss falls")
               for reason in found.reasons)  # fmt: skip
    assert "disagrees" in str(found)


def test_a_loss_that_is_not_quadratic_is_seen():
    risk = noisy_quadratic(third=0.5)
    points = [[torch.tensor([1.0, -0.8, x], dtype=torch.float64)] for x in (0.5, 0.6, 0.7, 0.8)]
    found = half_learning_rate(risk, 8, 0.2, points=points)
    assert any("not quadratic" in reason for reason in found.reasons)


def test_one_point_alone_says_that_it_is_one():
    found = half_learning_rate(noisy_quadratic(), 8, 0.3)
    assert any("measured at one point" in reason for reason in found.reasons)
    bowl = Risk.of_function(lambda p: -p[0].square().sum(), [torch.ones(2).double()])
    upside_down = half_learning_rate(bowl, 1, 0.1)
    assert upside_down.settled is None
    assert "does not curve upwards" in upside_down.reasons[0]
    with pytest.raises(ValueError, match=r"expected momentum in \[0, 1\)"):
        half_learning_rate(bowl, 1, 0.1, momentum=1.0)
