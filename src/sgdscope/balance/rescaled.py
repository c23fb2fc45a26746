"""Rescaled: a network at another point of its orbit, with what that changed and what it left."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sgdscope.balance.layer_pair import COLUMNS, LayerPair, row
from sgdscope.balance.optimizer_state import check_state, rescale_state
from sgdscope.balance.orbit import Floats, Orbit
from sgdscope.risk import Risk

Goal = Literal["noise", "norm"]

CONVERGED = 1e-9
"""Residual above which the solver is said to have stopped early."""
_DIFFERENT = 1e-4
"""Relative change of outputs beyond what rounding explains."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Rescaled:
    """The same function with other weights; printed as a table, before → after.

    Attributes:
        risk: whose model was rescaled; it stays as it is until `apply`.
        to: ``noise`` or ``norm``.
        weights: trainable parameters by name, new tensors in their precision.
        scales: of each unit, by the name of the symmetry, in float64: u is multiplied by it, w divided.
        before: each pair of layers before.
        after: the same, measured anew on the rescaled weights.
        least: what is least at balance, before and after, over the parameters that are moved: Tr Σ, the variance of
            single samples' gradients; ‖θ‖²; or with weight decay T Tr Σ + 4 γ ‖θ‖².
        residual: largest relative imbalance over the units that were moved freely, on the samples it was solved for:
            |u − w| / (u + w) with u and w the two sides of noise, squared norms, or noise and weight decay together.
        left_alone: units that were not moved, by symmetry: nothing on one side to balance the other, or on both (dead
            units).
        at_limit: units that would have gone beyond the limit and stopped there, by symmetry.
        difference: largest relative change of the outputs, max |f′ − f| / max |f| on samples.
        cost: gradients over all data.
        settings: how it was done, as plain values.
        orbit: the networks that it was chosen from, and
        scale_of_units: of all units in its order.
    """

    risk: Risk
    to: Goal
    weights: dict[str, Tensor]
    scales: dict[str, Tensor]
    before: tuple[LayerPair, ...]
    after: tuple[LayerPair, ...]
    least: tuple[float, float]
    residual: float
    left_alone: dict[str, int]
    at_limit: dict[str, int]
    difference: float
    cost: float
    settings: Mapping[str, Any]
    orbit: Orbit
    scale_of_units: Floats

    def apply(self, optimizer: Optimizer | None = None) -> None:
        """Write the weights into the model, in place; with an optimizer, its state goes along.

        What the optimizer remembers of gradients is divided as the gradients are: exactly what it would be had all past
        gradients been taken at the rescaled weights, but for what weight decay added to them. SGD, Adam, AdamW, NAdam,
        RAdam, RMSprop and Adagrad.

        Raises ValueError, before anything is changed, if the weights have moved since (or this was applied before), or
        for the state of another optimizer.
        """
        live = dict(zip(self.risk.names, self.risk.parameters, strict=True))
        factors = self.orbit.factors(self.scale_of_units, live)
        moved = rescaled_weights(live, factors)
        if any(not torch.equal(moved[name], self.weights[name]) for name in moved):
            raise ValueError("expected the weights that were rescaled, got a model that has moved since\n"
                             "hint: call rescale again on the present weights")  # fmt: skip
        if optimizer is not None:
            check_state(optimizer)
            rescale_state(optimizer, {live[name]: factor for name, factor in factors.items()})
        with torch.no_grad():
            for name, parameter in live.items():
                parameter.copy_(self.weights[name])

    def there(self) -> Risk:
        """The same risk at the rescaled weights, on a copy of the model. Raises ValueError if it cannot be copied."""
        return risk_at(self.risk, self.weights)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        rows = [COLUMNS, *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
        lines = ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self.headline, *lines, *self.notes])

    @property
    def notes(self) -> list[str]:
        """What to bear in mind."""
        said = []
        if held := _listed(self.left_alone):
            what = "noise" if self.to == "noise" else "weights"
            said.append(f"left alone, as they have {what} on one side only or none: {held}")
        if stopped := _listed(self.at_limit):
            said.append(f"stopped at the limit, a factor of {self.settings['limit']:g}: {stopped}")
        if self.residual > CONVERGED:
            said.append(f"not converged: a unit is off balance by {self.residual:.1g} still")
        if self.difference > _DIFFERENT:
            said.append(f"outputs differ by {self.difference:.1g}: check the symmetries before this is used")
        return said

    @property
    def rows(self) -> list[list[str]]:
        """Each pair of layers before → after, as texts."""
        return [row(b, a, noise=self.to == "noise") for b, a in zip(self.before, self.after, strict=True)]

    @property
    def headline(self) -> str:
        """What was done, and what it left as it was, in one sentence."""
        held = sum(self.left_alone.values())
        moved = sum(len(scales) for scales in self.scales.values()) - held
        change = "bit for bit the same" if self.difference == 0 else f"the same to {self.difference:.0e}"
        pairs = f"{len(self.scales)} layer pair{'' if len(self.scales) == 1 else 's'}"
        return f"{moved} units of {pairs} moved to {self.to} balance; outputs {change}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {name}" for name, count in counts.items())


def rescaled_weights(parameters: Mapping[str, Tensor], factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each parameter times its factor, rounded once."""
    return {
        name: (value.detach().double() * factors[name]).to(value.dtype) if name in factors else value.detach().clone()
        for name, value in parameters.items()
    }


def risk_at(risk: Risk, weights: Mapping[str, Tensor]) -> Risk:
    """The risk on a copy of its model with other weights."""
    try:
        model: nn.Module = copy.deepcopy(risk.model)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected a model that can be copied, but {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        ) from error
    there = Risk(model, risk.loss_fn, risk.source, mode=risk.mode, chunk_size=risk.chunk_size, seed=risk.seed,
                 check=False)  # fmt: skip
    there.random, there._mixing_loss = risk.random, risk._mixing_loss
    with torch.no_grad():
        for name, parameter in zip(there.names, there.parameters, strict=True):
            parameter.copy_(weights[name])
    return there
