"""Small constants: the eps of norms and the like, made smaller still while a block runs.

A symmetry may hold but for the small number that keeps a norm from dividing by zero; with that number shrunk it holds
to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sgdscope.measure.symmetries.book import SMALL

SHRUNK = 1e-12
"""Factor on such a constant."""
_NAMED = ("eps", "epsilon")
_ADDED = {"add": "other", "clamp_min": "min", "clamp": "min", "maximum": "other"}


class SmallConstantsShrunk(TorchDispatchMode):
    """Within the block, every ``eps``, and every small number that is added or clamped to, is almost zero."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Not needed, as no compiled code runs here; it would import the compiler, which takes seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        place = _place(func)
        if place is not None:
            position, name, any_size = place
            if position < len(args):
                args = (*args[:position], _shrunk(args[position], any_size), *args[position + 1 :])
            elif name in given:
                given[name] = _shrunk(given[name], any_size)
        return func(*args, **given)


@cache
def _place(operation: Any) -> tuple[int, str, bool] | None:
    """Where an operation takes such a constant, and whether whatever its size."""
    if not hasattr(operation, "_schema"):
        return None
    namespace, _, name = operation._schema.name.partition("::")
    names = [argument.name for argument in operation._schema.arguments]
    for eps in _NAMED:
        if eps in names:
            return names.index(eps), eps, True
    added = _ADDED.get(name.rstrip("_"), "") if namespace == "aten" else ""
    return (names.index(added), added, False) if added in names else None


def _shrunk(value: Any, any_size: bool) -> Any:
    if isinstance(value, Tensor):
        is_small = not any_size and value.dim() == 0 and value.is_floating_point() and 0 < float(value) <= SMALL
        return value * SHRUNK if is_small else value
    return value * SHRUNK if isinstance(value, float) and (any_size or 0 < value <= SMALL) else value
