"""The study of trajectories and averages: judges follow theory and nature; a small walk is carried out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hand_made import estimate, judged, outcomes

from sgdscope.cells import Cell, Results
from sgdscope.studies import Study
from sgdscope.studies.averaging import Averaging, cells, claims
from sgdscope.studies.averaging.recipe import network
from sgdscope.studies.averaging.walk import combined, point, ready, walk
from sgdscope.theory.averaging import averages, noise_ratios, variance_ratios

TOY = Averaging.of_size("toy")


def quadratic_world(cell: Cell):
    """Cells of a world in which losses are the quadratics that theory takes them for."""
    s = cell.settings
    wiggle = 1 + 1e-4 * s.get("of_seed", 0)
    if "curvature" in s:
        if "u" in s:
            ratio = variance_ratios.slow_two_point_ratio if "gap" in s["average"] else variance_ratios.slow_window_ratio
            return {"average": estimate(float(ratio(s["u"])))}
        frozen = float(noise_ratios(averages.ema(0.9, 400), 0.3, [s["curvature"]])[0])
        return {"average": estimate(1.0), "frozen": estimate(frozen), "exact": estimate(1.0)}
    if cell.name.startswith("norm"):
        return {"average": {"recomputed": 0.2 * wiggle, "last": 0.3}, "no_average": {"recomputed": 0.4, "last": 0.5}}
    if cell.name.startswith("schedule"):
        losses = {"average": 1.0 * wiggle, "schedule": 1.0, "last": 1.2}
        return {"train": losses, "held_out": losses, "cosine": 0.999 * wiggle}
    names = ["two points 1 step apart", *(f"two points {g} steps apart" for g in s["gaps"]),
             *(f"window of {n} steps" for n in s["windows"]), *(f"EMA {d:g}" for d in s["decays"])]  # fmt: skip
    spans = [1, *s["gaps"], *s["windows"], *(1 / (1 - d) for d in s["decays"])]
    found = {}
    for name, span in zip(names, spans, strict=True):
        fallen = 0.1 * -math.expm1(-span / 100) if s["when"] == "settled" else -span / 1000
        found[name] = {"points": 1.0, "predicted": 1 - fallen, "measured": 1 - fallen * wiggle, "last": 1.0,
                       "held_out": 1 - fallen * wiggle}  # fmt: skip
    found["late iterates"] = {"measured": 1.0, "held_out": 1.0}
    rows = {who: {"start": 1.0, "best": best * wiggle, "losses": [1.0, best]} for who, best in
            (("batch", 0.3), ("unseen", 1.1), ("full", 1.2))}  # fmt: skip
    return {"averages": found, "line": {"r_squared": 0.999 * wiggle, "steps": [0.0, 1.0], **rows}, "lr": 0.1,
            "chord": {"r_squared": 0.9999 * wiggle}, "layers": {}, "half": estimate(0.5 * wiggle)}  # fmt: skip


@pytest.fixture(scope="module")
def study() -> Study:
    return judged(TOY, quadratic_world)


def test_in_a_quadratic_world(study):
    for words in ("along its own gradient", "predict what", "half the learning", "two points is enough",
                  "should be many steps", "ends at the training loss", "quotient of the exact", "full window between",
                  "statistics of its own", "steps only"):  # fmt: skip
        assert set(outcomes(study, words)) == {"agrees"}, words


def test_what_the_source_overstates_disagrees_there(study):
    assert set(outcomes(study, "may be a few steps apart")) == {"disagrees"}
    assert "disagrees" in outcomes(study, "noise of its schedule")


def test_another_theory_turns_the_verdicts(study, monkeypatch):
    monkeypatch.setattr(claims, "noise_ratios", lambda *a: 1.3 * noise_ratios(*a))
    original = variance_ratios.slow_two_point_ratio
    monkeypatch.setattr(variance_ratios, "slow_two_point_ratio", lambda u: 1.3 * original(u))
    again = Study.of(study.recipe, study.results)
    assert set(outcomes(again, "quotient of the exact")) == {"disagrees"}
    assert set(outcomes(again, "full window between")) == {"disagrees"}


def test_another_nature_turns_the_verdicts():
    def other(cell: Cell):
        found = quadratic_world(cell)
        return found | {"half": estimate(0.8)} if "half" in found else found

    assert set(outcomes(judged(TOY, other), "half the learning")) == {"disagrees"}


def test_the_page_has_its_figures(study, tmp_path):
    assert study.write(tmp_path).read_text().count("<figure>") == 3


@pytest.mark.parametrize("size", ["toy", "small", "paper"])
def test_every_size_has_cells_of_their_own(size, tmp_path):
    made = Averaging.of_size(size, data_dir=tmp_path)
    names = [cell.name for cell in made.cells()]
    assert len(set(names)) == len(names)


def small(**changes):
    config = network("digits")["config"] | {"width": 4, "subset": 64, "batch_size": 8, "seed": 0}
    return {"config": config, "label_noise": 0.0, "warm": 20, "span": 40, "stride": 10, "chord": 20, "gaps": [10, 20],
            "windows": [20], "decays": [0.9], **changes}  # fmt: skip


def test_the_same_walk_twice():
    one, other = ready(small()), ready(small())
    walk(one, 6)
    walk(other, 4)
    walk(other, 2, first=4, schedule=[0.2, 0.2])
    assert all(torch.equal(a, b) for a, b in zip(point(one), point(other), strict=True))
    walk(other, 1, first=6, schedule=[0.0])
    assert all(torch.equal(a, b) for a, b in zip(point(one), point(other), strict=True))
    assert other.config.lr == 0.2


def test_labels_are_noisy_by_the_share_asked_for():
    clean, noisy = ready(small()), ready(small(label_noise=0.5))
    changed = float((clean.targets != noisy.targets).double().mean())
    assert 0.25 < changed < 0.65
    assert torch.equal(clean.inputs, noisy.inputs)


def test_combined():
    points = [[torch.tensor([float(i)])] for i in range(4)]
    assert combined(points, [0.25, 0.75])[0].item() == 0.25 * 2 + 0.75 * 3


def test_a_path_tells_of_averages_at_their_distances(tmp_path):
    found = cells.path(small(), tmp_path)
    assert set(found["averages"]) >= {"two points 1 step apart", "two points 20 steps apart", "window of 20 steps"}
    each = found["averages"]["two points 10 steps apart"]
    training = ready(small())
    walk(training, 50)
    older = point(training)
    walk(training, 10, first=50)
    newer = point(training)
    middle = combined([older, newer], [0.5, 0.5])
    assert each["measured"] == pytest.approx(training.risk.value(at=middle), rel=1e-12)
    assert each["last"] == pytest.approx(training.risk.value(at=newer), rel=1e-12)


def test_one_mode_by_simulation_and_by_recursion(tmp_path):
    s = {"curvature": 0.5, "lr": 0.3, "steps": 60, "chains": 4000, "seed": 0, "average": {"decay": 0.9}}
    found = cells.quadratic(s, tmp_path)
    assert float(found["exact"]) == pytest.approx(float(found["average"]), rel=1e-9)
    ratio = float(found["frozen"]) / float(found["average"])
    assert ratio == pytest.approx(float(noise_ratios(averages.ema(0.9, 60), 0.3, np.array([0.5]))[0]), rel=0.05)


def test_missing_cells_are_said():
    found = Study.of(TOY, Results(TOY.cells(), {}))
    assert found.counts["unassessed"] == len(found.findings)
    assert replace(TOY, seeds=1).cells()
