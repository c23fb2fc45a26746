"""Graph: which step of a model feeds which, by tracing where the model traces, else by the order of its Sequentials."""

from __future__ import annotations

from torch import fx, nn

from sgdscope.risk import Risk


def graphs_of(risk: Risk) -> tuple[list[fx.Graph], str]:
    """The graph of the whole model, or one of each outermost ``nn.Sequential`` and why the model does not trace.

    To be called inside `Risk.evaluating`: a forward that keeps notes keeps them for nobody.
    """
    try:
        return [fx.Tracer().trace(risk.model)], ""
    except Exception as error:  # what cannot be traced shows itself as almost any exception
        found = _outermost(risk.model, "")
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        return [_of_sequential(name, module) for name, module in found], said


def _outermost(module: nn.Module, name: str) -> list[tuple[str, nn.Sequential]]:
    if isinstance(module, nn.Sequential):
        return [(name, module)]
    children = [(f"{name}.{child}" if name else child, m) for child, m in module.named_children()]
    return [found for child, m in children for found in _outermost(m, child)]


def _of_sequential(name: str, module: nn.Sequential) -> fx.Graph:
    graph = fx.Graph()
    last = graph.placeholder("x")
    for path, _ in _steps(name, module):
        last = graph.create_node("call_module", path, (last,))
    graph.output(last)
    return graph


def _steps(name: str, module: nn.Sequential) -> list[tuple[str, nn.Module]]:
    """Modules in order, nested Sequentials opened."""
    found: list[tuple[str, nn.Module]] = []
    for child, step in module.named_children():
        path = f"{name}.{child}" if name else child
        found += _steps(path, step) if isinstance(step, nn.Sequential) else [(path, step)]
    return found
