r"""Batch noise: Gaussian stand-ins for what drawing a batch adds to the gradient.

Gradient descent with noise of the right size, or even of the right covariance, is often taken for SGD. At the edge of
stochastic stability it shows which feature of the noise counts. With per-sample gradients :math:`g_i`, their mean g,
:math:`\Sigma = \frac1N \sum_i (g_i - g)(g_i - g)^\top` and N samples, the gradient of a batch of b has the covariance

.. math:: C = \frac{\Sigma}{b} \cdot \frac{N - b}{N - 1}

drawn without replacement, :math:`\Sigma / b` with it, and zero for all data at once. The stand-ins have of C
everything, only its diagonal, or only its trace. Source: Andreyev & Beneventano 2412.20553 (baselines of its official
code, there without the factor for drawing without replacement).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sgdscope.per_sample import per_sample_gradients
from sgdscope.risk import Risk
from sgdscope.vectors import Vector

Shape = Literal["covariance", "diagonal", "isotropic"]

_BYTES = 1 << 31
"""Of per-sample gradients at once."""


@dataclass(frozen=True)
class BatchNoise:
    r"""The gradient at one point, and Gaussian noise like that of a batch; see `batch_noise`.

    Attributes:
        gradient: of the mean loss over all data, shaped like the parameters.
        root: for each parameter a tensor of shape ``(N, *parameter.shape)``, the rows :math:`R_i \propto g_i - g` with
            :math:`C = R^\top R`; loss per parameter.
    """

    gradient: Vector
    root: list[Tensor]

    @property
    def trace(self) -> float:
        """Trace of C, the mean squared length of every draw whatever its shape; loss² / parameter²."""
        return math.fsum(float(part.double().square().sum()) for part in self.root)

    def draw(self, shape: Shape = "covariance", *, generator: torch.Generator) -> Vector:
        r"""Gaussian noise of mean zero, to be added to `gradient`; loss per parameter, shaped like the parameters.

        - ``covariance``: :math:`R^\top \xi` with ξ standard normal, one number per sample, so that its covariance is C.
          It is the gradient of a randomly re-weighted loss, and so knows the samples that it comes from.
        - ``diagonal``: independent along the parameters, with the diagonal of C.
        - ``isotropic``: the same in all directions, :math:`\sqrt{\mathrm{tr}\, C / P}` along each of P parameters.

        For a step h of the Euler-Maruyama scheme of :math:`d\theta = -\nabla L\, dt + \sqrt{\eta\, C}\, dW` multiply
        the draw by :math:`\sqrt{\eta / h}` and use h in place of the learning rate η. Raises ValueError for another
        shape.
        """
        if shape == "covariance":
            weights = _normal(self.root[0], self.root[0].shape[:1], generator)
            return [torch.tensordot(weights.to(part), part, 1) for part in self.root]
        if shape == "diagonal":
            return [_normal(part, part.shape[1:], generator) * part.square().sum(0).sqrt() for part in self.root]
        if shape == "isotropic":
            spread = math.sqrt(self.trace / sum(part[0].numel() for part in self.root))
            return [_normal(part, part.shape[1:], generator) * spread for part in self.root]
        raise ValueError(f"expected shape 'covariance', 'diagonal' or 'isotropic', got {shape!r}")


def batch_noise(risk: Risk, batch_size: int, *, replacement: bool = False) -> BatchNoise:
    """The gradient at the risk's present parameters, and the noise of a batch of `batch_size` there, to draw from.

    A step of noisy gradient descent is then ``θ ← θ − lr · (noise.gradient + noise.draw(generator=g))``, with a noise
    measured anew at each step; one kept from an earlier point is noise that does not follow the parameters.

    Cost: the per-sample gradients of all data. Memory: as many copies of the parameters as samples.

    Raises ValueError for a batch size that the data cannot give, data that come in batches, a loss that mixes samples
    or has a randomness of its own, and per-sample gradients beyond two gigabytes.
    """
    if risk.source.batch_lengths is not None:
        raise ValueError("expected data that can be drawn sample by sample, got a list of batches\n"
                         "hint: give the risk tensors or a dataset")  # fmt: skip
    risk.source.check_batch_size(batch_size, replacement=replacement)
    if risk.batch_dependent:
        raise ValueError(f"expected a loss in which each sample stands alone, got {risk.mixing}: samples have no "
                         "gradients of their own\nhint: Risk(..., mode='eval') for BatchNorm")  # fmt: skip
    if risk.random:
        raise ValueError("expected a loss without a randomness of its own, got one (dropout): its noise is no noise of "
                         "the batch\nhint: Risk(..., mode='eval')")  # fmt: skip
    size = risk.size * sum(p.numel() * p.element_size() for p in risk.parameters)
    if size > _BYTES:
        raise ValueError(f"expected per-sample gradients of at most {_BYTES >> 30} GiB, got {size / 2**30:.3g} GiB\n"
                         "hint: a risk over fewer samples")  # fmt: skip
    parts = [per_sample_gradients(risk, chunk) for chunk in risk.chunks()]
    samples = [torch.cat(rows) for rows in zip(*parts, strict=True)]
    gradient = [rows.mean(0) for rows in samples]
    left = 1.0 if replacement or risk.size == 1 else (risk.size - batch_size) / (risk.size - 1)
    scale = math.sqrt(left / (batch_size * risk.size))
    return BatchNoise(gradient, [(rows - g) * scale for rows, g in zip(samples, gradient, strict=True)])


def _normal(like: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Standard normal numbers, drawn where the generator is."""
    return torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)
