"""Element noise: the variance of each single element of the gradients of samples.

On the orbit of a rescaling an element that is multiplied by f has its gradient divided by f, for every sample, so that
its variance goes as 1 / f²: measured once, the noise of every rescaled network is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sgdscope.batches import draw_indices, length
from sgdscope.per_sample import layers, per_sample_gradients
from sgdscope.per_sample.gram import layers_refusal
from sgdscope.per_sample.sides import Side, sides
from sgdscope.risk import Risk

_AT_ONCE = 1 << 26
"""Bytes of single samples' gradients formed at a time."""


def element_noise(
    risk: Risk, names: Sequence[str], *, samples: int, batch_size: int | None, replacement: bool,
    generator: torch.Generator,
) -> tuple[dict[str, Tensor], float]:  # fmt: skip
    """Var[∂ℓ/∂θᵢ] over single samples for each element of the parameters `names`, in double precision; and its cost.

    Where samples have no gradients of their own (BatchNorm in train mode) it is the variance over batches times their
    size. Over the data, as in `measure.noise_traces`: divided by their number, not by one less. Cost in gradients over
    all data, a convention. Raises ValueError for fewer than two draws, FloatingPointError if gradients are not finite.
    """
    sums = _Sums(risk, names)
    unit = 1
    if risk.batch_dependent:
        if batch_size is None or samples < 2 * batch_size:
            raise ValueError(f"expected samples for at least 2 batches, got {samples} in batches of {batch_size}")
        unit, draws = batch_size, samples // batch_size
        for seed in range(draws):
            batch = risk.draw(batch_size, generator, replacement=replacement)
            sums.add([g[None] for g in risk.gradient(batch, seed=seed)[1]])
    else:
        draws = min(samples, risk.size)
        _add_samples(sums, risk, draws, generator)
    variances = sums.variances(draws)
    if not all(bool(torch.isfinite(v).all()) for v in variances.values()):
        raise FloatingPointError("the gradients of single samples are not finite")
    of_data = unit if unit > 1 or risk.random else (risk.size - 1) / risk.size
    return {name: of_data * v for name, v in variances.items()}, draws * unit / risk.size


class _Sums:
    """Sums over draws of each element of the gradient and of its square."""

    def __init__(self, risk: Risk, names: Sequence[str]) -> None:
        parameters = dict(zip(risk.names, risk.parameters, strict=True))
        self._names = {id(p): name for name, p in parameters.items()}
        self._order = list(parameters)
        self._first = {name: torch.zeros_like(parameters[name], dtype=torch.float64) for name in names}
        self._second = {name: torch.zeros_like(first) for name, first in self._first.items()}

    def add(self, gradients: Sequence[Tensor]) -> None:
        """Take in draws along the first dimension, for all parameters in order."""
        for name, rows in zip(self._order, gradients, strict=True):
            self._add(name, rows)

    def add_side(self, side: Side, samples: int) -> None:
        """Take in the samples that passed through a layer; its slopes are those of the mean loss."""
        layer, a, slope = side.layer, side.input, side.slope * samples
        own = [p for p in (layer.weight, getattr(layer, "bias", None)) if isinstance(p, Tensor)]
        if not any(self._names[id(p)] in self._first for p in own):
            return
        if isinstance(layer, nn.Linear) and a.dim() == 2:  # g = δ aᵀ, so that the squares of g are those of δ and a
            weight, a, slope = self._names[id(layer.weight)], a.double(), slope.double()
            if weight in self._first:
                self._first[weight] += slope.t() @ a
                self._second[weight] += slope.square().t() @ a.square()
            if layer.bias is not None:
                self._add(self._names[id(layer.bias)], slope)
            return
        few = max(1, _AT_ONCE // (8 * sum(p.numel() for p in own)))
        for inputs, slopes in zip(a.split(few), slope.split(few), strict=True):
            rows = layers.gradients(layer, inputs, slopes).split([p.numel() for p in own], 1)
            for p, flat in zip(own, rows, strict=True):
                self._add(self._names[id(p)], flat.reshape(-1, *p.shape))

    def variances(self, draws: int) -> dict[str, Tensor]:
        """Unbiased, and never below zero."""
        return {
            name: (self._second[name] - first.square() / draws).clamp_(min=0) / (draws - 1)
            for name, first in self._first.items()
        }

    def _add(self, name: str, rows: Tensor) -> None:
        if name in self._first:
            rows = rows.double()
            self._first[name] += rows.sum(0)
            self._second[name] += rows.square().sum(0)


def _add_samples(sums: _Sums, risk: Risk, draws: int, generator: torch.Generator) -> None:
    """Single samples: layer by layer where the model allows, else as explicit gradients, a few at a time."""
    by_layer = not layers_refusal(risk)
    few = risk.chunk_size if by_layer else max(1, _AT_ONCE // (8 * risk.parameter_count))
    with torch.inference_mode(False):
        for start, rows in enumerate(draw_indices(risk.size, draws, generator).split(few)):
            batch = risk.to_device(risk.source.take(rows))
            if by_layer:
                with torch.no_grad():
                    for side in sides(risk, batch, seed=start)[0]:
                        sums.add_side(side, length(batch))
            else:
                sums.add(per_sample_gradients(risk, batch, seed=start * few))
