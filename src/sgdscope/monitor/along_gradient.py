"""Along the gradient: what one batch's gradient does to its own loss and to that of all data, as rows of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from sgdscope.estimate import Estimate
from sgdscope.measure import batch_line, full_loss_step
from sgdscope.measure.loss_curves import LossCurves
from sgdscope.monitor.portion import affordable, portion
from sgdscope.risk import Risk

UNSEEN, FEW, MANY = 4, 8, 48
"""Batches beside the one followed, at most; batches whose gradients are followed on all data, and where it is cheap."""
LINE = 14.0
"""What a batch line takes, in gradients of all data."""
_LEAST = 4
"""Times the batch that the data on a line must hold, for "all data" to be another thing than the batch."""
_PAST, _FAR, _POINTS = 1.25, 6.0, 20
"""Learning rates that a line reaches where that is less than so many Newton steps, and its points there but one."""
_MEMORY = 1 << 32
"""Bytes that gradients and products may take."""
_TOO_DEAR = "left out: it would take a large share of the time of the whole run, or of the memory"


def line_row(
    risk: Risk, batch_size: int, lr: float | None, samples_trained_on: int, generator: torch.Generator
) -> Estimate:
    """The row ``batch_line``: best single step of a batch for itself, in learning rates where `lr` is given.

    On part of the data where all would be dear. Curves stand in the settings, their steps in the row's unit.
    """
    samples = affordable(risk, LINE, samples_trained_on)
    settings: dict[str, Any] = {"batch_size": batch_size, "lr": lr, "samples": samples, "of": risk.size}
    if samples < risk.size and (risk.source.batch_lengths is not None or samples < _LEAST * batch_size):
        return Estimate.failed("batch_line", _TOO_DEAR, settings=settings)
    if samples < 2 * batch_size:
        return Estimate.failed(
            "batch_line", "the data hold less than two batches, so none is unseen", settings=settings
        )
    part = portion(risk, samples, generator)
    curves = _followed(part, batch_size, lr, generator)
    known: dict[str, Any] = {"cost": curves.cost * samples / risk.size, "settings": settings}
    if curves.failure:
        return Estimate.failed("batch_line", curves.failure, **known)
    unit = 1.0 if lr is None else lr
    known["unit"] = "learning rate" if lr is None else "learning rates of the run"
    settings |= {"mode": risk.mode, "method": curves.settings.get("method", ""), "curves": _curves(curves, unit)}
    settings |= {"notes": list(curves.notes)} if curves.notes else {}
    known["beside"] = beside = _companions(curves, unit, known["unit"])
    best = curves.beside.get("best_step")
    if best is None:
        known |= {"status": "diverged"} if curves.status == "diverged" else {}
        return Estimate.failed(
            "batch_line", curves.reason or "the batch's loss is lowest at an end of the line", **known
        )
    beside["loss_reached"] = curves.beside["loss_reached"]
    step = best.scaled(1 / unit)
    known |= {"status": curves.status, "reason": curves.reason}
    return Estimate("batch_line", step.value, residual=step.residual, **known)


def _followed(risk: Risk, batch_size: int, lr: float | None, generator: torch.Generator) -> LossCurves:
    """Losses to twice the batch's Newton step, or to a little beyond the learning rate where that is not far off."""
    unseen = min(UNSEEN, risk.size // batch_size - 1)
    again = torch.Generator()
    again.set_state(generator.get_state())
    if lr is None:
        return batch_line(risk, batch_size, unseen=unseen, generator=again)
    first = batch_line(risk, batch_size, steps=(0.0, lr), unseen=unseen, full=False, generator=generator)
    newton = first.beside.get("newton_step")
    if newton is None or not 2 * float(newton) < _PAST * lr < _FAR * float(newton):
        found = batch_line(risk, batch_size, lr=lr, unseen=unseen, generator=again)
    else:
        steps = [lr * _PAST * i / _POINTS for i in range(_POINTS + 1)]
        found = batch_line(risk, batch_size, lr=lr, steps=steps, unseen=unseen, generator=again)
    return replace(found, cost=found.cost + first.cost)


def _curves(curves: LossCurves, unit: float) -> dict[str, Any]:
    return {
        "steps": [x / unit for x in curves.coordinates], "batch": curves.batch, "unseen": curves.unseen_mean,
        "unseen_error": curves.unseen_error, "full": curves.full,
    }  # fmt: skip


def _companions(curves: LossCurves, unit: float, named: str) -> dict[str, Estimate]:
    """Losses at the start, R² of the parabolas, and the best steps of the others."""
    found = {"curvature": curves.beside["curvature"]}
    if curves.batch and curves.batch[0] is not None:
        found["loss_before"] = Estimate("loss_before", curves.batch[0], unit="loss")
    for of, fit in curves.fits.items():
        if fit.r_squared is not None:
            found[f"{of}_r_squared"] = Estimate(f"{of}_r_squared", fit.r_squared)
    for name in ("best_unseen_step", "best_full_step"):
        if name in curves.beside:
            found[name] = curves.beside[name].scaled(1 / unit, unit=named)
    return found


def step_row(
    risk: Risk, batch_size: int, lr: float, *, momentum: float, replacement: bool, careful: bool, product: float,
    samples_trained_on: int, generator: torch.Generator,
) -> Estimate:  # fmt: skip
    """The row ``full_loss_step``: best step of the loss of all data along batch gradients, in learning rates.

    Never on part of the data: its own gradient is larger by what sampling adds, and the step with it. `product` is what
    one with the Hessian takes, in gradients.
    """
    settings: dict[str, Any] = {"batch_size": batch_size, "lr": lr, "expected": 0.5 / (1 - momentum)}
    size = sum(p.numel() * p.element_size() for p in risk.parameters)

    def possible(batches: int) -> bool:
        held, charge = 2 * (batches + 4) * size, step_charge(batches, product)
        return held <= _MEMORY and affordable(risk, charge, samples_trained_on) >= risk.size

    batches = MANY if careful and possible(MANY) else FEW
    if not possible(batches):
        return Estimate.failed("full_loss_step", _TOO_DEAR, settings=settings)
    found = full_loss_step(risk, batch_size, lr=lr, batches=batches, replacement=replacement, generator=generator)
    settings |= found.settings
    known: dict[str, Any] = {"count": found.count, "cost": found.cost, "settings": settings}
    if found.value is None:
        return Estimate.failed("full_loss_step", found.reason, status=found.status, **known)
    beside = {name: e for name, e in found.beside.items() if name != "in_learning_rates"}
    step = found.scaled(1 / lr)
    return Estimate("full_loss_step", step.value, step.standard_error, unit="learning rates of the run", beside=beside,
                    **known)  # fmt: skip


def step_charge(batches: int, product: float) -> float:
    """What a best full-loss step takes, in gradients of all data: a product and a forward pass per batch."""
    return 2 + batches * (product + 1 / 3)
