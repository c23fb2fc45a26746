"""Gather: one pass over samples (or small batches, where samples have no gradients of their own), summed up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sgdscope.batches import Batch, draw_indices
from sgdscope.measure.noise_traces.share import Share
from sgdscope.measure.noise_traces.sums import Sums
from sgdscope.per_sample import layers, per_sample_gradients
from sgdscope.per_sample.gram import layers_refusal
from sgdscope.per_sample.sides import sides
from sgdscope.risk import Risk

BLOCKS = 16
"""Of the jackknife: its standard errors are good to a fifth."""
_FORMED = 1 << 26
"""Bytes of per-sample gradients formed at a time."""
_PASS, _ELEMENT = 1.7, 1.0
"""Gradients of the samples that the two ways take: layer by layer as measured, explicitly by counting samples."""

Shares = Mapping[str, Sequence[Share]]
"""What is asked for, by name of the parameter."""


@dataclass(frozen=True)
class Gathered:
    """Sums by parameter over gradients of units (samples or batches) in blocks.

    Attributes:
        sums: by name of the parameter.
        counts: units in each block, shape ``(blocks,)``.
        unit: samples in each unit.
        population: units there are, or None where they are without end (batches, random losses).
        method: how, with the reason where it was not layer by layer.
        cost: in gradients over all data.
    """

    sums: dict[str, Sums]
    counts: Tensor
    unit: int
    population: int | None
    method: str
    cost: float

    @property
    def finite(self) -> bool:
        """Whether all sums are finite."""
        return all(s.finite for s in self.sums.values())


def gather(risk: Risk, shares: Shares, samples: int, generator: torch.Generator) -> Gathered:
    """Gradients of `samples` samples drawn without replacement, by the parameters named in `shares`."""
    exhaustive = samples == risk.size and not risk.random
    refusal = layers_refusal(risk)
    passes = -(-samples // risk.chunk_size)
    parameters = dict(zip(risk.names, risk.parameters, strict=True))
    kept = sum(parameters[name].numel() * parameters[name].element_size() for name in shares)
    blocks = 1 if exhaustive else min(BLOCKS, samples, max(4, risk.memory // max(kept, 1)))
    sums = {name: Sums(parameters[name].detach(), own, blocks) for name, own in shares.items()}
    order = torch.arange(samples) if exhaustive else draw_indices(risk.size, samples, generator).cpu()
    of = torch.arange(samples) * blocks // samples
    with torch.inference_mode(False):
        size = min(risk.chunk_size, _few(risk)) if refusal else risk.chunk_size
        for number, (rows, block) in enumerate(zip(order.split(size), of.split(size), strict=True)):
            batch, block = risk.to_device(risk.source.take(rows)), block.to(risk.device)
            if refusal:
                gradients = per_sample_gradients(risk, batch, seed=number * size)
                for name, gradient in zip(risk.names, gradients, strict=True):
                    if name in sums:
                        sums[name].add(gradient, block)
            else:
                _by_layers(risk, batch, block, sums, seed=number, alone=passes == 1)
    for each in sums.values():
        each.finish()
    method, cost = (f"explicit: {refusal}", _ELEMENT) if refusal else ("layer by layer", _PASS)
    population = None if risk.random else risk.size
    return Gathered(sums, torch.bincount(of, minlength=blocks), 1, population, method, cost * samples / risk.size)


def gather_batches(
    risk: Risk, shares: Shares, batches: int, batch_size: int, replacement: bool, generator: torch.Generator
) -> Gathered:
    """Gradients of whole batches, drawn independently of each other."""
    blocks = min(BLOCKS, batches)
    parameters = dict(zip(risk.names, risk.parameters, strict=True))
    sums = {name: Sums(parameters[name].detach(), own, blocks) for name, own in shares.items()}
    of = torch.arange(batches) * blocks // batches
    for index in range(batches):
        _, gradient = risk.gradient(risk.draw(batch_size, generator, replacement=replacement), seed=index)
        for name, g in zip(risk.names, gradient, strict=True):
            if name in sums:
                sums[name].add(g[None], of[index : index + 1].to(g.device))
    for each in sums.values():
        each.finish()
    method = f"batches of {batch_size}: {risk.mixing}"
    return Gathered(sums, torch.bincount(of), batch_size, None, method, batches * batch_size / risk.size)


def _few(risk: Risk) -> int:
    """Samples whose explicit gradients are formed at a time."""
    return max(1, _FORMED // sum(p.numel() * p.element_size() for p in risk.parameters))


def _by_layers(risk: Risk, batch: Batch, block: Tensor, sums: Mapping[str, Sums], *, seed: int, alone: bool) -> None:
    names = {id(p): name for name, p in zip(risk.names, risk.parameters, strict=True)}
    both, _ = sides(risk, batch, seed=seed)
    with torch.no_grad():
        for side in both:
            own = [sums.get(names[id(p)]) for p in side.layer.parameters(recurse=False)]
            if not any(s is not None for s in own):
                continue
            slope = side.slope * len(block)  # of each sample's own loss
            if isinstance(side.layer, nn.Linear) and side.input.dim() == 2 and (own[0] is None or own[0].by_sides):
                if own[0] is not None:
                    own[0].add_linear(side.input, slope, block, alone=alone)
                if len(own) > 1 and own[1] is not None:
                    own[1].add(slope, block)
                continue
            for part, chunk, gradients in _formed(side.layer, side.input, slope, block):
                each = own[part]
                if each is not None:
                    each.add(gradients, chunk)


def _formed(layer: nn.Module, a: Tensor, slope: Tensor, block: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Gradients of a layer formed a few samples at a time: place of the parameter, blocks of the samples, gradients."""
    counts = [p.numel() for p in layer.parameters(recurse=False)]
    few = max(1, _FORMED // (sum(counts) * a.element_size()))
    for inputs, slopes, chunk in zip(a.split(few), slope.split(few), block.split(few), strict=True):
        gradients = layers.gradients(layer, inputs, slopes)
        for part, columns in enumerate(gradients.split(counts, dim=1)):
            yield part, chunk, columns
