"""Valleys as a Markov chain: dense linear algebra, a gambler's ruin, and rates far apart."""

import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.theory.escape import Valleys, in_iterations, mean_first_passage_time, white_noise_escape_time

from .landscapes import TILTED_CURVATURES


@st.composite
def chains(draw):
    n = draw(st.integers(2, 6))
    rates = np.random.default_rng(draw(st.integers(0, 2**31))).exponential(size=(n, n))
    return Valleys(tuple(f"v{i}" for i in range(n)), rates)


@settings(max_examples=40, deadline=None)
@given(chains())
def test_against_dense_linear_algebra(valleys):
    generator = valleys.generator()
    n = len(generator)
    assert np.abs(generator.sum(axis=1)).max() < 1e-12
    law = np.array(list(valleys.stationary().values()))
    assert law.sum() == pytest.approx(1, abs=1e-12)
    assert law == pytest.approx(scipy.linalg.null_space(generator.T)[:, 0] / scipy.linalg.null_space(generator.T).sum())
    times = np.linalg.solve(-generator[1:, 1:], np.ones(n - 1))
    found = [valleys.mean_time_to_reach(name, "v0").value for name in valleys.names[1:]]
    assert found == pytest.approx(list(times))
    assert valleys.mean_time_to_reach("v0", ["v0"]).value == 0
    if n > 2:
        first = np.linalg.solve(-generator[2:, 2:], generator[2:, 0])
        found = [valleys.probability_to_reach_first(name, ["v0"], ["v1"]) for name in valleys.names[2:]]
        assert found == pytest.approx(list(first))
        other = [valleys.probability_to_reach_first(name, ["v1"], ["v0"]) for name in valleys.names[2:]]
        assert np.add(found, other) == pytest.approx(np.ones(n - 2))
    exits = valleys.exit_probabilities("v0")
    assert sum(exits.values()) == pytest.approx(1)
    assert valleys.mean_time_in("v0").value == pytest.approx(-1 / generator[0, 0])
    assert valleys.gap().value == pytest.approx(np.sort(np.linalg.eigvals(-generator).real)[1])


def test_two_valleys():
    # P₁ / P₂ = τ₁ / τ₂, and the gap is the sum of the rates
    slope = TILTED_CURVATURES.deriv()
    times = {
        ("flat", "sharp"): mean_first_passage_time(slope, 0.04, -1, 1),
        ("sharp", "flat"): mean_first_passage_time(slope, 0.04, 1, -1),
    }
    valleys = Valleys.from_escape_times(times)
    law = valleys.stationary()
    assert law["flat"] / law["sharp"] == pytest.approx(3632.94 / 2297.81, rel=1e-5)
    assert valleys.gap().value == pytest.approx(1 / 3632.94 + 1 / 2297.81, rel=1e-5)
    assert valleys.gap().unit == "1 / (learning rate · iterations)"
    assert valleys.unit == "learning rate · iterations"
    counted = Valleys.from_escape_times({pair: in_iterations(time, 0.1) for pair, time in times.items()})
    assert counted.mean_time_in("flat").unit == "iterations"
    assert counted.mean_time_in("flat").value == pytest.approx(36329.4, rel=1e-5)


def test_rates_apart_by_sixty_orders_of_magnitude():
    # a ladder where each step down is 1e20 times likelier than the step up: products of ratios, exactly
    times = {("a", "b"): 1e20, ("b", "a"): 1.0, ("b", "c"): 1e20, ("c", "b"): 1.0, ("c", "d"): 1e20, ("d", "c"): 1.0}
    valleys = Valleys.from_escape_times(times)
    law = valleys.stationary()
    assert list(law.values()) == pytest.approx([1, 1e-20, 1e-40, 1e-60], rel=1e-13)
    # birth and death: τ(a → d) = Σ_k Σ_j≤k …, dominated by 1e60
    expected = 1e20 * (3 + 2 * 1e20 + 1e40)
    assert valleys.mean_time_to_reach("a", ["d"]).value == pytest.approx(expected, rel=1e-13)
    assert valleys.probability_to_reach_first("b", ["d"], ["a"]) == pytest.approx(1e-40, rel=1e-13)
    with pytest.raises(ValueError, match="look at mean times to reach"):
        Valleys.from_escape_times({("a", "b"): 1e30, ("b", "a"): 1e30, ("b", "c"): 1.0, ("c", "b"): 1.0}).gap()


def test_several_saddles_between_two_valleys():
    valleys = Valleys.from_escape_times({("a", "b"): [10.0, 40.0], ("b", "a"): 5.0, ("a", "c"): 8.0, ("c", "a"): 1.0})
    assert valleys.mean_time_in("a").value == pytest.approx(4)
    assert valleys.exit_probabilities("a") == pytest.approx({"b": 0.5, "c": 0.5})


def test_gamblers_ruin():
    n = 9
    times = {(str(i), str(i + d)): 0.5 for i in range(1, n) for d in (-1, 1)}
    valleys = Valleys.from_escape_times(times)
    for i in range(1, n):
        assert valleys.probability_to_reach_first(str(i), [str(n)], ["0"]) == pytest.approx(i / n)
        assert valleys.mean_time_to_reach(str(i), ["0", str(n)]).value == pytest.approx(i * (n - i) / 4)
    with pytest.raises(ValueError, match="'0' is never left"):
        valleys.exit_probabilities("0")
    with pytest.raises(ValueError, match="within reach of every other"):
        valleys.stationary()
    with pytest.raises(ValueError, match="the mean time is infinite"):
        valleys.mean_time_to_reach("3", [str(n)])


def test_chain_against_simulated_jumps():
    rates = np.array([[0, 1.0, 0.2], [0.5, 0, 2.0], [0.3, 0.1, 0]])
    valleys = Valleys(("x", "y", "z"), rates)
    generator = np.random.default_rng(3)
    total = rates.sum(axis=1)
    times = []
    for _ in range(1000):
        state, time = 0, 0.0
        while state != 2:
            time += generator.exponential(1 / total[state])
            state = int(generator.choice(3, p=rates[state] / total[state]))
        times.append(time)
    mean, error = np.mean(times), np.std(times) / math.sqrt(len(times))
    assert abs(valleys.mean_time_to_reach("x", "z").value - mean) < 4 * error


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Valleys(("a",), np.zeros((1, 1))), r"expected rates of shape \(n, n\) for n ≥ 2"),
        (lambda: Valleys(("a", "a"), np.zeros((2, 2))), "different names"),
        (lambda: Valleys(("a", "b"), -np.ones((2, 2))), "expected rates ≥ 0"),
        (lambda: Valleys.from_escape_times({("a", "a"): 1.0}), "between two valleys"),
        (lambda: Valleys.from_escape_times({("a", "b"): 0.0}), "expected a time > 0"),
        (
            lambda: Valleys.from_escape_times({("a", "b"): 1.0}).mean_time_in("c"),
            "expected a valley among a, b, got 'c'",
        ),
        (lambda: Valleys.from_escape_times({("a", "b"): 1.0}).mean_time_in("b"), "'b' is never left"),
        (lambda: Valleys.from_escape_times({("a", "b"): 1.0}).mean_time_to_reach("a", []), "at least one valley"),
        (
            lambda: Valleys.from_escape_times({("a", "b"): 1.0}).probability_to_reach_first("a", "b", "b"),
            "without a valley in common",
        ),
        (
            lambda: Valleys.from_escape_times({("a", "b"): 1.0, ("c", "a"): 1.0}).probability_to_reach_first(
                "b", "a", "c"
            ),
            "neither targets nor others",
        ),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_units_are_not_mixed():
    time = white_noise_escape_time(0.25, 2, -1, 0.05)
    with pytest.raises(ValueError, match="one unit"):
        Valleys.from_escape_times({("a", "b"): time, ("b", "a"): in_iterations(time, 0.1)})
    with pytest.raises(ValueError, match="either predictions or plain numbers"):
        Valleys.from_escape_times({("a", "b"): time, ("b", "a"): 3.0})
    with pytest.raises(ValueError, match="expected times, got log mean escape time"):
        Valleys.from_escape_times({("a", "b"): white_noise_escape_time(0.25, 2, -1, 0.05, logarithm=True)})
