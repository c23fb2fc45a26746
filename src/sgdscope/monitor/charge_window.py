"""Charge window: what the gradients of some steps say about the charges, held against how the charges moved.

A step of plain SGD takes the charge C = θᵀAθ of a symmetry to ``(1 − lr·λ)² C + lr² ĝᵀAĝ`` exactly, ĝ the gradient
that training computed and λ torch's ``weight_decay``: the part linear in lr, θᵀAĝ, is zero by the symmetry, for one
batch, for accumulated gradients, and for gradients clipped or scaled as a whole. Source: derived from the per-sample
identity of Ziyin, Li & Ueda 2308.06671, Eq. 26.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sgdscope.estimate import Estimate
from sgdscope.measure.symmetries import Symmetries
from sgdscope.monitor.regions import Region, regions_of
from sgdscope.monitor.squared_norms import Floats, SquaredNorms
from sgdscope.risk import Risk

UNIT = "parameter²"
OTHERWISE = "the charges changed otherwise than by lr² ĝᵀAĝ"

_FOLD = 64
"""Samples that wait on their device before they are brought over together."""
_AGREES = 1e-2
"""Of the sum of all terms: a larger difference is no rounding, where rounding of the parameters does not explain it."""
_SUMS = ("changed", "squares", "terms")


@dataclass(frozen=True)
class Layers:
    """The layers whose charges are followed; a charge is Σ power · ‖region‖², all units of a layer together.

    Attributes:
        names, kinds, units: of each symmetry.
        regions: of the parameters that take part.
        parameters: in which each of them lies.
        powers: of each region in each charge, shape (symmetries, regions).
        norms: of tensors like the regions.
        cost: of finding the symmetries, in gradients of single samples.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    units: tuple[int, ...]
    regions: tuple[Region, ...]
    parameters: tuple[Tensor, ...]
    powers: Floats
    norms: SquaredNorms
    cost: float

    @classmethod
    def of(cls, found: Symmetries, risk: Risk) -> Layers:
        """Of the symmetries that hold."""
        holding = found.holding
        parts = [
            (row, part, region) for row, s in enumerate(holding) for part in s.parts for region in regions_of(part)
        ]
        regions = tuple(dict.fromkeys(region for _, _, region in parts))
        powers = np.zeros((len(holding), len(regions)))
        for row, part, region in parts:
            powers[row, regions.index(region)] += float(part.power)
        named = dict(zip(risk.names, risk.parameters, strict=True))
        parameters = tuple(named[region.name] for region in regions)
        norms = SquaredNorms([region.of(p.detach()) for region, p in zip(regions, parameters, strict=True)])
        names, kinds, units = zip(*((s.name, s.kind, s.units) for s in holding), strict=True)
        return cls(names, kinds, units, regions, parameters, powers, norms, found.cost)

    def weights(self) -> list[Tensor]:
        """The regions of the parameters as they are."""
        return [region.of(p.detach()) for region, p in zip(self.regions, self.parameters, strict=True)]

    def gradients(self) -> list[Tensor]:
        """The regions of their gradients; zeros where there is none."""
        return [
            region.of(torch.zeros_like(p) if p.grad is None else p.grad)
            for region, p in zip(self.regions, self.parameters, strict=True)
        ]

    @property
    def rounding(self) -> float:
        """Relative rounding of the parameters."""
        return max(torch.finfo(p.dtype).eps for p in self.parameters)


class Sample(NamedTuple):
    """One step that is about to be taken.

    Attributes:
        gradients: norms of their regions, as `SquaredNorms.read` gives them.
        weights: those of the parameters; None where nothing decays, or every step is sampled.
        lr, weight_decay: of each region, the latter as torch has it; both 0 where the step leaves it alone.
    """

    gradients: Tensor
    weights: Tensor | None
    lr: tuple[float, ...]
    weight_decay: tuple[float, ...]


class ChargeWindow:
    """Sums over the sampled steps from `step` on; `close` makes a row of them.

    Args:
        layers: whose charges.
        step: number of steps taken when it opens.
        start: ‖region‖² at that point.
    """

    def __init__(self, layers: Layers, step: int, start: Floats) -> None:
        self.layers = layers
        self.step = step
        self.start = start
        self.count = 0
        self._changed = self._squares = self._terms = np.zeros(len(layers.names))
        self._waiting: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Take in one step."""
        self._waiting.append(sample)
        self.count += 1
        if len(self._waiting) >= _FOLD:
            self.fold()

    def fold(self) -> None:
        """Bring the waiting samples over and add them up."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        norms, powers = self.layers.norms, self.layers.powers
        magnitudes = np.abs(powers)
        shares = magnitudes / magnitudes.sum(1, keepdims=True)
        squares, lr = norms.sums([s.gradients for s in waiting]), np.array([s.lr for s in waiting])
        lost = 1 - (1 - lr * np.array([s.weight_decay for s in waiting])) ** 2
        seen = [s.weights for s in waiting if s.weights is not None]
        decays = iter(lost[[s.weights is not None for s in waiting]] * norms.sums(seen) if seen else ())
        with np.errstate(over="ignore", invalid="ignore"):  # a run that blows up says so in its row
            gains = lr * lr * squares
            for sample, gain, loss in zip(waiting, gains, lost, strict=True):
                if sample.weights is not None:
                    decay = powers @ next(decays)
                else:  # all steps before were sampled: the charges are where those have brought them
                    decay = powers @ (loss * self.start) + (shares @ loss) * self._changed
                change = powers @ gain - decay
                self._changed = self._changed + change
                self._squares = self._squares + change * change
            self._terms = self._terms + magnitudes @ (gains + np.abs(lost) * self.start).sum(0)

    def close(self, step: int, end: Floats, *, every: int, law: Sequence[str] = (), cost: float = 0.0) -> Estimate:
        """The row ``charges`` after `step` steps, where the squared norms are `end`.

        Value: each layer's charge. Beside it, where steps were sampled: mean change per step by the gradients, with its
        standard error, and as measured over all steps; where every step was sampled, the largest difference of the two
        sums relative to the sum of the magnitudes of all terms, and how much of that rounding of the parameters allows.
        `law`: reasons known beforehand why the two differ; where the numbers are the first to say so, one is added.
        """
        self.fold()
        powers, steps, n = self.layers.powers, step - self.step, self.count
        charges, before = powers @ end, powers @ self.start
        reasons = list(law)
        settings: dict[str, Any] = {
            "layers": self.layers.names, "kinds": self.layers.kinds, "units": self.layers.units, "law": reasons,
            "from_step": self.step, "samples": n, "every": every,
        }  # fmt: skip
        if not all(np.isfinite(numbers).all() for numbers in (charges, self._squares, self._terms)):
            return Estimate.failed("charges", "weights or gradients are not finite", status="diverged",
                                   settings=settings)  # fmt: skip
        beside: dict[str, Estimate] = {}
        if n and steps:
            change = self._changed / n
            variance = np.maximum(self._squares / n - change**2, 0.0)
            error = tuple(np.sqrt(variance / (n - 1))) if n > 1 else None
            moved = tuple((charges - before) / steps)
            beside["change"] = Estimate("change", tuple(change), error, count=n, unit=UNIT)
            beside["measured_change"] = Estimate("measured_change", moved, count=steps, unit=UNIT)
        if n and n == steps:
            apart = np.abs(charges - before - self._changed)
            allowed = steps * self.layers.rounding * (np.abs(powers) @ np.maximum(self.start, end))
            if not reasons and bool((apart > _AGREES * self._terms + allowed).any()):
                reasons.append(OTHERWISE)
            scale = np.maximum(self._terms, np.finfo(np.float64).tiny)
            for name, difference in (("identity_residual", apart), ("identity_rounding", allowed)):
                with np.errstate(over="ignore"):
                    largest = min(float((difference / scale).max()), np.finfo(np.float64).max)
                beside[name] = Estimate(name, largest, count=n)
        return Estimate("charges", tuple(charges), count=max(n, 1), cost=cost, unit=UNIT, settings=settings,
                        beside=beside)  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        self.fold()
        sums = {name: getattr(self, f"_{name}").tolist() for name in _SUMS}
        return {"layers": list(self.layers.names), "step": self.step, "start": self.start.tolist(),
                "count": self.count, **sums}  # fmt: skip

    @classmethod
    def of_state(cls, layers: Layers, state: Mapping[str, Any]) -> ChargeWindow | None:
        """The window that `state_dict` describes; None if that is of other layers."""
        if list(layers.names) != list(state["layers"]) or len(state["start"]) != len(layers.regions):
            return None
        window = cls(layers, int(state["step"]), _floats(state["start"]))
        window.count = int(state["count"])
        for name in _SUMS:
            setattr(window, f"_{name}", _floats(state[name]))
        return window


def _floats(numbers: Sequence[Any]) -> Floats:
    return np.array([float(x) for x in numbers])
