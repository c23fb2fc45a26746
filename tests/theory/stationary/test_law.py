"""The stationary law against reference values, against its printed closed forms, and against its limits."""

import math
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import gamma, norm

from sgdscope.theory.stationary import DiagonalLaw, DiagonalNoise

from .cases import GAUSSIAN, GENERAL, fitted, noises

INFINITE = {"depth": math.inf, "width_per_depth": 0.5}
POINTS = [0.1, 0.3, 0.7, 1, 2]
# two independent quadratures agree on these to 1e-9
TABLE = {
    "A1": (
        (GAUSSIAN, {"temperature": 0.05, "depth": 1}),
        POINTS,
        [0.0118970888, 0.1403066057, 1.0790981722, 1.2531407289, 0.0250993628],
        (0.9376308292, 0.1198017946, 0.9107428),
        0.8864052604,
    ),
    "A2": (
        (GAUSSIAN, {"temperature": 0.2, "depth": 1}),
        POINTS,
        [0.9433548523, 0.6266861630, 0.5931428764, 0.4667032678, 0.0353148095],
        (0.5809051199, 0.3720966817, 0.4712543),
        0.5714285714,
    ),
    "A3": (
        (GENERAL, {"temperature": 0.1, "depth": 1}),
        POINTS,
        [0.7555845198, 1.2675737253, 0.8018561978, 0.3557783630, 0.0215602778],
        (0.5819081440, 0.2158986944, 0.4911426),
        0.3470574156,
    ),
    "A4": (
        (GENERAL, {"temperature": 0.1, "depth": 1, "weight_decay": 0.2}),
        POINTS,
        [1.5659098390, 1.4261638102, 0.5469290743, 0.2009303921, 0.0096711739],
        (0.4256354097, 0.1443442698, 0.3407750),
        0.1516834653,
    ),
    "A5": (
        (GENERAL, {"temperature": 0.2, "depth": 2}),
        POINTS,
        [2.7826080583, 1.1894050672, 0.3105241911, 0.1229554892, 0.0096471352],
        (0.3221163930, 0.1461269987, 0.2059994),
        None,
    ),
    "A6": (
        (GENERAL, {"temperature": 0.1, "depth": 3, "width": 2}),
        POINTS,
        [0.5301843977, 1.8145984325, 0.6635327289, 0.2312002752, 0.0118661297],
        (0.5022899698, 0.1327337358, 0.4167387),
        None,
    ),
    "A7": (
        (GENERAL, {"temperature": 0.1, **INFINITE}),
        POINTS,
        [9.7053540939e-5, 1.5430968290, 0.9338540379, 0.2406287734, 0.0066887886],
        (0.5599254324, 0.0764934494, 0.4989354),
        None,
    ),
    "A8": (
        (GAUSSIAN, {"temperature": 0.05, "depth": 0}),
        [0, 0.5, 0.9, 1, 1.5],
        [0.0025092100, 0.1605894411, 1.6242897751, 1.8292141027, 0.1605894411],
        (1, 0.0555555556, 1),
        None,
    ),
    "A9": (
        (GENERAL, {"temperature": 0.1, "depth": 0, "weight_decay": 0.2}),
        [0, 0.3, 0.7, 1, 1.5],
        [0.2009143288, 0.7191875142, 1.1296551003, 0.6031668178, 0.0783972625],
        (0.6428571429, 0.1375918367, None),
        None,
    ),
}
laws = st.builds(
    lambda noise, depth, width, ratio: (
        DiagonalLaw(noise, ratio * noise.critical_temperature(), math.inf, width_per_depth=width / 2)
        if math.isinf(depth)
        else DiagonalLaw(noise, ratio * noise.critical_temperature(), depth, width)
    ),
    noises(),
    st.sampled_from([0, 1, 1.5, 2, 5, math.inf]),
    st.sampled_from([1, 3]),
    st.floats(0.02, 0.9),
)


@pytest.mark.parametrize("case", TABLE)
def test_reference_values(case):
    (noise, settings_), points, density, (mean, variance, median), mode = TABLE[case]
    law = DiagonalLaw(noise, **settings_)
    assert law.density(points) == pytest.approx(density, rel=1e-6)
    assert law.mean == pytest.approx(mean, rel=1e-5)
    assert law.variance == pytest.approx(variance, rel=1e-5)
    if median is not None:
        assert law.median == pytest.approx(median, rel=1e-5)
    if mode is not None:
        assert law.mode == pytest.approx(mode, rel=1e-6)


@pytest.mark.parametrize(
    ("temperature", "mean"), [(0.1, 0.4908518), (0.45, 0.1327359), (1, 0.0338967), (3, 0.00287418), (10, 1.30985e-4)]
)
def test_at_depth_two_the_mean_shrinks_smoothly(temperature, mean):
    assert DiagonalLaw(GENERAL, temperature, 2).mean == pytest.approx(mean, rel=1e-5)


def printed(noise, temperature, depth, v, weight_decay=0.0, ratio=1.0):
    """Logarithms of the densities as printed for depths 0, 1 and ∞, without their constants."""
    a1, a2, a3 = noise.square_variance, noise.covariance, noise.product_variance
    b1, b2, root = noise.square_mean, noise.product_mean, math.sqrt(noise.discriminant)
    arctan, log_g = np.arctan((a1 * v - a2) / root), np.log(noise.g(v))
    if depth == 0:
        b1 = b1 + weight_decay
        factor = (a2 * b1 - a1 * b2) / (temperature * a1 * root)
        return -(1 + b1 / (2 * temperature * a1)) * log_g - factor * arctan
    if depth == 1:
        b2 = b2 - weight_decay
        power, factor = b2 / (2 * a3 * temperature) - 1.5, (a3 * b1 - a2 * b2) / (2 * temperature * a3 * root)
        return power * np.log(v) - (1 + b2 / (4 * temperature * a3)) * log_g - factor * arctan
    k1 = ratio * (a3 * b1 - 2 * a2 * b2) / (temperature * a3 * a3)
    factor = (a2 * a3 * b1 - 2 * a2 * a2 * b2 + a1 * a3 * b2) / (a3 * a3 * root)
    exponent = ratio / temperature * (b2 / (a3 * v) + factor * arctan)
    return -(3 + k1) * np.log(v) - (1 - k1 / 2) * log_g - exponent


@given(noises(), st.sampled_from([0, 1, math.inf]), st.floats(0.01, 3), st.floats(0, 0.25))
def test_closed_forms_as_printed(noise, depth, temperature, weight_decay):
    v = np.array([0.1, 0.4, 1.0, 2.5])
    if depth == 1:
        temperature = min(temperature, 0.9 * noise.critical_temperature(weight_decay))
    if math.isinf(depth):
        law = DiagonalLaw(noise, temperature, depth, width_per_depth=0.7)
    else:
        law = DiagonalLaw(noise, temperature, depth, weight_decay=weight_decay)
    difference = law.log_density(v) - printed(noise, temperature, depth, v, weight_decay, 0.7)
    assert np.ptp(difference) < 1e-9 * (1 + np.abs(law.log_density(v)).max())


@given(noises(), st.one_of(st.just(1), st.floats(1.2, 8)), st.sampled_from([1, 2, 5]), st.floats(0.02, 2))
def test_general_depth_against_quadrature_of_the_exponent(noise, depth, width, temperature):
    factors = depth + 1
    if depth == 1:
        temperature = min(temperature, 0.9 * noise.critical_temperature())
    law = DiagonalLaw(noise, temperature, depth, width)

    def force(s):
        return (noise.square_mean * s - noise.product_mean) / (s ** (2 * depth / factors) * noise.g(s))

    ends = np.array([0.4, 1.7])
    exponent = width ** (1 - 2 / factors) / (factors * temperature) * quad(force, *ends, epsrel=1e-12)[0]
    expected = -3 * depth / factors * math.log(ends[1] / ends[0]) - math.log(noise.g(1.7) / noise.g(0.4)) - exponent
    assert law.log_density(1.7) - law.log_density(0.4) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(laws)
@settings(max_examples=30)
def test_normalised_and_differentiable_cdf(law):
    # independent of the panels: adaptive quadrature of the density between quantiles
    shares = [1e-3, 0.05, 0.5, 0.9, 0.999]
    v = law.quantile(shares)
    assume(v[0] > 1e-200 or law.depth == 0)
    if law.depth == 0:
        pieces = [quad(law.density, v[i], v[i + 1], epsrel=1e-11)[0] for i in range(4)]
    else:
        x = np.log(v)
        pieces = [
            quad(lambda t: law.density(math.exp(t)) * math.exp(t), x[i], x[i + 1], epsrel=1e-11)[0] for i in range(4)
        ]
    assert pieces == pytest.approx(np.diff(shares), abs=1e-9)


@given(laws, st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=20))
def test_cdf_and_quantile_are_inverse(law, shares):
    v = law.quantile(shares)
    assume(np.abs(v).min() > 1e-300)
    assert law.cdf(v) == pytest.approx(shares, abs=1e-12)
    back = law.quantile(np.clip(law.cdf(v), 1e-12, 1 - 1e-12))
    assert np.abs(law.cdf(back) - law.cdf(v)).max() < 1e-12
    assert (np.diff(law.quantile(sorted(shares))) >= -1e-14 * np.abs(v).max()).all()


@given(noises(), st.sampled_from([1, 2, math.inf]), st.floats(0.2, 5), st.floats(0.2, 5))
def test_scales_of_the_data(noise, depth, a, b):
    # x → a x, y → b y: v scales like b / a, and T by 1 / (a b) at depth 1 (only times is changed otherwise)
    def law(noise, temperature, ratio):
        return DiagonalLaw(noise, temperature, depth, **({"width_per_depth": ratio} if math.isinf(depth) else {}))

    scaled = DiagonalNoise(
        *np.array([a**4, a**3 * b, a**2 * b**2, a**2, a * b])
        * np.array(
            [noise.square_variance, noise.covariance, noise.product_variance, noise.square_mean, noise.product_mean]
        )
    )
    temperature = 0.3 * noise.critical_temperature()
    power = 2.0 if math.isinf(depth) else 2 * depth / (depth + 1)
    other = temperature / (a**2 * (b / a) ** power)
    v = np.array([0.2, 0.9, 1.4])
    one, two = law(noise, temperature, 0.5), law(scaled, other, 0.5)
    assert two.density(v * b / a) * b / a == pytest.approx(one.density(v), rel=1e-8)


@given(noises(), st.sampled_from([0, 1, 2]), st.floats(0.05, 0.8))
def test_mirrored_data_mirror_the_law(noise, depth, ratio):
    temperature = ratio * noise.critical_temperature()
    law, mirrored = DiagonalLaw(noise, temperature, depth), DiagonalLaw(noise.flipped, temperature, depth)
    v = np.array([0.3, 0.8, 1.5])
    assert mirrored.density(-v) == pytest.approx(law.density(v), rel=1e-9)
    assert mirrored.cdf(-v) == pytest.approx(1 - law.cdf(v), abs=1e-11)
    assert mirrored.mean == pytest.approx(-law.mean)
    assert mirrored.modes == pytest.approx([-mode for mode in law.modes[::-1]], rel=1e-6)
    if depth:
        assert mirrored.support == (-math.inf, 0)
        assert mirrored.sample(5, 0).max() < 0


def test_deep_networks_approach_the_infinite_one_like_log_depth_over_depth():
    limit = DiagonalLaw(GENERAL, 0.1, math.inf, width_per_depth=0.5).mean
    depths = [50, 500, 5000, 50_000]
    gaps = [abs(DiagonalLaw(GENERAL, 0.1, depth, depth / 2).mean - limit) for depth in depths]
    scaled = [gap * depth / math.log(depth) for gap, depth in zip(gaps, depths, strict=True)]
    assert gaps[-1] < 1e-4
    assert scaled[1:] == pytest.approx([scaled[-1]] * 3, rel=0.25)


def test_only_the_ratio_of_width_per_depth_to_temperature_counts_at_infinite_depth():
    one, two = (DiagonalLaw(GENERAL, t, math.inf, width_per_depth=t * 5) for t in (0.1, 3.0))
    assert one.density(POINTS) == pytest.approx(two.density(POINTS), rel=1e-9)
    assert DiagonalLaw(GENERAL, 0.1, math.inf, width_per_depth=1e-3).mean < 0.01
    assert DiagonalLaw(GENERAL, 0.1, math.inf, width_per_depth=1e3).mean == pytest.approx(0.75, rel=1e-3)


@pytest.mark.parametrize("noise", [GENERAL, GAUSSIAN])
@pytest.mark.parametrize("depth", [0, 1, 2, 4])
def test_cold_laws_are_gaussian_around_the_optimum(noise, depth):
    law = DiagonalLaw(noise, 1e-6, depth)
    # diffusion² / (2 · rate of return), both at the optimum
    speed = law.dynamics.speed * noise.optimum**law.dynamics.power
    variance = speed * 1e-6 * noise.g(noise.optimum) / (2 * noise.square_mean)
    assert law.mean == pytest.approx(noise.optimum, rel=1e-4)
    assert law.variance == pytest.approx(variance, rel=1e-3)
    assert law.quantile(norm.cdf([-1, 1])) == pytest.approx(law.mean + np.array([-1, 1]) * variance**0.5, rel=1e-4)


def test_depth_zero_of_labels_with_noise_alone_is_a_gaussian_and_depth_one_a_gamma_law():
    noise = DiagonalNoise.of_data([1, 1, -1, -1], [1.5, 0.5, -1.5, -0.5])  # Var x² = 0
    gaussian, product = DiagonalLaw(noise, 0.1, 0), DiagonalLaw(noise, 0.1, 1)
    v = np.array([0.5, 0.9, 1.6])
    assert gaussian.density(v) == pytest.approx(norm.pdf(v, 1, math.sqrt(0.1 * 0.25)), rel=1e-10)
    shape, scale = 1 / (2 * 0.25 * 0.1) - 0.5, 2 * 0.1 * 0.25
    assert product.density(v) == pytest.approx(gamma.pdf(v, shape, scale=scale), rel=1e-10)
    assert product.cdf(v) == pytest.approx(gamma.cdf(v, shape, scale=scale), abs=1e-12)
    assert product.moment(5) == pytest.approx(gamma.moment(5, shape, scale=scale), rel=1e-10)
    with pytest.raises(ValueError, match="no power law"):
        _ = product.tail_exponent
    deep = DiagonalLaw(noise, 0.1, math.inf, width_per_depth=0.5)
    assert deep.tail_exponent == pytest.approx(3 + 0.5 / (0.1 * 0.25))


@pytest.mark.parametrize(
    ("depth", "exponent"), [(1, 3.5), (2, 4), (3, 4.25), (math.inf, 5), (0, 2 + 1.2 / (0.1 * 1.5))]
)
def test_tails(depth, exponent):
    law = DiagonalLaw(GENERAL, 0.1, depth, width_per_depth=0.5 if math.isinf(depth) else None)
    assert law.tail_exponent == pytest.approx(exponent)
    far = np.array([1e9, 1e10])
    assert np.diff(law.log_density(far))[0] / math.log(10) == pytest.approx(-exponent, rel=1e-5)


def test_moments_exist_as_far_as_the_tail_allows():
    v = np.geomspace(1e-5, 1e9, 400_001)
    for law, top in ((DiagonalLaw(GENERAL, 0.1, 1), 2), (DiagonalLaw(GENERAL, 0.1, 3), 3)):
        for order in range(1, top + 1):
            values = law.density(v) * v ** (order + 1)
            tail = values[-1] / (law.tail_exponent - 1 - order)
            assert law.moment(order) == pytest.approx(np.trapezoid(values, np.log(v)) + tail, rel=1e-6)
        with pytest.raises(ValueError, match="does not exist"):
            law.moment(top + 1)
    assert DiagonalLaw(GENERAL, 0.1, 1).moment(0) == pytest.approx(1, rel=1e-12)
    hot = DiagonalLaw(GENERAL, 1.0, 0)  # T ≥ β₁ / α₁
    assert hot.mean == pytest.approx(0.75)
    with pytest.raises(ValueError, match="variance does not exist"):
        _ = hot.variance


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3])
@pytest.mark.parametrize("ratio", [0.1, 0.7])
def test_log_v_does_not_drift(depth, ratio):
    law = DiagonalLaw(GAUSSIAN, ratio / 3, depth, 2)
    x = np.linspace(-250, 80, 60_001)
    v = np.exp(x)
    drift, spread = law.dynamics.drift(v) / v, (law.dynamics.diffusion(v) / v) ** 2 / 2
    mass = law.density(v) * v
    assert np.trapezoid(mass, x) == pytest.approx(1, abs=1e-5)
    total = np.trapezoid(mass * (np.abs(drift) + spread), x)
    assert abs(np.trapezoid(mass * (drift - spread), x)) < 1e-8 * total


@pytest.mark.parametrize("distance", [1e-1, 1e-3, 1e-5])
def test_moments_close_to_the_critical_temperature(distance):
    law = DiagonalLaw(GENERAL, 0.45 * (1 - distance), 1)
    assert law.variance == pytest.approx(law.moment(2) - law.mean**2, rel=1e-9)
    assert law.moment(0) == pytest.approx(1, rel=1e-9)


def test_cold_laws_are_not_resolved_into_rounding():
    law = DiagonalLaw(DiagonalNoise(0.1114, 0.0378, 10.93, 1.55, 0.377), 1.7e-5, 0)
    assert law.variance > 0
    assert law._panels[0]._middle.size < 200


def test_modes():
    assert DiagonalLaw(GENERAL, 0.2, 1).modes == ()
    with pytest.raises(ValueError, match="falls all the way"):
        _ = DiagonalLaw(GENERAL, 0.2, 1).mode
    law = DiagonalLaw(GENERAL, 0.2, 2)
    around = law.density(law.mode * np.array([0.999, 1, 1.001]))
    assert around[1] > max(around[0], around[2])
    assert DiagonalLaw(GENERAL, 0.1, 0).mode == pytest.approx((0.2 * 0.7 + 0.9) / (0.2 * 1.5 + 1.2))


@pytest.mark.parametrize("depth", [0, 1, 2, math.inf])
def test_samples_follow_the_law(depth):
    law = DiagonalLaw(GENERAL, 0.2, depth, width_per_depth=0.5 if math.isinf(depth) else None)
    samples = law.sample(20_000, 1)
    shares = np.sort(law.cdf(samples))
    assert np.abs(shares - (np.arange(20_000) + 0.5) / 20_000).max() < 1.95 / math.sqrt(20_000)  # 0.1 % level
    assert (samples == law.sample(20_000, 1)).all()
    assert (samples != law.sample(20_000, 2)).any()
    # the interpolation behind them, where they are drawn from
    uniform = np.random.default_rng(1).random(20_000)
    assert np.abs(law.cdf(samples) - uniform).max() < 1e-5


def test_samples_close_to_the_critical_temperature_reach_down_to_zero():
    law = DiagonalLaw(GENERAL, 0.45 * (1 - 1e-3), 1)
    samples = law.sample(10_000, 0)
    assert samples.min() == 0  # below the smallest float
    assert np.mean(samples < 1e-6) == pytest.approx(law.cdf(1e-6), abs=0.01)


@pytest.mark.parametrize(
    ("law", "place", "said"),
    [
        (lambda: DiagonalLaw(GENERAL, 0.45, 1), 0, "at or above the critical one"),
        (lambda: DiagonalLaw(GENERAL, 0.4, 1, weight_decay=0.2), 0, "at or above the critical one"),
        (lambda: DiagonalLaw(GENERAL, 0.01, 1, weight_decay=0.9), 0, "beats the pull"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 1, start=-0.1), 0, "wrong side"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 2, start=-0.1), 0, "wrong side"),
        (lambda: DiagonalLaw(GENERAL.flipped, 0.1, 2, start=0.1), 0, "wrong side"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 2, weight_decay=0.1), 0, "metastable"),
        (lambda: DiagonalLaw(DiagonalNoise(1, 0, 1, 1, 0), 0.1, 2), 0, "no mean"),
        (lambda: DiagonalLaw(fitted(0.5), 0.1, 0), 0.5, "interpolate"),
        (lambda: DiagonalLaw(fitted(0.5), 0.1, 1), 0.5, "interpolate"),
        (lambda: DiagonalLaw(fitted(-0.5), 0.1, 1), -0.5, "interpolate"),
        (lambda: DiagonalLaw(fitted(0.5), 99, 3), 0.5, "interpolate"),
        (lambda: DiagonalLaw(DiagonalNoise.of_data([1, -1], [2, -2]), 0.1, 1), 2, "no noise"),
        (lambda: DiagonalLaw(DiagonalNoise.of_data([1, -1], [2, -2]), 0.1, 0), 2, "no noise"),
    ],
)
def test_collapsed_laws_are_point_masses_with_a_reason(law, place, said):
    law = law()
    assert law.collapsed
    assert said in law.reason
    assert law.places == pytest.approx((place,))
    assert law.masses == (1,)
    assert law.mean == pytest.approx(place)
    assert law.variance == pytest.approx(0)
    assert law.cdf([place - 1e-6, place + 1e-6]) == pytest.approx([0, 1])
    assert law.median == pytest.approx(place)
    assert law.sample(3, 0) == pytest.approx([place] * 3)
    assert law.moment(3) == pytest.approx(place**3)
    for ask in (lambda: law.density(1.0), lambda: law.modes, lambda: law.tail_exponent):
        with pytest.raises(ValueError, match="a collapsed law has no"):
            ask()


@pytest.mark.parametrize("k", [0.5, -0.5])
def test_interpolating_data_above_the_critical_temperature_split(k):
    noise = fitted(k)
    temperature = 1.5 * noise.critical_temperature()  # θ = 1/3
    law = DiagonalLaw(noise, temperature, 1, start=k / 2)
    chance = 0.92779202
    assert law.collapsed
    assert dict(zip(law.places, law.masses, strict=True))[0.0] == pytest.approx(1 - chance, rel=1e-6)
    assert list(law.places) == sorted(law.places)
    assert law.mean == pytest.approx(chance * k)
    assert law.variance == pytest.approx(chance * (1 - chance) * k * k)
    assert law.cdf(k / 2) == pytest.approx(1 - chance if k > 0 else chance)
    assert law.quantile([0.01, 0.99]) == pytest.approx([0, k] if k > 0 else [k, 0])
    assert np.mean(law.sample(4000, 0) == 0) == pytest.approx(1 - chance, abs=0.02)
    assert DiagonalLaw(noise, temperature, 1, start=2 * k).places == pytest.approx((k,))
    with pytest.raises(ValueError, match="give start"):
        DiagonalLaw(noise, temperature, 1)


@pytest.mark.parametrize("weight_decay", [0.05, 0.2])
def test_interpolating_data_with_weight_decay_have_a_bounded_law(weight_decay):
    noise, temperature, k = fitted(0.5), 0.1, 0.5
    v = np.array([0.1, 0.25, 0.4, 0.45])
    law = DiagonalLaw(noise, temperature, 1, weight_decay=weight_decay)
    a1, b1 = noise.square_variance, noise.square_mean
    theta = (b1 - weight_decay / k) / (2 * temperature * a1 * k)
    expected = (
        (theta - 1.5) * np.log(v) - (2 + theta) * np.log(k - v) - weight_decay / (2 * temperature * a1 * k * (k - v))
    )
    assert law.support == (0, k)
    assert np.ptp(law.log_density(v) - expected) < 1e-9
    assert quad(law.density, 0, k, epsrel=1e-10)[0] == pytest.approx(1, abs=1e-7)
    regression = DiagonalLaw(noise, temperature, 0, weight_decay=weight_decay)
    v = np.array([-0.3, 0.2, 0.45])
    expected = -(2 + (b1 + weight_decay) / (temperature * a1)) * np.log(k - v) + weight_decay * k / (
        temperature * a1 * (v - k)
    )
    assert regression.support == (-math.inf, pytest.approx(k))
    assert np.ptp(regression.log_density(v) - expected) < 1e-9
    for bounded in (law, regression):
        shares = np.array([1e-4, 0.3, 0.9])
        assert bounded.cdf(bounded.quantile(shares)) == pytest.approx(shares, abs=1e-12)


@pytest.mark.parametrize("depth", [0, 1, 2, 3, math.inf])
@pytest.mark.parametrize("offset", [-0.3, 0.3])
def test_noise_that_vanishes_off_the_optimum_bounds_the_law(depth, offset):
    noise = fitted(0.5, offset)
    law = DiagonalLaw(noise, 0.1, depth, width_per_depth=0.5 if math.isinf(depth) else None)
    low, high = law.support
    assert (low if offset < 0 else high) == pytest.approx(0.5)
    assert low < law.mean < high
    inside = (law.quantile(1e-6), law.quantile(1 - 1e-6))
    assert quad(law.density, *inside, epsrel=1e-10, limit=200)[0] == pytest.approx(1 - 2e-6, abs=1e-8)
    assert law.density([low - 0.1, high + 0.1]) == pytest.approx([0, 0])
    if depth and offset < 0:
        assert "above it" in law.warnings[0]


def test_metastable_law_on_request():
    noise = DiagonalNoise.gaussian(1, 4)
    law = DiagonalLaw(noise, 0.005, 2, weight_decay=0.36, metastable=True)
    assert "metastable" in law.warnings[0]
    assert not law.collapsed
    low = law.support[0]
    assert 0 < low < law.quantile(0.01)
    assert law.cdf(low) == 0
    assert law.density(low / 2) == 0
    # zero flux inside, so that only the cut makes the difference
    assert quad(law.density, low, law.quantile(0.999), epsrel=1e-10)[0] == pytest.approx(0.999, abs=1e-9)
    gentle = DiagonalLaw(noise, 0.005, 2, weight_decay=1e-9, metastable=True)
    assert gentle.mean == pytest.approx(DiagonalLaw(noise, 0.005, 2).mean, rel=1e-6)
    with pytest.raises(ValueError, match="no metastable state"):
        DiagonalLaw(noise, 0.5, 2, weight_decay=0.8, metastable=True)
    with pytest.raises(ValueError, match="depth > 1 only"):
        DiagonalLaw(noise, 0.1, 1, weight_decay=0.1, metastable=True)


def test_scalars_in_scalars_out():
    law = DiagonalLaw(GENERAL, 0.1, 1)
    for value in (law.density(0.5), law.log_density(0.5), law.cdf(0.5), law.quantile(0.5), law.median, law.mean):
        assert type(value) is float
    assert law.density(np.full((2, 3), 0.5)).shape == (2, 3)
    assert law.density([-1.0, 0.0]) == pytest.approx([0, 0])
    assert law.cdf([-1.0, 0.0]) == pytest.approx([0, 0])


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: DiagonalLaw(GENERAL, 0, 1), "temperature"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 0.5), "depth 1, a depth ≥ 1.01"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 1 + 1e-9), "depth 1, a depth ≥ 1.01"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 1, width=0.5), "width ≥ 1"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 1, weight_decay=-1), "weight decay ≥ 0"),
        (lambda: DiagonalLaw(GENERAL, 0.1, math.inf), "only width / depth counts"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 2, width_per_depth=1), "belongs to infinite depth"),
        (lambda: DiagonalLaw(GENERAL, 0.1, math.inf, weight_decay=0.1, width_per_depth=1), "no weight decay"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 1, start=math.nan), "finite start"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 1).quantile([0, 0.5]), "between 0 and 1"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 1).moment(-1), "order ≥ 0"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 1).density([0.5, math.nan]), "got NaN"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 1).cdf(math.nan), "got NaN"),
        (lambda: DiagonalLaw(GENERAL, 0.1, 0).moment(1.5), "whole order"),
    ],
)
def test_bad_input_gets_a_sentence(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_speed(depth):
    def seconds(run):
        times = []
        for _ in range(7):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return min(times)

    v = np.linspace(0.01, 3, 1000)
    law = DiagonalLaw(GENERAL, 0.1, depth)
    law.sample(10, 0)
    assert seconds(lambda: DiagonalLaw(GENERAL, 0.1, depth).density(v)) < 0.010
    assert seconds(lambda: law.sample(1_000_000, 0)) < 0.3
