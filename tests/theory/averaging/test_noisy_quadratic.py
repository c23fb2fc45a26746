"""Expected losses on the noisy quadratic: reference values, kernel against closed form, simulation, symmetries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.theory.averaging import NoisyQuadratic, averages, exact_schedule, frozen_average, frozen_schedule
from sgdscope.theory.averaging.variance_ratios import ema_ratio, two_point_ratio, window_ratio
from tests.theory.averaging.cases import (
    COSINE,
    CURVATURES,
    FROM_START,
    LR,
    NOISE,
    SGD_AND_HEAVY_BALL,
    STATIONARY,
    STEPS,
    T,
    agrees,
    losses,
    simulate,
)  # fmt: skip

DIGITS = {"rel": 1e-9, "abs": 1e-13}  # values printed with 13 decimals
steps_of_modes = st.lists(st.floats(0.001, 1.9), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (STATIONARY.last(LR), 0.0945412222112),
        (STATIONARY.floor_gap, 0.74),
        (STATIONARY.averaged(averages.two_point(19), LR), 0.0483290846486),
        (STATIONARY.averaged(averages.two_point(19, 0.3), LR), 0.0557230266586),
        (STATIONARY.endless_ema(0.95, LR), 0.0141583715511),
        (STATIONARY.averaged(averages.window(20), LR), 0.0259542321436),
        (STATIONARY.averaged(averages.window(20, 5), LR), 0.0078820824589),
        (STATIONARY.last(LR, momentum=0.9), 0.8764501788639),
        (STATIONARY.averaged(averages.two_point(19), LR, momentum=0.9), 0.3919796358921),
    ],
)
def test_stationary_values(found, expected):
    assert found.value == pytest.approx(expected, **DIGITS)
    assert found.valid
    assert found.unit == "loss"


def of_schedule(average):
    return FROM_START.last(frozen_schedule(average.over(STEPS), LR))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (FROM_START.last(LR, STEPS), 0.1026361891305),
        (FROM_START.averaged(averages.two_point(50), LR, STEPS), 0.0586417336583),
        (FROM_START.last(np.where(T > 150, LR / 2, LR)), 0.0547821523761),
        (of_schedule(averages.two_point(50)), 0.0547821523761),
        (FROM_START.averaged(averages.ema(0.95, STEPS), LR, STEPS), 0.0244862578945),
        (of_schedule(averages.ema(0.95, STEPS)), 0.0382428743137),
        (FROM_START.averaged(averages.window(50), LR, STEPS), 0.0232801662853),
        (of_schedule(averages.window(50)), 0.0317520746987),
        (FROM_START.averaged(averages.power(6.94, STEPS), LR, STEPS), 0.0229957066575),
        (FROM_START.last(COSINE), 0.0362826805507),
        (FROM_START.averaged(frozen_average(COSINE), LR, STEPS), 0.0333863342036),
        (FROM_START.last(LR * (1 - (T - 1) / STEPS)), 0.0371870154788),
        (FROM_START.averaged(averages.uniform(STEPS), LR, STEPS), 0.0361500012277),
        (FROM_START.schedule_free(LR, STEPS, 0), 0.0361500012277),
        (FROM_START.schedule_free(LR, STEPS, 0.9), 0.0388609566557),
        (FROM_START.schedule_free(LR, STEPS, 1), 0.0774141205250),
    ],
)
def test_values_of_a_run_from_a_start(found, expected):
    assert found.value == pytest.approx(expected, **DIGITS)


@pytest.mark.parametrize("momentum", SGD_AND_HEAVY_BALL)
@pytest.mark.parametrize("rates", [np.full(60, LR), COSINE[:60], np.linspace(0.01, 0.5, 60)])
@pytest.mark.parametrize("problem", [STATIONARY, FROM_START])
def test_recursions_agree_with_the_kernel(problem, rates, momentum):
    path = problem.path(rates, momentum=momentum)
    kernel = path.kernel()
    for average in (
        averages.ema(0.8, 60),
        averages.window(7, 3).over(60),
        averages.given(np.linspace(-1, 1.2, 61) / 6.1),
    ):
        w = average.weights
        expected = np.einsum("s,mst,t->m", w, kernel, w)
        assert path.averaged(w) == pytest.approx(expected, rel=1e-11)
    assert path.averaged(np.eye(61)[[3, 60]]) == pytest.approx(path.variances[[3, 60]], rel=1e-12)
    assert path.covariances_with_last() == pytest.approx(kernel[:, :, -1].T, rel=1e-11, abs=1e-15)
    windows = np.stack([averages.window(n).over(60).weights for n in range(1, 62)])
    assert path.windows() == pytest.approx(path.averaged(windows), rel=1e-11)
    assert path.kernel(5) == pytest.approx(kernel[:, -5:, -5:])


def test_kernel_is_that_of_the_closed_form():
    # E x_s x_t = q^{t−s} S_s, S_t = q^{2t} x_0² + V (1 − q^{2t})
    q, V = 1 - LR * np.array(CURVATURES), STATIONARY.stationary_variance(LR)
    t = np.arange(41)
    S = q ** (2 * t[:, None]) * FROM_START.start**2 + V * (1 - q ** (2 * t[:, None]))
    path = FROM_START.path(LR, 40)
    assert path.variances == pytest.approx(S, rel=1e-11)
    lag = np.abs(t[:, None] - t)
    expected = np.stack([q[m] ** lag * S[np.minimum(t[:, None], t), m] for m in range(3)])
    assert path.kernel() == pytest.approx(expected, rel=1e-11)


@settings(max_examples=50)
@given(steps_of_modes, st.floats(0, 0.99), st.integers(1, 60), st.integers(1, 5))
def test_stationary_closed_forms(steps, decay, n, stride):
    h = np.array(steps)
    problem = NoisyQuadratic(h, np.linspace(1, 2, h.size))
    V, q = problem.stationary_variance(1.0), 1 - h
    expected = problem.excess(V * window_ratio(q, n, stride))
    assert problem.averaged(averages.window(n, stride), 1.0).value == pytest.approx(expected, rel=1e-9)
    expected = problem.excess(V * two_point_ratio(q, n, 0.3))
    assert problem.averaged(averages.two_point(n, 0.3), 1.0).value == pytest.approx(expected, rel=1e-9)
    assert problem.endless_ema(decay, 1.0).value == pytest.approx(problem.excess(V * ema_ratio(q, decay)), rel=1e-9)


@pytest.mark.parametrize("momentum", SGD_AND_HEAVY_BALL)
def test_a_long_ema_forgets_its_start(momentum):
    endless = STATIONARY.endless_ema(0.95, LR, momentum=momentum)
    long = STATIONARY.averaged(averages.ema(0.95, 1500), LR, momentum=momentum)
    assert long.value == pytest.approx(endless.value, rel=1e-9)
    from_start = FROM_START.averaged(averages.ema(0.95, 6000), LR, 6000, momentum=momentum)
    assert from_start.value == pytest.approx(endless.value, rel=1e-9)


@given(steps_of_modes, st.floats(0, 0.99))
def test_stationary_moments_stay(steps, momentum):
    problem = NoisyQuadratic(steps, np.ones(len(steps)))
    moments = problem.path(1.0, 3, momentum=momentum).moments
    assert moments[-1] == pytest.approx(moments[0], rel=1e-9, abs=1e-12 * np.abs(moments[0]).max())


def test_momentum_is_a_larger_learning_rate_in_slow_modes():
    slow = NoisyQuadratic([1e-4], [1.0])
    assert slow.last(0.1, momentum=0.9).value == pytest.approx(slow.last(1.0).value, rel=1e-4)


@settings(max_examples=40)
@given(steps_of_modes, st.floats(0.01, 100), st.randoms(use_true_random=False))
def test_scale_and_order_of_modes_do_not_matter(steps, scale, random):
    h = np.array(steps)
    noise, start = 1 + np.arange(h.size), 2.0 - np.arange(h.size)
    average = averages.ema(0.8, 30)
    plain = NoisyQuadratic(h, noise, start).averaged(average, 1.0, 30).value
    # only lr · curvature enters, and the loss itself is in units of curvature
    scaled = NoisyQuadratic(h * scale, noise, start).averaged(average, 1 / scale, 30).value
    assert scaled == pytest.approx(scale * plain, rel=1e-10)
    order = random.sample(range(h.size), h.size)
    shuffled = NoisyQuadratic(h[order], noise[order], start[order]).averaged(average, 1.0, 30).value
    assert shuffled == pytest.approx(plain, rel=1e-12)


@settings(max_examples=30)
@given(steps_of_modes)
def test_exact_schedule_has_the_loss_of_the_average(steps):
    # in one mode at a time, where lr · curvature ≤ 1
    for h in steps:
        h = min(h, 1.0)
        problem = NoisyQuadratic([h], [1.3], [2.0])
        average = averages.window(12).over(40)
        schedule = exact_schedule(average, 1.0, h)
        expected = problem.averaged(average, 1.0, 40).value
        assert problem.last(schedule).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("momentum", SGD_AND_HEAVY_BALL)
def test_simulation_agrees(momentum):
    rates = np.full(120, LR)
    runs = simulate(np.diag(CURVATURES), np.diag(NOISE), FROM_START.start, rates, 6000, 3, momentum)
    for average in (averages.last(), averages.ema(0.95, 120), averages.window(30), averages.two_point(20, 0.7)):
        average = average.over(120)
        mean = np.einsum("t,tcm->cm", average.weights, runs)
        expected = FROM_START.averaged(average, LR, 120, momentum=momentum).value
        assert agrees(losses(np.diag(CURVATURES), mean), expected), average.name


def test_simulation_of_a_schedule_agrees():
    runs = simulate(np.diag(CURVATURES), np.diag(NOISE), FROM_START.start, COSINE, 6000, 5, 0.5)
    expected = FROM_START.last(COSINE, momentum=0.5).value
    assert agrees(losses(np.diag(CURVATURES), runs[-1]), expected)


def test_simulation_of_schedule_free_agrees():
    generator = np.random.default_rng(11)
    h, root = np.array(CURVATURES), np.sqrt(NOISE)
    x = z = np.tile(FROM_START.start, (6000, 1))
    for t in range(1, STEPS + 1):
        y = 0.1 * z + 0.9 * x
        z = z - LR * h * (y - root * generator.standard_normal(x.shape))
        x = x + (z - x) / t
    assert agrees(losses(np.diag(h), x), FROM_START.schedule_free(LR, STEPS, 0.9).value)


def test_a_schedule_above_the_edge_is_said_and_one_that_overflows_refused():
    assert FROM_START.last(np.r_[7.0, np.full(50, LR)]).warnings == ("1 of 51 learning rates lie above the stable 2",)
    with pytest.raises(ValueError, match="expected a run that stays finite, got one where the last iterate diverges"):
        FROM_START.last(np.full(2000, 9.0))
    with pytest.raises(ValueError, match="expected a run that stays finite, got one where window 5 diverges"):
        FROM_START.averaged(averages.window(5), np.full(2000, 9.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: STATIONARY.last(2.0), r"expected a stable learning rate, below .* = 2, got 2.0: the iterates diverge"),
        (lambda: FROM_START.last(4.0, 10, momentum=0.9), r"below 2 \(1 \+ momentum\) / curvature = 3.8, got 4.0"),
        (lambda: FROM_START.last(0.0, 10), "expected a learning rate > 0, got 0.0"),
        (lambda: FROM_START.last(0.1, 10, momentum=1.0), r"expected momentum in \[0, 1\), got 1.0"),
        (lambda: FROM_START.last(0.1), "expected the number of steps of a run at constant learning rate, got none"),
        (lambda: FROM_START.last([0.1, -0.1]), "expected learning rates ≥ 0, got -0.1"),
        (lambda: FROM_START.last([0.1, 0.1], 3), "expected one learning rate per step, got 2 for 3 steps"),
        (lambda: FROM_START.averaged(averages.window(50), LR, 20), "window 50: expected a run of at least 49 steps"),
        (lambda: FROM_START.averaged(averages.window(5), LR), "expected the number of steps of a run"),
        (lambda: STATIONARY.endless_ema(1.0, LR), r"expected decay in \[0, 1\)"),
        (lambda: STATIONARY.schedule_free(LR, 10), "expected a start: schedule-free SGD is never stationary"),
        (lambda: FROM_START.schedule_free(LR, 10, 1.5), r"expected mix in \[0, 1\], got 1.5"),
        (lambda: NoisyQuadratic([1, 0], [1, 1]), "expected curvatures > 0, got 0.0: leave out flat"),
        (lambda: NoisyQuadratic([1, 2], [1]), "expected noise for 2 modes, got 1"),
        (lambda: NoisyQuadratic([1], [-1]), "expected noise as variances ≥ 0, got -1.0"),
        (lambda: NoisyQuadratic([1], [1], [1, 2]), "expected start for 1 modes, got 2"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
