"""Law: what stands in the way of the law of balance, which speaks of plain SGD with one learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch


def law_reasons(optimizer: Any = None, *, groups: Sequence[Mapping[str, Any]] | None = None) -> list[str]:
    """Why the law of balance does not apply to a torch optimizer, each in a few words; empty if it does, or for None.

    Only plain SGD moves charges by lr² ĝᵀAĝ and weight decay alone: momentum adds products of gradients of different
    steps, preconditioners bring back the part linear in the learning rate. `groups`: those of its parameter groups that
    step the layers asked about; all if None.
    """
    if optimizer is None:
        return []
    if type(optimizer) is not torch.optim.SGD:
        return [type(optimizer).__name__]
    groups = optimizer.param_groups if groups is None else groups
    first = groups[0]
    reasons = []
    if momentum := max(float(group.get("momentum", 0.0)) for group in groups):
        named = "Nesterov momentum" if any(group.get("nesterov") for group in groups) else "momentum"
        reasons.append(f"{named} {momentum:g}")
    if any(group.get("maximize") for group in groups):
        reasons.append("SGD that maximises")
    for key, name in (("lr", "learning rates"), ("weight_decay", "weight decays")):
        if any(group.get(key) != first.get(key) for group in groups):
            reasons.append(f"{name} differ between parameter groups")
    return reasons
