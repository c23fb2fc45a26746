r"""Elastic band: images of the network strung between two minima, relaxed to a path of least loss.

Each interior image feels the gradient across the path and springs along it (nudging: neither can spoil the other), with
the tangent of Henkelman and Jónsson (J. Chem. Phys. 113, 9978, 2000). A climbing image (Henkelman, Uberuaga, Jónsson,
ibid. 9901), the highest one, feels no spring and goes up along the path instead, to the saddle. In deep learning:
Draxler et al. 1803.00885. Relaxed by damped dynamics in the manner of FIRE (Bitzek et al., Phys. Rev. Lett. 97, 170201,
2006), whose time step here never exceeds what the curvature met so far allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from sgdscope import vectors
from sgdscope.measure.common_losses import CommonLosses
from sgdscope.vectors import Vector

_GROW, _SHRINK, _MIX, _MIX_DECAY, _PATIENCE = 1.1, 0.5, 0.1, 0.99, 5
"""FIRE's own numbers."""
_LONGEST = 0.25
"""Longest move of an image in one step, in distances between neighbours."""
_FIRST = 0.05
"""Length of the first move, by which the curvature is first met."""
_CLIMB_AT = 0.2
"""The highest image begins to climb when the forces have fallen to this part of the first gradients."""


@dataclass(frozen=True)
class Band:
    """A band of images, its ends included.

    Attributes:
        images: points of parameter space, from start to end.
        losses: mean loss at each.
        residual: largest force left on an image, in parts of the largest gradient on the straight line.
        climbed: index of the climbing image; None if none climbed.
        iterations: steps taken; each costs one gradient per interior image.
        gradients: number of gradients taken.
    """

    images: tuple[Vector, ...]
    losses: tuple[float, ...]
    residual: float
    climbed: int | None
    iterations: int
    gradients: int


def relaxed_band(
    loss: CommonLosses,
    start: Vector,
    end: Vector,
    *,
    images: int,
    climbing: bool,
    stiffness: float | None,
    iterations: int,
    tolerance: float,
) -> Band:
    """A straight band of `images` interior images, relaxed until the residual is below `tolerance`.

    Or, where one may climb, until all lie below the higher end: then there is nothing to climb to.

    `stiffness` of the springs in loss per squared parameter; None takes the largest gradient on the straight line over
    its length. Memory: five copies of the parameters per image. Raises FloatingPointError where a loss or gradient is
    not finite.
    """
    whole = vectors.plus(end, start, -1.0)
    spacing = vectors.norm(whole) / (images + 1)
    inner = [vectors.plus(start, whole, (i + 1) / (images + 1)) for i in range(images)]
    ends = (loss.mean(loss.losses(start)), loss.mean(loss.losses(end)))
    velocities: list[Vector] = [[torch.zeros_like(x) for x in start] for _ in inner]
    before: list[Vector] = []
    moves: list[float] = []
    step, grown, mix, curvature = 0.0, 0, _MIX, 0.0
    scale, climb = 0.0, False
    for iteration in range(iterations + 1):
        losses, forces, left = _forces(loss, start, inner, end, ends, climb, stiffness or scale / (spacing * images))
        if scale == 0:
            scale = max(force.gradient for force in left)
            if scale == 0:
                break
        residual = max(force.left for force in left) / scale
        if residual <= (tolerance if climb or not climbing else max(tolerance, _CLIMB_AT)):
            if climb or not climbing or not max(losses) > max(ends):
                break
            climb = True
            continue
        if iteration == iterations:
            break
        for old, new, length in zip(before, forces, moves, strict=False):
            if length > 0:
                curvature = max(curvature, vectors.norm(vectors.plus(new, old, -1.0)) / length)
        power = sum(vectors.dot(f, v) for f, v in zip(forces, velocities, strict=True))
        if step == 0:
            step = math.sqrt(_FIRST * spacing / max(vectors.norm(force) for force in forces))
        elif power > 0:
            grown += 1
            if grown > _PATIENCE:
                step, mix = step * _GROW, mix * _MIX_DECAY
            speed, size = (math.sqrt(sum(vectors.dot(x, x) for x in of)) for of in (velocities, forces))
            for velocity, force in zip(velocities, forces, strict=True):
                torch._foreach_mul_(velocity, 1 - mix)
                torch._foreach_add_(velocity, force, alpha=mix * speed / size)
        else:
            grown, mix, step = 0, _MIX, step * _SHRINK
            for velocity in velocities:
                torch._foreach_zero_(velocity)
        if curvature > 0:
            step = min(step, 1 / math.sqrt(curvature))
        moves = []
        for image, velocity, force in zip(inner, velocities, forces, strict=True):
            torch._foreach_add_(velocity, force, alpha=step)
            length = step * vectors.norm(velocity)
            if length > _LONGEST * spacing:
                torch._foreach_mul_(velocity, _LONGEST * spacing / length)
                length = _LONGEST * spacing
            torch._foreach_add_(image, velocity, alpha=step)
            moves.append(length)
        before = forces
    highest = max(range(images), key=losses.__getitem__)
    return Band(
        (start, *inner, end), (ends[0], *losses, ends[1]), max(force.left for force in left) / scale if scale else 0.0,
        highest + 1 if climb else None, iteration, (iteration + 1) * images,
    )  # fmt: skip


@dataclass(frozen=True)
class _Left:
    """What an image still feels: its gradient, and the part of the force that a relaxed band has not."""

    gradient: float
    left: float


def _forces(
    loss: CommonLosses, start: Vector, inner: Sequence[Vector], end: Vector, ends: tuple[float, float], climb: bool,
    stiffness: float,
) -> tuple[list[float], list[Vector], list[_Left]]:  # fmt: skip
    """Losses, nudged forces and what is left to relax, of the interior images."""
    found = [loss.gradient(image) for image in inner]
    losses = [value for value, _ in found]
    if not all(map(math.isfinite, losses)):
        raise FloatingPointError("the loss is not finite at an image of the band")
    points, values = [start, *inner, end], [ends[0], *losses, ends[1]]
    top = max(range(len(inner)), key=losses.__getitem__)
    pieces = [vectors.plus(ahead, behind, -1.0) for behind, ahead in pairwise(points)]
    lengths = [vectors.norm(piece) for piece in pieces]
    forces, left = [], []
    for i, (_, gradient) in enumerate(found):
        tangent = _tangent(pieces[i + 1], pieces[i], values[i], values[i + 1], values[i + 2])
        along, size = vectors.dot(gradient, tangent), vectors.norm(gradient)
        across = math.sqrt(max(size**2 - along**2, 0.0))
        climbs = climb and i == top
        pull = 2 * along if climbs else along + stiffness * (lengths[i + 1] - lengths[i])
        torch._foreach_mul_(gradient, -1.0)  # the gradients are this function's own
        torch._foreach_add_(gradient, tangent, alpha=pull)
        forces.append(gradient)
        left.append(_Left(size, size if climbs else across))
    return losses, forces, left


def _tangent(ahead: Vector, behind: Vector, before: float, here: float, after: float) -> Vector:
    """Unit tangent towards the higher neighbour; at an extremum both, weighted so that it turns smoothly."""
    if after > here > before:
        tangent = ahead
    elif after < here < before:
        tangent = behind
    else:
        rises = (abs(after - here), abs(before - here))
        most, least = max(rises), min(rises)
        weights = (most, least) if after > before else (least, most)
        if most == 0:
            weights = (1.0, 1.0)
        tangent = vectors.plus(vectors.scaled(ahead, weights[0]), behind, weights[1])
    return vectors.normalised(tangent) or vectors.scaled(tangent, 0.0)
