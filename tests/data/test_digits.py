"""Digits: centred, divided by 8, in a fixed order."""

import numpy as np
import pytest
import torch

from sgdscope.data import DataError, load


def test_pixels_are_centred_over_all_images_and_divided_by_8():
    data = load("digits")
    assert data.inputs.shape == (1797, 1, 8, 8)
    assert data.test_inputs is None
    assert data.classes == 10
    torch.testing.assert_close(data.inputs.mean(0), torch.zeros(1, 8, 8), atol=1e-6, rtol=0)
    assert data.inputs.min() == pytest.approx(-1.5111, abs=1e-3)
    assert data.inputs.max() == pytest.approx(1.9544, abs=1e-3)


def test_a_subset_is_the_head_of_the_shuffle_and_the_rest_is_the_test_set():
    whole, part = load("digits"), load("digits", subset=128)
    assert torch.equal(part.inputs, whole.inputs[:128])
    assert torch.equal(part.labels, whole.labels[:128])
    assert torch.equal(part.test_inputs, whole.inputs[128:])
    assert torch.equal(part.test_labels, whole.labels[128:])
    assert "first 128 of a fixed shuffle (seed 0), the others are the test set" in part.preprocessing
    assert load("digits", subset=128, test=False).test_inputs is None


def test_the_order_is_that_of_numpy():
    from sklearn.datasets import load_digits

    labels = load_digits().target
    for seed in (0, 3):
        order = np.random.default_rng(seed).permutation(1797)
        assert load("digits", seed=seed).labels.tolist() == labels[order].tolist()


@pytest.mark.parametrize("subset", [0, -1, 1798, 2.5, True])
def test_subsets_out_of_range_are_refused(subset):
    with pytest.raises(
        DataError, match=rf"expected a subset between 1 and 1797 \(the samples in digits\), got {subset}\nh"
    ):
        load("digits", subset=subset)


def test_a_seed_is_a_whole_number():
    with pytest.raises(DataError, match="expected a seed that is a whole number ≥ 0, got -1"):
        load("digits", seed=-1)
