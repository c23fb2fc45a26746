"""Streams: sets of activations that must share one scale, with the layers that write them and those that read them.

If every layer that writes a stream is multiplied by 1/λ and every layer that reads it by λ, and nothing on the way
minds, the function stays the same. A hidden layer is a stream with one writer and one reader; a residual network has
one that goes through all blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from sgdscope.measure.symmetries import operations as op

Named = tuple[str, nn.Module]


@dataclass
class Stream:
    """Activations of one scale.

    Attributes:
        writers: layers and affine norms whose output belongs to it, by path.
        readers: layers whose input belongs to it.
        norms: norms that read it and forget its scale.
        activations: pointwise functions on the way, by name.
        fixed: something on the way, or at its ends, fixes the scale.
    """

    writers: list[Named] = field(default_factory=list)
    readers: list[Named] = field(default_factory=list)
    norms: list[Named] = field(default_factory=list)
    activations: list[tuple[str, Callable[..., Any]]] = field(default_factory=list)
    fixed: bool = False


class _Streams:
    """Union of nodes that share a scale."""

    def __init__(self) -> None:
        self._parent: dict[fx.Node, fx.Node] = {}
        self._of: dict[fx.Node, Stream] = {}

    def root(self, node: fx.Node) -> fx.Node:
        self._parent.setdefault(node, node)
        self._of.setdefault(node, Stream())
        while self._parent[node] is not node:
            node = self._parent[node]
        return node

    def of(self, node: fx.Node) -> Stream:
        return self._of[self.root(node)]

    def join(self, one: fx.Node, other: fx.Node) -> None:
        first, second = self.root(one), self.root(other)
        if first is second:
            return
        kept, gone = self._of[first], self._of.pop(second)
        self._parent[second] = first
        kept.writers += gone.writers
        kept.readers += gone.readers
        kept.norms += gone.norms
        kept.activations += gone.activations
        kept.fixed |= gone.fixed

    def all(self) -> list[Stream]:
        return list(self._of.values())


def streams_of(graph: fx.Graph, model: nn.Module) -> list[Stream]:
    """All streams of a graph that can change their scale, in the order in which they begin."""
    streams = _Streams()
    numbers: set[fx.Node] = set()  # nodes that are shapes, not activations
    for node in graph.nodes:
        sources = [source for source in node.all_input_nodes if source not in numbers]
        if node.op == "call_module":
            _module(streams, node, sources, model.get_submodule(str(node.target)))
        elif _is_shape(node) or (node.all_input_nodes and not sources):
            numbers.add(node)
        elif node.op in ("call_function", "call_method"):
            _function(streams, node, sources)
        else:  # inputs, outputs, parameters used by hand
            _fix(streams, node, sources)
    return [s for s in streams.all() if not s.fixed and s.writers and (s.readers or s.norms)]


def _fix(streams: _Streams, node: fx.Node, sources: list[fx.Node]) -> None:
    for each in (node, *sources):
        streams.of(each).fixed = True


def _module(streams: _Streams, node: fx.Node, sources: list[fx.Node], module: nn.Module) -> None:
    named = (str(node.target), module)
    if len(sources) != 1:
        return _fix(streams, node, sources)
    source = sources[0]
    if op.is_layer(module):
        streams.of(source).readers.append(named)
        streams.of(node).writers.append(named)
    elif isinstance(module, op.NORMS):
        if op.forgets_scale(module):
            streams.of(source).norms.append(named)
        else:
            streams.of(source).fixed = True
        if getattr(module, "weight", None) is None:
            streams.of(node).fixed = True
        else:
            streams.of(node).writers.append(named)
    elif isinstance(module, nn.Embedding):
        streams.of(source).fixed = True
        streams.of(node).writers.append(named)
    elif isinstance(module, op.HOMOGENEOUS_MODULES):
        streams.join(source, node)
    elif isinstance(module, op.POINTWISE_MODULES):
        streams.join(source, node)
        streams.of(node).activations.append((type(module).__name__, module.forward))  # past hooks
    else:
        _fix(streams, node, sources)
    return None


def _is_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in op.SHAPES
    return (
        node.op == "call_function" and node.target is getattr and node.args[1] in ("shape", "ndim", "dtype", "device")
    )


def _function(streams: _Streams, node: fx.Node, sources: list[fx.Node]) -> None:
    target = node.target
    if target in op.SUMS and not node.kwargs and all(given in sources for given in node.args):  # no constant
        for other in (*sources[1:], node):
            streams.join(sources[0], other)
    elif len(sources) != 1 or not _acts_on(node, sources[0]):
        _fix(streams, node, sources)
    elif target in op.POINTWISE:
        streams.join(sources[0], node)
        known, more, named = op.POINTWISE[target], node.args[1:], dict(node.kwargs)
        streams.of(node).activations.append((known.__name__, lambda z: known(z, *more, **named)))
    elif _passes_on(node):
        streams.join(sources[0], node)
    else:
        _fix(streams, node, sources)


def _acts_on(node: fx.Node, source: fx.Node) -> bool:
    """Whether the activation enters once and first, or in a product with a number at any place."""
    places = [place for place, given in enumerate(node.args) if given is source]
    return places == [0] or (len(places) == 1 and node.target in op.PRODUCTS)


def _passes_on(node: fx.Node) -> bool:
    """Whether a function of one activation is of degree one."""
    target = node.target
    if target in op.PRODUCTS:  # by a number; a number divided by an activation is not
        divides = "div" in str(getattr(target, "__name__", target))
        return not divides or isinstance(node.args[0], fx.Node)
    if getattr(target, "__name__", "") == "pad":
        return not (node.kwargs.get("value") or (len(node.args) > 3 and node.args[3]))
    return target in (op.HOMOGENEOUS_METHODS if node.op == "call_method" else op.HOMOGENEOUS_FUNCTIONS)
