"""Optimizers seen from outside: what they are called, their learning rate, and where the hooks go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sgdscope.risk import Risk


def unwrapped(optimizer: Any) -> torch.optim.Optimizer:
    """The torch optimizer inside a wrapper. Raises ValueError if there is none."""
    inner = optimizer
    # Accelerate's wrapper calls itself an Optimizer, but has no tables of hooks: the real one is inside.
    while hasattr(inner, "optimizer") and not hasattr(inner, "_optimizer_step_pre_hooks"):
        inner = inner.optimizer
    if not isinstance(inner, torch.optim.Optimizer):
        raise ValueError(f"expected a torch.optim.Optimizer or a wrapper of one, got {type(optimizer).__name__}")
    return inner


def check_same_parameters(risk: Risk, optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError unless the optimizer steps exactly the parameters the risk looks at."""
    stepped = {id(p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
    own = {id(p) for p in risk.parameters}
    if own == stepped:
        return
    missing = [name for name, p in zip(risk.names, risk.parameters, strict=True) if id(p) not in stepped]
    what = (
        f"{len(missing)} of the risk's {len(own)} parameters are not in it (first: {missing[0]})"
        if missing
        else f"it also steps {len(stepped - own)} parameters that the risk does not have"
    )
    raise ValueError(
        f"expected the optimizer of the risk's own parameters, but {what}\n"
        "hint: build Risk and optimizer from the same model, after it was moved to its device"
    )


def description(optimizer: torch.optim.Optimizer, *, full_batch: bool) -> dict[str, Any]:
    """For the manifest: method, momentum, weight decay. Theory applies to ``sgd``, ``momentum`` and ``nesterov``."""
    groups = optimizer.param_groups
    first = groups[0]
    weight_decay = first.get("weight_decay", 0.0)
    known: dict[str, Any] = {
        "class": type(optimizer).__name__, "full_batch": full_batch, "weight_decay": float(weight_decay),
        "groups": len(groups),
    }  # fmt: skip
    if type(optimizer) is not torch.optim.SGD:
        name = type(optimizer).__name__
        if name.lower() in ("sgd", "momentum", "nesterov"):  # of this name, but not the one that theory speaks of
            name = f"{type(optimizer).__module__}.{name}"
        return {"method": name, "momentum": 0.0, **known}
    momentum, nesterov = float(first.get("momentum", 0.0)), bool(first.get("nesterov", False))
    if any(g.get(key) != first.get(key) for g in groups for key in ("lr", "momentum", "nesterov", "dampening")):
        return {"method": "SGD with unequal parameter groups", "momentum": momentum, **known}
    if any(g.get("maximize") for g in groups):
        return {"method": "SGD that maximises", "momentum": momentum, **known}
    if first.get("dampening", 0.0) and momentum:
        return {"method": "SGD with dampening", "momentum": momentum, **known}
    method = "sgd" if momentum == 0 else "nesterov" if nesterov else "momentum"
    return {"method": method, "momentum": momentum, **known}


def learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """Of the first parameter group."""
    return float(optimizer.param_groups[0]["lr"])


def computes_gradients(hooked: Sequence[Any]) -> bool:
    """Whether a step computes its gradients itself, by a closure; `hooked` is what its hooks are called with."""
    arguments, keywords = hooked[1:] if len(hooked) == 3 else ((), {})
    return any(callable(given) for given in (*arguments[1:], keywords.get("closure")))
