"""Charges of products of weights: conserved by gradient descent, balanced by minibatch noise, diffused by other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.studies import fits
from sgdscope.studies.balance.claims.sources import HERE, LAW, noise_of, settings_of, spread_of, temperature_of
from sgdscope.studies.claim import Claim
from sgdscope.theory import balance
from sgdscope.verdict import Verdict, compare

if TYPE_CHECKING:
    from sgdscope.studies.balance.recipe import Balance

TOLERANCE = 0.03
"""Steps of finite size: corrections are of order lr · β₁ · some."""


def predicted(
    results: Results, name: str, weight_decay: float | None = None, share: float = 1.0, second_order: bool = False
) -> float:
    """Change of ln |C| that the law of balance adds up to along the paths of a cell; `share` of its noise term."""
    settings, cell = settings_of(results, name), results[name]
    mass, first, second = (float(Estimate.from_row(cell[key])) for key in ("factor", "first", "second"))
    decay = settings["weight_decay"] if weight_decay is None else weight_decay
    noise = noise_of(settings)
    if second_order:
        noise = balance.second_order_noise(noise, settings["batch_size"])
    rates = balance.decay_rate(
        noise, np.array(spread_of(mass, first, second)), temperature=share * temperature_of(settings),
        weight_decay=decay, factor=mass**0.5,
    )  # fmt: skip
    return -float(np.mean(rates)) * float(cell["time"])


def _change(results: Results, name: str) -> Estimate:
    return results.estimate(name, "change")


def claims(study: Balance) -> Iterator[Claim]:
    """All of them."""
    yield from _three_noises(study)
    yield from _factors()


def _three_noises(study: Balance) -> Iterator[Claim]:
    def conserved(results: Results) -> Verdict:
        found = fits.ratio(_change(results, "charge-none-0.01"), _change(results, "charge-minibatch"), "quotient")
        return compare(found, 0.01, claim=keeps, relation="below")

    keeps = "gradient descent conserves u² − w²: its ln changes by less than 1 % of that under SGD"
    yield Claim(keeps, f"{LAW}, Fig. 1", conserved)

    def exact(results: Results) -> Iterator[Verdict]:
        for lr in (0.01, 0.005):
            name = f"charge-none-{lr:g}"
            noise = noise_of(settings_of(results, name))
            slopes = noise.mean_gradient(np.array(results[name]["course"]["weight"]))
            change = float(balance.log_charge_factor(lr, slopes))
            measured = Estimate("change of ln |C|", float(_change(results, name)), 0.0)
            yield compare(measured, change, claim=f"lr = {lr:g}", tolerance=1e-6)

    yield Claim("what is left is the factor 1 − lr² (∂L/∂v)² of each step, and falls with lr", HERE, exact,
                formula="Σ ln |1 − lr² (∂L/∂v)²|")  # fmt: skip

    def decays(results: Results) -> Verdict:
        value = predicted(results, "charge-minibatch")
        return compare(_change(results, "charge-minibatch"), value, claim=balances, tolerance=TOLERANCE)

    balances = "SGD balances the layers: ln |u² − w²| falls by the integral of 4 T g(v) along its path"
    yield Claim(balances, f"{LAW}, Corollary 3.3 and Eq. 7", decays, "steps of finite size", "−4 T ∫ g(v) dt")

    def second(results: Results) -> Verdict:
        value = predicted(results, "charge-minibatch", second_order=True)
        # a third of the tolerance: what is left is of second order
        return compare(_change(results, "charge-minibatch"), value, claim=closer, tolerance=TOLERANCE / 3)

    closer = "closer still with the second moment of the batch gradient for its variance"
    yield Claim(closer, f"{LAW}, App. A.3, with lr for T", second, formula="−4 ∫ (T g + lr (β₁ v − β₂)²) dt")

    def bounded(results: Results) -> Verdict:
        settings = settings_of(results, "charge-minibatch")
        rate = balance.slowest_decay_rate(noise_of(settings), temperature=temperature_of(settings))
        return compare(_change(results, "charge-minibatch"), -rate * float(results["charge-minibatch"]["time"]),
                       claim=bound, relation="below")  # fmt: skip

    bound = "at least as fast as the bound 4 T Δ / α₁, whatever the path"
    yield Claim(bound, f"{LAW}, below Eq. 7", bounded, formula="−4 T Δ t / α₁")

    def diffuses(results: Results) -> Verdict:
        return compare(results.estimate("charge-isotropic", "square"), 1.0, claim=wanders, relation="above")

    wanders = "isotropic noise does not balance the layers: E[C²] grows"
    yield Claim(wanders, f"{LAW}, Fig. 1", diffuses, formula="E[C₀²] / C₀²")


def _factors() -> Iterator[Claim]:
    """Factors as they are printed, and as derivation and simulation have them."""

    def weight_decay(printed: bool) -> Claim:
        def judge(results: Results) -> Verdict:
            decay = settings_of(results, "charge-decay")["weight_decay"] / (4 if printed else 1)
            value = predicted(results, "charge-decay", weight_decay=decay)
            return compare(_change(results, "charge-decay"), value, claim=stated, tolerance=TOLERANCE)

        stated = f"weight decay γ adds {'γ' if printed else '4 γ'} to the rate of balance"
        source = "the remark after Corollary 3.3" if printed else "Eq. 7"
        return Claim(stated, f"{LAW}, {source}", judge, "the factor 4 of Eq. 7 is missing" if printed else "")

    yield weight_decay(True)
    yield weight_decay(False)

    def deep(printed: bool) -> Claim:
        def judge(results: Results) -> Verdict:
            value = predicted(results, "charge-deep", share=0.25 if printed else 1.0)
            return compare(_change(results, "charge-deep"), value, claim=stated, tolerance=TOLERANCE)

        stated = f"in three layers a pair balances at the rate {'' if printed else '4 '}T g(v) (v / (u w))²"
        return Claim(stated, f"{LAW}, Eq. 69" + ("" if printed else " with the factor 4 of Eq. 7"), judge,
                     "the factor 4 is missing" if printed else "steps of finite size")  # fmt: skip

    yield deep(True)
    yield deep(False)

    def opposite(printed: bool) -> Claim:
        def judge(results: Results) -> Verdict:
            settings, cell = settings_of(results, "opposite"), results["opposite"]
            one, two = (float(Estimate.from_row(cell[key])) for key in ("first", "second"))
            rates = balance.competition_rate(noise_of(settings), np.array(spread_of(1.0, one, two)), 1.0, -1.0, depth=1,
                                             temperature=temperature_of(settings))  # fmt: skip
            value = float(np.mean(rates)) * float(cell["time"]) / (4 if printed else 1)
            return compare(_change(results, "opposite"), value, claim=stated, tolerance=TOLERANCE)

        stated = f"of two subnetworks of opposite sign ln |v₁ v₂| falls at the rate {2 if printed else 8} T g(v)"
        return Claim(stated, f"{LAW}, Eqs. 86–90" + ("" if printed else " with the factor derived here"), judge,
                     "the factor is 8" if printed else "steps of finite size")  # fmt: skip

    yield opposite(True)
    yield opposite(False)
