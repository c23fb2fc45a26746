r"""SGD itself: steps along the gradient of batches that are really drawn, sample by sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sgdscope.simulate.data.minibatch import DataLandscape
from sgdscope.simulate.process import Update, parameter, positive, symbols
from sgdscope.simulate.recursions import Recursion, check_momentum, descent


@dataclass(frozen=True)
class SGD(Recursion):
    r""":math:`\theta \leftarrow \theta - \frac{lr}{B} \sum_{b=1}^{B} \nabla\ell(\theta, x_b)`, a fresh batch each step.

    It moves on landscapes made of data (`DiagonalNetwork`, `Quadratics`, `LogisticRegression`). Batches depend on the
    seed, the replica and the step only: runs with the same seed at other learning rates see the same batches.

    Attributes:
        lr: learning rate > 0.
        batch_size: B ≥ 1, whole. A step costs B draws.
        momentum: μ of heavy ball, as PyTorch has it: v ← μ v + g, θ ← θ − lr v.
        nesterov: θ ← θ − lr (g + μ v) instead.
        replacement: whether a sample of a finite set may come more than once in a batch; if not, a step also compares
            all pairs in the batch (B up to some hundred). Streams never repeat.

    Raises ValueError for numbers out of range.
    """

    lr: float
    batch_size: int = 1
    momentum: float = 0.0
    nesterov: bool = False
    replacement: bool = True

    def __post_init__(self) -> None:
        positive(self, lr=self.lr)
        check_momentum(self.momentum, self.nesterov)
        if self.batch_size < 1 or int(self.batch_size) != self.batch_size:
            raise ValueError(f"expected a whole batch size ≥ 1, got {self.batch_size}")

    def update(self, landscape: DataLandscape) -> Update:
        """The recursion. Raises ValueError for a landscape without data, and a batch larger than the set it is from."""
        if not hasattr(landscape, "minibatch"):
            raise ValueError(
                f"expected a landscape made of data, such as DiagonalNetwork, got {type(landscape).__name__}: "
                "use GaussianSGD for noise that is given as a formula"
            )
        batch, size = landscape.minibatch(), int(self.batch_size)
        sampling = batch.sampling
        distinct = sampling.table is not None and not self.replacement and size > 1
        if sampling.table is not None and distinct and size > len(sampling.table):
            raise ValueError(
                f"expected a batch of at most {len(sampling.table)} samples, drawn without replacement, got {size}"
            )
        share = parameter("share")
        steps, sums = (*batch.parts, *batch.averaged), tuple[tuple[Any, Any], ...]()
        if size > 1:
            totals, parts = symbols("_total", len(batch.averaged)), dict(batch.parts)
            sums = tuple(
                (total, added.xreplace(parts)) for total, (_, added) in zip(totals, batch.averaged, strict=True)
            )
            steps = tuple((mean, share * total) for total, (mean, _) in zip(totals, batch.averaged, strict=True))
        found = descent(
            landscape.symbols, (*steps, *batch.step), list(batch.gradient), self.lr, self.momentum, self.nesterov
        )
        numbers = {**found.pop("parameters"), **sampling.parameters, **batch.parameters}
        if size > 1:
            numbers[share] = 1 / size
        return Update(
            noise=sampling.symbols, draw=sampling.draw, sums=sums, rounds=size, parameters=numbers,
            table=sampling.table, distinct=distinct, **found,
        )  # fmt: skip
