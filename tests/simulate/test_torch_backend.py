"""Ensembles by torch operations: the same paths, counts and passages as those of compiled kernels."""

import shutil
import subprocess
import sys
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from sgdscope.simulate import (
    SGLD,
    Average,
    Course,
    FirstPassage,
    GaussianSGD,
    Histogram,
    Kinetic,
    Overdamped,
    Paths,
    ensemble,
)
from sgdscope.simulate.data import SGD, DiagonalNetwork, Quadratics, Stream
from sgdscope.simulate.lanes import Lanes
from sgdscope.simulate.plan import Plan
from sgdscope.simulate.state import State
from sgdscope.simulate.torch_backend import TorchKernel
from sgdscope.theory.potential import double_well, styblinski_tang

WELL, PLANE = double_well(), styblinski_tang(2, 0.1)
PROCESSES = {
    "Euler-Maruyama": (WELL, Overdamped(0.25, 0.01), -1.0),
    "state-dependent": (WELL, Overdamped(0.25, 0.01, "1 + x**2/2", interpretation="stratonovich"), -1.0),
    "Platen": (WELL, Overdamped(0.25, 0.01, "1 + x**2/2", scheme="platen"), -1.0),
    "Leimkuhler-Matthews": (WELL, Overdamped(0.25, 0.05, scheme="leimkuhler-matthews"), -1.0),
    "full matrix": (PLANE, Overdamped(0.25, 0.01, [["2", "x1/9"], ["x1/9", "1 + x2**2"]]), [-2.9, -2.9]),
    "kinetic": (WELL, Kinetic(1.0, 0.25, 0.05), -1.0),
    "Gaussian SGD": (WELL, GaussianSGD(0.05, 4, "1 + x**2"), -1.0),
    "two-point noise": (WELL, GaussianSGD(0.05, 30, "1 + x**2", "two-point", momentum=0.5, nesterov=True), -1.0),
    "SGLD in three dimensions": (styblinski_tang(3, 0.1), SGLD(0.05, 0.1), [-2.9, -2.9, -2.9]),
    "stream of samples": (DiagonalNetwork(2, Stream.gaussian(1.0, 0.5)), SGD(0.01, 3), [0.9, 1.1, 0.2]),
    "drawn samples": (Quadratics([1.0, 2.0, 6.0], [0.0, 1.0, -1.0]), SGD(0.05, 2, momentum=0.3), 0.5),
    "distinct samples": (Quadratics([1.0, 2.0, 6.0], [0.0, 1.0, -1.0]), SGD(0.05, 2, replacement=False), 0.5),
}
EXACT = {"two-point noise", "drawn samples", "distinct samples"}  # nothing but integers and formulas


def records(landscape):
    x = landscape.symbols[0].name
    return [
        Histogram(-4, 4, 30, of=(f"{x}",), every=7, after=3), Average(x, f"{x} > -1", every=3, after=10),
        Course(f"{x}**2", every=9), Paths(3, every=2),
    ]  # fmt: skip


QUICK = {("state-dependent", False), ("two-point noise", False), ("distinct samples", True)}
"""The others compile two dozen kernels."""


@pytest.mark.parametrize(
    ("name", "fast"),
    [
        pytest.param(name, fast, marks=() if (name, fast) in QUICK else pytest.mark.slow)
        for name in PROCESSES
        for fast in (False, True)
    ],
)
def test_the_same_as_compiled_kernels(name, fast):
    landscape, process, start = PROCESSES[name]
    settings = {
        "replicas": 700, "steps": 100, "start": start, "record": records(landscape), "precision": "float64", "seed": 5,
        "fast": fast,
    }  # fmt: skip
    compiled = ensemble(landscape, process, **settings, threads=1)
    found = ensemble(landscape, process, **settings, backend="torch")
    near = dict.fromkeys(("rtol", "atol"), 1e-12 if name in EXACT else 2e-5)
    np.testing.assert_array_equal(found.state.words, compiled.state.words)
    np.testing.assert_allclose(found.state.rows, compiled.state.rows, **near)
    np.testing.assert_allclose(found.paths.positions, compiled.paths.positions, **near)
    np.testing.assert_allclose(found.averages.sums, compiled.averages.sums, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(found.course.sums, compiled.course.sums, rtol=1e-5, atol=1e-3)
    assert found.histogram.total == compiled.histogram.total
    assert np.abs(found.histogram.counts - compiled.histogram.counts).sum() <= 4  # a position on a border, by rounding
    assert np.std(found.positions) > 0


@pytest.mark.parametrize(
    ("record", "process"),
    [
        (FirstPassage("x > 0"), Overdamped(0.25, 0.01, "1 + x**2/2")),
        (FirstPassage(leaving=(-1.4, 0.2)), Overdamped(0.25, 0.01)),
        (FirstPassage(0.0, absorb=False), GaussianSGD(0.1, 1, "1 + x**2")),
    ],
)
def test_passages_are_those_of_compiled_kernels(record, process):
    settings = {"replicas": 1000, "steps": 300, "start": -1.0, "record": record, "precision": "float64"}
    compiled = ensemble(WELL, process, **settings, threads=1).passage
    found = ensemble(WELL, process, **settings, backend="torch").passage
    assert 100 < compiled.arrived < 1000
    assert (found.steps != compiled.steps).sum() <= 2  # on the border to rounding
    assert found.times.censored == pytest.approx(compiled.times.censored, abs=2e-3)


def test_a_passage_leaves_out_of_the_other_records():
    record = [FirstPassage("x > 0"), Histogram(-3, 3, 12), Average("x"), Course("x", every=50)]
    settings = {"replicas": 600, "steps": 200, "start": -1.0, "precision": "float64", "record": record}
    compiled = ensemble(WELL, Overdamped(0.5, 0.02), **settings, threads=1)
    found = ensemble(WELL, Overdamped(0.5, 0.02), **settings, backend="torch")
    assert compiled.histogram.counts[:, -1].sum() > 100
    assert np.abs(found.histogram.counts - compiled.histogram.counts).sum() <= 20
    np.testing.assert_allclose(found.course.count, compiled.course.count, atol=2)
    assert found.averages["x"].value == pytest.approx(compiled.averages["x"].value, abs=1e-3)


def kernel_run(landscape, process, start, replicas, steps, slices=1, precision="float32", fast=False, **settings):
    """Lanes and counts after some steps of a kernel with these settings."""
    points = np.broadcast_to(np.reshape(np.float64(start), (-1, 1)), (len(landscape.symbols), replicas))
    plan = Plan.of(landscape, process, [Histogram(-4, 4, 30, of=(landscape.symbols[0].name,), every=2)], points)
    state = State.begin(landscape, process, plan.update, points, 1, 0, precision, fast)
    kernel = TorchKernel(plan.update, plan.recorded, tuple(plan.numbers), precision, fast, **settings)
    lanes, cells = (
        Lanes.of(state.rows, state.words, state.spare, state.passage, 0),
        np.zeros((16, plan.cells), np.int64),
    )
    none = np.zeros((0, 0, 0))
    values = np.array(list(plan.numbers.values()), dtype=precision)
    ends = np.linspace(0, steps, slices + 1).astype(int)
    for first, last in pairwise(ends):
        kernel(
            lanes.state, lanes.words, lanes.spare, lanes.passage, lanes.sums, cells, none, none, values, plan.times,
            plan.update.rounds, plan.update.signs, int(first), int(last - first), 0, lanes.blocks,
        )  # fmt: skip
    return lanes, cells


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", ["state-dependent", "full matrix", "two-point noise"])
def test_chunks_and_slices_change_no_bit(name, fast):
    landscape, process, start = PROCESSES[name]
    whole, counts = kernel_run(landscape, process, start, 2100, 40, fast=fast)
    for settings in ({"chunk": 512}, {"chunk": 1024, "slices": 7}):
        parts, again = kernel_run(landscape, process, start, 2100, 40, fast=fast, **settings)
        np.testing.assert_array_equal(parts.state, whole.state)
        np.testing.assert_array_equal(parts.words, whole.words)
        np.testing.assert_array_equal(again, counts)


def assert_compiled_is_the_same(name, steps, slices):
    landscape, process, start = PROCESSES[name]
    for replicas in (700, 1500):
        settings = {"replicas": replicas, "steps": steps, "slices": slices, "precision": "float64"}
        eager, counts = kernel_run(landscape, process, start, **settings)
        found, again = kernel_run(landscape, process, start, **settings, compiled=True, chunk=1024)
        np.testing.assert_allclose(found.state, eager.state, rtol=1e-5, atol=1e-5)
        assert np.abs(again - counts).sum() <= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["state-dependent", "two-point noise"])
def test_traced_by_torch(name, monkeypatch):
    """Steps together and singly, from even and odd draws on, for several numbers of lanes: what is to be compiled."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    assert_compiled_is_the_same(name, steps=29, slices=2)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_by_torch():
    assert_compiled_is_the_same("state-dependent", steps=16, slices=1)


def test_global_random_numbers_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    kernel_run(*PROCESSES["kinetic"], 600, 5)
    assert torch.rand(1) == expected


def test_without_numba():
    text = (
        "import sys; sys.modules['numba'] = None\n"
        "from sgdscope.simulate import Overdamped, ensemble\n"
        "found = ensemble('x**2/2', Overdamped(1.0, 0.1), replicas=600, steps=50, start=0.0, backend='torch')\n"
        "assert 0.7 < found.positions.var() < 1.4, found.positions.var()"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_bad_input():
    settings = {"replicas": 10, "steps": 1, "start": 0.0}
    with pytest.raises(ValueError, match="backend 'numba' on device 'cpu', or 'torch', got 'jax' on 'cpu'"):
        ensemble("x**2", SGLD(0.1, 1.0), **settings, backend="jax")
    with pytest.raises(ValueError, match="got 'numba' on 'cuda'"):
        ensemble("x**2", SGLD(0.1, 1.0), **settings, device="cuda")
    with pytest.raises(ValueError, match="expected a device that torch can compute on, got 'abacus'"):
        ensemble("x**2", SGLD(0.1, 1.0), **settings, backend="torch", device="abacus")
    with pytest.raises(ValueError, match="a chunk that is a multiple of 512, got 100"):
        kernel_run(*PROCESSES["kinetic"], 600, 5, chunk=100)
