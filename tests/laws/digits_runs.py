"""Small networks on digits, trained to the edge and read on the way: the setting of eoss.md, section 9.

Digits of scikit-learn, the first N of a fixed order, one-hot; ½ Σ (f − y)², mean over samples; one hidden layer of 32,
weights uniform in ±1/√fan_in, biases zero; double precision; a new order of the data every epoch. A seed is that of
the weights, of the order and of the noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from sgdscope.data import load_digits
from sgdscope.measure import batch_sharpness, gradient_noise_interaction, leading_eigenvalues
from sgdscope.models import build
from sgdscope.risk import Risk
from sgdscope.sampler import Sampler
from sgdscope.simulate import batch_noise
from sgdscope.simulate.batch_noise import Shape

QUANTITIES = ("lambda_max", "eor", "roe", "ias", "gni")
"""What is read, in edge units (times lr / 2): largest eigenvalue, batch sharpness as the expectation of the ratio and
as the ratio of expectations, interaction-aware sharpness, gradient-noise interaction."""


@dataclass(frozen=True)
class Setting:
    """A run: SGD, or with `noise` gradient descent plus Gaussian noise like that of a batch."""

    lr: float
    batch_size: int
    samples: int = 256
    activation: str = "tanh"
    momentum: float = 0.0
    noise: Shape | None = None
    width: int = 32
    depth: int = 1


class Diverged(Exception):  # noqa: N818
    """Raised with the step by which the loss was beyond a million, or not finite."""


def loss_fn(model, batch):
    return 0.5 * (model(batch[0]) - batch[1]).square().sum(1).mean()


def risk_at_start(setting: Setting, seed: int) -> Risk:
    digits = load_digits(subset=setting.samples, test=False)
    x, y = digits.inputs.double(), nn.functional.one_hot(digits.labels, 10).double()
    model = build("mlp", input_shape=digits.input_shape, classes=10, width=setting.width, depth=setting.depth,
                  activation=setting.activation, initialisation="uniform-zero-bias", seed=seed).double()  # fmt: skip
    return Risk(model, loss_fn, (x, y))


def trained(risk: Risk, setting: Setting, seed: int, *, start: int = 0) -> Iterator[int]:
    """Train in place; yields the number of steps taken after each."""
    x, y = risk.source.batch
    model, parameters = risk.model, risk.parameters
    sampler = Sampler(risk.size, setting.batch_size, replacement=False, seed=seed)
    generator, buffer = torch.Generator().manual_seed(seed), [torch.zeros_like(p) for p in parameters]
    step = start
    while True:
        if setting.noise is None:
            rows = sampler.next()
            change = torch.autograd.grad(loss_fn(model, (x[rows], y[rows])), parameters)
        else:
            noise = batch_noise(risk, setting.batch_size)
            drawn = noise.draw(setting.noise, generator=generator)
            change = torch._foreach_add(noise.gradient, drawn)
        with torch.no_grad():
            if setting.momentum:
                torch._foreach_mul_(buffer, setting.momentum)
                torch._foreach_add_(buffer, change)
                change = buffer
            torch._foreach_add_(parameters, change, alpha=-setting.lr)
        step += 1
        yield step


def reading(risk: Risk, setting: Setting, generator: torch.Generator) -> dict[str, float]:
    """The quantities in edge units, and the loss; 4096 samples drawn for batch sharpness, but at least 64 batches."""
    draws = max(64, 4096 // setting.batch_size)
    sharpness = batch_sharpness(risk, setting.batch_size, tolerance=1e-9, max_batches=draws, generator=generator)
    noise = gradient_noise_interaction(risk, setting.batch_size, batches=64, generator=generator)
    top = leading_eigenvalues(risk, tolerance=1e-3)
    found = (top.value[0] if isinstance(top.value, tuple) else top.value, sharpness.value,
             sharpness.beside["ratio_of_expectations"].value, noise.beside["interaction_aware_sharpness"].value,
             noise.value)  # fmt: skip
    scaled = {name: value * setting.lr / 2 for name, value in zip(QUANTITIES, found, strict=True)}
    return {**scaled, "loss": risk.value()}


def readings(
    setting: Setting, window: tuple[int, int], seed: int = 0, *, count: int = 40
) -> tuple[Risk, list[dict[str, float]]]:
    """Train to the end of the window and read `count` times inside, evenly; the risk as it ended, and the readings.

    Raises Diverged, looking every hundred steps.
    """
    first, last = window
    at = {last - round(k * (last - first) / count) for k in range(count)}
    risk, found = risk_at_start(setting, seed), []
    generator = torch.Generator().manual_seed(1000 + seed)
    for step in trained(risk, setting, seed):
        if step in at:
            found.append(reading(risk, setting, generator))
        if step % 100 == 0 and not risk.value() < 1e6:
            raise Diverged(step)
        if step == last:
            return risk, found
    raise AssertionError
