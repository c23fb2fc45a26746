"""Layer balance: where gradient noise takes the norms of neighbouring layers, and whether it moves them as predicted.

Read from the rows ``balance`` and ``charges`` that the monitor writes, without torch. Each rescaling ``u → λu,
w → w/λ`` that leaves the loss as it is has a charge C = ‖u‖² − ‖w‖². Gradient flow conserves it; gradient noise moves
it until the noise is alike on both sides.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sgdscope.edge_units import EdgeUnits
from sgdscope.estimate import Estimate, with_error
from sgdscope.layer_balance.charge_verdict import SEVERAL, over_run, per_step
from sgdscope.layer_balance.rows import Move, Reading, error_of, moves, readings
from sgdscope.records import Run
from sgdscope.verdict import Outcome, Verdict

NEAR = 0.1
"""Relative distance from noise balance, doubt included, up to which a pair of layers counts as balanced."""


@dataclass(frozen=True)
class LayerBalance:
    """One symmetry of the loss: two neighbouring layers as a rule, the one that writes activations and its reader.

    Attributes:
        name: layers that write → layers that read.
        kind: ``rescaling`` (u → λu, w → w/λ), ``scale invariance`` (u → λu), or as recorded.
        units: neurons or channels that are rescaled one by one.
        step: of the last reading.
        charge: C = ‖u‖² − ‖w‖², in parameter²; ‖u‖² for a scale invariance.
        squared_norm_u, squared_norm_w: ‖u‖² of the reading side and ‖w‖² of the writing side, with biases.
        noise_u, noise_w: trace of the covariance of single samples' gradients on each side.
        imbalance: (noise_u − noise_w) / (noise_u + noise_w), 0 at noise balance.
        ratio: ‖u‖ / ‖w‖ now; None where noise has no equilibrium.
        equilibrium_ratio: ‖u‖ / ‖w‖ where noise takes it; None likewise.
        relaxation_steps: steps in which a small distance from there falls to 1/e; None where not known.
        unit_distance: median over units of |ln(their ratio / their equilibrium ratio)|; None where not known.
        predicted_change: change of the charge per step in the mean, by theory, at the readings in the window; the error
            holds how far those may lie off the mean along the path.
        measured_change: what it was over the steps of the window; without value if that was not recorded.
        push: change per step if the noise of both sides moved the charge the same way; 0 where not known.
        verdict: the two side by side.
        total: change from the first reading at these settings to the last, beside the sum of the predictions on the
            way; None with one reading.
        law: reasons why the law of balance claims nothing about this run; empty where it does.
        course: (step, charge) along the run.
    """

    name: str
    kind: str
    units: int
    step: int
    charge: float
    squared_norm_u: float
    squared_norm_w: float
    noise_u: Estimate
    noise_w: Estimate
    imbalance: Estimate
    ratio: float | None
    equilibrium_ratio: Estimate | None
    relaxation_steps: float | None
    unit_distance: float | None
    predicted_change: Estimate
    measured_change: Estimate
    push: float
    verdict: Verdict
    total: Verdict | None
    law: tuple[str, ...]
    course: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, run: Run) -> list[LayerBalance]:
        """One for each symmetry of the last reading of a run; none if there is no reading."""
        found = readings(run)
        if not found:
            return []
        last = found[-1]
        like = list({r.step: r for r in found if r.settings == last.settings and r.keys == last.keys}.values())
        moved, window = moves(run), EdgeUnits.of(run).window(last.step)
        edge = run.standing().edge.value if len(like) < SEVERAL else None
        position = edge if isinstance(edge, float) else 1.0  # where it is not known, readings may scatter much
        return [_balance(like, i, moved.get(key, []), window, position) for i, key in enumerate(last.keys)]

    @property
    def short_name(self) -> str:
        """The name, with what both sides share said once, in at most 30 characters."""
        return short_name(self.name)

    @property
    def size(self) -> float:
        """‖u‖² + ‖w‖², beside which a charge is large or small."""
        return self.squared_norm_u + self.squared_norm_w

    @property
    def scale_free(self) -> bool:
        """Whether it is a scale invariance: noise makes ‖u‖² grow without end unless weight decay holds it."""
        return self.kind == "scale invariance"

    @property
    def off(self) -> Estimate | None:
        """``ratio / equilibrium_ratio``, 1 at noise balance; None where there is no equilibrium."""
        if self.ratio is None or self.equilibrium_ratio is None:
            return None
        there = float(self.equilibrium_ratio)
        return Estimate("off", self.ratio / there, self.ratio / there * error_of(self.equilibrium_ratio) / there)

    @property
    def times_off(self) -> float:
        """Factor between the ratio and its equilibrium, at least 1; 1 where there is none."""
        off = self.off
        return 1.0 if off is None else max(float(off), 1 / float(off))

    @property
    def balanced(self) -> bool:
        """Whether it is within a tenth of noise balance, two standard errors included."""
        return self.off is not None and self._bound <= NEAR

    @property
    def _bound(self) -> float:
        """Relative distance from noise balance and two standard errors of it."""
        off = self.off
        return math.inf if off is None else abs(float(off) - 1) + 2 * error_of(off)

    @property
    def distance_in_words(self) -> str:
        """``within 3 %``, ``14 ± 3 % off`` or ``4.2 ± 0.1 times off``; two standard errors are in the first."""
        off = self.off
        if off is None:
            return "without noise balance"
        if self.balanced:
            return f"within {_percent(self._bound)}"
        if self.times_off < 1.5:
            return f"{with_error(100 * abs(float(off) - 1), 100 * error_of(off) or None, digits=1)} % off"
        error = self.times_off * error_of(off) / float(off)
        return f"{with_error(self.times_off, error or None, digits=1)} times off"

    @property
    def in_words(self) -> str:
        """The same, of noise balance."""
        said = self.distance_in_words
        if self.off is None:
            return said
        if self.balanced:
            return f"{said} of noise balance"
        return f"{said.removesuffix(' off')} from noise balance" if said.endswith("% off") else f"{said} noise balance"

    @property
    def outcome(self) -> Outcome:
        """How the prediction fares: per step, and where that is left open over the run."""
        if self.verdict.outcome == "undecided" and self.total is not None:
            return self.total.outcome
        return self.verdict.outcome


def standing_in_words(found: Sequence[LayerBalance]) -> str:
    """How far from noise balance: of one pair, or how many are close and which is farthest; empty if none can be."""
    resting = [b for b in found if b.off is not None]
    if not resting:
        return ""
    far = max(resting, key=lambda b: b.times_off)
    if len(resting) == 1:
        return f"layers {far.short_name} are {far.in_words}"
    close = sum(b.balanced for b in resting)
    if close == len(resting):
        return f"all {close} layer pairs within {_percent(max(b._bound for b in resting))} of noise balance"
    return (
        f"{close or 'none'} of {len(resting)} layer pairs within {_percent(NEAR)} of noise balance; "
        f"farthest {far.short_name}, {far.distance_in_words}"
    )


def charges_in_words(found: Sequence[LayerBalance]) -> str:
    """Whether the charges move as predicted; empty where nothing is claimed."""
    counts = Counter(b.outcome for b in found)
    agrees, disagrees, undecided = (counts[outcome] for outcome in ("agrees", "disagrees", "undecided"))
    held = agrees + disagrees + undecided
    if held == 0:
        return ""
    if held == 1:
        (one,) = (b for b in found if b.outcome != "unassessed")
        if one.outcome == "undecided":
            measured, predicted = map(_shown, (one.measured_change, one.predicted_change))
            return f"the charge moves by {measured} per step, predicted {predicted}"
        return f"the charge {'moves' if agrees else 'does not move'} as predicted"
    if undecided == held:
        return f"whether the {held} charges move as predicted is left open"
    many = f"all {held}" if held in (agrees, disagrees) else f"{agrees or disagrees} of {held}"
    said = [f"{many} charges {'move' if agrees else 'do not move'} as predicted"]
    said += [f"{disagrees} {'does' if disagrees == 1 else 'do'} not"] * bool(disagrees and agrees)
    said += [f"{undecided} undecided"] * bool(undecided)
    return ", ".join(said)


def _percent(share: float) -> str:
    """Rounded up, so that it is no less than the share."""
    return f"{max(math.ceil(100 * share - 1e-9), 1)} %"


def _shown(change: Estimate) -> str:
    return with_error(float(change), error_of(change) or None, digits=1).replace("-", "−")


def short_name(name: str, most: int = 30) -> str:
    """``blocks.3.mlp.0 → blocks.3.mlp.2`` as ``blocks.3.mlp.0 → 2``; what is too long loses its beginning.

    >>> short_name("blocks.3.mlp.0 → blocks.3.mlp.2")
    'blocks.3.mlp.0 → 2'
    >>> short_name("1 → 3")
    '1 → 3'
    """
    before, arrow, after = name.partition(" → ")
    parts, others = before.split("."), after.split(".")
    shared = 0
    while shared < min(len(parts), len(others)) - 1 and parts[shared] == others[shared]:
        shared += 1
    name = f"{before}{arrow}{'.'.join(others[shared:])}"
    return name if len(name) <= most else "…" + name[-(most - 1) :]


def _balance(
    like: Sequence[Reading], i: int, moved: Sequence[Move], window: tuple[int, int], edge: float
) -> LayerBalance:  # fmt: skip
    last, name = like[-1], like[-1].keys[i][0]
    charge, u, w, noise_u, noise_w = (
        last.found[name][i] for name in ("charge", "squared_norm_u", "squared_norm_w", "noise_u", "noise_w")
    )
    law = tuple(dict.fromkeys([*last.law, *(reason for m in moved if m.last > window[0] for reason in m.law)]))
    known = last.at_rest.get(i, {})
    ratio, there = known.get("ratio"), known.get("equilibrium_ratio")
    relaxation, distance = known.get("relaxation_steps"), known.get("unit_distance")
    rests = ratio is not None and there is not None
    claim = f"gradient noise moves the charge of {short_name(name)} as predicted"
    test = per_step(like, i, moved, window, claim, law, edge)
    course = {m.last: m.charge for m in moved} | {r.step: float(r.found["charge"][i]) for r in like}
    return LayerBalance(
        name, last.kinds[i], last.units[i], last.step, float(charge), float(u), float(w), noise_u, noise_w,
        last.imbalance[i],
        ratio=float(ratio) if ratio is not None and rests else None,
        equilibrium_ratio=there if rests else None,
        relaxation_steps=None if relaxation is None else float(relaxation),
        unit_distance=None if distance is None else float(distance),
        predicted_change=test.predicted, measured_change=test.measured, push=test.push, verdict=test.verdict,
        total=over_run(like, i, moved, claim, law, edge),
        law=law,
        course=tuple(sorted(course.items())),
    )  # fmt: skip
