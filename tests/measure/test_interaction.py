"""Gradient-noise interaction: unbiased, with errors that cover the truth, and exact on written-down losses."""

import math

import pytest
import torch
from tests.cases import CASES, dense, quadratics

from sgdscope.measure import edge_ratio, edge_ratio_of_step, gradient_noise_interaction, interaction_aware_sharpness
from sgdscope.measure.edge_ratio import RunningEdgeRatio
from sgdscope.per_sample import per_sample_gradients


def test_one_dimension_by_hand():
    # h ∈ {1, 3}, b = 1: H = 2, g = 2θ, so E[g_B² H]/g² = 2·5/4 and E[g_B² H]/E[g_B²] = 2
    found = gradient_noise_interaction(quadratics([1.0, 3.0]), 1, batches=300)
    assert found.value == pytest.approx(2.5, abs=4 * found.standard_error)
    assert found.standard_error == pytest.approx(2 * 4 / 4 / math.sqrt(300), rel=0.05)
    assert found.beside["interaction_aware_sharpness"].value == pytest.approx(2, rel=1e-12)
    assert found.beside["gradient_signal"].value == pytest.approx(0.8, abs=0.1)


def test_independent_curvature_batches_are_unbiased():
    # pairing a gradient with the curvature of its own batch would give 14/4 · … = 3.5 in place of 2.5
    risk = quadratics([1.0, 3.0])
    values = []
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        values.append(gradient_noise_interaction(risk, 1, batches=30, curvature_samples=1, generator=g).value)
    mean = sum(values) / len(values)
    error = (sum((v - mean) ** 2 for v in values) / 19 / 20) ** 0.5
    assert mean == pytest.approx(2.5, abs=4 * error)
    assert abs(mean - 3.5) > 4 * error


def test_interaction_aware_sharpness_is_the_companion_by_its_own_name():
    risk = quadratics([1.0, 3.0])
    alone, together = interaction_aware_sharpness(risk, 1), gradient_noise_interaction(risk, 1)
    assert alone.value == together.beside["interaction_aware_sharpness"].value == pytest.approx(2, rel=1e-12)
    assert alone.beside["gradient_noise_interaction"].value == together.value
    assert (alone.name, alone.cost, alone.count) == ("interaction_aware_sharpness", together.cost, together.count)
    flat = interaction_aware_sharpness(quadratics([0.0, 0.0]), 1)
    assert (flat.name, flat.reason) == ("interaction_aware_sharpness", "the gradient is zero")


def test_critical_batch_size_by_hand():
    # h ∈ {1, 3}: g = 2θ, Σ = 2 θ² (of N - 1), H = 2: tr(HΣ) / gᵀHg = 4 / 8
    found = gradient_noise_interaction(quadratics([1.0, 3.0]), 1, batches=400)
    critical = found.beside["critical_batch_size"]
    assert critical.unit == "samples"
    assert critical.value == pytest.approx(0.5, abs=4 * critical.standard_error)
    drawn = gradient_noise_interaction(quadratics([1.0, 3.0]), 1, batches=400, replacement=True)
    again = drawn.beside["critical_batch_size"]  # with replacement Σ is of N: 2 / 8
    assert again.value == pytest.approx(0.25, abs=4 * again.standard_error)
    all_data = gradient_noise_interaction(quadratics([1.0, 3.0]), 2)
    assert all_data.beside["critical_batch_size"].reason == "batches of all data have no noise"
    downhill = gradient_noise_interaction(quadratics([-1.0, -3.0]), 1)
    assert "cannot be told from zero" in downhill.beside["critical_batch_size"].reason


def test_critical_batch_size_against_dense_matrices():
    case = CASES[0]
    risk = case.risk()
    with torch.random.fork_rng([]):
        g, matrix = dense(risk, case.data())
    rows = torch.cat([x.flatten(1) for x in per_sample_gradients(risk, case.data(), method="loop")], 1)
    truth = float((torch.cov(rows.t()) * matrix).sum() / (g @ matrix @ g))
    for options in ({}, {"curvature_samples": 6}):
        found = gradient_noise_interaction(risk, 3, batches=600, **options).beside["critical_batch_size"]
        assert found.value == pytest.approx(truth, abs=4 * found.standard_error)


def test_cost_and_settings():
    found = gradient_noise_interaction(CASES[0].risk(), 3, batches=4)
    assert found.cost == pytest.approx(1 + 1 + 4 * (3 / 12 + 1))
    part = gradient_noise_interaction(CASES[0].risk(), 3, batches=4, curvature_samples=6)
    assert part.cost == pytest.approx(1 + 4 * 2 * 6 / 12 + 4 * (3 / 12 + 2 * 6 / 12))
    assert part.settings["curvature_samples"] == 6


def test_messages():
    risk = quadratics([1.0, 3.0])
    with pytest.raises(ValueError, match="expected at least 2 batches, got 1"):
        gradient_noise_interaction(risk, 1, batches=1)
    with pytest.raises(ValueError, match="expected curvature_samples ≥ 1, got 0"):
        gradient_noise_interaction(risk, 1, curvature_samples=0)
    with pytest.raises(ValueError, match="expected a batch size between 1 and 2"):
        gradient_noise_interaction(risk, 3)
    with pytest.raises(ValueError, match="expected a learning rate > 0, got -1"):
        edge_ratio(risk, 1, -1)
    assert gradient_noise_interaction(quadratics([0.0, 0.0]), 1).reason == "the gradient is zero"
    assert gradient_noise_interaction(quadratics([1.0, math.nan]), 1).status == "diverged"


def test_edge_ratio_is_lr_times_the_ratio_of_expectations_on_quadratics():
    found = edge_ratio(quadratics([1.0, 3.0]), 1, 0.3, batches=400)
    assert found.value == pytest.approx(0.3 * 14 / 5, abs=4 * found.standard_error)
    assert found.standard_error == pytest.approx(0.3 * 1.8 / 5 / 20, rel=0.1)
    assert found.cost == pytest.approx(400 * 4 / 3)


def test_edge_ratio_of_a_step():
    risk = quadratics([1.0, 3.0])
    batch = torch.tensor([3.0], dtype=torch.float64)
    curvature, descent = edge_ratio_of_step(risk, batch, [torch.tensor([-0.5], dtype=torch.float64)])
    assert (curvature, descent) == pytest.approx((3 * 0.25, 3 * 0.7 * 0.5))


def test_running_edge_ratio_says_why_not():
    running = RunningEdgeRatio()
    assert running.estimate().reason == "no step was observed"
    running.add(-0.5, 1.0)
    one = running.estimate()
    assert (one.value, one.standard_error, one.status) == (1.0, None, "few_samples")
    running.add(0.0, -3.0)
    assert "do not descend" in running.estimate().reason
    running.add(math.nan, 1.0)
    assert running.estimate().status == "diverged"
    running.clear()
    assert len(running) == running.cost == 0
