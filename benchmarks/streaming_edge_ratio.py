"""Streamed edge ratio: what its one forward pass costs, and how near the exact value it comes at the edge.

Digits, 256 images, one hidden layer of 32 units, batches of 8, half the squared error, float64, trained to the edge;
then 8000 steps streamed. Beside each streamed sample stand two exact values: gᵀHg of the very batch, which differs only
by the finite step (its third order, and kinks crossed), and gᵀHg of fresh draws every tenth step, which is batch
sharpness. All are ratios of expectations; errors are over 32 blocks, since neighbouring steps are not independent.

Batches drawn anew at every step are fresh draws themselves. Those of a reshuffled epoch are not: the weights have just
been fitted to the rest of the epoch, and fresh draws come out sharper by some per cent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from benchmarks.harness import Ratio, Row, class_images, cnn, interleaved, mlp, optional, plain_gradient, risk_of
from sgdscope import models

BEFORE, STRETCH, SIZE, IMAGES, BLOCKS = 8000, 8000, 8, 256, 32
FRESH_EVERY, FRESH = 10, 64
BAR = 0.02
Batch = tuple[Tensor, Tensor]


def half_squares(model: nn.Module, batch: Batch) -> Tensor:
    """½ Σ over outputs, mean over samples."""
    return 0.5 * (model(batch[0]) - batch[1]).square().sum(1).mean()


def curvatures(model: nn.Module, batches: Batch) -> Tensor:
    """gᵀHg and ‖g‖² of each of many batches, by torch alone; shape ``(batches, 2)``."""
    at = {name: p.detach() for name, p in model.named_parameters()}

    def one(inputs: Tensor, targets: Tensor) -> Tensor:
        def gradient(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
            return grad(lambda p: 0.5 * (functional_call(model, p, (inputs,)) - targets).square().sum(1).mean())(
                parameters
            )

        g = gradient(at)
        product = jvp(gradient, (at,), (g,))[1]
        return torch.stack([sum((a[n] * b[n]).sum() for n in at) for a, b in ((g, product), (g, g))])

    return vmap(one)(*batches)


def quotient(values: Tensor) -> tuple[float, Tensor]:
    """Σ a / Σ b of rows ``(a, b)``, and each block's part in its deviation."""
    blocks = values[: len(values) // BLOCKS * BLOCKS].reshape(BLOCKS, -1, 2).sum(1)
    a, b = blocks.sum(0)
    return float(a / b), (blocks[:, 0] - a / b * blocks[:, 1]) / b


def apart(ours: Tensor, exact: Tensor) -> tuple[float, float]:
    """Relative difference of two quotients over the same stretch, and its error by blocks."""
    (a, da), (b, db) = quotient(ours), quotient(exact)
    deviation = da / a - db / b
    return a / b - 1, math.sqrt(BLOCKS / (BLOCKS - 1) * float(deviation.square().sum()))


def accuracy(activation: str, lr: float, *, reshuffled: bool) -> Iterator[Row]:
    """Streamed against exact over one stretch at the edge."""
    from sgdscope.data.digits import load_digits

    digits = load_digits(subset=IMAGES, test=False)
    inputs, targets = digits.inputs.double(), nn.functional.one_hot(digits.labels, 10).double()
    model = models.build("mlp", input_shape=(1, 8, 8), classes=10, width=32, depth=1, activation=activation,
                         initialisation="uniform-zero-bias").double()  # fmt: skip
    parameters = list(model.parameters())
    generator, other = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    streamed, same, fresh = [], [], []
    order: list[Tensor] = []
    name = f"streamed edge ratio, {activation} lr {lr}, {'epochs reshuffled' if reshuffled else 'batches drawn anew'}"
    for step in range(BEFORE + STRETCH):
        if not order:
            permuted = torch.randperm(IMAGES, generator=generator)
            order = list(permuted.split(SIZE)) if reshuffled else [permuted[:SIZE]]
        index = order.pop()
        batch = (inputs[index], targets[index])
        loss = half_squares(model, batch)
        graph = torch.autograd.grad(loss, parameters, create_graph=step >= BEFORE)
        gradient = [g.detach() for g in graph]
        if step >= BEFORE:
            product = torch.autograd.grad(graph, parameters, grad_outputs=gradient)
            pairs = (zip(gradient, product, strict=True), zip(gradient, gradient, strict=True))
            same.append(torch.stack([torch.stack([(a * b).sum() for a, b in pair]).sum() for pair in pairs]))
            if (step - BEFORE) % FRESH_EVERY == 0:
                drawn = torch.stack([torch.randperm(IMAGES, generator=other)[:SIZE] for _ in range(FRESH)])
                fresh.append(curvatures(model, (inputs[drawn], targets[drawn])).mean(0))
        with torch.no_grad():
            torch._foreach_add_(parameters, gradient, alpha=-lr)
            if step >= BEFORE:
                square = sum(float(g.square().sum()) for g in gradient)
                if not square < 1e8:
                    yield Row(name, f"training diverged after {step} steps: no reading", "-", "within 2 %")
                    return
                change = float(half_squares(model, batch)) - float(loss)
                streamed.append(torch.tensor([2 / lr * (change / lr + square), square], dtype=torch.float64))
    ours = torch.stack(streamed)
    value, parts = quotient(ours)
    error = lr * math.sqrt(BLOCKS / (BLOCKS - 1) * float(parts.square().sum()))
    for against, values in (("the same batches", torch.stack(same)), ("fresh draws", torch.stack(fresh))):
        difference, uncertain = apart(ours, values)
        other_batches = reshuffled and against == "fresh draws"
        yield Row(
            f"{name}, against gᵀHg of {against} over {STRETCH} steps at the edge",
            f"{lr * value:.3f} ± {error:.3f}, exact {lr * quotient(values)[0]:.3f}: "
            f"{100 * difference:+.2f} ± {100 * uncertain:.2f} %"
            + (" (batches of an epoch are no fresh draws)" if other_batches else ""),
            "-", "within 2 %", abs(difference) <= BAR,
        )  # fmt: skip


def cost(name: str, model: nn.Module, size: int) -> Row:
    """One forward pass of a risk on a training batch, in gradients of that batch."""
    data = class_images(size)
    risk = risk_of(model, data, check=False)
    times = interleaved({"gradient": plain_gradient(model, data), "forward": lambda: risk.value(data)})
    ratio = Ratio.of(times["forward"], times["gradient"])
    return Row(f"one sample of the stream, {name} b = {size}, in gradients", str(ratio), "-", "≤ 0.6",
               ratio.median <= 0.6)  # fmt: skip


def rows() -> Iterator[Row]:
    yield cost("MLP tanh", mlp("tanh"), 32)
    yield cost("MLP tanh", mlp("tanh"), 128)
    yield cost("CNN", cnn(), 128)
    reason = optional("sklearn")
    if isinstance(reason, str):
        yield Row("streamed edge ratio, accuracy", reason)
        return
    for activation, lr in (("tanh", 0.5), ("tanh", 0.7), ("relu", 0.5), ("relu", 0.7)):
        for reshuffled in (False, True):
            yield from accuracy(activation, lr, reshuffled=reshuffled)
