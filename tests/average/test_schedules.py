"""Schedules of torch as averages, and averages as schedules."""

import warnings

import numpy as np
import pytest
import torch
from torch.optim import SGD, lr_scheduler

from sgdscope.average.schedules import ScheduleWarning, average_of, learning_rates, schedule_of
from sgdscope.theory.averaging import averages, exact_average, frozen_average

LR, STEPS = 0.3, 40


def optimizer(lr=LR, **settings):
    return SGD([torch.zeros(3, requires_grad=True)], lr=lr, **settings)


SCHEDULERS = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS),
    "linear": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, STEPS),
    "step": lambda o: lr_scheduler.StepLR(o, 7, 0.5),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.93),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 2.0, total_steps=STEPS + 20),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 9),
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 5), lr_scheduler.CosineAnnealingLR(o, 30)], milestones=[5]
    ),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.1, 4), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
}


def really(scheduler, steps):
    rates = []
    for _ in range(steps):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return np.array(rates)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("before", [0, 6])
def test_rates_are_those_to_come_and_the_scheduler_stays(name, before):
    settings = {"momentum": 0.9} if name == "one cycle" else {}
    scheduler = SCHEDULERS[name](optimizer(**settings))
    really(scheduler, before)
    state, group = dict(scheduler.state_dict()), dict(scheduler.optimizer.param_groups[0])
    said = learning_rates(scheduler, STEPS)
    assert scheduler.optimizer.param_groups[0] == group
    assert {k: v for k, v in scheduler.state_dict().items() if k != "_schedulers"} == {
        k: v for k, v in state.items() if k != "_schedulers"
    }
    assert said == pytest.approx(really(scheduler, STEPS), rel=1e-12)


def test_groups_have_rates_of_their_own():
    two = SGD([{"params": [torch.zeros(1)], "lr": 0.1}, {"params": [torch.zeros(1)], "lr": 0.4}], lr=1.0)
    scheduler = lr_scheduler.ExponentialLR(two, 0.5)
    assert learning_rates(scheduler, 2, group=1) == pytest.approx([0.4, 0.2])


@pytest.mark.parametrize("name", ["cosine", "linear", "step", "exponential", "lambda"])
def test_round_trip(name):
    scheduler = SCHEDULERS[name](optimizer())
    rates = learning_rates(scheduler, STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        average = average_of(scheduler, STEPS)
    assert average.weights == pytest.approx(frozen_average(rates).weights)
    assert average.weights.sum() == pytest.approx(1)
    again = schedule_of(average, optimizer(), STEPS)
    assert really(again, STEPS) == pytest.approx(rates, abs=1e-12)


def test_exact_in_a_mode():
    # SGD on ½ h (x − c)² with the schedule ends where the average of the constant-rate run is
    h, rng = 1.3, np.random.default_rng(0)
    scheduler = schedule_of(averages.ema(0.9, STEPS), optimizer(), STEPS, curvature=h)
    rates = really(scheduler, STEPS)
    minima = rng.normal(size=STEPS)
    constant, scheduled, path = 1.0, 1.0, [1.0]
    for c, rate in zip(minima, rates, strict=True):
        constant -= LR * h * (constant - c)
        scheduled -= rate * h * (scheduled - c)
        path.append(constant)
    assert scheduled == pytest.approx(averages.ema(0.9, STEPS).weights @ path, abs=1e-12)
    back = average_of(rates, lr=LR, curvature=h)
    assert back.weights == pytest.approx(exact_average(rates, h, LR).weights)
    assert back.weights == pytest.approx(averages.ema(0.9, STEPS).weights, abs=1e-12)


def test_a_window_is_a_linear_decay_and_later_steps_keep_the_last_rate():
    scheduler = schedule_of(averages.window(10), optimizer(), STEPS)
    rates = really(scheduler, STEPS + 3)
    assert rates[: STEPS - 10] == pytest.approx([LR] * (STEPS - 10))
    assert rates[STEPS - 10 : STEPS] == pytest.approx(LR * np.arange(10, 0, -1) / 10)
    assert rates[STEPS:] == pytest.approx([LR / 10] * 3)


def test_warnings():
    with pytest.warns(ScheduleWarning, match="negative"):
        average_of(SCHEDULERS["sequence"](optimizer()), STEPS)
    with pytest.warns(ScheduleWarning, match="not interchangeable"):
        schedule_of(averages.window(30), optimizer(), STEPS, curvatures=[3.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule_of(averages.window(30), optimizer(), STEPS, curvatures=[1e-4])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: learning_rates(lr_scheduler.ReduceLROnPlateau(optimizer()), 5), "losses to come"),
        (lambda: learning_rates(SCHEDULERS["step"](optimizer()), 0), "at least one step"),
        (lambda: learning_rates(SCHEDULERS["step"](optimizer()), 5, group=1), "group below 1"),
        (lambda: average_of(SCHEDULERS["step"](optimizer())), "number of steps"),
        (lambda: average_of([0.1, -0.1]), "learning rates ≥ 0"),
        (lambda: schedule_of(averages.window(50), optimizer(), 40), "40"),
        (lambda: schedule_of(averages.given([2.0, -1.0, 0.0]), optimizer(), 5), "no optimizer takes them|negative"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
