"""The study of the law of balance: judges follow theory and nature; small cells are carried out."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hand_made import estimate, judged, outcomes

from sgdscope.cells import Results
from sgdscope.studies import carry_out, recipe
from sgdscope.studies.balance import Balance
from sgdscope.studies.balance.claims import laws, phases
from sgdscope.studies.balance.claims.sources import noise_of, temperature_of
from sgdscope.theory import balance, escape, stationary
from sgdscope.theory.balance import two_layer

TOY = replace(Balance.of_size("toy"), tails=(1.0,))


def charges(s):
    """Of a path that rests at v = 1, f = 1, with the law of the differential equation."""
    time, noise = s["lr"] * s["steps"], noise_of(s)
    path = np.linspace(0.6, 1.0, 20)
    change = -time * balance.decay_rate(noise, 1.0, temperature=temperature_of(s), weight_decay=s["weight_decay"])
    if s["noise"] == "none":
        change = balance.log_charge_factor(s["lr"], noise.mean_gradient(path))
    square = 5.0 if s["noise"] == "isotropic" else math.exp(2 * change)
    course = {"times": [0.0, time], "log": [0.0, change], "square": [1.0, square], "weight": path.tolist()}
    return {"change": estimate(change), "square": estimate(square), "time": time, "factor": estimate(1.0),
            "first": estimate(1.0), "second": estimate(1.0), "course": course}  # fmt: skip


def weights(cell):
    s = cell.settings
    crosses = cell.name.startswith("crossing") and s["noise_variance"] > 1
    found = {"count": 40_000, "time": s["lr"] * s["steps"], "other_side": estimate(0.5 if crosses else 0.0),
             "near_zero": estimate(0.0), "quantiles": [0.0] * s["levels"]}  # fmt: skip
    if cell.name.startswith(("law", "interpolating", "deep")):
        start = s["start"][0] if s["noise_variance"] == 0 else None
        law = stationary.DiagonalLaw(noise_of(s), temperature_of(s), s["depth"], 1, s["weight_decay"], start=start)
        found["quantiles"] = law.quantile((np.arange(s["levels"]) + 0.5) / s["levels"]).tolist()
    if cell.name.startswith("collapse") and s["weight_decay"]:
        motion = stationary.DiagonalDynamics(noise_of(s), temperature_of(s), 2, 1.0, s["weight_decay"])
        mean = escape.first_passage(
            lambda v: -motion.drift(v), lambda v: motion.diffusion(v) ** 2 / 2, s["start"][0], 0.01
        ).mean
        found["near_zero"] = estimate(-math.expm1(-found["time"] / mean))
    return found


def as_theory_says(cell):
    """Cells of a world in which the laws as corrected hold exactly."""
    kind, s = cell.name.split("-")[0], cell.settings
    if kind == "charge":
        return charges(s)
    if kind == "opposite":
        rate = balance.competition_rate(noise_of(s), 1.0, 1.0, -1.0, depth=1, temperature=temperature_of(s))
        time = s["lr"] * s["steps"]
        return {"change": estimate(rate * time), "time": time, "first": estimate(1.0), "second": estimate(1.0)}
    if cell.function.endswith(":weights"):
        return weights(cell)
    if kind == "phase":
        critical = stationary.critical_temperature(noise_of(s)).value
        if s["lr"] >= critical:
            return {"mean": estimate(1e-9), "variance": estimate(1e-9)}
        law = stationary.DiagonalLaw(noise_of(s), s["lr"], 1)
        return {"mean": estimate(law.mean), "variance": estimate(law.variance)}
    if kind == "growth":
        limit = stationary.gaussian_discrete_critical_temperature(1.0, s["noise_variance"], batch_size=s["batch_size"])
        return {"rate": estimate(4 * (1 - temperature_of(s) / limit.value))}
    if kind == "exponent":
        return {"exponent": estimate(1 / (2 * s["ratio"]) - 0.5)}
    if kind == "diagram":
        limit = phases.discrete_limit(math.sqrt(s["noise_variance"]))
        critical = stationary.critical_temperature(noise_of(s)).value
        shares = [temperature / critical for temperature in s["temperatures"]]
        return {"exponents": [estimate(1 / (2 * at) - 0.5 if at < 1 / 3 else limit - at) for at in shares]}
    if kind == "tail":
        law = stationary.DiagonalLaw(noise_of(s), s["temperature"], 1)
        return {"beyond": [estimate(1 - float(law.cdf(place)), 1e-9) for place in s["beyond"]]}
    if kind == "drift":
        mean = 3.0 if cell.name.endswith("early") else 1.0
        pair = {"layers": "1 → 3", "measured": estimate(mean), "predicted": estimate(mean), "continuous": estimate(1.0)}
        return {"pairs": [pair], "probability": 0.5, "residual": 1e-12}
    if kind == "relu":
        looks = [{"step": n, "noise_ratio": estimate(2 * 0.5**n + 1e-3 * (-1) ** n), "norm_ratio": 1.2 + 1 / (1 + n),
                  "noise_u": 2.0, "noise_w": 1.0} for n in range(24)]  # fmt: skip
        return {"looks": looks}
    assert kind == "unit"
    axis = np.eye(2)[0]
    ratio = two_layer.norm_ratio_at_minimum(axis, axis, np.diag(s["input_variance"]), np.eye(2)).value
    return {"ratio": estimate(ratio)}


@pytest.fixture(scope="module")
def study():
    return judged(TOY, as_theory_says)


@pytest.mark.parametrize("words", [
    "conserves u² − w²", "the factor 1 − lr²", "SGD balances the layers", "adds 4 γ", "at the rate 4 T g(v)",
    "at the rate 8 T g(v)", "up to rounding", "discrete law, with the mean gradient", "all layer pairs together",
    "traces of the noise of both layers meet", "ends at the noise equilibrium", "stationary law of its depth",
    "as steep as the whole law", "vanishes at the critical temperature", "learns nothing", "fluctuation inversion",
    "vanishes at 0 below T_c / 3", "E ln |1 + 2 lr m̄| = 0", "no critical temperature", "a metastable state",
    "the rate of the differential equation", "four times the batch", "divided as it is measured",
    "from the wrong sign", "the exponential of γ /",
])  # fmt: skip
def test_in_a_world_of_the_corrected_laws(study, words):
    assert set(outcomes(study, words)) == {"agrees"}


@pytest.mark.parametrize("words", [
    "adds γ", "at the rate T g(v)", "at the rate 2 T g(v)", "the continuous law T Tr[AΣ] by itself",
    "the exponential of β₁ γ /", "T_c of the modified loss",
])  # fmt: skip
def test_what_is_misprinted_or_left_out_disagrees_there(study, words):
    assert set(outcomes(study, words)) == {"disagrees"}


def test_what_holds_in_part_only(study):
    assert outcomes(study, "norms of neighbouring layers become equal") == ["disagrees", "agrees", "disagrees"]
    assert set(outcomes(study, "keep their sign under SGD")) == {"agrees", "disagrees"}
    assert "disagrees" in outcomes(study, "Stratonovich")


def judged_again(study, words):
    """Outcomes of the claims with these words, judged anew."""
    claims = [claim for claim in study.recipe.claims() if words in claim.statement]
    return {finding.verdict.outcome for claim in claims for finding in claim.findings(study.results)}


def _doubled(original):
    def found(*arguments, **named):
        value = original(*arguments, **named)
        return replace(value, value=2 * value.value) if hasattr(value, "value") else 2 * value

    return found


@pytest.mark.parametrize(("module", "name", "words"), [
    (balance, "decay_rate", "SGD balances the layers"), (balance, "competition_rate", "at the rate 8 T g(v)"),
    (balance, "log_charge_factor", "the factor 1 − lr²"), (two_layer, "norm_ratio_at_minimum", "noise equilibrium"),
    (stationary, "gaussian_discrete_critical_temperature", "E ln |1 + 2 lr m̄| = 0"),
])  # fmt: skip
def test_another_theory_turns_the_verdict(study, monkeypatch, module, name, words):
    monkeypatch.setattr(module, name, _doubled(getattr(module, name)))
    assert judged_again(study, words) == {"disagrees"}


def test_another_law_turns_the_verdict(study, monkeypatch):
    law = stationary.DiagonalLaw

    def hotter(noise, temperature, *arguments, **named):
        return law(noise, 1.2 * temperature, *arguments, **named)

    monkeypatch.setattr(stationary, "DiagonalLaw", hotter)
    assert "disagrees" in judged_again(study, "stationary law of its depth")


def test_missing_cells_are_said(study):
    (claim, *_) = [c for c in study.recipe.claims() if "discrete law, with the mean gradient" in c.statement]
    cells = study.recipe.cells()
    found = Results(cells, {c.name: as_theory_says(c) for c in cells if c.name.startswith("charge")})
    assert {finding.verdict.outcome for finding in claim.findings(found)} == {"unassessed"}


def test_reweighting_by_one_changes_nothing():
    law = stationary.DiagonalLaw(stationary.DiagonalNoise.gaussian(1.0, 1.0), 0.05, 1)
    at = np.array(law.quantile([0.01, 0.5, 0.99]))
    assert laws.reweighted(law, np.ones_like)(at) == pytest.approx([0.01, 0.5, 0.99], abs=2e-5)


def test_where_a_line_is_zero_and_a_parabola_highest():
    from sgdscope.estimate import Estimate

    x = [0.5, 0.6, 0.7, 0.8]
    found = phases.zero(x, [Estimate("y", 1 - at, 0.01) for at in x], "zero")
    assert float(found) == pytest.approx(1.0)
    assert 0.01 < found.standard_error < 0.05
    found = phases.peak(x, [Estimate("y", 1 - (at - 0.62) ** 2, 1e-4) for at in x], "peak")
    assert float(found) == pytest.approx(0.62)


@pytest.mark.slow
def test_the_page_has_its_figures(study, tmp_path):
    page = study.write(tmp_path).read_text()
    assert page.count("<figure>") == 5
    assert not re.search(r"\bnan\b", page)


@pytest.mark.parametrize("size", ["toy", "small", "paper"])
def test_every_size_has_cells_of_their_own(size):
    made = Balance.of_size(size)
    names = [cell.name for cell in made.cells()]
    assert len(set(names)) == len(names)
    assert len(made.claims()) > 30
    assert recipe("balance", size) == made


@pytest.mark.slow
def test_carried_out_on_few_replicas(tmp_path):
    """Statistics too poor to decide much: that nothing fails and all is judged."""
    tiny = replace(
        Balance.of_size("toy"), pairs=50, laws=((0, 1.0, 0.02), (1, 1.0, 0.02), (1, 900.0, -0.7)), samples=500,
        ratios=(0.3, 0.5, 0.6, 0.7, 1.3), along=64, kicks=1000, runs=100, deviations=(8.0, 32.0),
        relu=(20, 400, 1), units=(16, 600), forks=40,
        crossings=((9.0, 0.01),), collapse=(0.36, 4.0, 0.005, 10_000, 800),
    )  # fmt: skip
    found = carry_out(tiny, tmp_path, executor=0)
    assert found.results.failures == {}
    assert not found.counts["unassessed"]
