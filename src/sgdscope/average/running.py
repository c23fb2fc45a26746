"""Running averages: averages of weights kept while a model trains, which nothing of the training notices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from sgdscope.average import batch_norm
from sgdscope.average.names import check_alike, match
from sgdscope.average.tensors import Parts, Source, accumulator, assign, check_finite, is_averaged, kept, parts_of
from sgdscope.theory.averaging import Average
from sgdscope.theory.averaging.arguments import Array, count

Buffers = Literal["recompute", "average", "last"]
"""What becomes of buffers of real numbers, such as running statistics. `recompute`: statistics of normalisation are
taken anew from training batches where the average is used; averages are kept in case there are none, which is then
said. `average`: as parameters. `last`: those of the newest model. Buffers of whole numbers are those of the newest."""


class RunningAverage(ABC):
    """What all running averages share: when they are updated, what they are read as, how they are saved.

    Attributes:
        start: step from which on weights are averaged.
        every: a call of `update` counts at `start` and whenever a further multiple of `every` steps has been reached;
            the others cost nothing.
        buffers: see `Buffers`.
        taken: updates that counted.
        last_step: step of the last of them; None before the first.

    Averages live where the parameters do, or on `device`, in `dtype`, or in that of the parameters but at least
    float32. In float32 an EMA with a horizon of n steps does not see changes of a weight below n · 6e-8 of it: from
    horizons of 10⁵ on, take ``dtype=torch.float64``.
    """

    def __init__(
        self, *, start: int = 0, every: int = 1, buffers: Buffers = "recompute", dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
    ) -> None:  # fmt: skip
        self.start = count(start, "start of the average", 0)
        self.every = count(every, "steps between updates")
        if buffers not in get_args(Buffers):
            raise ValueError(f"expected buffers to be one of {', '.join(get_args(Buffers))}, got {buffers!r}")
        self.buffers = buffers
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise ValueError(f"expected a dtype of real numbers for an average, got {dtype}")
        self.dtype = dtype
        self.device = None if device is None else torch.device(device)
        self.taken = 0
        self.last_step: int | None = None
        self._seen: int | None = None
        self._names: list[str] = []  # of what is averaged, as in the model
        self._shapes: list[torch.Size] = []
        self._dtypes: list[torch.dtype] = []  # in the model
        self._all_names: dict[str, str] = {}  # as Parts.names
        self._whole = False
        self._newest: dict[str, Tensor] = {}  # what is not averaged

    # -- what each kind says of itself ---------------------------------------------------------------------------------

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What makes two averages of this class the same, as plain values."""

    @abstractmethod
    def _take(self, tensors: list[Tensor], step: int) -> None:
        """Update with the tensors of the model at `step`; `taken` and `last_step` are still those before."""

    @abstractmethod
    def _averaged(self, index: int) -> Tensor:
        """The average of one tensor, in the precision of the accumulators; may be the accumulator itself."""

    @abstractmethod
    def _stored(self) -> list[list[Tensor]]:
        """Everything kept, as copies of the model."""

    @abstractmethod
    def _restore(self, copies: list[list[Tensor]]) -> None:
        """Back from `_stored`."""

    @abstractmethod
    def _coefficients(self, steps: Sequence[int]) -> Array:
        """Weights of models taken at `steps`, oldest first."""

    def __str__(self) -> str:
        return ", ".join([type(self).__name__, *(f"{k} {v}" for k, v in self.settings().items())])

    # -- updating ------------------------------------------------------------------------------------------------------

    def update(self, source: Source, step: int | None = None) -> bool:
        """Take the weights after `step` steps of the optimizer into the average; returns whether this call counted.

        Without `step`, calls are counted. Changes nothing of the model. Cost: one pass over the weights. Raises
        ValueError for a step that does not follow the last one, MismatchError for another model.
        """
        step = self._next_step(step)
        if not self._due(step, self.last_step):
            self._seen = step
            return False
        with torch.inference_mode(False), torch.no_grad():
            parts = parts_of(source)
            averaged, newest = self._read(parts)
            if not averaged:
                raise ValueError(
                    "expected weights of real numbers, got whole numbers only: there is nothing to average"
                )
            self._take(list(averaged.values()), step)
            for name, tensor in newest.items():
                self._newest[name] = tensor.detach().clone()
        if not self.taken:
            self._names = list(averaged)
            self._shapes, self._dtypes = [t.shape for t in averaged.values()], [t.dtype for t in averaged.values()]
            self._all_names, self._whole = parts.names, parts.whole
        self.taken += 1
        self._seen = self.last_step = step
        return True

    def _next_step(self, step: int | None) -> int:
        if step is None:
            return 1 if self._seen is None else self._seen + 1
        step = count(step, "step", 0)
        if self._seen is not None and step <= self._seen:
            raise ValueError(
                f"expected a step after {self._seen}, the last one seen, got {step}: update once per step, and after "
                "going back to a checkpoint load the state that the average had there"
            )
        return step

    def _due(self, step: int, last: int | None) -> bool:
        if step < self.start:
            return False
        if last is None:
            return step == self.start or step - self.start >= self.every
        return (step - self.start) // self.every > (last - self.start) // self.every

    def _read(self, parts: Parts) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What is averaged, in the order of the accumulators, and what is not. Checked against earlier updates."""
        averaged = {name: t for name, t in parts.parameters.items() if is_averaged(t)}
        newest = {name: t for name, t in parts.parameters.items() if not is_averaged(t)}
        for name, buffer in parts.buffers.items():
            (averaged if is_averaged(buffer) and self.buffers != "last" else newest)[name] = buffer
        if not self.taken:
            return averaged, newest
        if list(averaged) != self._names or newest.keys() != self._newest.keys():
            wanted = [*self._names, *self._newest]
            found = match(wanted, [*averaged, *newest], source="this average", target="the model")
            both = {**averaged, **newest}
            averaged = {name: both[found[name]] for name in self._names}
            newest = {name: both[found[name]] for name in self._newest}
        if [t.shape for t in averaged.values()] != self._shapes or [t.dtype for t in averaged.values()] != self._dtypes:
            for (name, tensor), shape, dtype in zip(averaged.items(), self._shapes, self._dtypes, strict=True):
                like = torch.empty(shape, dtype=dtype, device="meta")
                check_alike(name, like, tensor, source="this average", target="the model")
        return averaged, newest

    def _kind(self, tensor: Tensor) -> tuple[torch.dtype, torch.device]:
        """Precision and place of the average of a tensor."""
        return self.dtype or accumulator(tensor.dtype), self.device or tensor.device

    # -- reading -------------------------------------------------------------------------------------------------------

    def averaged_state_dict(self, *, rounded: bool = True) -> dict[str, Tensor]:
        """The average as a state dict of its own, under the names of the model it was updated with.

        In the precision of the model, or unless `rounded` in that of the average. Raises ValueError before the first
        update, and where NaN has come into it. Memory: one copy of the model.
        """
        if not self.taken:
            last = "none" if self._seen is None else f"step {self._seen}"
            raise ValueError(
                f"expected at least one update before the average is read, got none: it begins at step {self.start}, "
                f"and the last call was {last}"
            )
        with torch.inference_mode(False), torch.no_grad():
            held = {name: tensor.clone() for name, tensor in self._newest.items()}
            for index, name in enumerate(self._names):
                average = self._averaged(index)
                held[name] = average.to(self._dtypes[index] if rounded else average.dtype, copy=True)
        check_finite(held, "the average")
        return {name: held[first] for name, first in self._all_names.items()}

    @torch.no_grad()
    def apply_to(
        self, target: Source, batches: batch_norm.Batches | None = None, *, loss_fn: batch_norm.Call | None = None
    ) -> None:
        """Put the average into a model, or into parameters as they were given; for good (see `swapped`).

        `batches` of training data, and `loss_fn` as in `recompute_batch_norm`, serve to take the running statistics of
        normalisation anew. Without them a model that has such statistics gets those that `buffers` says, and a
        BatchNormWarning unless that was asked for. Raises MismatchError for another model, which is then unchanged.
        """
        assign(target, self.averaged_state_dict(), source="this average", whole=self._whole)
        if isinstance(target, nn.Module) and batch_norm.statistics(target):
            if batches is not None:
                batch_norm.recompute_batch_norm(target, batches, loss_fn)
            elif self.buffers == "recompute":
                batch_norm.warn_of_averages(target)

    @contextmanager
    def swapped(
        self, target: Source, batches: batch_norm.Batches | None = None, *, loss_fn: batch_norm.Call | None = None
    ) -> Iterator[None]:
        """Within the block the model holds the average (`apply_to`); after it, bit for bit what it held before.

        Memory: two copies of the model.
        """
        if not isinstance(target, nn.Module | Mapping):
            target = list(target)
        with kept(target):
            self.apply_to(target, batches, loss_fn=loss_fn)
            yield

    def weights(self, steps: Sequence[int]) -> Average:
        """The weights this average gives to models seen at `steps`, had it been updated at just those, in order."""
        last: int | None = None
        places: list[int] = []
        for place, step in enumerate(steps):
            if place and step <= steps[place - 1]:
                raise ValueError(f"expected steps that increase, got {step} after {steps[place - 1]}")
            if self._due(step, last):
                places.append(place)
                last = step
        if not places:
            raise ValueError(f"expected steps at which {self} is updated, got none of them among {len(steps)}")
        weights = np.zeros(len(steps))
        weights[places] = self._coefficients([steps[place] for place in places])
        return Average(str(self), weights)

    # -- saving --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on bit for bit: plain values and tensors, as torch.load takes with ``weights_only=True``.

        The tensors are those in use, as in torch's own state dicts: copy them to keep them while training goes on.
        """
        return {
            "kind": type(self).__name__, "settings": self._all_settings(), "seen": self._seen, "taken": self.taken,
            "last_step": self.last_step, "names": list(self._names), "all_names": dict(self._all_names),
            "dtypes": [str(dtype).removeprefix("torch.") for dtype in self._dtypes], "whole": self._whole,
            "copies": self._stored(), "newest": dict(self._newest),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`. The tensors are copied. Raises ValueError for the state of another average."""
        try:
            kind, settings = state["kind"], dict(state["settings"])
            copies = [[tensor.detach().clone() for tensor in copy] for copy in state["copies"]]
            newest = {name: tensor.detach().clone() for name, tensor in state["newest"].items()}
            dtypes = [getattr(torch, name) for name in state["dtypes"]]
            names, all_names = list(state["names"]), dict(state["all_names"])
            seen, taken, last_step, whole = (state[key] for key in ("seen", "taken", "last_step", "whole"))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"expected the state dict of a {type(self).__name__}, got something else") from error
        mine = {"kind": type(self).__name__, **self._all_settings()}
        theirs = {"kind": kind, **settings}
        differing = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        if differing:
            said = "; ".join(f"{key} {mine.get(key)!r}, in the state {theirs.get(key)!r}" for key in differing)
            raise ValueError(
                f"expected the state of an average with the same settings, got {said}: build it with those"
            )
        self._restore(copies)
        self._newest, self._names, self._all_names = newest, names, all_names
        self._shapes, self._dtypes = [tensor.shape for tensor in copies[0]] if copies else [], dtypes
        self._seen, self.taken, self.last_step, self._whole = seen, taken, last_step, whole

    def _all_settings(self) -> dict[str, Any]:
        return {**self.settings(), "start": self.start, "every": self.every, "buffers": self.buffers,
                "dtype": None if self.dtype is None else str(self.dtype)}  # fmt: skip
