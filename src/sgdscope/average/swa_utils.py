"""Functions for torch.optim.swa_utils.AveragedModel, and so for Lightning's WeightAveraging, which is built on it.

They see how many models were averaged and not the step: say by `every` how many steps apart they are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sgdscope.average.recursion import RecursiveAverage
from sgdscope.average.tensors import is_averaged, move_
from sgdscope.theory.averaging.arguments import count


def multi_avg_fn(
    average: RecursiveAverage, *, every: int = 1
) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """The rule of `average`, for all tensors at once: ``AveragedModel(model, multi_avg_fn=multi_avg_fn(EMA(0.999)))``.

    AveragedModel is updated every `every` steps, the first time that many steps after the start. With its
    ``use_buffers=True``, which Lightning sets, whole numbers are those of the newest model. Averages have the precision
    of the model there: in half precision small updates are lost, so keep those with `average` itself.
    """
    share = _shares(average, every)

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], taken: Tensor | int) -> None:
        if averaged and is_averaged(averaged[0]):  # they come sorted by dtype
            move_(averaged, current, share(int(taken)))
        else:
            torch._foreach_copy_(averaged, current)

    return update


def avg_fn(average: RecursiveAverage, *, every: int = 1) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """The same for one tensor at a time: ``AveragedModel(model, avg_fn=avg_fn(EMA(0.999)))``."""
    share = _shares(average, every)

    @torch.no_grad()
    def update(averaged: Tensor, current: Tensor, taken: Tensor | int) -> Tensor:
        return torch.lerp(averaged, current.to(averaged), share(int(taken))) if is_averaged(averaged) else current

    return update


def _shares(average: RecursiveAverage, every: int) -> Callable[[int], float]:
    """Share of the newest model after `taken` of them."""
    if not isinstance(average, RecursiveAverage):
        raise ValueError(
            f"expected an average of one copy (EMA, PowerEMA, UniformAverage), got {type(average).__name__}: it keeps "
            "several models, for which AveragedModel has no room"
        )
    count(every, "steps between updates")
    return lambda taken: average.share(average.start + (taken + 1) * every, average.start + taken * every, taken)
