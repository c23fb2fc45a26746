"""Verify: do outputs stay as they are when parameters are really rescaled?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sgdscope.batches import Batch, tensors_of
from sgdscope.measure.symmetries.candidate import Candidate
from sgdscope.measure.symmetries.evidence import samples_of
from sgdscope.measure.symmetries.symmetry import Symmetry
from sgdscope.risk import Risk

__all__ = ["Trial", "outputs", "rescaled", "samples_of"]

Move = Callable[[Candidate, dict[str, Tensor], torch.Generator], None]
"""Applies a random element of a candidate's group to parameters by name, in place."""


class Trial:
    """Outputs and losses of a few samples, to be compared with those at moved parameters.

    Attributes:
        losses: how many were computed.
    """

    def __init__(self, risk: Risk, samples: Sequence[Batch]) -> None:
        self.risk = risk
        self.samples = samples
        self.losses = 0
        self._before: list[list[Tensor]] = []

    def _run(self, at: Sequence[Tensor] | None) -> list[list[Tensor]]:
        self.losses += len(self.samples)
        return [outputs(self.risk, sample, at, seed) for seed, sample in enumerate(self.samples)]

    def difference(self, candidates: Sequence[Candidate], move: Move) -> float:
        """Largest relative change of the outputs when all candidates are applied together; of losses, if it is less."""
        generator = torch.Generator().manual_seed(len(candidates))
        moved = {name: p.detach().clone() for name, p in zip(self.risk.names, self.risk.parameters, strict=True)}
        for candidate in candidates:
            move(candidate, moved, generator)
        self._before = self._before or self._run(None)
        after = self._run(list(moved.values()))
        of_losses = _change([run[-1:] for run in self._before], [run[-1:] for run in after])
        if not any(len(run) > 1 for run in self._before):
            return of_losses
        return min(of_losses, _change([run[:-1] for run in self._before], [run[:-1] for run in after]))

    def differences(self, candidates: Sequence[Candidate], allowed: float, move: Move) -> list[float]:
        """By candidate: tried together, and in halves where that changes more than is allowed."""
        if not candidates:
            return []
        changed = self.difference(candidates, move)
        if changed <= allowed or len(candidates) == 1:
            return [changed] * len(candidates)
        half = len(candidates) // 2
        return [d for some in (candidates[:half], candidates[half:]) for d in self.differences(some, allowed, move)]


def twofold(candidate: Candidate, moved: dict[str, Tensor], generator: torch.Generator) -> None:
    """Every unit is multiplied by 2 or ½: numbers inside a homogeneous network change by exact factors."""
    signs = 2 * torch.randint(2, (candidate.units,), generator=generator) - 1
    _apply(candidate, moved, 2.0 ** signs.double())


def rescaled(risk: Risk, candidate: Candidate | Symmetry, scales: Tensor) -> list[Tensor]:
    """The risk's parameters with each unit's slices multiplied by its scale to their power."""
    moved = {name: p.detach().clone() for name, p in zip(risk.names, risk.parameters, strict=True)}
    _apply(candidate, moved, scales)
    return list(moved.values())


def _apply(candidate: Candidate | Symmetry, moved: dict[str, Tensor], scales: Tensor) -> None:
    for part in candidate.parts:
        moved[part.name] = part.applied(scales, moved[part.name])


def _change(before: Sequence[Sequence[Tensor]], after: Sequence[Sequence[Tensor]]) -> float:
    """Relative to the largest of each kind over the samples."""
    worst = 0.0
    for ones, others in zip(zip(*before, strict=False), zip(*after, strict=False), strict=True):
        scale = max((float(one.abs().max()) for one in ones if one.numel()), default=0.0)
        for one, other in zip(ones, others, strict=True):
            if one.numel():
                change = float((other - one).abs().max()) / max(scale, torch.finfo(one.dtype).tiny)
                worst = max(worst, change) if change == change else float("inf")
    return worst


def outputs(risk: Risk, batch: Batch, at: Sequence[Tensor] | None, seed: int) -> list[Tensor]:
    """Everything the model gives back during one loss, and the loss."""
    seen: list[Tensor] = []

    def note(_module: nn.Module, _inputs: object, output: object) -> None:
        seen.extend(t.detach().clone() for t in tensors_of(output) if t.is_floating_point())

    with risk.evaluating(at=at, seed=seed), torch.no_grad():
        handle = risk.model.register_forward_hook(note)
        try:
            loss = risk.loss(batch)
        finally:
            handle.remove()
        return [*seen, loss.detach()]
