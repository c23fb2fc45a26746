"""Risk: model, loss and data seen as one function of the parameters, with its derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from sgdscope import vectors
from sgdscope.batches import Batch, Source, TensorSource, length, map_tensors, source_of, tensors_of
from sgdscope.evaluation import Mode, aliases, evaluating, trainable
from sgdscope.vectors import Vector

LossFunction = Callable[[nn.Module, Batch], Tensor]

MEMORY = 2**30
"""Bytes that the activations of one chunk may take when the chunk size is chosen automatically."""
_ROUNDING, _ROUNDING_DOUBLE = 3e-3, 1e-9
"""Difference of a mean from the mean of its halves that passes for rounding: below double precision the model may use
any lower one inside."""


class Risk:
    r"""A loss as a function of the parameters: value, gradient and Hessian products, over all data or on a batch.

    The risk never changes what it looks at: parameters, buffers, ``.grad``, train flags, hooks, random state and
    autocast are as they were after every call. It follows the live parameters, so a measurement describes the
    weights of the moment it is made.

    Args:
        model: any module; its parameters with ``requires_grad`` are the point at which the risk is looked at.
        loss_fn: ``loss_fn(model, batch) -> mean loss``, a scalar that is the mean over the samples of the batch.
        data: tensors (one, a tuple or a dict), a map-style dataset, a DataLoader (its dataset is used) or a list of
            batches. Batches may be tuples, dicts or mapping objects.
        mode: ``"train"``, ``"eval"`` or ``"current"`` (train flags as they are). Train is what decides the stability
            of a step: BatchNorm then uses batch statistics, dropout is on with a reproducible mask.
        chunk_size: samples per pass when all data are used; chosen from `memory` if None. With BatchNorm in train
            mode, or a loss of the batch as a whole, the loss over all data *means* the average over such chunks.
        collate: joins samples of a dataset into a batch (default: torch's).
        seed: for dropout masks and other randomness inside the model.
        memory: bytes that the activations of one chunk may take.
        check: evaluate a few samples at once to catch a wrong loss at the door.

    Cost of a derivative is counted in gradient evaluations on the same data: forward 1/3, gradient 1, Hessian product
    1 if the gradient's graph was kept, else 2.

    Raises ValueError for a model without trainable parameters, and for a loss that is no scalar, does not depend on
    them, is a sum, is not reproducible or changes its batch in place.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        data: Any,
        *,
        mode: Mode = "train",
        chunk_size: int | None = None,
        collate: Callable[[list[Any]], Batch] | None = None,
        seed: int = 0,
        memory: int = MEMORY,
        check: bool = True,
    ) -> None:
        if mode not in ("train", "eval", "current"):
            raise ValueError(f"expected mode 'train', 'eval' or 'current', got {mode!r}")
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"expected chunk_size ≥ 1, got {chunk_size}")
        self.model: nn.Module = unwrapped(model)
        self.loss_fn = loss_fn
        self.source: Source = source_of(data, collate)
        self.mode: Mode = mode
        self.seed = seed
        self.memory = memory
        named = trainable(self.model)
        if not named:
            raise ValueError(
                "expected a model with trainable parameters, got none with requires_grad\n"
                "hint: unfreeze at least one parameter before building the Risk"
            )
        self.names = tuple(named)
        self._parameters = tuple(named.values())
        self._chunk_size = chunk_size
        self._mixing_loss = False
        self.random = False
        """Whether the loss depends on a seed (dropout), as far as the check at the door saw it on a few samples."""
        if check:
            self._check()

    @classmethod
    def of_function(cls, function: Callable[..., Tensor], start: Sequence[Tensor], data: Any = None) -> Risk:
        """A written-down loss as a risk: ``function(parameters)``, or ``function(parameters, batch)`` with `data`.

        `start` is a list of tensors; the risk holds copies of them as its parameters.
        """
        point = nn.Module()
        for index, tensor in enumerate(start):
            point.register_parameter(f"theta{index}", nn.Parameter(tensor.detach().clone()))

        def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
            parameters = list(model.parameters())
            return function(parameters) if data is None else function(parameters, batch)

        return cls(point, loss_fn, torch.zeros(1, 1) if data is None else data, check=False)

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The live trainable parameters, tied ones once."""
        return list(self._parameters)

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.source.size

    @property
    def parameter_count(self) -> int:
        """Number of scalar trainable parameters."""
        return sum(p.numel() for p in self._parameters)

    @property
    def device(self) -> torch.device:
        """Where the parameters are; batches are moved there."""
        return self._parameters[0].device

    @property
    def batch_dependent(self) -> bool:
        """Whether the loss of a batch is more than the mean over its samples; see `mixing`."""
        return bool(self.mixing)

    @property
    def mixing(self) -> str:
        """Why the loss of a batch is more than the mean over its samples; empty if it is that mean.

        BatchNorm in train mode, or a loss of the batch as a whole (contrastive, weighted by class, …) as far as the
        check at the door saw it on four samples.
        """
        if self._normalises_batches:
            return "BatchNorm in train mode"
        return "a loss of the batch as a whole: on 4 samples it is not the mean of 2 and 2" if self._mixing_loss else ""

    @property
    def _normalises_batches(self) -> bool:
        return any(
            isinstance(m, _BatchNorm) and (self.mode == "train" or (self.mode == "current" and m.training))
            for m in self.model.modules()
        )

    @property
    def chunk_size(self) -> int:
        """Samples per pass over all data: given, or such that one chunk's activations fit `memory`."""
        if self._chunk_size is None:
            self._chunk_size = min(self.size, max(1, self.memory // max(self._bytes_per_sample(), 1)))
        return self._chunk_size

    # -- data ---------------------------------------------------------------------------------------------------

    def to_device(self, batch: Batch) -> Batch:
        """The batch on the parameters' device."""
        device = self.device
        return map_tensors(lambda t: t if t.device == device else t.to(device), batch)

    def draw(self, batch_size: int, generator: torch.Generator, *, replacement: bool = False) -> Batch:
        """A batch of `batch_size` uniformly drawn samples (within a batch without replacement by default)."""
        with torch.inference_mode(False):
            return self.to_device(self.source.draw(batch_size, generator, replacement=replacement))

    def chunks(self) -> Iterator[Batch]:
        """All data, `chunk_size` samples at a time."""
        for chunk in self.source.chunks(self.chunk_size):
            yield self.to_device(chunk)

    # -- derivatives --------------------------------------------------------------------------------------------

    @contextmanager
    def evaluating(
        self, *, at: Sequence[Tensor] | None = None, seed: int = 0, second_order: bool = False
    ) -> Iterator[list[Tensor]]:
        """Hold the model at the parameters `at` (default: where it is); yields the differentiable leaves."""
        with torch.inference_mode(False):
            leaves = aliases(self._parameters if at is None else at)
        with evaluating(
            self.model, self._parameters, leaves, mode=self.mode, seed=self.seed + seed, second_order=second_order
        ):
            yield leaves

    def loss(self, batch: Batch) -> Tensor:
        """The loss of a batch inside an `evaluating` block, checked to be a scalar."""
        if isinstance(batch, MutableMapping):  # loss functions like to pop the labels
            batch = map_tensors(lambda t: t, batch)
        loss = self.loss_fn(self.model, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(
                f"expected loss_fn to return a scalar, the mean loss of the batch, got {shape}\n"
                "hint: reduction='mean', or .mean() over the samples"
            )
        return loss.reshape(())

    def value(self, batch: Batch | None = None, *, at: Sequence[Tensor] | None = None, seed: int = 0) -> float:
        """Loss of a batch, or over all data. Cost: 1/3."""
        with self.evaluating(at=at, seed=seed), torch.no_grad():
            if batch is not None:
                return float(self.loss(batch))
            total = 0.0
            for chunk in self.chunks():
                total += float(self.loss(chunk)) * length(chunk)
            return total / self.size

    def gradient(
        self, batch: Batch | None = None, *, at: Sequence[Tensor] | None = None, seed: int = 0
    ) -> tuple[float, Vector]:
        """Loss and gradient of a batch, or over all data in chunks. Cost: 1."""
        with self.evaluating(at=at, seed=seed) as leaves:
            if batch is not None:
                return _loss_and_gradient(self.loss(batch), leaves)
            total, gradient = 0.0, [torch.zeros_like(p) for p in leaves]
            for chunk in self.chunks():
                value, part = _loss_and_gradient(self.loss(chunk), leaves)
                weight = length(chunk) / self.size
                total += value * weight
                torch._foreach_add_(gradient, part, alpha=weight)
            return total, gradient

    def displaced(self, direction: Sequence[Tensor], distance: float) -> Vector:
        """Parameters moved by ``distance · direction``: a new point, to be given as `at`."""
        with torch.inference_mode(False), torch.no_grad():
            return vectors.plus([p.detach() for p in self._parameters], direction, distance)

    # -- at the door --------------------------------------------------------------------------------------------

    def few(self) -> Batch:
        """Four samples, or the first batch where they come in batches."""
        with torch.inference_mode(False):
            if self.source.batch_lengths is not None:
                return self.to_device(next(iter(self.source.chunks(1))))
            return self.to_device(self.source.take(torch.arange(min(4, self.size))))

    def _check(self) -> None:
        """Catch a loss that is no scalar, has no gradient, or is a sum, on a few samples."""
        probe = self.few()
        mode, self.mode = self.mode, "eval" if self._normalises_batches else self.mode
        try:
            with self.evaluating() as leaves:
                versions = [t._version for t in tensors_of(probe)]
                loss = self.loss(probe)
                if versions != [t._version for t in tensors_of(probe)]:
                    raise ValueError(
                        "expected loss_fn to leave its batch as it is, got one that changes it in place\n"
                        "hint: write x = x / 255 instead of x /= 255"
                    )
                if not loss.requires_grad:
                    raise ValueError(
                        "expected a loss that depends on the trainable parameters, got one without a graph\n"
                        "hint: loss_fn must call the model it is given, without torch.no_grad() or .detach()"
                    )
                connected = torch.autograd.grad(loss, leaves, allow_unused=True)
            if all(g is None for g in connected):
                raise ValueError("expected a loss that depends on the trainable parameters, got one that does not\n"
                                 "hint: loss_fn must use the model it is given, not one of its own")  # fmt: skip
            first, again = float(loss.detach()), self.value(probe)
            if math.isfinite(first) and abs(again - first) > 1e-3 * (abs(first) + abs(again)):
                raise ValueError(
                    f"expected the same loss for the same parameters, batch and seed, got {first:.6g} and {again:.6g}\n"
                    "hint: draw random numbers inside the model from the global generators, which are seeded here"
                )
            if math.isfinite(first):
                self.random = abs(self.value(probe, seed=1) - first) > 1e-6 * abs(first)
            if self.source.batch_lengths is None and length(probe) == 4:
                self._check_mean(probe)
        finally:
            self.mode = mode

    def _check_mean(self, probe: Batch) -> None:
        """A mean over four samples is the mean of those over two and two; a sum is their sum."""
        mode, self.mode = self.mode, "eval" if self.random else self.mode  # masks would differ between the calls
        try:
            half = self._rows(0, 1)
            whole, first, second = (self.value(b) for b in (probe, half, self._rows(2, 3)))
            total, scale = first + second, abs(first) + abs(second)
            if not all(map(math.isfinite, (whole, scale))):
                return
            if _begins_with(probe, half):  # neither augmented nor padded anew
                double = all(p.dtype == torch.float64 for p in self._parameters)
                allowed = _ROUNDING_DOUBLE if double else _ROUNDING
                self._mixing_loss = abs(whole - total / 2) > allowed * scale
            is_sum = abs(whole - total) < 1e-4 * scale and abs(whole - total / 2) > 1e-2 * scale
            if is_sum:  # log 4 = log 2 + log 2 in a contrastive loss at chance; but of one sample it is log 1
                is_sum = abs(whole - sum(self.value(self._rows(k)) for k in range(4))) < 1e-4 * scale
        finally:
            self.mode = mode
        if is_sum:
            raise ValueError(
                "expected the mean loss of a batch, got what looks like a sum: the loss of 4 samples is the sum of "
                "the losses of 2 and 2\nhint: use reduction='mean' in loss_fn"
            )

    def _rows(self, *indices: int) -> Batch:
        with torch.inference_mode(False):
            return self.to_device(self.source.take(torch.tensor(indices)))

    def _bytes_per_sample(self) -> int:
        """Bytes saved for the backward pass per sample, from one small batch."""
        batch = self.few()
        seen: dict[tuple[int, int], int] = {}
        own = {p.data_ptr() for p in self._parameters}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if tensor.data_ptr() not in own:
                seen[(storage.data_ptr(), storage.nbytes())] = tensor.numel() * tensor.element_size()
            return tensor

        with self.evaluating(), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            loss = self.loss(batch)
        del loss
        return math.ceil(sum(seen.values()) / length(batch))

    def __repr__(self) -> str:
        return (
            f"Risk({type(self.model).__name__}, {self.parameter_count:,} parameters, {self.size:,} samples, "
            f"mode={self.mode!r})"
        )


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside compiled and data-parallel wrappers, which share its parameters.

    A compiled model has no second derivatives; DistributedDataParallel would prepare for a backward pass of its own.
    """
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod  # type: ignore[assignment]
        elif isinstance(model, nn.DataParallel | DistributedDataParallel):
            model = model.module
        else:
            return model


def _loss_and_gradient(loss: Tensor, leaves: Sequence[Tensor]) -> tuple[float, Vector]:
    gradient = torch.autograd.grad(loss, leaves, materialize_grads=True)
    return float(loss.detach()), list(gradient)


def _begins_with(batch: Batch, start: Batch) -> bool:
    """Whether a batch begins with the very samples of another."""
    first, second = list(tensors_of(batch)), list(tensors_of(start))
    return len(first) == len(second) and all(
        torch.equal(a[: len(b)] if a.ndim and b.ndim else a, b) for a, b in zip(first, second, strict=True)
    )


def whole(risk: Risk) -> Batch | None:
    """All data as one batch if they fit one chunk, else None."""
    if risk.chunk_size < risk.size or risk.source.batch_lengths is not None:
        return None
    if isinstance(risk.source, TensorSource):
        return risk.to_device(risk.source.batch)
    return risk.to_device(risk.source.take(torch.arange(risk.size)))
