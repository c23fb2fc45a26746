"""Advice: what a position relative to the edge means for the next run, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from sgdscope.estimate import Estimate
from sgdscope.layer_balance import LayerBalance
from sgdscope.records import Run
from sgdscope.regime import EdgeUnits, Standing, trend
from sgdscope.report.balance_figure import steps_in_words
from sgdscope.report.markup import first

ROOM, SPIKE = 0.8, 1.2
"""Edge units: below the first there is room, above the second a change makes the loss spike. Measured on small
networks in the specification of batch sharpness; a habit, not a theorem."""
FAR = 2.0
"""Times off noise balance from which on something might be done about it."""


def advice(run: Run, standing: Standing, units: EdgeUnits, layers: Sequence[LayerBalance] = ()) -> list[str]:
    """Sentences on what to do, the most important first. Never empty."""
    if run.status == "diverged":
        ease = "a smaller learning rate" if units.full_batch else "a smaller learning rate or a larger batch"
        return [f"The run diverged: start again from a checkpoint before that, with {ease}."]
    said = [_main(standing, units)]
    if standing.regime in ("at the edge", "above the edge") and units.has_theory and not _loss_falls(run, standing):
        said.append(
            "The loss did not clearly fall over the window: if it is still too high, the batch is too small or the "
            "learning rate too large for this landscape."
            if not units.full_batch
            else "The loss did not clearly fall over the window: if it is still too high, lower the learning rate."
        )
    return said + _balance(layers, run.last_step)


def _balance(layers: Sequence[LayerBalance], steps: int) -> list[str]:
    """What to do about the layers farthest from noise balance, where noise alone would take longer than the run did."""
    slow = [b for b in layers if b.times_off > FAR and (b.relaxation_steps or 0) > steps and not b.law]
    if not slow:
        return []
    worst = max(slow, key=lambda b: b.times_off)
    time = steps_in_words(worst.relaxation_steps or 0.0)
    return [
        f"Layers {worst.short_name} are {worst.in_words}, and noise alone needs about {time} for most of the way: "
        "sgdscope balance RUN --to noise takes them there at once, with the same outputs."
    ]


def has_edge(standing: Standing, units: EdgeUnits) -> bool:
    """Whether the quantity shown has an edge that theory names, rather than a ratio to be read as a trend."""
    return standing.threshold is not None and (standing.edge.name != "edge_ratio" or units.method == "sgd")


def _main(standing: Standing, units: EdgeUnits) -> str:
    larger, smaller = ("a larger learning rate", "a smaller learning rate")
    if not units.full_batch:
        larger, smaller = "a larger learning rate or a smaller batch", "a smaller learning rate or a larger batch"
    if standing.edge.value is None:
        return "Nothing to advise yet: batch sharpness, or the streamed edge ratio, would tell where the run stands."
    if not has_edge(standing, units):
        return (
            "No theory says where this optimizer becomes unstable. A ratio of 1 only means that a step leaves the loss "
            "of its own batch unchanged in mean, to second order: read it as a trend, not as a limit."
        )
    x = float(standing.edge)
    if standing.regime == "above the edge":
        return f"Expect loss spikes: the steps are too large for the curvature they meet. Ease it with {smaller}."
    if standing.regime == "at the edge":
        return f"Now {larger} makes the loss spike; {smaller} buys further sharpening, and progress of the loss."
    if standing.regime == "unknown":
        return f"The readings do not settle where the run stands; {smaller} is the safe direction."
    rise = 0.0 if standing.trend.value is None else max(float(standing.trend), 0.0)
    now = x + rise / 2  # the position is a mean over the window
    if now >= ROOM:
        return f"Almost no room is left: {larger} would take the run to the edge at once."
    if x <= 0:
        return "Not limited by stability: along its own gradient the loss is flat or curves downward."
    more = f"about {1 / now:.2g} times the present learning rate would reach the edge at once" if now > 0.02 else ""
    room = f"There is room for {larger} without a spike" + (f": {more}." if more else ".")
    if standing.regime == "approaching the edge":
        return f"{room} The curvature is still rising, so the room shrinks."
    if standing.regime == "stable, noise-driven":
        return f"{room} What oscillates is noise: averaging the weights or {smaller} calms it."
    return room


def _loss_falls(run: Run, standing: Standing) -> bool:
    """Whether the loss clearly fell across the window; True as well where that cannot be told."""
    for name in ("full_loss", "loss"):
        change = trend(run.get(name), *standing.window)
        if change.value is not None:
            return float(change) + 2 * first(change.standard_error) < 0
    return True


def outlook(change: Estimate) -> tuple[str, str]:
    """A predicted position in words, with the mark that stands for it: ``("would spike", "▲")``."""
    if change.value is None:
        return f"not predicted: {change.reason}", "–"
    x, doubt = float(change), 2 * first(change.standard_error)
    if x - doubt > SPIKE:
        return "would spike", "▲"
    if x > SPIKE:
        return "would probably spike", "▲"
    if x + doubt < 1:
        return "safe: below the edge", "✓"
    if x < 1:
        return "probably safe, close to the edge", "✓"
    return "past the edge: might spike", "△"
