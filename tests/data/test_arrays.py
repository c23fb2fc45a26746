"""The value type refuses what does not fit together; scaling is exact."""

import numpy as np
import pytest
import torch

from sgdscope.data import NAMES, DataError, Dataset, load
from sgdscope.data.arrays import scaling_of

X = torch.zeros(4, 2)
Y = torch.tensor([0, 1, 2, 1])


def test_a_data_set_knows_its_length_and_input_shape():
    data = Dataset("mine", torch.zeros(4, 1, 8, 8), Y, classes=3)
    assert len(data) == 4
    assert data.input_shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"inputs": X.double()}, "expected inputs in float32 with labels in int64, got torch.float64 and torch.int64"),
        ({"inputs": torch.zeros(4)}, r"expected inputs of shape \(N, ...\), not empty, got shape \(4,\)"),
        ({"labels": Y[:3]}, r"expected one label per sample, got inputs of shape \(4, 2\) and labels of shape \(3,\)"),
        ({"classes": 2}, "expected labels between 0 and 1, got labels from 0 to 2"),
        ({"labels": Y - 1}, "expected labels between 0 and 2, got labels from -1 to 1"),
        ({"inputs": X / 0}, "expected finite inputs, got 8 NaN or infinite numbers\nhint: drop or repair"),
        ({"test_inputs": X}, "expected test inputs and test labels, or neither"),
        ({"test_inputs": X[:, :1], "test_labels": Y}, r"expected test inputs of shape \(2,\) like .* got \(1,\)"),
        ({"class_names": ("a", "b")}, "expected 3 class names, one per class, got 2"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(DataError, match=message):
        Dataset(**{"name": "mine", "inputs": X, "labels": Y, "classes": 3} | parts)


def test_scaling_gives_mean_zero_and_deviation_one_per_channel():
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 5), dtype=np.uint8)
    images[:, 2] = 7  # a constant channel is centred, not divided by zero
    scaling = scaling_of(images, chunk=7)
    scaled = scaling(images).double()
    np.testing.assert_allclose(scaling.means, images.mean((0, 2, 3)) / 255, rtol=1e-14)
    np.testing.assert_allclose(scaling.deviations, images.std((0, 2, 3)) / 255, rtol=1e-12)
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        scaled.std((0, 2, 3), correction=0), torch.tensor([1.0, 1, 0]).double(), atol=1e-6, rtol=0
    )
    assert scaled[:, 2].abs().max() == 0


def test_unknown_names_list_the_known():
    with pytest.raises(DataError, match=f"expected a data set among {', '.join(NAMES)}, got 'imagenet'\nhint: "):
        load("imagenet")


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"digits", "text"}))
def test_data_that_do_not_come_along_need_a_folder_that_exists(name, tmp_path):
    with pytest.raises(DataError, match=f"expected data_dir for {name}, which does not come with .* got none\nhint: "):
        load(name)
    with pytest.raises(DataError, match=f"expected the data of {name} at .*nowhere, but there is nothing\nhint: "):
        load(name, data_dir=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("owner", "option"),
    [("folder", {"size": 8}), ("text", {"context_length": 8}), ("table", {"target": "y"}),
     ("table", {"task": "regression"}), ("table", {"ignore": ("x",)})],
)  # fmt: skip
def test_options_belong_to_their_data_sets(owner, option):
    (name,) = option
    with pytest.raises(DataError, match=f"expected {name} only with the data set {owner}, got {name}=.* with digits"):
        load("digits", **option)


REAL = Y[:, None].float()
TOKENS = torch.tensor([[0, 1], [1, 2], [2, 0], [0, 0]])


def test_numbers_to_predict_and_tokens():
    assert Dataset("mine", X, REAL, classes=None).outputs == 1
    assert Dataset("mine", X, Y, classes=3).outputs == 3
    assert Dataset("mine", TOKENS, TOKENS, classes=3, vocabulary=3).input_shape == (2,)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"labels": Y}, "expected inputs in float32 with labels in float32, got torch.float32 and torch.int64"),
        ({"labels": REAL[:, 0]}, r"one label per sample, got inputs of shape \(4, 2\) and labels of shape \(4,"),
        ({"labels": REAL / 0}, "expected finite labels, got 4 NaN or infinite numbers"),
        ({"vocabulary": 3}, "expected inputs in int64 with labels in float32, got torch.float32 and torch.float32"),
        ({"inputs": TOKENS, "labels": TOKENS, "classes": 3, "vocabulary": 2},
         "expected inputs between 0 and 1, got inputs from 0 to 2"),
        ({"inputs": TOKENS, "labels": Y, "classes": 3, "vocabulary": 3}, "expected one label per position, got inputs"),
    ],
)  # fmt: skip
def test_other_kinds_are_held_to_their_own_shapes(parts, message):
    with pytest.raises(DataError, match=message):
        Dataset(**{"name": "mine", "inputs": X, "labels": REAL, "classes": None} | parts)


def test_a_disk_that_fails_is_a_data_error(tmp_path, monkeypatch):
    def fail(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sgdscope.data.load_cifar10", fail)
    with pytest.raises(DataError, match=r"cannot read the data of cifar10: .*Permission denied"):
        load("cifar10", data_dir=tmp_path)
