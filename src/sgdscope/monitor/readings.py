"""Readings: the heavier measurements as the monitor takes them, quick while training goes on, careful at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import NamedTuple

import torch
from torch import nn

from sgdscope.balance import standing
from sgdscope.estimate import Estimate
from sgdscope.hessian import Hessian
from sgdscope.measure import (
    EigenvalueTracker,
    batch_sharpness,
    gradient_noise,
    gradient_noise_interaction,
    leading_eigenpairs,
    noise_covariance,
    spectrum,
)
from sgdscope.measure.batch_sharpness import chain_refusal
from sgdscope.monitor.along_gradient import line_row, step_row
from sgdscope.monitor.discovery import Discovery
from sgdscope.monitor.optimizers import description, learning_rate
from sgdscope.monitor.portion import affordable, portion
from sgdscope.monitor.stream import EdgeStream
from sgdscope.per_sample.gram import layers_refusal
from sgdscope.risk import Risk
from sgdscope.vectors import Vector, dot
from sgdscope.what_if import edge_map

NAMES = ("batch_sharpness", "lambda_max", "gradient_noise_interaction", "gradient_noise", "balance")
ON_DEMAND = ("edge_map", "spectrum", "batch_line", "full_loss_step")
"""What is read at the end only, unless asked for: the what-if map, the shape of the curvature, and what a batch's own
gradient does to its loss and to that of all data."""
ANY_BATCH = ("lambda_max", "gradient_noise", "spectrum")
"""Those that do not ask for the batch size."""
SHAPE = ("spectrum", "noise_covariance")
"""Rows of the shape: of the curvature, and of the noise against it."""


class Depth(NamedTuple):
    """How closely the shape of the curvature is looked at.

    Attributes:
        axes: eigenvectors.
        steps, probes: of the Lanczos quadrature for what lies below them.
        charge: what all of it costs, in gradients of a network that does little but large matrix products.
    """

    axes: int
    steps: int
    probes: int
    charge: float

    @property
    def vectors(self) -> int:
        """Copies of the parameters held meanwhile."""
        return 2 * (14 + 2 * (self.axes + 3))


class Axes(NamedTuple):
    """Leading eigenpairs of the Hessian at one point of the run, the part of the data they are of, and how closely."""

    depth: Depth
    part: Risk
    pairs: tuple[Estimate, list[Vector]]


BY_HAND, BY_GRAPH = Depth(8, 30, 2, 120), Depth(4, 16, 2, 1500)
"""Where products with the Hessian are taken by hand, at about a gradient each; and where torch takes them, at two or
three, for models whose many small operations take several times what their arithmetic would (measured: a character
transformer, a residual network)."""
_NO_BATCH_SIZE = "the batch size is not known: give batch_size, or call observe(batch) in the loop"
_BATCHES = "single samples cannot be drawn: the data come in batches of different shapes"
_TOO_FEW = "too few single samples, or too many parameters to hold the gradient of each"
_MEMORY = 1 << 32
"""Bytes that those may take."""
_ALTERED = "gradients are clipped, scaled or accumulated"
_FEWEST = 64
"""Samples without which the spectrum is not looked at."""
_ONE_BY_ONE, _ONE_BY_ONE_BYTES = 64, 1 << 28
"""Samples whose gradients are taken where each has to be taken by itself, and the memory for them."""


class Readings:
    """Takes readings of one run; what a reading draws depends on `seed` and step alone.

    `stream`, where there is one, knows whether the optimizer's gradients are those of the batches.
    λ_max along the way also starts from the vectors found at the reading before, and so may differ within its residual.
    Readings of one visit, which all see the same weights, share what was found; `forget` ends it.
    """

    def __init__(
        self, risk: Risk, optimizer: torch.optim.Optimizer, stream: EdgeStream | None = None, *, k: int,
        replacement: bool, seed: int,
    ) -> None:  # fmt: skip
        self.risk = risk
        self.optimizer = optimizer
        self.replacement = replacement
        self.seed = seed
        self._tracker = EigenvalueTracker(k)
        self._axes: Axes | Estimate | None = None
        self._sharpness: Estimate | None = None
        self.discovery = Discovery(risk)
        self._stream = stream

    def rows(self, name: str, step: int, batch_size: int | None, *, careful: bool) -> Iterator[Estimate]:
        """What a reading of `name`, of `NAMES` or `ON_DEMAND`, gives at the present weights, one estimate at a time."""
        if name == "spectrum":
            yield from self.shape(step, batch_size)
        elif name == "edge_map":
            found = self.edge_map(step, batch_size)
            if found is not None:
                yield found
        elif name in ("batch_line", "full_loss_step"):
            found = self.along_gradient(name, step, batch_size, careful=careful)
            if found is not None:
                yield found
        else:
            yield self.take(name, step, batch_size, careful=careful)

    def take(self, name: str, step: int, batch_size: int | None, *, careful: bool) -> Estimate:
        """Measure `name`, one of `NAMES`, at the present weights."""
        if name == "lambda_max":
            shared = self._shared_eigenvalues(step, batch_size) if careful or self._axes is not None else None
            if shared is not None:
                return shared
            self._tracker.tolerance = 0.02 if careful else 0.05
            self._tracker.generator = self.generator(3, step)
            return self._tracker.update(self.risk)
        if name == "gradient_noise":
            samples = self._samples(1024 if careful else 256)
            return gradient_noise(self.risk, samples=samples, generator=self.generator(5, step))
        if batch_size is None:
            return Estimate.failed(name, _NO_BATCH_SIZE)
        if name == "balance":
            return self._balance(step, batch_size, careful=careful)
        if name == "batch_sharpness":
            self._sharpness = batch_sharpness(
                self.risk, batch_size, lr=learning_rate(self.optimizer) or None, replacement=self.replacement,
                tolerance=0.01 if careful else 0.03, max_batches=self._batches() if careful else 64,
                generator=self.generator(1, step),
            )  # fmt: skip
            return self._sharpness
        # Products with the curvature of all data only where they cost little; of independent batches otherwise.
        samples = 256 if self._cheap() else 4 * batch_size
        return gradient_noise_interaction(
            self.risk, batch_size, batches=48 if careful else 16, curvature_samples=samples,
            replacement=self.replacement, generator=self.generator(2, step),
        )  # fmt: skip

    def _balance(self, step: int, batch_size: int, *, careful: bool) -> Estimate:
        """Where the layers stand by the law of balance, whose reasons not to apply stand in the row."""
        lr, decay = learning_rate(self.optimizer), float(self.optimizer.param_groups[0].get("weight_decay", 0.0))
        if not lr > 0:
            return Estimate.failed("balance", f"nothing moves at a learning rate of {lr:g}")
        found = standing(
            self.risk, self.discovery.symmetries, lr=lr, batch_size=batch_size, weight_decay=decay,
            replacement=self.replacement, optimizer=self.optimizer, samples=self._samples(1024 if careful else 256),
            generator=self.generator(13, step),
        )  # fmt: skip
        if self._stream is None or self._stream.trusts_gradient is not False or self.risk.random:
            return found  # with dropout nobody can compute the optimizer's gradients again
        return replace(found, settings={**found.settings, "law": [*found.settings["law"], _ALTERED]})

    @property
    def balance_cost(self) -> float:
        """About what a reading of the balance takes, in gradients of 256 samples."""
        return 12.0 if layers_refusal(self.risk) else 2.0

    def edge_map(self, step: int, batch_size: int | None) -> Estimate | None:
        """The what-if map; None where it has no meaning: no theory of thresholds, or all data in a batch."""
        optimizer, lr = description(self.optimizer, full_batch=False), learning_rate(self.optimizer)
        if batch_size is None or not lr > 0 or optimizer["method"] not in ("sgd", "momentum", "nesterov"):
            return None
        if batch_size == self.risk.size and not self.replacement:
            return None
        return edge_map(
            self.risk, lr=lr, batch_size=batch_size, momentum=optimizer["momentum"],
            nesterov=optimizer["method"] == "nesterov", max_cost=self.map_cost, known=self._sharpness,
            replacement=self.replacement, generator=self.generator(4, step),
        ).estimate  # fmt: skip

    def along_gradient(self, name: str, step: int, batch_size: int | None, *, careful: bool) -> Estimate | None:
        """Losses along one batch's gradient, or the best full-loss step along such; None where it has no meaning.

        The batch followed is the same at every reading of a run. Learning rates are its unit where steps are those of
        SGD; for other optimizers the best full-loss step has none.
        """
        if batch_size is None:
            return Estimate.failed(name, _NO_BATCH_SIZE)
        if batch_size >= self.risk.size and (name == "batch_line" or not self.replacement):
            return None
        optimizer, lr = description(self.optimizer, full_batch=False), learning_rate(self.optimizer)
        sgd = lr > 0 and optimizer["method"] in ("sgd", "momentum", "nesterov")
        trained_on = step * batch_size
        if name == "batch_line":
            return line_row(self.risk, batch_size, lr if sgd else None, trained_on, self.generator(11, 0))
        if not sgd:
            return None
        return step_row(
            self.risk, batch_size, lr, momentum=optimizer["momentum"], replacement=self.replacement, careful=careful,
            product=self.product, samples_trained_on=trained_on, generator=self.generator(12, step),
        )  # fmt: skip

    @property
    def product(self) -> float:
        """About what a product with the Hessian takes, in gradients."""
        return 1.0 if self.depth is BY_HAND else 3.0

    @property
    def map_cost(self) -> float:
        """Gradients of its largest batch that a what-if map may take."""
        return 60 if self._cheap() else 30

    @property
    def depth(self) -> Depth:
        """How closely the shape of the curvature is looked at."""
        return BY_GRAPH if chain_refusal(self.risk) else BY_HAND

    def shape(self, step: int, batch_size: int | None) -> Iterator[Estimate]:
        """Spectrum, and the noise along its leading eigenvectors, which are found once for both.

        On part of the data, or not at all, where that would be dear; settings or the reason say so. On a part the
        largest eigenvalues come out larger than on all data; the noise is held against curvatures of another part.
        """
        axes = self._found_axes(step, batch_size)
        if isinstance(axes, Estimate):
            yield axes
            return
        depth, part, pairs = axes
        found = spectrum(
            part, eigenpairs=pairs, density_steps=depth.steps, density_probes=depth.probes,
            generator=self.generator(8, step),
        )  # fmt: skip
        yield replace(found, settings={**found.settings, "samples": part.size, "of": self.risk.size})
        if self.refusal("noise_covariance"):
            return
        if part is not self.risk and pairs[1]:
            pairs = _seen_afresh(pairs, portion(self.risk, part.size, self.generator(10, step)))
        yield noise_covariance(
            self.risk, samples=self._samples(1024), eigenpairs=pairs, generator=self.generator(9, step)
        )

    def forget(self) -> None:
        """Let go of what readings at the same weights share."""
        self._axes = self._sharpness = None

    def _found_axes(self, step: int, batch_size: int | None) -> Axes | Estimate:
        """Leading eigenpairs, found once for all readings of a visit; or the row that says why they are left out."""
        if self._axes is None:
            self._axes = self._search(step, batch_size)
        return self._axes

    def _search(self, step: int, batch_size: int | None) -> Axes | Estimate:
        depth = self.depth
        samples = affordable(self.risk, depth.charge, step * (batch_size or 1))
        held = depth.vectors * sum(p.numel() * p.element_size() for p in self.risk.parameters)
        if held > _MEMORY:
            return Estimate.failed("spectrum", f"left out: its vectors would take {held / 2**30:.0f} GiB")
        if samples < min(_FEWEST, self.risk.size):
            return Estimate.failed("spectrum", "left out: it would take a large share of the time of the whole run")
        if samples < self.risk.size and self.risk.source.batch_lengths is not None:
            return Estimate.failed("spectrum", "left out: on all data it is dear, and of these no part can be drawn")
        part = portion(self.risk, samples, self.generator(6, step))
        count = min(depth.axes, part.parameter_count)
        return Axes(depth, part, leading_eigenpairs(part, count, generator=self.generator(7, step)))

    def _shared_eigenvalues(self, step: int, batch_size: int | None) -> Estimate | None:
        """λ_max out of the search for the spectrum; None where that is not of all data, or found less."""
        axes, k = self._found_axes(step, batch_size), self._tracker.k
        if isinstance(axes, Estimate) or axes.part is not self.risk:
            return None
        found = axes.pairs[0]
        if found.status != "ok" or not isinstance(found.value, tuple) or not isinstance(found.residual, tuple):
            return None
        if len(found.value) < k:
            return None
        settings = {**found.settings, "search": "the one for the spectrum"}
        return replace(found, value=found.value[:k], residual=found.residual[:k], settings=settings)

    def refusal(self, name: str) -> str:
        """Why this risk has no such reading at any step; empty if it may have one."""
        if name == "balance":
            if self.risk.source.batch_lengths is not None:
                return _BATCHES
            return _TOO_FEW if self.risk.size < 8 else self.discovery.look()
        if name not in ("gradient_noise", "noise_covariance"):
            return ""
        if self.risk.batch_dependent:
            return f"single samples have no gradients of their own: {self.risk.mixing}"
        if self.risk.source.batch_lengths is not None:
            return _BATCHES
        if self._samples(_ONE_BY_ONE) < min(8, self.risk.size) or self.risk.size < 8:
            return _TOO_FEW
        return ""

    def _samples(self, most: int) -> int:
        """Samples whose own gradients are looked at: few where each has to be taken by itself."""
        if layers_refusal(self.risk):
            each = sum(p.numel() * p.element_size() for p in self.risk.parameters)
            most = min(most, _ONE_BY_ONE, _ONE_BY_ONE_BYTES // each)
        return min(most, self.risk.size)

    def one_gradient(self, batch_size: int) -> None:
        """One gradient of a batch, thrown away: what it takes tells what a reading would."""
        self.risk.gradient(self.risk.draw(batch_size, self.generator(0, 0), replacement=self.replacement))

    def generator(self, salt: int, step: int) -> torch.Generator:
        """For the draws of one reading; any whole number will do as seed."""
        return torch.Generator().manual_seed(Random(f"{self.seed} {salt} {step}").getrandbits(63))

    def _batches(self) -> int:
        """Most batches of a careful reading of batch sharpness: more where a batch costs little."""
        return 512 if self._cheap() else 128

    def _cheap(self) -> bool:
        """Whether the model is a chain of linear layers, where many batches are done in one pass."""
        convolutions = any(isinstance(m, nn.Conv2d) for m in self.risk.model.modules())
        return not convolutions and chain_refusal(self.risk) == ""


def _seen_afresh(pairs: tuple[Estimate, list[Vector]], part: Risk) -> tuple[Estimate, list[Vector]]:
    """The same directions with their curvatures on other samples than those that chose them."""
    found, axes = pairs
    with Hessian(part) as hessian:
        curvatures = [dot(v, image) for v, image in zip(axes, hessian.products(axes), strict=True)]
        cost = found.cost + hessian.cost
    settings = {**found.settings, "curvatures": "on other samples than the directions"}
    return replace(found, value=tuple(curvatures), residual=None, cost=cost, settings=settings), axes
