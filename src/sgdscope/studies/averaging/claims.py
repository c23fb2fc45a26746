"""Claims of the trajectories: batches along the path, single steps, averages, schedules, and what goes wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.studies import fits
from sgdscope.studies.claim import Claim
from sgdscope.theory.averaging import NoisyQuadratic, averages, best_full_loss_step, noise_ratios, variance_ratios
from sgdscope.verdict import Verdict, compare

if TYPE_CHECKING:
    from sgdscope.studies.averaging.recipe import Averaging

PAPER, HERE = "Sandler et al. 2301.02312", "derived here for the per-batch quadratics of Sandler et al. 2301.02312"
LR = 0.3
"""Learning rate of the quadratics."""
Read = Callable[[Mapping[str, Any]], float]
"""A number out of the result of a cell."""


def claims(study: Averaging) -> Sequence[Claim]:
    """All of them."""
    return [*_batches(study), *_averages(study), *_schedules(study), *_modes(study), *_harm(study)]


def over_seeds(results: Results, network: str, when: str, read: Read, name: str) -> Estimate:
    """Mean over seeds, with the error of their scatter, of a number read from the cells of paths."""
    found = results.where(network=network, when=when).values()
    return fits.mean([Estimate(name, read(cell)) for cell in found], name)


def _of_networks(
    study: Averaging, read: Read, name: str, predicted: float, **how: Any
) -> Callable[[Results], Iterator[Verdict]]:
    """A judge that holds the mean over seeds of each network against a number."""

    def judge(results: Results) -> Iterator[Verdict]:
        for each in study.networks:
            measured = over_seeds(results, each["name"], "settled", read, name)
            yield compare(measured, predicted, claim=each["name"], scope=f"{measured.count} seeds", **how)

    return judge


# -- a batch along the path -----------------------------------------------------------------------------------------


def _batches(study: Averaging) -> Iterator[Claim]:
    section = f"{PAPER}, Sec. 3"
    yield Claim(
        "along its own gradient the loss of a fixed batch is quadratic: R² over 0.99", section,
        _of_networks(study, lambda cell: cell["line"]["r_squared"], "R²", 0.99, relation="above"),
        "to twice the Newton step the loss of a classifier flattens",
    )  # fmt: skip
    yield Claim(
        f"along the chord of {study.chord} steps the loss of a fixed batch is quadratic: R² over 0.99", section,
        _of_networks(study, lambda cell: cell["chord"]["r_squared"], "R²", 0.99, relation="above"),
        "the two ends do not lie in one quadratic basin",
    )  # fmt: skip

    def layers(results: Results) -> Iterator[Verdict]:
        for each in study.networks:
            kinds = next(iter(results.where(network=each["name"], when="settled").values()))["layers"]
            for kind in kinds:
                measured = over_seeds(results, each["name"], "settled", _of_layers(kind), "R²")
                yield compare(measured, 0.99, relation="above", claim=f"{each['name']}: {kind} layers alone")

    if study.size == "paper":  # elsewhere there is one kind of layer only
        yield Claim("the same holds for each kind of layer by itself", section, layers,
                    "moved alone, these layers leave the basin")  # fmt: skip

    def reached(cell: Mapping[str, Any]) -> float:
        least = min(float(found["measured"]) for found in cell["averages"].values())
        return float(cell["line"]["batch"]["best"]) / least

    yield Claim("one step on one batch brings its loss below the full loss of the best trained model", section,
                _of_networks(study, reached, "loss reached / least full loss", 1.0, relation="below"),
                "this batch is easier or harder than the mean of all")  # fmt: skip

    def drops(cell: Mapping[str, Any]) -> float:
        line = cell["line"]
        return float(
            (line["unseen"]["start"] - line["unseen"]["best"]) / (line["batch"]["start"] - line["batch"]["best"])
        )

    yield Claim("on unseen batches the same step does nothing of the kind: under a tenth of the drop", section,
                _of_networks(study, drops, "drop on unseen batches / on its own", 0.1, relation="below"))  # fmt: skip

    # ½, whatever the curvatures and the noise of the quadratics: here of one mode
    half = best_full_loss_step(NoisyQuadratic(np.array([1.0]), np.array([1.0])), LR).value / LR

    def settled(results: Results) -> Iterator[Verdict]:
        for each in study.networks:
            found = [Estimate.from_row(cell["half"]) for cell in
                     results.where(network=each["name"], when="settled").values()]  # fmt: skip
            yield compare(fits.mean(found, "best full-loss step / lr"), half, tolerance=0.1, claim=each["name"])

    yield Claim("where SGD has settled, the best step along a batch's gradient for the full loss is half the learning "
                "rate", HERE, settled, "not settled: the loss still falls", "lr / 2, in learning rates")  # fmt: skip


def _of_layers(kind: str) -> Read:
    return lambda cell: float(cell["layers"][kind]["r_squared"])


# -- averages -------------------------------------------------------------------------------------------------------


def drop(cell: Mapping[str, Any], name: str, what: str = "measured") -> float:
    """How far an average lies below the mean loss of its points."""
    found = cell["averages"][name]
    return float(found["points"] - found[what])


def _averages(study: Averaging) -> Iterator[Claim]:
    def predicted(name: str) -> Read:
        return lambda cell: drop(cell, name) / drop(cell, name, "predicted")

    two = [f"two points {gap} steps apart" for gap in study.gaps]
    many = [*(f"window of {n} steps" for n in study.windows), *(f"EMA {decay:g}" for decay in study.decays)]
    for names, tolerance, which in ((two, 0.05, "two points"), (many, 0.15, "windows and EMAs")):

        def judge(results: Results, names: list[str] = names, tolerance: float = tolerance) -> Iterator[Verdict]:
            for each in study.networks:
                for name in names:
                    measured = over_seeds(results, each["name"], "settled", predicted(name), "drop over prediction")
                    yield compare(measured, 1.0, tolerance=tolerance, claim=f"{each['name']}: {name}")

        yield Claim(f"losses and gradients at the points predict what {which} gain, to {100 * tolerance:g} %",
                    f"{HERE}, the chord identity", judge, "the loss is not quadratic over the span", "1")  # fmt: skip

    wide = two[-1]

    def enough(cell: Mapping[str, Any]) -> float:
        return float(cell["averages"][wide]["held_out"] / cell["averages"]["late iterates"]["held_out"])

    yield Claim(
        "averaging two points is enough for a clear gain on held-out data", f"{PAPER}, abstract",
        _of_networks(study, enough, "held-out loss of two points / of late iterates", 1.0, relation="below"),
    )  # fmt: skip

    def near(cell: Mapping[str, Any]) -> float:
        return drop(cell, "two points 1 step apart") / drop(cell, wide)

    yield Claim("the two points may be a few steps apart", f"{PAPER} v1, abstract",
                _of_networks(study, near, f"gain 1 step apart / {study.gaps[-1]} apart", 0.5, relation="above"),
                "neighbours share their slow modes: the gain is (1 − (1 − lr h)^k) / 2 of each")  # fmt: skip

    def apart(cell: Mapping[str, Any]) -> float:
        return drop(cell, two[-1]) / drop(cell, two[0])

    yield Claim("the two points should be many steps apart", f"{PAPER} v2, abstract",
                _of_networks(study, apart, f"gain {study.gaps[-1]} steps apart / {study.gaps[0]}", 1.0,
                             relation="above"))  # fmt: skip


# -- schedules ------------------------------------------------------------------------------------------------------


def _schedules(study: Averaging) -> Iterator[Claim]:
    def held(read: Read, name: str, predicted: float, **how: Any):  # type: ignore[no-untyped-def]
        def judge(results: Results) -> Iterator[Verdict]:
            for each in study.networks[:2]:
                for average in study.schedules:
                    cells = results.where(network=each["name"], average=dict(average))
                    measured = fits.mean([Estimate(name, read(cell)) for cell in cells.values()], name)
                    label = " ".join(f"{'EMA' if k == 'decay' else k} {v:g}" for k, v in average.items())
                    yield compare(measured, predicted, claim=f"{each['name']}: {label}", **how)

        return judge

    abstract = f"{PAPER}, abstract and Sec. 4"
    yield Claim("an average ends at the training loss of the schedule that stands for it", abstract,
                held(lambda cell: cell["train"]["schedule"] / cell["train"]["average"], "schedule / average", 1.0,
                     tolerance=0.05), formula="1")  # fmt: skip
    yield Claim("it ends at the same held-out loss", abstract,
                held(lambda cell: cell["held_out"]["schedule"] / cell["held_out"]["average"], "schedule / average", 1.0,
                     tolerance=0.05),
                "averages take out noise of fast directions that schedules leave, schedules bias that averages leave",
                "1")  # fmt: skip
    yield Claim("it ends in the same place: displacements from the last iterate align, cosine over 0.99", abstract,
                held(lambda cell: cell["cosine"], "cosine", 0.99, relation="above"),
                "the equivalence holds to first order in learning rate · curvature · horizon only")  # fmt: skip


# -- quadratics -----------------------------------------------------------------------------------------------------


def quotient(results: Results, cell: str, above: str, below: str) -> Estimate:
    """Of two mean squares of one cell; errors as if independent, though both saw the same noise."""
    return fits.ratio(results.estimate(cell, above), results.estimate(cell, below), f"{above} / {below}")


def _modes(study: Averaging) -> Iterator[Claim]:
    decay = 0.9

    def frozen(predict: Callable[[float], float], tolerance: float) -> Callable[[Results], Iterator[Verdict]]:
        def judge(results: Results) -> Iterator[Verdict]:
            for h in study.modes:
                measured = quotient(results, f"mode-ema-{h:g}", "frozen", "average")
                yield compare(measured, predict(h), tolerance=tolerance, claim=f"lr · curvature = {LR * h:g}")

        return judge

    yield Claim("an EMA leaves the noise of its schedule λ (1 − β^m), in every mode", abstract_of_equivalence(),
                frozen(lambda h: 1.0, 0.05), "exact only where λ h · horizon ≪ 1", "1")  # fmt: skip
    yield Claim("schedule over average is the quotient of the exact recursions", HERE,
                frozen(lambda h: float(noise_ratios(averages.ema(decay, 400), LR, [h])[0]), 0.05))  # fmt: skip

    def exact(results: Results) -> Iterator[Verdict]:
        for h in study.modes:
            measured = quotient(results, f"mode-ema-{h:g}", "exact", "average")
            yield compare(measured, 1.0, tolerance=0.05, claim=f"lr · curvature = {LR * h:g}")

    yield Claim("in one mode there is a schedule that leaves exactly what the EMA leaves", HERE, exact, formula="1")

    def slow(results: Results) -> Iterator[Verdict]:
        for u in study.slow:
            two, window = (results.estimate(f"slow-{kind}-{u:g}", "average") for kind in ("gap", "window"))
            measured = fits.ratio(two, window, "two points / window")
            predicted = float(variance_ratios.slow_two_point_ratio(u) / variance_ratios.slow_window_ratio(u))
            yield compare(measured, predicted, tolerance=0.05, claim=f"u = {u:g}")

    yield Claim("in slow modes two points leave less than the full window between them where lr · curvature · span is "
                "under 2, and more above", HERE, slow,
                formula="(1 + e^−u) u² / (4 (u − 1 + e^−u))")  # fmt: skip


def abstract_of_equivalence() -> str:
    """Where the source states it."""
    return f"{PAPER}, abstract, read as an equality in quadratic modes"


# -- what goes wrong ------------------------------------------------------------------------------------------------


def _harm(study: Averaging) -> Iterator[Claim]:
    short, gap = study.early
    first = study.networks[0]["name"]

    def early(results: Results) -> Verdict:
        wide, narrow = f"two points {gap} steps apart", f"two points {study.gaps[1]} steps apart"
        measured = over_seeds(
            results, first, "early",
            lambda cell: math.log(cell["averages"][wide]["measured"] / cell["averages"][narrow]["measured"]), "ln loss",
        )  # fmt: skip
        statement = f"after {short} steps only, two points {gap} apart do worse than {study.gaps[1]} apart"
        return compare(measured, 0.0, relation="above", claim=statement)

    yield Claim(f"after {short} steps only, two points {gap} apart do worse than {study.gaps[1]} apart", HERE, early,
                "the path has left its fast progress behind")  # fmt: skip

    def norms(read: Read, predicted: float, **how: Any):  # type: ignore[no-untyped-def]
        def judge(results: Results) -> Iterator[Verdict]:
            for each in study.norms:
                found = [Estimate("ln quotient", math.log(read(cell))) for cell in
                         results.where(network=each["name"], decay=0.99).values()]  # fmt: skip
                yield compare(fits.mean(found, "ln quotient"), predicted, claim=each["name"], **how)

        return judge

    yield Claim("with BatchNorm an average wants statistics of its own: recomputed ones beat the last ones", HERE,
                norms(lambda cell: cell["average"]["recomputed"] / cell["average"]["last"], 0.0, relation="below"),
                "the last statistics happen to suit the average")  # fmt: skip
    yield Claim("with recomputed statistics the average beats the last weights on held-out data", HERE,
                norms(lambda cell: cell["average"]["recomputed"] / cell["no_average"]["recomputed"], 0.0,
                      relation="below"))  # fmt: skip
