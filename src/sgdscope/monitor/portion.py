"""Portion: how much of the data a dear reading can afford, counted in arithmetic and not by the clock.

So a run that is repeated reads the same, however busy the machine was.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sgdscope.batches import BatchListSource, Source, TensorSource, length
from sgdscope.risk import Risk

ALLOWED = {"cpu": 1.5e12}
"""Arithmetic operations that a dear reading may take however short the run: about ten seconds of one core."""
ALLOWED_ELSEWHERE = 3e13
SHARE = 0.05
"""Of the arithmetic of training, which a long run may take as well."""


def operations(risk: Risk) -> float:
    """Arithmetic operations of one gradient of one sample, by the weights met on the way; attention is not counted."""
    found = [0.0]

    def note(module: nn.Module, _: object, output: object) -> None:
        for weight in module.parameters(recurse=False):
            if weight.ndim >= 2 and isinstance(output, Tensor):
                found[0] += 2 * output.numel() / len(weight) * weight.numel()

    batch = risk.few()
    handles = [module.register_forward_hook(note) for module in risk.model.modules()]
    try:
        risk.value(batch)
    finally:
        for handle in handles:
            handle.remove()
    return 3 * max(found[0] / length(batch), 2.0 * risk.parameter_count)


def affordable(risk: Risk, gradients: float, samples_trained_on: int) -> int:
    """Samples that a reading of so many gradients may look at after training on so many; all data at most.

    Part of the data is rounded down to a power of two. Fewer than wanted may be too few to say anything: that is for
    the reading to judge.
    """
    one = operations(risk)
    allowed = max(ALLOWED.get(risk.device.type, ALLOWED_ELSEWHERE), SHARE * samples_trained_on * one)
    most = int(allowed / (gradients * one))
    return risk.size if most >= risk.size else 1 << (max(most, 1).bit_length() - 1)


def portion(risk: Risk, samples: int, generator: torch.Generator) -> Risk:
    """The same risk on so many samples, drawn once; itself where those are all."""
    if samples >= risk.size:
        return risk
    batch = risk.draw(samples, generator)
    try:
        source: Source = TensorSource(batch)
    except ValueError:  # tensors of unequal length
        source = BatchListSource([batch])
    part = Risk(risk.model, risk.loss_fn, source, mode=risk.mode, seed=risk.seed, memory=risk.memory, check=False)
    part.random = risk.random
    return part
