"""Schedules: learning-rate schedules of torch as averages of a constant-rate run, and averages as schedules.

Under frozen gradients the average with weights w of the iterates of SGD at a constant rate λ is the last iterate at the
rates ``λ_t = λ Σ_{s ≥ t} w_s``, and the other way round: an identity (Sandler et al. 2301.02312, Sec. 4; with other
names in WSM 2507.17634). In a mode of one curvature there is a pair that is exact. Fast modes see a difference: what an
average removes of their noise, a schedule removes less of; `theory.averaging.interchangeable` says by how much.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from sgdscope.theory import averaging as theory
from sgdscope.theory.averaging import Average

_OWN = ("optimizer", "_schedulers")
"""What is not copied of a scheduler, but made anew."""


class ScheduleWarning(UserWarning):
    """An average and a schedule that stand for each other only roughly; the message says where they part."""


def learning_rates(scheduler: LRScheduler, steps: int, *, group: int = 0) -> NDArray[np.float64]:
    """The rates that a scheduler will give to the next `steps` steps, shape (steps,). It stays as it is.

    Args:
        scheduler: any of torch's but `ReduceLROnPlateau`, stepped once per step of the optimizer.
        steps: how many.
        group: number of the parameter group.

    Raises ValueError for no steps, a group that is not there, and for a schedule that depends on the loss.
    """
    if steps < 1:
        raise ValueError(f"expected at least one step, got {steps}")
    if not 0 <= group < len(scheduler.optimizer.param_groups):
        raise ValueError(f"expected a group below {len(scheduler.optimizer.param_groups)}, got {group}")
    copied = _copied(scheduler, _stand_in(scheduler.optimizer))
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, on the order of steps, which the stand-in does not take
        for _ in range(steps):
            rates.append(float(copied.optimizer.param_groups[group]["lr"]))
            copied.step()
    return np.array(rates)


def average_of(
    schedule: LRScheduler | Sequence[float] | NDArray[np.float64], steps: int | None = None, *, lr: float | None = None,
    curvature: float | None = None, curvatures: Sequence[float] = (), group: int = 0,
) -> Average:  # fmt: skip
    """The average of a run at constant learning rate that stands for a schedule.

    Args:
        schedule: a scheduler of torch (then with `steps`), or the learning rates of a run, one per step.
        steps: length of the run.
        lr: the constant rate; by default the largest of the schedule.
        curvature: make it exact in a mode of this curvature, instead of for frozen gradients.
        curvatures: of modes for which a `ScheduleWarning` is given where the two are not interchangeable.
        group: parameter group of the scheduler.

    A schedule that rises (warm-up) gives negative weights, said as a `ScheduleWarning`. Raises ValueError as
    `learning_rates`, and for rates that are negative.
    """
    if isinstance(schedule, LRScheduler):
        if steps is None:
            raise ValueError("expected the number of steps of the run beside a scheduler")
        rates = learning_rates(schedule, steps, group=group)
    else:
        rates = np.asarray(schedule, dtype=np.float64)
    found = theory.frozen_average(rates, lr) if curvature is None else theory.exact_average(rates, curvature, lr)
    _warn([*found.warnings, *_differences(found, float(rates.max()) if lr is None else lr, curvatures)])
    return found


def schedule_of(
    average: Average, optimizer: Optimizer, steps: int, *, curvature: float | None = None,
    curvatures: Sequence[float] = (),
) -> LambdaLR:  # fmt: skip
    """The schedule that stands for an average of a run at the optimizer's learning rate, as a scheduler of torch.

    Args:
        average: from `theory.averaging.averages`, or ``weights(steps)`` of an averaging object.
        optimizer: whose present learning rates are the constant ones; step the scheduler once after each of its steps.
        steps: length of the run; later steps keep the last rate.
        curvature: make it exact in a mode of this curvature, instead of for frozen gradients.
        curvatures: of modes for which a `ScheduleWarning` is given where the two are not interchangeable.

    Raises ValueError for an average that reaches back beyond the run, and where the exact schedule does not exist or
    would have to be negative.
    """
    base = float(optimizer.param_groups[0]["lr"])
    whole = average.over(steps)
    rates = theory.frozen_schedule(whole, base) if curvature is None else theory.exact_schedule(whole, base, curvature)
    factors = np.asarray(rates, dtype=np.float64).reshape(-1) / base
    if factors.min() < 0:
        raise ValueError(
            f"{average.name} stands for a schedule with negative rates (down to {factors.min() * base:.3g}): no "
            "optimizer takes them; use the average itself"
        )
    _warn(_differences(average, base, curvatures))
    last = len(factors) - 1
    return LambdaLR(optimizer, lambda step: float(factors[min(step, last)]))


def _differences(average: Average, lr: float, curvatures: Sequence[float]) -> tuple[str, ...]:
    stable = [h for h in curvatures if 0 < lr * h < 2]
    return theory.interchangeable(average, lr, stable).warnings if stable and average.weights.min() >= 0 else ()


def _warn(said: Sequence[str]) -> None:
    for sentence in said:
        warnings.warn(sentence, ScheduleWarning, stacklevel=3)


def _stand_in(optimizer: Optimizer) -> Optimizer:
    """An optimizer of empty parameters with the same settings in each group: the model is not copied."""
    groups = [
        {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}
        | {"params": [torch.zeros(0, requires_grad=True)]}
        for group in optimizer.param_groups
    ]
    made = torch.optim.SGD(groups, lr=0.0)
    for new, group in zip(made.param_groups, groups, strict=True):
        new.update({key: value for key, value in group.items() if key != "params"})
    return made


def _copied(scheduler: LRScheduler, optimizer: Optimizer) -> LRScheduler:
    """The scheduler over another optimizer, with a state of its own; so for the schedulers within it."""
    if isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError("expected a schedule known in advance, ReduceLROnPlateau depends on the losses to come")
    copied = copy.copy(scheduler)
    for key, value in vars(scheduler).items():
        if key not in _OWN and not callable(value):
            setattr(copied, key, copy.deepcopy(value) if _plain(value) else value)
    copied.optimizer = optimizer
    parts = getattr(scheduler, "_schedulers", None)
    if parts is not None:
        copied.__dict__["_schedulers"] = [_copied(part, optimizer) for part in parts]
    return copied


def _plain(value: object) -> bool:
    """Whether it is a number, a text, or made of such: functions given by the user are shared, not copied."""
    if isinstance(value, list | tuple | set | dict):
        return all(_plain(part) for part in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, int | float | str | bool | torch.Tensor) or type(value).__module__ == "collections"
