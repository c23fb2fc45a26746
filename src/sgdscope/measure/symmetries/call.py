"""Call: one operation of a run with its arguments by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgdscope.batches import tensors_of


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an operation of torch.

    Attributes:
        operation: overload that was called.
        given: arguments by name, defaults included.
        output: what it gave.
        keyed: positional and named arguments as they were.
    """

    operation: Any
    given: dict[str, Any]
    output: Any
    keyed: tuple[tuple[Any, ...], dict[str, Any]]

    @staticmethod
    def can_be_of(operation: Any) -> bool:
        """Whether its arguments have names."""
        return hasattr(operation, "_schema")

    @classmethod
    def of(cls, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Call:
        """From the arguments that an operation was called with."""
        given = {}
        for position, argument in enumerate(operation._schema.arguments):
            value = args[position] if position < len(args) else kwargs.get(argument.name, argument.default_value)
            given[argument.name] = value
        return cls(operation, given, output, (args, kwargs))

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    @property
    def name(self) -> str:
        """Of the operation, the same for its in-place version."""
        namespace, _, name = self.operation._schema.name.partition("::")
        return name.rstrip("_") if namespace == "aten" else f"{namespace}.{name}"

    @property
    def first(self) -> Any:
        """The first argument."""
        return next(iter(self.given.values()))

    @property
    def out(self) -> Tensor:
        """The first tensor it gave."""
        return next(tensors_of(self.output))

    @property
    def pointwise(self) -> bool:
        """Whether it acts on every element alone."""
        return torch.Tag.pointwise in self.operation.tags

    @property
    def in_place(self) -> bool:
        """Whether it writes into its first argument."""
        return self.output is self.first and isinstance(self.output, Tensor)

    def dims(self, name: str = "dim") -> list[int]:
        """Dimensions of the first argument, from an argument that may be one, several, none or empty (all)."""
        given, count = self.given.get(name), self.first.dim()
        if given is None or given == []:
            return list(range(count))
        return [d % max(count, 1) for d in ([given] if isinstance(given, int) else given)][: max(count, 0)]
