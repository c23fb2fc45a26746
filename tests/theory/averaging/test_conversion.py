"""Average to schedule and back: reference values, coefficients of every batch, round trips, closed forms."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sgdscope.theory.averaging import (
    averages,
    ema_schedule,
    exact_average,
    exact_schedule,
    frozen_average,
    frozen_schedule,
    two_point_schedule,
    window_schedule,
)

LR, H = 0.3, 0.5
STEPS = 60
FAMILIES = [
    averages.ema(0.9, STEPS), averages.window(15).over(STEPS), averages.two_point(10, 0.6).over(STEPS),
    averages.power(6.94, STEPS), averages.uniform(STEPS), averages.window(9, 5).over(STEPS),
]  # fmt: skip
TAILED = st.lists(st.floats(0.01, 1), min_size=2, max_size=40).map(lambda w: averages.given(np.array(w) / sum(w)))
schedules = st.lists(st.floats(0.05, 1), min_size=1, max_size=40)


def from_average(average, memory):
    """Coefficients of θ_0 and of every batch minimum (in units of λ h) in an average of SGD's iterates."""
    w = average.weights
    return np.array([sum(w[s] * memory ** (s - t) for s in range(t, w.size)) for t in range(w.size)])


def from_schedule(rates, lr, curvature):
    after = np.append(np.cumprod((1 - rates * curvature)[::-1])[::-1], 1.0)
    return np.append(after[0], rates / lr * after[1:])


def test_exact_values():
    ema = exact_schedule(averages.ema(0.9, 400), LR, H)
    assert ema[[-1, -2, -11]] == pytest.approx([0.03, 0.0532994923858, 0.1448390474738], rel=1e-11)
    assert ema[0] == pytest.approx(0.2, rel=1e-9)
    window = exact_schedule(averages.window(15), LR, H)
    assert window[[-1, -6]] == pytest.approx([0.02, 0.0947132825282], rel=1e-11)
    two = exact_schedule(averages.two_point(10, 0.6), LR, H)
    assert two[[-1, -10]] == pytest.approx([0.18, 0.0773531687356], rel=1e-11)
    back = exact_average(np.r_[[0.3] * 10, 0.2, 0.15, 0.1, 0.05], H)
    assert back.weights[10:] == pytest.approx([0.28559375, 0.17753125, 0.186875, 0.55 / 3, 0.5 / 3], rel=1e-12)
    frozen = frozen_average(np.r_[[0.3] * 10, 0.2, 0.15, 0.1, 0.05])
    assert frozen.weights[10:] == pytest.approx([1 / 3, 1 / 6, 1 / 6, 1 / 6, 1 / 6], rel=1e-12)


def test_frozen_schedules_of_the_families():
    m = np.arange(STEPS)[::-1]
    assert frozen_schedule(FAMILIES[0], LR) == pytest.approx(LR * (1 - 0.9 ** (m + 1)), rel=1e-12)
    assert frozen_schedule(FAMILIES[1], LR) == pytest.approx(LR * np.minimum(1, (m + 1) / 15), rel=1e-12)
    assert frozen_schedule(FAMILIES[2], LR) == pytest.approx(np.where(m < 10, 0.6 * LR, LR), rel=1e-12)
    t = STEPS - m
    assert frozen_schedule(FAMILIES[3], LR) == pytest.approx(LR * (1 - ((t - 1) / STEPS) ** 7.94), rel=1e-12)
    assert frozen_schedule(FAMILIES[4], LR) == pytest.approx(LR * (m + 1) / STEPS, rel=1e-12)


def test_frozen_average_is_an_identity_on_any_path():
    # Σ w_s θ_s = θ_0 − λ Σ W_t g_t, gradients of a loss that is no quadratic
    generator = np.random.default_rng(2)
    theta, gradients = [generator.standard_normal(3)], []
    for _ in range(STEPS):
        gradients.append(np.sinh(theta[-1] + 0.3 * generator.standard_normal(3)))
        theta.append(theta[-1] - 0.1 * gradients[-1])
    for average in FAMILIES:
        direct = average.weights @ np.array(theta)
        replayed = theta[0] - frozen_schedule(average, 0.1) @ np.array(gradients)
        assert replayed == pytest.approx(direct, abs=1e-12)


@pytest.mark.parametrize("average", FAMILIES, ids=lambda average: average.name)
@pytest.mark.parametrize("curvature", [0.01, 0.5, 2.0])
def test_exact_schedule_has_every_coefficient_of_the_average(average, curvature):
    rates = exact_schedule(average, LR, curvature)
    expected = from_average(average, 1 - LR * curvature)
    assert from_schedule(rates, LR, curvature) == pytest.approx(expected, abs=1e-13)
    assert ((rates >= 0) & (rates <= LR * (1 + 1e-14))).all()
    back = exact_average(rates, curvature, LR)
    assert back.weights == pytest.approx(average.weights, abs=1e-12)
    assert abs(back.weights.sum() - 1) < 1e-12


@given(TAILED, st.floats(0.01, 1), st.floats(0.01, 1))
def test_round_trips_from_averages(average, lr, step):
    assert frozen_average(frozen_schedule(average, lr), lr).weights == pytest.approx(average.weights, abs=1e-12)
    rates = exact_schedule(average, lr, step / lr)
    assert ((rates >= 0) & (rates <= lr * (1 + 1e-12))).all()  # weights ≥ 0 and lr · curvature ≤ 1
    back = exact_average(rates, step / lr, lr)
    assert back.weights == pytest.approx(average.weights, abs=1e-12)


@given(schedules, st.floats(0.01, 0.9))
def test_round_trips_from_schedules(rates, step):
    rates = np.array(rates)
    lr = rates.max()
    average = frozen_average(rates)
    assert abs(average.weights.sum() - 1) < 1e-12
    assert frozen_schedule(average, lr) == pytest.approx(rates, abs=1e-12)
    exact = exact_average(rates, step / lr)
    assert abs(exact.weights.sum() - 1) < 1e-12
    assert from_average(exact, 1 - step) == pytest.approx(from_schedule(rates, lr, step / lr), abs=1e-12)
    # a faithful way back needs coefficients that are not lost in rounding
    assume(np.prod(1 - rates * step / lr) > 1e-3)
    assert exact_schedule(exact, lr, step / lr) == pytest.approx(rates, abs=1e-12)


@given(schedules)
def test_schedules_that_never_rise_are_averages_without_negative_weights(rates):
    falling = np.sort(rates)[::-1]
    assert (frozen_average(falling).weights >= -1e-15).all()
    rising = frozen_average(np.sort(rates))
    assert bool(rising.warnings) == (len(set(rates)) > 1)


def test_warm_up_is_said_and_a_mild_rise_is_not():
    warm = frozen_average(np.r_[np.linspace(0.1, 1, 10), np.ones(20)])
    assert warm.warnings[0].startswith("9 negative weights (sum -0.9)")
    mild = np.r_[np.full(5, 0.5), 0.52, np.full(5, 0.52)]
    assert frozen_average(mild, 1.0).warnings
    assert exact_average(mild, 0.5, 1.0).warnings == ()


def test_several_modes_at_once():
    both = exact_schedule(FAMILIES[0], LR, [0.5, 2.0])
    assert both.shape == (2, STEPS)
    assert (both[1] == exact_schedule(FAMILIES[0], LR, 2.0)).all()


def test_two_adjacent_iterates_have_one_schedule_in_all_modes():
    average = averages.two_point(1, 0.3).over(20)
    frozen = frozen_schedule(average, LR)
    for curvature in (0.01, 0.5, 3.0):
        assert exact_schedule(average, LR, curvature) == pytest.approx(frozen, rel=1e-12)


def test_beyond_one_the_schedule_of_two_points_leaves_its_range():
    # q < 0: the newer point weighs every other batch negatively, the mean more so than any rates in [0, λ] can
    assert exact_schedule(averages.two_point(10, 0.6), 1.0, 1.2).min() < -0.4
    assert exact_schedule(averages.two_point(10, 0.6), 1.0, 1.0).min() >= 0


def test_far_before_a_window_the_rate_is_the_plain_one():
    # coefficients of old batches underflow in a fast mode: 0.4^5000
    rates = exact_schedule(averages.window(50).over(5000), LR, 2.0)
    assert (rates[:4950] == LR).all()
    assert rates[-50:] == pytest.approx(window_schedule(LR, 2.0, 50, np.arange(50)[::-1]), rel=1e-12)


@settings(max_examples=40)
@given(st.floats(0, 0.99), st.floats(0.001, 1.9), st.integers(1, 60))
def test_closed_forms_of_the_ema(decay, step, steps):
    memory = 1 - step
    assume(memory > -0.95 and abs(memory + decay) > 1e-3)
    m = np.arange(steps)
    closed = ema_schedule(1.0, step, decay, m)
    if memory >= 0:
        recursion = exact_schedule(averages.ema(decay, steps), 1.0, step)[::-1]
        assert closed == pytest.approx(recursion, rel=1e-9, abs=1e-13)
        # symmetric under exchange of decay and memory
        if decay > 0:
            swapped = ema_schedule(1.0, 1 - decay, memory, m) * (1 - decay) if memory < 1 else closed * step
            assert closed * step == pytest.approx(swapped, rel=1e-9, abs=1e-13)
    assert closed[0] == pytest.approx(1 - decay, rel=1e-12)


def test_ema_near_equal_decay_and_memory():
    q = 0.9
    m = np.array([0, 1, 10, 1000])
    limit = (m + 1) * (1 - q) / ((m + 1) * (1 - q) + q)
    assert ema_schedule(1.0, 1 - q, q, m) == pytest.approx(limit, rel=1e-12)
    for apart in (1e-15, 1e-12, 1e-9, -1e-9):
        assert ema_schedule(1.0, 1 - q, q + apart, m) == pytest.approx(limit, rel=1e-5)
    for apart in (1e-6, -1e-6):  # against the plain formula, where it still has digits
        beta, n = q + apart, m[:3] + 1
        plain = (1 - beta) * (beta**n - q**n) / (beta**n * (1 - q) - q**n * (1 - beta))
        assert ema_schedule(1.0, 1 - q, beta, m[:3]) == pytest.approx(plain, rel=1e-8)


def test_ema_far_back():
    assert ema_schedule(LR, 0.01, 0.9, 100_000) == pytest.approx(LR, rel=1e-12)  # slow: the full rate
    assert ema_schedule(LR, 2.0, 0.9, 100_000) * 2.0 == pytest.approx(0.1, rel=1e-12)  # fast: 1 − decay
    assert ema_schedule(LR, 0.5, 0.0, [0, 5]) == pytest.approx([LR, LR])
    assert ema_schedule(1.0, 1.0, 0.9, [0, 5]) == pytest.approx([0.1, 0.1])
    assert ema_schedule(1.0, 1.0, 0.0, [0, 5]) == pytest.approx([1.0, 1.0])


@settings(max_examples=40)
@given(st.floats(0.0005, 0.99), st.integers(1, 120), st.floats(0.05, 0.95))
def test_closed_forms_of_window_and_two_points(step, n, a):
    m = np.arange(n + 20)
    recursion = exact_schedule(averages.window(n).over(n + 20), 1.0, step)[::-1]
    assert window_schedule(1.0, step, n, m) == pytest.approx(recursion, rel=1e-11, abs=1e-13)
    recursion = exact_schedule(averages.two_point(n, a).over(n + 20), 1.0, step)[::-1]
    assert two_point_schedule(1.0, step, n, a, m) == pytest.approx(recursion, rel=1e-11, abs=1e-13)


def test_window_in_slow_modes_is_linear():
    assert window_schedule(1.0, 1e-13, 10, np.arange(12)) == pytest.approx(
        np.minimum(1, (np.arange(12) + 1) / 10), rel=1e-11
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: frozen_schedule(FAMILIES[0], 0.0), "expected a learning rate > 0, got 0.0"),
        (lambda: frozen_average([0.1, -0.1]), "expected learning rates ≥ 0, got -0.1"),
        (lambda: frozen_average([0.0, 0.0]), "expected a learning rate > 0, got 0.0"),
        (lambda: exact_schedule(FAMILIES[0], LR, 7.0), "expected a stable learning rate, below .* 0.285714, got 0.3"),
        (lambda: exact_schedule(FAMILIES[0], LR, -1.0), "expected curvatures > 0, got -1.0"),
        (lambda: exact_schedule(averages.two_point(2, 2 / 3), 1.0, 1.5), "need an infinite learning rate at step 1"),
        (lambda: exact_average([0.3, 0.2], 7.0), "expected a stable learning rate"),
        (lambda: ema_schedule(LR, H, 1.0, 0), r"expected decay in \[0, 1\)"),
        (lambda: window_schedule(LR, H, 5, -1), "expected whole steps before the end ≥ 0, got -1"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
