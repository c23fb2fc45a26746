"""Draws of a step, compiled, against a plain reading of what a process states."""

import math
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import pytest
import sympy
from scipy import stats

from sgdscope.simulate import ensemble, keyed
from sgdscope.simulate.process import Update, symbols
from sgdscope.theory.potential import Potential

TABLE = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [8.0, 80.0], [16.0, 160.0]])


@dataclass(frozen=True)
class Drawn:
    """Coordinates are replaced by what is drawn in a step, or by sums over its rounds."""

    draw: str
    count: int = 1
    rounds: int = 1
    signs: int = 0
    table: np.ndarray | None = None
    distinct: bool = False
    duration: float = 1.0
    continuous: bool = False
    curvature_limit: float = math.inf
    numbers: dict = field(default_factory=dict)

    def update(self, landscape):
        noise, totals = symbols("_z", self.count), symbols("_total", self.count)
        if self.rounds == 1 and self.draw != "signs":
            return Update(landscape.symbols, (), tuple(noise), tuple(noise), draw=self.draw, table=self.table)
        sums = tuple(zip(totals, noise, strict=True))
        return Update(landscape.symbols, (), tuple(totals), tuple(noise), draw=self.draw, sums=sums,
                      rounds=self.rounds, signs=self.signs, table=self.table, distinct=self.distinct)  # fmt: skip

    def memory_at(self, landscape, positions):
        return np.zeros((0, positions.shape[1]))

    def variance_rate(self, landscape):
        return None


def drawn(process, *, replicas=1000, steps=1, **settings):
    names = [f"x{i}" for i in range(process.count)]
    bowl = Potential(" + ".join(f"{name}**2" for name in names), variables=names)
    start = (0.0,) * process.count if process.count > 1 else 0.0
    found = ensemble(bowl, process, replicas=replicas, steps=steps, start=start, **settings)
    return found.positions.reshape(replicas, process.count).T


def plain_normals(words):
    u = ((words[0] >> np.uint32(8)) + 1.0) / (1 << 24)
    turn = words[1].astype(np.int32) / 2.0**31
    radius = np.sqrt(-2 * np.log(u))
    return radius * np.cos(np.pi * turn), radius * np.sin(np.pi * turn)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("step", [0, 1, 2, 7])
def test_normals_are_those_of_their_keys(count, step):
    """Pairs of coordinates share a draw of their step; the last of an odd number shares it with the next step."""
    keys = keyed.trajectory_keys(5, 0, 1000)
    expected = []
    for stream in range(count // 2):
        expected += plain_normals(keyed.draw_words(keys, step, stream))
    if count % 2:
        expected.append(plain_normals(keyed.draw_words(keys, step // 2, count // 2))[step % 2])
    np.testing.assert_allclose(drawn(Drawn("normal", count), steps=step + 1, seed=5), expected, atol=3e-6)


def test_rounds_have_draws_of_their_own():
    keys = keyed.trajectory_keys(0, 0, 1000)
    normals = [plain_normals(keyed.draw_words(keys, draw // 2))[draw % 2] for draw in range(6)]
    np.testing.assert_allclose(drawn(Drawn("normal", rounds=3), steps=2)[0], sum(normals[3:]), atol=1e-5)


def test_late_draws_use_the_high_word():
    process = Drawn("normal")
    early = ensemble("x**2", process, replicas=10, steps=2, start=0.0)
    late = replace(early.state, step=1 << 34)
    found = ensemble("x**2", process, steps=1, start=late)
    expected = plain_normals(keyed.draw_words(keyed.trajectory_keys(0, 0, 10), 1 << 33))[0]
    np.testing.assert_allclose(found.positions, expected, atol=3e-6)


@pytest.mark.parametrize("fast", [False, True])
def test_uniform_numbers(fast):
    found = drawn(Drawn("uniform"), replicas=20_000, fast=fast)[0]
    assert stats.kstest(found, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("signs", [1, 7, 24, 25, 60])
def test_sums_of_signs(signs, fast):
    found = drawn(Drawn("signs", rounds=-(-signs // 24), signs=signs), replicas=20_000, steps=3, fast=fast)[0]
    assert np.all((found + signs) % 2 == 0)
    assert np.abs(found).max() <= signs
    assert found.mean() == pytest.approx(0, abs=4 * math.sqrt(signs / len(found)))
    assert found.var() == pytest.approx(signs, rel=4 * math.sqrt(2 / len(found)))


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("steps", [1, 2])
def test_samples_are_rows_of_the_table(steps, fast):
    found = drawn(Drawn("sample", 2, table=TABLE), replicas=20_000, steps=steps, fast=fast)
    np.testing.assert_allclose(found[1], 10 * found[0])
    counts = [np.sum(found[0] == value) for value in TABLE[:, 0]]
    assert sum(counts) == 20_000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_samples_are_those_of_their_keys():
    keys = keyed.trajectory_keys(0, 0, 1000)
    words = [keyed.draw_words(keys, draw // 2)[draw % 2] for draw in range(5)]
    rows = [(word.astype(np.uint64) * np.uint64(5)) >> np.uint64(32) for word in words]
    for step in (0, 1, 4):
        found = drawn(Drawn("sample", 2, table=TABLE), steps=step + 1)
        np.testing.assert_array_equal(found, TABLE[rows[step]].T)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_distinct_samples_are_all_subsets_alike(size):
    process = Drawn("sample", 2, rounds=size, table=TABLE, distinct=True)
    found = drawn(process, replicas=30_000, steps=2)[0]
    subsets = [sum(part) for part in combinations(TABLE[:, 0], size)]  # sums of powers of two tell the subset
    counts = [np.sum(found == value) for value in subsets]
    assert sum(counts) == 30_000
    if size < 5:
        assert stats.chisquare(counts).pvalue > 1e-3


def test_samples_go_on_after_a_stop():
    process = Drawn("sample", 2, table=TABLE)
    bowl = Potential("x0**2 + x1**2", variables=("x0", "x1"))
    whole = ensemble(bowl, process, replicas=100, steps=8, start=(0, 0))
    part = ensemble(bowl, process, replicas=100, steps=5, start=(0, 0))
    np.testing.assert_array_equal(whole.positions, ensemble(bowl, process, start=part, steps=3).positions)


def test_a_formula_the_kernel_has_no_code_for_is_named():
    from sgdscope.simulate.formula import Writer

    with pytest.raises(ValueError, match="found gamma"):
        Writer("float32").text(sympy.gamma(sympy.Symbol("x", real=True)))
