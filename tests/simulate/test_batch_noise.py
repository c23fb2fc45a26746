"""Noise baselines: their covariance is that of every batch there is, in whole, along the diagonal, or in trace."""

import itertools
import math

import pytest
import torch
from tests.cases import CASES, by_case, flat, quadratics

from sgdscope.per_sample import per_sample_gradients
from sgdscope.risk import Risk, whole
from sgdscope.simulate import batch_noise

ALONE = by_case(only=lambda case: case.additive)
SHAPES = ("covariance", "diagonal", "isotropic")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def covariance_of_batches(risk, size, *, replacement):
    """Of the gradients of all batches that can be drawn, each as likely as the others."""
    chosen = itertools.product(range(risk.size), repeat=size) if replacement else itertools.combinations(
        range(risk.size), size)  # fmt: skip
    with torch.inference_mode(False):
        gradients = [flat(risk.gradient(risk.source.take(torch.tensor(rows)))[1]) for rows in chosen]
    return torch.stack(gradients).T.cov(correction=0)


def rows(noise):
    return torch.cat([part.flatten(1) for part in noise.root], 1)


@pytest.mark.parametrize("size", [1, 2, 11, 12])
def test_covariance_is_that_of_all_batches(size):
    risk = CASES[0].risk()
    noise = batch_noise(risk, size)
    exact = covariance_of_batches(risk, size, replacement=False)
    assert torch.allclose(rows(noise).T @ rows(noise), exact, rtol=1e-10, atol=1e-14)
    assert noise.trace == pytest.approx(float(exact.trace()), rel=1e-10, abs=1e-20)
    assert torch.allclose(flat(noise.gradient), flat(risk.gradient()[1]), rtol=1e-10, atol=1e-14)


def test_covariance_with_replacement():
    risk = CASES[0].risk()
    noise = batch_noise(risk, 2, replacement=True)
    exact = covariance_of_batches(risk, 2, replacement=True)
    assert torch.allclose(rows(noise).T @ rows(noise), exact, rtol=1e-10, atol=1e-14)
    assert batch_noise(risk, 30, replacement=True).trace == pytest.approx(noise.trace / 15)


@pytest.mark.parametrize(**ALONE)
def test_the_formula_of_the_matched_noise(case):
    """(1/√(N b)) G (I − 11ᵀ/N) ξ, times √((N − b)/(N − 1)) for drawing without replacement."""
    risk, size = case.risk(), 3
    g = torch.cat([part.flatten(1) for part in per_sample_gradients(risk, whole(risk))], 1).T
    n = risk.size
    centring = torch.eye(n, dtype=g.dtype) - torch.full((n, n), 1 / n, dtype=g.dtype)
    xi = torch.randn(n, generator=generator(5), dtype=g.dtype)
    expected = g @ centring @ xi / math.sqrt(n * size) * math.sqrt((n - size) / (n - 1))
    drawn = batch_noise(risk, size).draw(generator=generator(5))
    assert [d.shape for d in drawn] == [p.shape for p in risk.parameters]
    assert torch.allclose(flat(drawn), expected, rtol=1e-9, atol=1e-13)


def test_diagonal_and_isotropic():
    risk = CASES[0].risk()
    exact, noise = covariance_of_batches(risk, 2, replacement=False), batch_noise(risk, 2)
    source = generator(5)
    xi = torch.cat([torch.randn(p.numel(), generator=source, dtype=p.dtype) for p in risk.parameters])
    diagonal, isotropic = (flat(noise.draw(shape, generator=generator(5))) for shape in ("diagonal", "isotropic"))
    assert torch.allclose(diagonal, xi * exact.diagonal().sqrt(), rtol=1e-9, atol=1e-14)
    assert torch.allclose(isotropic, xi * (exact.trace() / len(xi)).sqrt(), rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_shapes_have_the_same_power(shape):
    noise, g = batch_noise(CASES[0].risk(), 4), generator()
    squares = torch.tensor([float(flat(noise.draw(shape, generator=g)).square().sum()) for _ in range(4000)])
    assert float(squares.mean()) == pytest.approx(noise.trace, abs=4 * float(squares.std()) / 4000**0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_of_all_data_has_no_noise(shape):
    noise = batch_noise(quadratics([1.0, 2.0, 6.0]), 3)
    assert flat(noise.draw(shape, generator=generator())).abs().max() == 0
    assert float(noise.gradient[0]) == pytest.approx(3 * 0.7)


def test_one_dimension_by_hand():
    """h = 1, 3 at 0.5: gradients 0.5, 1.5, variance 1/4; a batch of one is one of them."""
    noise = batch_noise(quadratics([1.0, 3.0], start=0.5), 1)
    assert noise.trace == pytest.approx(0.25)
    assert noise.root[0].flatten().tolist() == pytest.approx([-(0.125**0.5), 0.125**0.5])


def test_single_sample():
    assert batch_noise(quadratics([2.0]), 1).trace == 0


def test_chunks_and_precision():
    case = CASES[0]
    one, many = (batch_noise(case.risk(chunk_size=c), 2) for c in (12, 5))
    for a, b in zip(one.root, many.root, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-14)
    risk = case.risk()
    single = batch_noise(Risk(risk.model.float(), case.loss, tuple(t.float() for t in case.data())), 2)
    assert {part.dtype for part in single.draw(generator=generator())} == {torch.float32}
    assert single.trace == pytest.approx(one.trace, rel=1e-4)


def test_refused():
    risk = CASES[0].risk()
    with pytest.raises(ValueError, match="'covariance', 'diagonal' or 'isotropic', got 'white'"):
        batch_noise(risk, 2).draw("white", generator=generator())
    with pytest.raises(ValueError, match="between 1 and 12"):
        batch_noise(risk, 13)
    named = {case.name: case for case in CASES}
    with pytest.raises(ValueError, match="BatchNorm in train mode: samples have no gradients of their own"):
        batch_noise(named["BatchNorm"].risk(), 2)
    with pytest.raises(ValueError, match="randomness of its own"):
        batch_noise(named["dropout"].risk(), 2)
    batches = [torch.zeros(2, 1), torch.zeros(2, 3)]
    lists = Risk.of_function(lambda p, b: (p[0] * b).mean(), [torch.ones(1)], batches)
    with pytest.raises(ValueError, match="a list of batches"):
        batch_noise(lists, 2)


def test_too_large_is_refused():
    large = Risk.of_function(lambda p, b: (p[0].sum() * b).mean(), [torch.zeros(1 << 20)], torch.zeros(600, 1))
    with pytest.raises(ValueError, match=r"at most 2 GiB, got 2\.34 GiB"):
        batch_noise(large, 2)
