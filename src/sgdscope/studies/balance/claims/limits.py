"""Limits: three layers, the memory of the sign, and what steps of finite size do to both."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.studies import fits
from sgdscope.studies.balance.claims.laws import law_of
from sgdscope.studies.balance.claims.sources import HERE, LAW, error_of, noise_of, settings_of, temperature_of
from sgdscope.studies.claim import Claim
from sgdscope.theory import escape, stationary
from sgdscope.verdict import Verdict, compare

if TYPE_CHECKING:
    from sgdscope.studies.balance.recipe import Balance

FEW = 0.01
"""Share that counts as next to none."""


def claims(study: Balance) -> Iterator[Claim]:
    """All of them."""
    yield from _deep(study)
    yield from _signs(study)


def _deep(study: Balance) -> Iterator[Claim]:
    def median(results: Results) -> Verdict:
        law = law_of(results, "deep-hot")
        below = float(np.mean(np.array(results["deep-hot"]["quantiles"]) < law.median))
        count = int(results["deep-hot"]["count"])
        measured = Estimate("share below the median of the law", below, 0.5 / math.sqrt(count), count=count)
        return compare(measured, 0.5, claim=lives, tolerance=0.1, scope=f"median {law.median:.3g}, T = 1.2 β₂ / α₃")

    lives = "three layers have no critical temperature: beyond β₂ / α₃ their weights follow a law with a density"
    yield Claim(lives, f"{LAW}, Theorem 4.2; {HERE}", median, "steps of finite size", "½")

    decay = study.collapse[0]

    def lost(results: Results) -> Iterator[Verdict]:
        yield compare(results.estimate(f"collapse-{decay:g}-1", "near_zero"), FEW, claim=f"γ = {decay:g}",
                      relation="above")  # fmt: skip
        yield compare(results.estimate("collapse-0-1", "near_zero"), FEW, claim="γ = 0", relation="below")

    yield Claim("with weight decay three layers lose what they learned, without it they keep it: a metastable state",
                HERE, lost, "too short a run")  # fmt: skip

    def rate(results: Results) -> Verdict:
        settings = settings_of(results, f"collapse-{decay:g}-1")
        noise, temperature = noise_of(settings), temperature_of(settings)
        motion = stationary.DiagonalDynamics(noise, temperature, 2, 1.0, decay)
        passage = escape.first_passage(lambda v: -motion.drift(v), lambda v: motion.diffusion(v) ** 2 / 2,
                                       settings["start"][0], 0.01)  # fmt: skip
        return compare(collapse_rate(results, f"collapse-{decay:g}-1"), 1 / passage.mean, claim=stated, tolerance=0.15)

    stated = "they lose it at the rate of the differential equation"
    yield Claim(stated, f"{HERE}, from Eq. 92 of {LAW} with weight decay", rate,
                "noise of samples is not Gaussian, and rare ways to 0 feel more of it than its variance",
                "1 / mean first passage time")  # fmt: skip

    def same(results: Results) -> Verdict:
        one, four = (collapse_rate(results, f"collapse-{decay:g}-{size}") for size in (1, 4))
        return compare(fits.ratio(four, one, "rate at batch size 4 / at 1"), 1.0, claim=alike, tolerance=0.15)

    alike = "four times the batch and the learning rate lose it as fast: it is no matter of the size of steps"
    yield Claim(alike, HERE, same, "steps of finite size", "1")


def collapse_rate(results: Results, name: str) -> Estimate:
    """Rate, per learning rate · steps, at which runs fell to 0."""
    share, time = results.estimate(name, "near_zero"), float(results[name]["time"])
    left = 1 - float(share)
    if not 0 < left < 1:
        raise ValueError(f"expected some runs to collapse and some not to, got a share of {float(share):g}")
    return Estimate("rate of collapse", -math.log(left) / time, error_of(share) / left / time, count=share.count)


def _signs(study: Balance) -> Iterator[Claim]:
    def wrong(results: Results) -> Verdict:
        return compare(results.estimate("wrong-sign", "other_side"), FEW, claim=never, relation="below")

    never = "from the wrong sign two layers never learn: all stay on their side of 0"
    yield Claim(never, f"{LAW}, Theorem 4.2: the mass at 0 is remembered", wrong, "a large step crossed 0")

    def crossed(results: Results) -> Iterator[Verdict]:
        for variance, lr in study.crossings:
            name = f"crossing-{variance:g}-{lr:g}"
            noise = noise_of(settings_of(results, name))
            strength = lr * noise.product_variance / noise.product_mean
            yield compare(results.estimate(name, "other_side"), FEW, relation="below",
                          claim=f"noise variance {variance:g}, lr = {lr:g}: T α₃ / β₂ = {strength:.2g}")  # fmt: skip

    yield Claim("three layers keep their sign under SGD", f"{LAW}, Theorem 4.2, read for steps of finite size", crossed,
                "a rare large step crosses 0, and the run stays there, held by the wrong sign")  # fmt: skip
