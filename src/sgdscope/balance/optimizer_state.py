"""Optimizer state under a rescaling: what an optimizer remembers of gradients goes along with them.

Where a weight is multiplied by f its gradient is divided by f, so momentum becomes what it would be had all past
gradients been taken at the rescaled weights, and second moments too. Only what weight decay added to a gradient (in SGD
and Adam, not in AdamW) goes the other way: it is small, and forgotten within the memory of the optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Adagrad, Adam, AdamW, NAdam, Optimizer, RAdam, RMSprop

_ADAM = {"exp_avg": -1, "exp_avg_sq": -2, "max_exp_avg_sq": -2, "step": 0, "mu_product": 0}
_POWERS: dict[type[Optimizer], dict[str, int]] = {
    torch.optim.SGD: {"momentum_buffer": -1},
    **dict.fromkeys((Adam, AdamW, NAdam, RAdam), _ADAM),
    RMSprop: {"square_avg": -2, "grad_avg": -1, "momentum_buffer": 0, "step": 0},  # its momentum is of unit-free steps
    Adagrad: {"sum": -2, "step": 0},
}
"""Power of f with which each entry of the state goes."""


def check_state(optimizer: Optimizer) -> None:
    """Raises ValueError for an optimizer whose state is not known to go along."""
    known = _POWERS.get(type(optimizer))
    kept = {key for state in optimizer.state.values() for key in state}
    if known is None and kept:
        names = ", ".join(kind.__name__ for kind in _POWERS)
        raise ValueError(
            f"expected one of {names}, got {type(optimizer).__name__}, whose state under a rescaling is not known\n"
            "hint: apply() without it, and let the optimizer start anew"
        )
    if strange := sorted(kept - set(known or ())):
        raise ValueError(f"expected the state of {type(optimizer).__name__} as torch keeps it, got {strange[0]!r} too")


def rescale_state(optimizer: Optimizer, factors: Mapping[nn.Parameter, Tensor]) -> None:
    """Move the state of the parameters in place; `factors` has the shape of each."""
    known = _POWERS.get(type(optimizer), {})
    with torch.no_grad():
        for parameter, factor in factors.items():
            for key, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and known[key]:
                    value.copy_(value.double() * factor.pow(known[key]))
