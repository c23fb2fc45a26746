"""Rows ``balance`` and ``charges`` as the monitor leaves them, for charges that follow a law known by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from sgdscope.estimate import Estimate
from sgdscope.records import RunWriter

LR, BATCH = 0.1, 8
MOVED = "parameter² / step"


@dataclass(frozen=True)
class Pair:
    """One layer pair with noise that stays as it is, so that every number follows from these.

    Attributes:
        name: of the symmetry.
        ratio: ‖u‖ / ‖w‖ at the end; the norms are those with ‖u‖ ‖w‖ = 4.
        equilibrium: that of noise balance.
        error: relative, of the noise and of what follows from it.
        real: measured change over predicted change.
        scatter: standard error of the change of one row, as a share of what the noise of both sides would do together.
        kind: of the symmetry.
        relaxation: steps.
    """

    name: str
    ratio: float = 0.6
    equilibrium: float = 1.04
    error: float = 0.01
    real: float = 1.0
    scatter: float = 0.002
    kind: str = "rescaling"
    relaxation: float = 40_000.0
    noise: float = field(default=1.0)

    @property
    def rest(self) -> bool:
        return self.kind == "rescaling"

    @property
    def norms(self) -> tuple[float, float]:
        return (4 * self.ratio, 4 / self.ratio) if self.rest else (9.0, 0.0)

    @property
    def sides(self) -> tuple[float, float]:
        """Noise on u and on w: λ⁴ = noise_u / noise_w with λ = equilibrium / ratio along the orbit squared."""
        share = (self.equilibrium / self.ratio) ** 2
        return (self.noise * share, self.noise) if self.rest else (self.noise, 0.0)

    @property
    def charge(self) -> float:
        return self.norms[0] - self.norms[1]

    @property
    def gross(self) -> float:
        return LR * LR * sum(self.sides) / BATCH

    @property
    def change(self) -> float:
        """Predicted, per step."""
        return LR * LR * (self.sides[0] - self.sides[1]) / BATCH


def balance_row(
    pairs: Sequence[Pair], *, law: Sequence[str] = (), steps_to_end: int = 0, **settings: object
) -> Estimate:
    """The reading `steps_to_end` steps before the charges are those of the pairs."""
    at_rest = [i for i, pair in enumerate(pairs) if pair.rest]

    def of(name: str, values: Sequence[float], errors: Sequence[float] | None = None, unit: str = "") -> Estimate:
        return Estimate(name, tuple(values), None if errors is None else tuple(errors), unit=unit)

    beside = {
        "charge": of("charge", [p.charge - p.real * p.change * steps_to_end for p in pairs], unit="parameter²"),
        "squared_norm_u": of("squared_norm_u", [p.norms[0] for p in pairs], unit="parameter²"),
        "squared_norm_w": of("squared_norm_w", [p.norms[1] for p in pairs], unit="parameter²"),
        "noise_u": of("noise_u", [p.sides[0] for p in pairs], [p.error * p.sides[0] for p in pairs]),
        "noise_w": of("noise_w", [p.sides[1] for p in pairs], [p.error * p.sides[1] for p in pairs]),
        "expected_change": of("expected_change", [p.change for p in pairs], [p.error * p.gross for p in pairs], MOVED),
    }
    if at_rest:
        rest = [pairs[i] for i in at_rest]
        beside |= {
            "ratio": of("ratio", [p.ratio for p in rest]),
            "equilibrium_ratio": of("equilibrium_ratio", [p.equilibrium for p in rest],
                                    [p.error * p.equilibrium for p in rest]),
            "relaxation_steps": of("relaxation_steps", [p.relaxation for p in rest], [100.0] * len(rest), "step"),
            "unit_distance": of("unit_distance", [abs(math.log(p.ratio / p.equilibrium)) for p in rest]),
        }  # fmt: skip
    known = {
        "layers": [p.name for p in pairs], "kinds": [p.kind for p in pairs], "units": [32] * len(pairs),
        "samples": 256, "of": 256, "batch_size": BATCH, "lr": LR, "weight_decay": 0.0, "replacement": True,
        "mode": "train", "law": list(law), "equilibrium": at_rest, "left_out": [],
    }  # fmt: skip
    imbalance = [(u - w) / (u + w) for u, w in (p.sides for p in pairs)]
    return Estimate("balance", tuple(imbalance), tuple(p.error for p in pairs), count=256, cost=2,
                    settings={**known, **settings}, beside=beside)  # fmt: skip


def charges_row(pairs: Sequence[Pair], step: int, last: int, *, every: int = 100, samples: int = 100) -> Estimate:
    """The row at `step` of a run that ends at step `last`, for the steps since the row before."""
    wiggle = [0.5 * p.scatter * p.gross * (-1) ** (step // every) for p in pairs]
    errors = tuple(p.scatter * p.gross for p in pairs)
    real = tuple(p.real * p.change + w for p, w in zip(pairs, wiggle, strict=True))
    beside = {
        "change": Estimate("change", real, errors, count=samples, unit=MOVED),
        "measured_change": Estimate("measured_change", real, unit=MOVED),
        "identity_residual": Estimate("identity_residual", tuple(1e-7 for _ in pairs)),
    }
    settings = {"layers": [p.name for p in pairs], "units": [32] * len(pairs), "law": [], "from_step": step - every,
                "samples": samples, "every": every // samples}  # fmt: skip
    charges = tuple(p.charge - p.real * p.change * (last - step) for p in pairs)
    return Estimate("charges", charges, count=samples, unit="parameter²", settings=settings, beside=beside)


def record(
    writer: RunWriter, pairs: Sequence[Pair], *, last: int = 4000, readings: int = 11, law: Sequence[str] = (),
    every: int = 100,
) -> None:  # fmt: skip
    """A run of constant learning rate with rows of charges all along and that many readings of balance."""
    writer.append(0, Estimate("learning_rate", LR))
    places = {last - j * (last // readings // every) * every for j in range(readings)}
    for step in range(0, last + 1, every):
        if step:
            writer.append(step, charges_row(pairs, step, last, every=every, samples=every))
        if step in places:
            writer.append(step, balance_row(pairs, law=law, steps_to_end=last - step))
