"""Squared norms of many tensors: right for every layout and precision, and accurate where single sums are not."""

import numpy as np
import pytest
import torch

from sgdscope.monitor.squared_norms import SquaredNorms, exact_squared_norms


def tensors(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3,), (), (70, 130), (4096,), (2, 4096), (16, 3, 3, 3), (8, 1200)]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


@pytest.mark.parametrize(
    ("dtype", "accuracy"),
    [(torch.float64, 1e-14), (torch.float32, 1e-5), (torch.bfloat16, 1e-5), (torch.float16, 1e-5)],
)
def test_of_every_precision(dtype, accuracy):
    given = tensors(dtype)
    expected = [float(t.double().square().sum()) for t in given]
    norms = SquaredNorms(given)
    found = norms.sums([norms.read(given), norms.read([2 * t for t in given])])
    assert found.shape == (2, len(given))
    np.testing.assert_allclose(found, [expected, [4 * e for e in expected]], rtol=accuracy)
    np.testing.assert_allclose(exact_squared_norms(given), expected, rtol=1e-14)


def test_of_tensors_of_several_precisions():
    given = [t.to(dtype) for t, dtype in zip(tensors(), [torch.float32, torch.float64] * 4, strict=False)]
    norms = SquaredNorms(given)
    np.testing.assert_allclose(norms.sums([norms.read(given)])[0], exact_squared_norms(given), rtol=1e-5)


def test_of_other_layouts_than_the_usual():
    image = torch.randn(64, 32, 3, 3).to(memory_format=torch.channels_last)
    rows = torch.randn(90, 120)
    given = [image, rows.t(), rows[:, ::2]]
    norms = SquaredNorms(given)
    expected = [float(t.double().square().sum()) for t in (image, rows, rows[:, ::2])]
    np.testing.assert_allclose(norms.sums([norms.read(given)])[0], expected, rtol=1e-5)
    np.testing.assert_allclose(exact_squared_norms(given), expected, rtol=1e-13)


def test_large_tensors_are_summed_more_accurately_than_in_one_go():
    large = torch.rand(1_500_000, generator=torch.Generator().manual_seed(0)) * 1e-3 + 1e-3
    exact = float(large.double().square().sum())
    norms = SquaredNorms([large])
    assert norms.sums([norms.read([large])])[0, 0] == pytest.approx(exact, rel=1e-7)
    assert exact_squared_norms([large])[0] == pytest.approx(exact, rel=1e-13)
