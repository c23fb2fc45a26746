"""Figures: curves to the edge, plateaus against 2 / lr, λ_max against batch size, forks, changes and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sgdscope.cells import MissingCellError, Results
from sgdscope.estimate import Estimate
from sgdscope.picture import Line, Mark, Picture, Points, Role
from sgdscope.studies.recipe import Figure
from sgdscope.studies.stochastic_edge.claims.changing import in_words
from sgdscope.studies.stochastic_edge.claims.forking import predicted_fates
from sgdscope.studies.stochastic_edge.grids import Changes, Forks, Grid, Point
from sgdscope.theory import stability

if TYPE_CHECKING:
    from sgdscope.studies.stochastic_edge.recipe import StochasticEdge

_ROLES: tuple[Role, ...] = ("first", "second", "third", "soft", "ink")
_Drawn = tuple[tuple[str, str, Role], ...]
"""Quantities, with what a reader calls them and their colours."""
_SHARPNESS: _Drawn = (
    ("lambda_max", "λ_max of the full loss", "second"), ("batch_sharpness", "batch sharpness", "first"),
)  # fmt: skip
_CURVES: _Drawn = (("gradient_noise_interaction", "gradient-noise interaction", "third"), *_SHARPNESS)
_HIGHEST = 300.0
"""Times the control's own peak from which on forks are drawn at one height: they diverged, or all but."""
_SIDE_BY_SIDE = 3
"""Pictures of one figure at most."""


def all_of(recipe: StochasticEdge, results: Results) -> list[Figure]:
    """Those of which the results are there."""
    drawn: list[Callable[[], Figure | None]] = [
        lambda: _curves(recipe.plateaus, results), lambda: _plateaus(recipe.plateaus, results),
        lambda: _sharpness(recipe.plateaus, results), lambda: _forks(recipe.forks, results),
        lambda: _changes(recipe.changes, results), lambda: _noise(recipe, results),
    ]  # fmt: skip
    found = []
    for draw in drawn:
        with suppress(MissingCellError):
            figure = draw()
            if figure is not None:
                found.append(figure)
    return found


def _curves(grids: Sequence[Grid], results: Results) -> Figure | None:
    """Smallest and largest batch of the first grid, at the first of its learning rates."""
    if not grids:
        return None
    grid, lr = grids[0], grids[0].points[0][0]
    sizes = grid.batch_sizes(lr)
    pictures = tuple(_curve(grid, (lr, size), results) for size in dict.fromkeys((sizes[0], sizes[-1])))
    return Figure("curves", pictures, (
        "Progressive sharpening: does batch sharpness rise to the dashed line and stay? λ_max of the full loss is to "
        "stay below it, the more so the smaller the batch, and gradient-noise interaction to be there from early on."
    ))  # fmt: skip


def _curve(grid: Grid, point: Point, results: Results) -> Picture:
    curves = results[grid.cell(*point)]["curves"]
    threshold = stability.sgd_threshold(point[0]).value
    shapes: list[Any] = [Line(*_along(curves[name]), label, role) for name, label, role in _CURVES]
    shapes.append(_level(curves["batch_sharpness"]["steps"], threshold, "2 / lr"))
    ends = (grid.settled(results, point, name) for name in ("batch_sharpness", "lambda_max"))
    said = [f"at {float(e) / threshold:.2f}" if e.value is not None else "nowhere" for e in ends]
    title = f"{grid.of(point)}: batch sharpness settles {said[0]} of 2 / lr, λ_max {said[1]}"
    return Picture(title, "steps", "loss / parameter²", shapes, span_up=(0, 2 * threshold))


def _plateaus(grids: Sequence[Grid], results: Results) -> Figure | None:
    """Settled batch sharpness against 2 / lr, a picture for each data set."""
    pictures = []
    for data in dict.fromkeys(grid.run["data"] for grid in grids):
        shapes, places, quotients = [], [], []
        for grid, role in zip([grid for grid in grids if grid.run["data"] == data], _ROLES, strict=False):
            found = list(_settled(grid, results, "batch_sharpness"))
            if found:
                x = [stability.sgd_threshold(lr).value for (lr, _), _ in found]
                y, errors = [float(e) for _, e in found], [_error(e) for _, e in found]
                shapes.append(Points(x, y, errors, grid.label, role))
                places += x
                quotients += [measured / level for measured, level in zip(y, x, strict=True)]
        if shapes:
            ends = [0.0, 1.2 * max(places)]
            pictures.append(Picture(
                f"Batch sharpness settles at {min(quotients):.2f} to {max(quotients):.2f} of 2 / lr, in "
                f"{len(quotients)} settings on {data}", "2 / lr", "batch sharpness, settled",
                [Line(ends, ends, "2 / lr", "ink", dashed=True), *shapes],
            ))  # fmt: skip
    caption = "Each point is a learning rate and a batch size. The dashed line is the paper's claim."
    return Figure("plateaus", tuple(pictures), caption) if pictures else None


def _sharpness(grids: Sequence[Grid], results: Results) -> Figure | None:
    """λ_max and batch sharpness against batch size, at the learning rate that has most of them."""
    pictures = []
    for grid in grids:
        lr = max(grid.learning_rates, key=lambda each: len(grid.batch_sizes(each)))
        sizes, threshold = grid.batch_sizes(lr), stability.sgd_threshold(lr).value
        shapes: list[Any] = []
        for name, label, role in _SHARPNESS:
            found = [(b, e.scaled(1 / threshold)) for (at, b), e in _settled(grid, results, name) if at == lr]
            if len(found) > 1:
                x, y = [b for b, _ in found], [float(e) for _, e in found]
                order = sorted(range(len(x)), key=x.__getitem__)
                shapes.append(Line([x[i] for i in order], [y[i] for i in order], role=role))
                shapes.append(Points(x, y, [_error(e) for _, e in found], label, role))
        if shapes:
            pictures.append(Picture(
                f"{grid.label}, lr {lr:g}", "batch size", "settled, over 2 / lr",
                [_level(sizes, 1.0, "edge"), *shapes], span_up=(0, 1.3),
            ))  # fmt: skip
    caption = "Batch sharpness is to be at the edge for every batch size, and λ_max the lower the smaller the batch."
    return Figure("lambda-max", tuple(pictures[:_SIDE_BY_SIDE]), caption) if pictures else None


def _forks(forks: Sequence[Forks], results: Results) -> Figure | None:
    pictures = []
    for fork in forks:
        fates = predicted_fates(fork, results)
        count, bar = len(fork.changes), float(fork.found(results)[0]["spike"])
        shapes: list[Any] = []
        for which, (step, role) in enumerate(zip(fork.at, ("second", "first"), strict=False)):
            some = fates[which * count : (which + 1) * count]
            x, y = [place for place, _, _ in some], [min(float(excess), _HIGHEST) for _, excess, _ in some]
            shapes.append(Points(x, y, None, f"forks at step {step:,}", role))  # type: ignore[arg-type]
        ends = [0.0, 1.1 * max(place for place, _, _ in fates)]
        right = sum((float(excess) >= bar) == (place > 1) for place, excess, _ in fates)
        pictures.append(Picture(
            f"{fork.of}: the predicted place tells the fate of {right} of {len(fates)} changes",
            "batch sharpness right after the change, over the new 2 / lr", "highest loss, over the control's own",
            [_level(ends, bar, "blows up above"), *shapes, Mark(1.0, "edge")], log_up=True,
            span_up=(0.5, 1.5 * _HIGHEST),
        ))  # fmt: skip
    return Figure("forks", tuple(pictures), (
        "Forks with another learning rate or batch size, well before the edge and at it. Right of 1 they were "
        "predicted to be past the edge; above the dashed line they blew up, and at the top, "
        f"{_HIGHEST:g}, they diverged or all but."
    )) if pictures else None  # fmt: skip


def _changes(changes: Sequence[Changes], results: Results) -> Figure | None:
    pictures = [
        _change(change, number, change.found(results)[0])
        for change in changes for number in range(len(change.after))
    ]  # fmt: skip
    return Figure("changes", tuple(pictures[:_SIDE_BY_SIDE]), (
        "Batch sharpness is to go to the new 2 / lr, while λ_max settles at another level. The dashed line moves with "
        "the learning rate; a new batch size moves batch sharpness at once."
    )) if pictures else None  # fmt: skip


def _change(change: Changes, number: int, found: Mapping[str, Any]) -> Picture:
    after, before = found["after"][number], found["before"]
    shapes: list[Any] = []
    for name, label, role in _SHARPNESS:
        parts = [_along(part["curves"][name]) for part in (before, after)]
        steps, values = ([x for part in parts for x in part[which]] for which in (0, 1))
        shapes.append(Line(steps, values, label, role))
    at, end = before["last_step"], after["last_step"]
    old, new = (stability.sgd_threshold(lr).value for lr in (change.before[0], change.after[number][0]))
    shapes.append(Line([0, at, at, end], [old, old, new, new], "2 / lr", "ink", dashed=True))
    return Picture(in_words(change, change.after[number]), "steps", "loss / parameter²", [*shapes, Mark(at, "change")],
                   span_up=(0, 1.8 * max(old, new)))  # fmt: skip


def _noise(recipe: StochasticEdge, results: Results) -> Figure | None:
    """SGD beside descent with injected noise, from the same weights."""
    if not recipe.noises or not recipe.beside:
        return None
    pictures = []
    grids = [(recipe.beside[0], "SGD"), *((grid, f"{grid.noise} noise") for grid in recipe.noises)]
    for name, label, _ in _SHARPNESS[::-1]:
        shapes: list[Any] = []
        for (grid, who), role in zip(grids, _ROLES, strict=False):
            point = grid.points[0]
            steps, values = _along(results[grid.cell(*point)]["curves"][name])
            threshold = stability.sgd_threshold(point[0]).value
            shapes.append(Line(steps, [v / threshold for v in values], who, role))
        pictures.append(Picture(
            f"{label[0].upper()}{label[1:]}" if label[0] != "λ" else label, "steps", "over 2 / lr",
            [*shapes, _level(shapes[0].x, 1.0, "edge")], span_up=(0, 2.2),
        ))  # fmt: skip
    return Figure("noise", tuple(pictures), (
        "Gradient descent with injected Gaussian noise beside SGD, from the same weights. Noise of the batches' "
        "covariance does what batches do; isotropic noise of the same trace leaves λ_max at the edge."
    ))  # fmt: skip


def _along(curve: Mapping[str, list[float]]) -> tuple[list[float], list[float]]:
    return curve["steps"], curve["values"]


def _level(x: Any, height: float, label: str) -> Line:
    return Line([x[0], x[-1]], [height, height], label, "ink", dashed=True)


def _settled(grid: Grid, results: Results, quantity: str) -> Iterator[tuple[Point, Estimate]]:
    """Points that settled somewhere."""
    for point in grid.points:
        with suppress(MissingCellError):
            found = grid.settled(results, point, quantity)
            if found.value is not None:
                yield point, found


def _error(estimate: Estimate) -> float:
    return estimate.standard_error if isinstance(estimate.standard_error, float) else 0.0
