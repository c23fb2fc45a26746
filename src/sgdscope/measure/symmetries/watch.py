"""Watch: one loss is computed, and every operation on the way asks its own of the exponents.

What runs is what is looked at: no tracing, whatever the model is written in, functions of the loss included. What the
loss does not depend on (statistics a model keeps, values it prints) is left out in the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from sgdscope.batches import tensors_of
from sgdscope.measure.symmetries.book import Book, Leaf
from sgdscope.measure.symmetries.call import Call
from sgdscope.measure.symmetries.exponents import difference
from sgdscope.measure.symmetries.steps import RULES, pointwise
from sgdscope.measure.symmetries.steps.arithmetic import fix
from sgdscope.risk import Risk


def watched(risk: Risk) -> Book:
    """What the loss of a few samples asks of the parameters' exponents. Cost: a loss, and bookkeeping."""
    book = Book()
    batch = risk.few()
    with risk.evaluating(second_order=True) as leaves:  # attention taken apart
        for name, leaf in zip(risk.names, leaves, strict=True):
            book.enter(name, leaf)
        for name, parameter in risk.model.named_parameters():
            if not book.knows(parameter):
                book.enter(name, parameter, frozen=True)
        with _inside(risk.model, book.modules), Watch(book, risk.model.parameters()) as watch:
            loss = risk.loss(batch)
        with torch.no_grad():
            watch.keep_what_reaches(loss)
            book.equations.vanish(book.terms(loss))
    book.ties()
    return book


@contextmanager
def _inside(model: nn.Module, running: list[tuple[str, nn.Module]]) -> Iterator[None]:
    """Within the block, `running` holds the modules whose forward is running, with their paths in the model."""
    names = {module: name for name, module in model.named_modules()}

    def enter(module: nn.Module, _inputs: object) -> None:
        running.append((names.get(module, ""), module))

    def leave(_module: nn.Module, _inputs: object, _output: object) -> None:
        running.pop()

    hooks = (register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class _Step:
    """What one operation read and wrote (memory, so that views are told from copies), and what it asked."""

    reads: frozenset[int]
    writes: frozenset[int]
    rows: range
    claims: range


class Watch(TorchDispatchMode):
    """Within the block, what operations do with parameters, and with what depends on them, is written into a book."""

    supports_higher_order_operators = True

    def __init__(self, book: Book, parameters: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.book = book
        self._steps: list[_Step] = []
        self._depend = _memory(parameters)
        self._kept: list[Tensor] = []  # so that no other tensor gets their memory

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Not needed, as no compiled code runs here; it would import the compiler, which takes seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        reads = _memory(tensors_of([args, given]))
        if reads.isdisjoint(self._depend):
            return func(*args, **given)
        book = self.book
        book.blank = None
        if Call.can_be_of(func) and func._schema.is_mutable and isinstance(args[0], Tensor) and not book.knows(args[0]):
            book.blank = _blank(args[0])
            _open(book, args[0])
        output = func(*args, **given)
        rows, claims = len(book.equations.rows), len(book.claims)
        if book.knows_any(list(tensors_of([args, given]))):
            with torch.no_grad():
                if Call.can_be_of(func):
                    self._note(Call.of(func, args, given, output))
                else:
                    self._fix(str(func), tensors_of([args, given]))
        writes = _memory(tensors_of(output))
        self._depend |= writes
        self._kept += tensors_of(output)
        asked = range(rows, len(book.equations.rows)), range(claims, len(book.claims))
        self._steps.append(_Step(frozenset(reads), frozenset(writes), *asked))
        return output

    def _note(self, call: Call) -> None:
        book, first = self.book, call.first
        before = book.of(first) if isinstance(first, Tensor) else ()
        rule = RULES.get(call.name, pointwise if call.pointwise else None)
        try:
            if rule is None:
                raise NotImplementedError
            rule(book, call)
        except Exception:  # an operation in a form no rule was written for fixes all it is given
            self._fix(call.name, tensors_of(list(call.given.values())))
            for output in tensors_of(call.output):
                book.put(output, ())
        if call.in_place and first._is_view() and not isinstance(before, Leaf):  # what it is a view of does not change
            book.equations.vanish(difference(book.terms(first), before))

    def _fix(self, name: str, operands: Iterable[Tensor]) -> None:
        self.book.unknown.add(name)
        for operand in operands:
            fix(self.book, operand)

    def keep_what_reaches(self, result: Tensor) -> None:
        """Take back what was asked by operations that the result does not depend on."""
        book, needed = self.book, _memory([result])
        rows, claims = [], []
        for step in reversed(self._steps):
            if step.writes & needed:
                needed |= step.reads
                rows += [book.equations.rows[i] for i in reversed(step.rows)]
                claims += [book.claims[i] for i in reversed(step.claims)]
        book.equations.rows, book.claims = rows[::-1], claims[::-1]


def _memory(tensors: Iterable[Tensor]) -> set[int]:
    return {t.untyped_storage().data_ptr() if t.layout is torch.strided else id(t) for t in tensors}


def _blank(tensor: Tensor) -> Tensor | None:
    return None if bool(tensor.any()) else tensor


def _open(book: Book, view: Tensor) -> None:
    """Before something is written into a part of a tensor of zeros, which have any exponents: give it some."""
    base = view._base
    if base is None or book.knows(base) or not base.is_contiguous() or bool(base.any()):
        return
    with torch.no_grad():
        own = book.equations.fresh(base[:1].numel()).reshape(base[:1].shape)  # all samples have the same
        labels = own.expand(base.shape).contiguous()
        book.put(base, ((1.0, labels),))
        offset = view.storage_offset() - base.storage_offset()
        book.put(view, ((1.0, labels.as_strided(view.shape, view.stride(), offset)),))
