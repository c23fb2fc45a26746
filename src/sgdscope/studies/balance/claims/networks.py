"""Networks: the exact identity of a step, the mean drift, and the noise of both layers in the long run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.studies import fits
from sgdscope.studies.balance.claims.sources import HERE, LAW, SEQUEL, error_of
from sgdscope.studies.claim import Claim
from sgdscope.theory.balance import two_layer
from sgdscope.verdict import Verdict, compare

if TYPE_CHECKING:
    from sgdscope.studies.balance.recipe import Balance


def claims(study: Balance) -> Iterator[Claim]:
    """All of them."""
    yield from _drift(study)
    yield from _long_run(study)


def _drift(study: Balance) -> Iterator[Claim]:
    names = [name for name, _ in study.networks]
    cases = [(name, when) for name in names for when in ("early", "late")]

    def identity(results: Results) -> Iterator[Verdict]:
        for name, when in cases:
            residual = Estimate("largest relative difference", results[f"drift-{name}-{when}"]["residual"], 0.0)
            # float64 keeps 1e-16 of a charge, and a step may move it by no more than some 1e-8 of itself
            yield compare(residual, 1e-6, claim=f"{name}, {when}", relation="below",
                          scope=f"{study.forks} steps, float64")  # fmt: skip

    yield Claim("each step of SGD changes the charge of a layer pair by lr² ĝᵀAĝ, up to rounding",
                f"{SEQUEL}; {HERE}", identity)  # fmt: skip

    def pairs(law: str, when: str):  # type: ignore[no-untyped-def]
        def judge(results: Results) -> Iterator[Verdict]:
            for name in names:
                for pair in results[f"drift-{name}-{when}"]["pairs"]:
                    measured, expected = (Estimate.from_row(pair[key]) for key in ("measured", law))
                    yield compare(measured, float(expected), claim=f"{name}, {when}, layers {pair['layers']}",
                                  tolerance=0.1, predicted_error=error_of(expected))  # fmt: skip

        return judge

    yield Claim("early in training, the continuous law T Tr[AΣ] by itself gives the mean change of the charges",
                f"{LAW}, Theorem 3.1", pairs("continuous", "early"),
                "away from a minimum the mean gradient moves charges too, by lr² ∇LᵀA∇L", "lr² Tr[AΣ] / S")  # fmt: skip
    for when, word in (("early", "early"), ("late", "later")):
        yield Claim(f"{word} in training, the mean change is that of the discrete law, with the mean gradient",
                    f"{HERE}, from Eq. 26 of {LAW}", pairs("predicted", when),
                    formula="lr² (Tr[AΣ] / S + ∇LᵀA∇L)")  # fmt: skip

    def together(results: Results) -> Iterator[Verdict]:
        for name, when in cases:
            cell = results[f"drift-{name}-{when}"]
            if cell["probability"] is None:
                measured = Estimate.failed("p", "the covariance of the pairs has no inverse")
            else:
                measured = Estimate("probability of a larger χ²", cell["probability"], 0.0)
            yield compare(measured, 0.01, claim=f"{name}, {when}", relation="above")

    yield Claim("all layer pairs together follow the discrete law: a larger χ² has a chance above 1 %", HERE, together)


def settled(results: Results, name: str, key: str) -> Estimate:
    """Mean of a number over the last quarter of looks, with the error of their scatter, in blocks of neighbours."""
    looks = results[name]["looks"]
    last = looks[-max(len(looks) // 4, 4) :]
    values = [float(Estimate.from_row(look[key])) if isinstance(look[key], dict) else math.log(look[key])
              for look in last]  # fmt: skip
    blocks = [float(np.mean(part)) for part in np.array_split(values, max(len(values) // 2, 2))]
    return fits.mean([Estimate(key, value) for value in blocks], key)


def _long_run(study: Balance) -> Iterator[Claim]:
    names = [f"relu-{seed}" for seed in range(study.seed, study.seed + study.relu[2])]

    def meet(results: Results) -> Iterator[Verdict]:
        for name in names:
            log = settled(results, name, "noise_ratio")
            ratio = Estimate(
                "noise of second / first layer", math.exp(float(log)), math.exp(float(log)) * error_of(log)
            )
            yield compare(ratio, 1.0, claim=name, tolerance=0.1,
                          scope=f"20 → {study.relu[0]} → 20, last quarter of the run")  # fmt: skip

    yield Claim("in a network of ReLUs with label noise the traces of the noise of both layers meet",
                f"{LAW}, Theorem 3.2 and Fig. 2", meet, "not settled yet: the ratio still moves", "1")  # fmt: skip

    def units(data: str) -> list[str]:
        return [f"unit-{data}-{number}" for number in (0, 1)]

    def where(results: Results) -> Iterator[Verdict]:
        for data in ("anisotropic", "isotropic"):
            for name in units(data):
                settings = results.cells[name].settings
                variances = settings["input_variance"]
                axis = np.eye(len(variances))[0]
                expected = two_layer.norm_ratio_at_minimum(axis, axis, np.diag(variances), np.eye(len(variances))).value
                yield compare(results.estimate(name, "ratio"), expected, tolerance=0.03,
                              claim="{}, started at u = {:g}, w = {:g}".format(data, *settings["start"]))  # fmt: skip

    yield Claim("one hidden unit ends at the noise equilibrium of its data, from either side",
                f"{SEQUEL}; {HERE}", where, "steps of finite size", "Tr(Σ_x) ũᵀΣ_ε ũ / (Tr(Σ_ε) w̃ᵀΣ_x w̃)")  # fmt: skip

    def norms(results: Results) -> Iterator[Verdict]:
        for data in ("anisotropic", "isotropic"):
            yield compare(results.estimate(units(data)[0], "ratio"), 1.0, claim=f"one unit, {data}", tolerance=0.03)
        for name in names:
            log = settled(results, name, "norm_ratio")
            value = math.exp(float(log))
            ratio = Estimate("squared norm of first / second layer", value, value * error_of(log))
            yield compare(ratio, 1.0, claim=name, tolerance=0.1)

    yield Claim("norms of neighbouring layers become equal", f"{LAW}, Fig. 2, read for any data", norms,
                "noise is balanced, not norms: the same only where data and noise are isotropic", "1")  # fmt: skip
