r"""Exact batch curvature of layered networks in Gram form: gᵀHg and ‖g‖² without forming gradient or Hessian product.

For a chain of linear layers :math:`z_l = a_{l-1} W_l^\top + c_l` and pointwise activations, the gradient of a batch is
:math:`G_l = \Delta_l^\top A_{l-1}` with :math:`\Delta_l` the derivatives of the loss by :math:`z_l`. Moving the
parameters along it moves the outputs of layer l by

.. math:: \dot z_l = \dot a_{l-1} W_l^\top + u_l, \qquad u_l = (A_{l-1} A_{l-1}^\top + 1) \Delta_l,

where only the b × b Gram matrix of the batch appears (the 1 is the bias). With it

.. math::

    \|g\|^2 = \sum_l \langle \Delta_l, u_l \rangle, \qquad
    g^\top H g = \langle \dot f, H_\ell \dot f \rangle
        + 2 \sum_l \langle \Delta_l, (\dot A_{l-1} A_{l-1}^\top) \Delta_l \rangle
        + \sum_l \langle \bar a_l, \phi''(z_l) \dot z_l^2 \rangle ,

the second and third term being the second-order jet of the output contracted with the loss gradient, carried back to
where it arises. For linear layers nothing of the size of the parameters is written, so many batches are done in one
pass: 0.2 to 1.8 gradient evaluations per batch of 8 to 1000, gradient included, where forming Hg takes two or three.
Convolutions (`convolution.Convolution`) form their gradient, which is small, and use it as a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sgdscope.batches import Batch, length
from sgdscope.chain.layers import layers_of
from sgdscope.chain.trace import Trace, forward_replaced, loss_rate, slope_at
from sgdscope.risk import Risk


@dataclass(frozen=True)
class BatchCurvatures:
    """Per batch, shape ``(K,)``: ``curvatures`` gᵀHg and ``squared_norms`` ‖g‖², with the mean ``loss`` of all.

    ``gauss_newton``: per batch gᵀGg with the Gauss-Newton matrix G, the part of gᵀHg that the loss's own curvature
    makes. ``cost``: of all batches, in gradients of one, by counting multiplications.
    """

    curvatures: Tensor
    gauss_newton: Tensor
    squared_norms: Tensor
    loss: float
    cost: float


def batch_curvatures(risk: Risk, batch: Batch, batch_size: int) -> BatchCurvatures:
    """gᵀHg and ‖g‖² of each consecutive group of `batch_size` samples of `batch`, exactly.

    Assumes a loss that is a mean over samples (checked against the plain way by `measure.batch_sharpness` on first
    use). Cost: 0.2 to 2 gradient evaluations per batch.

    Raises NotAChainError if the model is none or the loss reaches the parameters otherwise than by one call of the
    model, ValueError if `batch_size` does not divide the batch.
    """
    layers = layers_of(risk.model)
    count = length(batch)
    if count % batch_size:
        raise ValueError(f"expected a batch of a multiple of {batch_size} samples, got {count}")
    groups = count // batch_size
    trace = Trace(layers, groups)
    with risk.evaluating() as leaves:
        with forward_replaced(risk.model, trace.forward) as call:
            loss = risk.loss(batch)
        slope = slope_at(loss, call.output, leaves)
        assert call.output is not None
        with torch.no_grad():
            # loss is the mean over all groups; each group's own loss has `groups` times its derivatives
            trace.backward(slope.detach() * groups)
            velocity, squared_norms, curvatures = along_gradient(trace)
        velocity = velocity.reshape(call.output.shape)
        of_loss = velocity * loss_rate(slope, call.output, velocity) * groups
        gauss_newton = of_loss.reshape(groups, -1).sum(1)
    counts = [trace.jets[i].multiplications(first=i == trace.first) for i in trace.moving]
    cost = groups * sum(ours for _, ours in counts) / sum(gradient for gradient, _ in counts)
    return BatchCurvatures(curvatures + gauss_newton, gauss_newton, squared_norms, float(loss.detach()), cost)


def along_gradient(trace: Trace) -> tuple[Tensor, Tensor, Tensor]:
    """Velocity of the output, ‖g‖² and the part of gᵀHg that the network's own curvature makes, per group."""
    velocity: Tensor | None = None
    norms = curvatures = torch.zeros(())
    for index in trace.moving:
        velocity, added = trace.jets[index].push_along_gradient(velocity)
        if added is not None:
            norms, curvatures = norms.to(added[0]) + added[0], curvatures.to(added[1]) + added[1]
    assert velocity is not None
    return velocity, norms, curvatures
