r"""Jet: what one kind of layer does to a derivative going back and to a velocity going forward.

For a layer with input a, parameters W and output z = f(a, W), and the slope :math:`\delta = \partial L / \partial z`:

- `pull` carries δ to the input, :math:`f_a^\top \delta`; `gradients` are :math:`f_W^\top \delta`;
- `push` carries a velocity of input and parameters to the output, :math:`\dot z = f_a \dot a + f_W \dot W`;
- `pull_rate` carries the rate :math:`\dot \delta` at which the slope changes along that motion to the input, and gives
  the layer's part of the Hessian product, the rate of its `gradients` (Pearlmutter 1994);
- `push_along_gradient` is `push` for parameters moving along the gradient of each group's own loss, with what the
  layer adds to ‖g‖² and gᵀHg: ``‖G‖²`` and ``2⟨δ, G ȧ⟩`` for layers with parameters, ``⟨ā, φ''(z) ż²⟩`` for pointwise
  ones; see `curvature`.

Every method runs without autograd, on the layer's weights as they were in `forward`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

Contribution = tuple[Tensor, Tensor] | None
"""What a layer adds to ‖g‖² and to gᵀHg, each of shape ``(groups,)``; None if nothing."""


class Jet(ABC):
    """One layer during one pass. `groups` batches of equal size stand one after the other in every tensor.

    A velocity of None stands still. Tensors given to `push` and `pull_rate` may be overwritten.
    """

    def __init__(self, layer: nn.Module, groups: int = 1) -> None:
        self.layer = layer
        self.groups = groups
        self.input: Tensor
        self.slope: Tensor
        self.velocity: Tensor | None = None
        self.parameters = list(layer.parameters())
        """In the order in which directions are given and gradients returned."""

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output; keeps what the way back needs."""
        self.input = x
        output: Tensor = self.layer(x)
        return output

    def adopt(self, x: Tensor, output: Tensor) -> None:
        """Be as after ``forward(x)``, which gave `output` elsewhere."""
        self.forward(x)

    def backward(self, slope: Tensor, *, to_input: bool = True) -> Tensor:
        """Take the slope, keep what later calls need of it, and pull it to the input (only if asked for)."""
        self.slope = slope
        return self.pull(slope) if to_input else slope

    @abstractmethod
    def pull(self, slope: Tensor) -> Tensor:
        """Derivative of the loss by the input, from that by the output."""

    def gradients(self, slope: Tensor) -> list[Tensor]:
        """Derivatives of the loss by the parameters, from that by the output."""
        return []

    @abstractmethod
    def push(self, velocity: Tensor | None, direction: Sequence[Tensor]) -> Tensor | None:
        """Velocity of the output from that of the input and the parameters; keeps what `pull_rate` needs."""

    @abstractmethod
    def pull_rate(self, rate: Tensor, direction: Sequence[Tensor], *, to_input: bool) -> tuple[Tensor, list[Tensor]]:
        """Rate of change of the input's slope (only if asked for) and of the gradients, from that of `slope`."""

    @abstractmethod
    def push_along_gradient(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """Velocity of the output from that of the input, each group moving along its own gradient, and what it adds."""

    def multiplications(self, *, first: bool) -> tuple[int, int]:
        """Counted after `forward`: of a gradient, and of all that `curvature` asks of the layer (`first`: lowest)."""
        return 0, 0

    def per_group(self, entries: Tensor) -> Tensor:
        """Sum within each group."""
        return entries.reshape(self.groups, -1).sum(1)
