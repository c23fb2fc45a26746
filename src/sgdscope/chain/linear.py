"""Fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sgdscope.chain.jet import Contribution, Jet


class Linear(Jet):
    """``z = a Wᵀ + c``."""

    layer: nn.Linear
    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """The output; keeps input and weight."""
        self.weight = self.layer.weight.detach()
        return super().forward(x)

    def adopt(self, x: Tensor, output: Tensor) -> None:
        """Keeps input and weight."""
        self.input, self.weight = x, self.layer.weight.detach()

    def pull(self, slope: Tensor) -> Tensor:
        """``slope W``."""
        return slope @ self.weight

    def gradients(self, slope: Tensor) -> list[Tensor]:
        """``slopeᵀ a`` and the sum of the slopes."""
        return self._with_bias(_rows(slope).t() @ _rows(self.input), slope)

    def push(self, velocity: Tensor | None, direction: Sequence[Tensor]) -> Tensor | None:
        """``velocity Wᵀ + a Vᵀ + v``."""
        self.velocity = velocity
        moved = nn.functional.linear(self.input, *direction)
        if velocity is not None:
            _rows(moved).addmm_(_rows(velocity), self.weight.t())
        return moved

    def pull_rate(self, rate: Tensor, direction: Sequence[Tensor], *, to_input: bool) -> tuple[Tensor, list[Tensor]]:
        """``rate W + slope V``; ``rateᵀ a + slopeᵀ velocity``."""
        product = _rows(rate).t() @ _rows(self.input)
        if self.velocity is not None:
            product.addmm_(_rows(self.slope).t(), _rows(self.velocity))
        pulled = rate
        if to_input:
            pulled = self.pull(rate)
            _rows(pulled).addmm_(_rows(self.slope), direction[0])
        return pulled, self._with_bias(product, rate)

    def push_along_gradient(self, velocity: Tensor | None) -> tuple[Tensor | None, Contribution]:
        """``velocity Wᵀ + u`` with ``u = (A Aᵀ + 1) Δ``; adds ``⟨Δ, u⟩`` and ``2⟨Δ, (Ȧ Aᵀ) Δ⟩``.

        Everything by the Gram matrix of each batch: nothing of the size of the weights is written.
        """
        a, delta = self._grouped(self.input), self._grouped(self.slope)
        u = _times_gram(a, a, delta)
        if self.layer.bias is not None:
            u = u + delta.sum(1, keepdim=True)
        norm = (delta * u).sum((1, 2))
        moved = u.reshape(self.slope.shape)
        if velocity is None:
            return moved, (norm, torch.zeros_like(norm))
        curvature = 2 * (delta * _times_gram(self._grouped(velocity), a, delta)).sum((1, 2))
        _rows(moved).addmm_(_rows(velocity), self.weight.t())
        return moved, (norm, curvature)

    def multiplications(self, *, first: bool) -> tuple[int, int]:
        """Forward, back and the gradient; or forward, back, along the gradient, and one or two Gram products."""
        rows, width_in, width_out = self.input.numel() // self.input.shape[-1], *reversed(self.weight.shape)
        once = rows * width_in * width_out
        gram = min(rows // self.groups * (width_in + width_out) * rows, 2 * once)
        return (2 * once, once + gram) if first else (3 * once, 3 * once + 2 * gram)

    def _with_bias(self, weight: Tensor, slope: Tensor) -> list[Tensor]:
        return [weight] if self.layer.bias is None else [weight, _rows(slope).sum(0)]

    def _grouped(self, x: Tensor) -> Tensor:
        return x.reshape(self.groups, -1, x.shape[-1])


def _rows(x: Tensor) -> Tensor:
    """As a matrix (a view): layers may act on the last of several dimensions."""
    return x if x.dim() == 2 else x.flatten(0, -2)


def _times_gram(x: Tensor, a: Tensor, delta: Tensor) -> Tensor:
    """``(x aᵀ) δ`` per group, by whichever order of products is cheaper."""
    batch, width_in, width_out = x.shape[1], x.shape[2], delta.shape[2]
    if batch * (width_in + width_out) <= 2 * width_in * width_out:
        return torch.bmm(torch.bmm(x, a.transpose(1, 2)), delta)
    return torch.bmm(x, torch.bmm(a.transpose(1, 2), delta))
