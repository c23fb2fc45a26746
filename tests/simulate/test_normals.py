"""Distribution of the random numbers that kernels make of random words."""

import math

import numpy as np
import pytest
from scipy import stats

from sgdscope.simulate import keyed
from sgdscope.simulate.compiling import kernel

TEXT = """
from sgdscope.simulate.normals import log_of_fraction, normals, sine_of_half_turns, sum_of_signs, uniforms


def normal(words, found):
    for i in range(words.shape[1]):
        found[0, i], found[1, i] = normals(words[0, i], words[1, i])


def uniform(words, found):
    for i in range(words.shape[1]):
        found[0, i], found[1, i] = uniforms(words[0, i], words[1, i])


def signs(words, mask, found):
    for i in range(words.shape[1]):
        found[0, i], found[1, i] = sum_of_signs(words[0, i], mask), sum_of_signs(words[1, i], mask)


def logarithm(k, found):
    for i in range(len(k)):
        found[i] = log_of_fraction(k[i])


def sine(t, found):
    for i in range(len(t)):
        found[i] = sine_of_half_turns(t[i])
"""


def words(count: int) -> np.ndarray:
    return keyed.draw_words(keyed.trajectory_keys(7, 0, count), 0)


@pytest.fixture(scope="module")
def normals():
    given = words(2_000_000)
    found = np.empty(given.shape, np.float32)
    kernel(TEXT, "normal")(given, found)
    return found.astype(float)


@pytest.mark.parametrize(("power", "moment", "variance"), [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)])
def test_moments_of_normals(normals, power, moment, variance):
    assert np.mean(normals**power) == pytest.approx(moment, abs=4 * math.sqrt(variance / normals.size))


def test_normals_pass_kolmogorov_and_smirnov(normals):
    for half in normals:
        assert stats.kstest(half[:500_000], "norm").pvalue > 1e-3


def test_pairs_are_independent(normals):
    a, b = normals
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / math.sqrt(a.size)
    assert abs(np.corrcoef(a**2, b**2)[0, 1]) < 4 / math.sqrt(a.size)
    assert stats.kstest((a**2 + b**2)[:500_000] / 2, "expon").pvalue > 1e-3


@pytest.mark.parametrize("z", [2.0, 3.0, 4.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_tails_of_normals(normals, z, sign):
    expected = normals.size * stats.norm.sf(z)
    assert abs(np.sum(sign * normals > z) - expected) < 4 * math.sqrt(expected)


def test_extreme_words_give_finite_normals():
    ends = np.array([0, 1, 255, 256, 0x7FFFFFFF, 0x80000000, 0xFFFFFF00, 0xFFFFFFFF], np.uint32)
    given = np.array(np.meshgrid(ends, ends)).reshape(2, -1)
    found = np.empty(given.shape, np.float32)
    kernel(TEXT, "normal")(given, found)
    assert np.all(np.isfinite(found))
    assert np.abs(found).max() == pytest.approx(math.sqrt(48 * math.log(2)), rel=1e-6)


def test_polynomials_are_as_close_as_said():
    k = np.concatenate([np.arange(1000), np.arange(0, 1 << 24, 1009), (1 << 24) - 1 - np.arange(1000)]).astype(
        np.uint32
    )
    found = np.empty(len(k), np.float32)
    kernel(TEXT, "logarithm")(k, found)
    exact = np.log((k + 1.0) / (1 << 24))
    assert np.max(np.abs(found - exact) / np.maximum(1, np.abs(exact))) < 3e-7
    t = np.linspace(-0.5, 0.5, 10_001).astype(np.float32)
    found = np.empty(len(t), np.float32)
    kernel(TEXT, "sine")(t, found)
    assert np.max(np.abs(found - np.sin(np.pi * t.astype(float)))) < 2e-7


def test_uniform_numbers_are_uniform_and_inside():
    given = np.concatenate([words(200_000), [[0, ~np.uint32(0)]] * 2], axis=1).astype(np.uint32)
    found = np.empty(given.shape, np.float32)
    kernel(TEXT, "uniform")(given, found)
    assert found.min() > 0
    assert found.max() < 1
    assert stats.kstest(found.ravel(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("count", [1, 2, 5, 24])
def test_sums_of_signs_are_binomial(count):
    given = words(100_000)
    found = np.empty(given.shape, np.float32)
    kernel(TEXT, "signs")(given, np.uint32((1 << count) - 1), found)
    values = np.arange(-count, count + 1, 2)
    observed = np.array([np.sum(found == value) for value in values])
    assert observed.sum() == found.size
    expected = stats.binom.pmf(np.arange(count + 1), count, 0.5) * found.size
    large = expected > 5
    assert (
        stats.chisquare(observed[large], expected[large] * observed[large].sum() / expected[large].sum()).pvalue > 1e-3
    )
