"""Walk: a copy of a model takes real steps of plain SGD, and its charges are read."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sgdscope.balance.training import Training
from sgdscope.batches import Batch
from sgdscope.measure.noise_traces.share import Share, shares_of
from sgdscope.measure.symmetries import Symmetry
from sgdscope.risk import Risk


class Walk:
    """Steps of `torch.optim.SGD` on a copy of the risk's model; the model itself stays where it is.

    Attributes:
        risk: of the copy.
        training: learning rate, weight decay and how batches are drawn.
    """

    def __init__(self, risk: Risk, held: Sequence[Symmetry], training: Training) -> None:
        try:
            model: nn.Module = copy.deepcopy(risk.model)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"expected a model that can be copied, but {type(error).__name__}: "
                             f"{str(error).splitlines()[0][:200]}") from error  # fmt: skip
        self.risk = Risk(model, risk.loss_fn, risk.source, mode=risk.mode, seed=risk.seed, memory=risk.memory)
        named = dict(zip(risk.names, risk.parameters, strict=True))
        self._shares = [shares_of(symmetry, named) for symmetry in held]
        self.training = training
        self._start = [p.detach() for p in risk.parameters]
        self._optimizer = torch.optim.SGD(self.risk.parameters, lr=training.lr, weight_decay=training.weight_decay)

    def restart(self) -> None:
        """Back to where the risk is."""
        with torch.no_grad():
            for own, start in zip(self.risk.parameters, self._start, strict=True):
                own.copy_(start)

    def draw(self, generator: torch.Generator) -> Batch:
        """A minibatch as the training draws them."""
        return self.risk.draw(self.training.batch_size, generator, replacement=self.training.replacement)

    def step(self, batch: Batch, *, seed: int) -> tuple[Tensor, Tensor]:
        """One step; returns ‖ĝ_u‖² and ‖ĝ_w‖² of each symmetry, whose difference is ĝᵀAĝ."""
        _, gradient = self.risk.gradient(batch, seed=seed)
        for parameter, g in zip(self.risk.parameters, gradient, strict=True):
            parameter.grad = g
        self._optimizer.step()
        return total_charges(self._shares, dict(zip(self.risk.names, gradient, strict=True)))

    def charges(self) -> Tensor:
        """θᵀAθ of each symmetry, shape ``(symmetries,)``."""
        u, w = total_charges(self._shares, dict(zip(self.risk.names, self.risk.parameters, strict=True)))
        return u - w


def total_charges(shares: Sequence[Sequence[Share]], vector: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Of each symmetry, all units together: ‖v_u‖² and ‖v_w‖² (weighted by the sizes of powers), float64 on the CPU."""
    squares: dict[str, Tensor] = {}
    totals = torch.zeros(2, len(shares), dtype=torch.float64)
    for place, own in enumerate(shares):
        for share in own:
            name, value = share.part.name, vector[share.part.name].detach()
            side = totals["uw".index(share.side), place]
            if isinstance(share.part.power, Tensor) or share.weights is not None:
                side += share.part.sums(value.double().square()).sum().cpu()
                continue
            if name not in squares:
                squares[name] = torch.linalg.vector_norm(value, dtype=torch.float64).square().cpu()
            side += share.part.power * squares[name]
    return totals[0], totals[1]
