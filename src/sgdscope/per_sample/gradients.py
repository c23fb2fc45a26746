"""Per-sample gradients themselves: by vmap where the model allows, one after the other where not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from sgdscope.batches import Batch, length, map_tensors
from sgdscope.risk import Risk

Method = Literal["auto", "vmap", "loop"]


def per_sample_gradients(risk: Risk, batch: Batch, *, method: Method = "auto", seed: int = 0) -> list[Tensor]:
    """Gradient of each sample's own loss: for each parameter a tensor of shape ``(n, *parameter.shape)``.

    A sample's loss is the loss of the batch it alone makes. ``vmap`` is used where the model and the loss go through
    it (no dropout, no data-dependent control flow), else a ``loop``; the numbers are the same to rounding. Cost: n
    gradients of one sample; on large linear layers many times one gradient of n samples. Memory: n copies of the
    parameters. With dropout each sample has a mask of its own.

    Raises ValueError for an unknown method, or if ``vmap`` was asked for and does not go through.
    """
    if method not in ("auto", "vmap", "loop"):
        raise ValueError(f"expected method 'auto', 'vmap' or 'loop', got {method!r}")
    if method != "loop":
        try:
            return _by_vmap(risk, batch, seed)
        except Exception as error:  # what vmap cannot do shows itself as almost any exception
            if method == "vmap":
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise ValueError(f"expected a model and loss that go through vmap, got: {reason}\n"
                                 "hint: method='loop'") from error  # fmt: skip
    rows = [risk.gradient(sample, seed=seed + index)[1] for index, sample in enumerate(_samples(batch))]
    return [torch.stack(parts) for parts in zip(*rows, strict=True)]


def _samples(batch: Batch) -> Iterator[Batch]:
    for index in range(length(batch)):
        yield map_tensors(lambda t: t[index : index + 1] if t.ndim else t, batch)  # noqa: B023 (used at once)


def _by_vmap(risk: Risk, batch: Batch, seed: int) -> list[Tensor]:
    names = risk.names

    def of_one(weights: dict[str, Tensor], sample: Batch) -> Tensor:
        def model(*inputs: object, **named: object) -> object:
            return torch.func.functional_call(risk.model, weights, inputs, named)

        alone = map_tensors(lambda t: t[None], sample)
        return risk.loss_fn(model, alone).reshape(())  # type: ignore[arg-type]

    dimensions = map_tensors(lambda t: t, batch)
    with risk.evaluating(seed=seed, second_order=True):
        weights = {name: p.detach() for name, p in zip(names, risk.parameters, strict=True)}
        found = torch.func.vmap(torch.func.grad(of_one), in_dims=(None, 0))(weights, dimensions)
    return [found[name].detach() for name in names]
