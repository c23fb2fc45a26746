"""Formulas: SymPy expressions as functions of tensors, from the same text that kernels are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor

from sgdscope.simulate.formula import Precision, Writer

Number = Tensor | float


class TorchWriter(Writer):
    """Writes scalar code that also works on tensors: nothing in it branches on a value."""

    def _text(self, e: Any) -> str:
        if isinstance(e, sympy.sign):
            return f"math.sign({self._text(e.args[0])})"
        return super()._text(e)

    def _call(self, name: str, argument: Any) -> str:
        return f"math.{name}({self._text(argument)})"


def function(
    arguments: Sequence[Any], results: Sequence[Any], precision: Precision, assignments: Sequence[tuple[Any, Any]] = ()
) -> Callable[..., list[Tensor]]:
    """A function of a tensor for each argument that returns one for each result.

    Args:
        arguments: symbols.
        results: expressions in the arguments and the assigned symbols.
        precision: that constants are rounded to.
        assignments: (symbol, expression) in order; later ones may use earlier ones.

    A result that does not depend on the arguments is a float. Derivatives are autograd's. Raises ValueError for what
    cannot be written.
    """
    writer = TorchWriter(precision)
    lines = [f"def function({', '.join(writer.text(symbol) for symbol in arguments)}):"]
    lines += [f"    {line}" for line in writer.lines(assignments)]
    lines += [f"    return [{', '.join(writer.text(result) for result in results)}]"]
    names: dict[str, Any] = {"math": torch, "min": minimum, "max": maximum}
    names |= {name: float(eval(text, {"np": np})) for name, text in writer.constants.items()}
    exec(compile("\n".join(lines), "<formulas>", "exec"), names)
    made: Callable[..., list[Tensor]] = names["function"]
    return made


def minimum(a: Number, b: Number) -> Number:
    """The smaller of tensors or floats, entry by entry."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.minimum(a, b)
    if isinstance(a, Tensor):
        return a.clamp(max=b)
    return b.clamp(max=a) if isinstance(b, Tensor) else min(a, b)


def maximum(a: Number, b: Number) -> Number:
    """The larger of tensors or floats, entry by entry."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.maximum(a, b)
    if isinstance(a, Tensor):
        return a.clamp(min=b)
    return b.clamp(min=a) if isinstance(b, Tensor) else max(a, b)
