"""Image folders: one sub-folder per class."""

import numpy as np
import pytest
import torch
from PIL import Image

from sgdscope.data import DataError, load

RNG = np.random.default_rng(0)


def save(path, shape, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return pixels


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pets"
    pixels = {name: save(root / name, (4, 6, 3)) for name in ("dog/b.png", "cat/2.png", "cat/1.png", "dog/a.bmp")}
    (root / "cat" / "notes.txt").write_text("not an image")
    (root / "cat" / ".hidden.png").write_text("not an image")
    (root / ".git").mkdir()
    return root, pixels


def test_classes_and_files_are_sorted_and_standardised(folder):
    root, pixels = folder
    data = load("folder", data_dir=root)
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [0, 0, 1, 1]
    raw = np.stack([pixels[n] for n in ("cat/1.png", "cat/2.png", "dog/a.bmp", "dog/b.png")]).astype(np.float64)
    expected = (raw - raw.mean((0, 1, 2))) / raw.std((0, 1, 2))
    np.testing.assert_allclose(data.inputs.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)
    assert data.preprocessing.startswith("images of the folder 'pets', in sorted order: pixels / 255")


def test_a_subset_is_the_head_of_a_fixed_shuffle(folder):
    order = np.random.default_rng(4).permutation(4)[:3]
    data = load("folder", data_dir=folder[0], subset=3, seed=4)
    assert data.labels.tolist() == [[0, 0, 1, 1][i] for i in order]
    assert torch.equal(data.inputs, load("folder", data_dir=folder[0], subset=3, seed=4).inputs)
    with pytest.raises(DataError, match=r"expected a subset between 1 and 4 \(the samples in the folder pets\), got 5"):
        load("folder", data_dir=folder[0], subset=5)


def test_images_of_other_sizes_need_a_size(folder):
    root, _ = folder
    save(root / "dog" / "c.png", (5, 6, 3))
    with pytest.raises(DataError, match=r"of one size, got 4x6 in .*1.png and 5x6 in .*c.png\nhint: pass size="):
        load("folder", data_dir=root)
    assert load("folder", data_dir=root, size=3).inputs.shape == (5, 3, 3, 3)
    data = load("folder", data_dir=root, size=(8, 2))
    assert data.inputs.shape == (5, 3, 8, 2)
    assert "resized to 8x2" in data.preprocessing


@pytest.mark.parametrize("size", [0, (3,), (3, -1), 2.5, True])
def test_sizes_out_of_range(folder, size):
    with pytest.raises(DataError, match=r"expected size as one number of pixels ≥ 1 or \(height, width\)"):
        load("folder", data_dir=folder[0], size=size)


def test_more_pixels_than_memory_should_hold(folder, monkeypatch):
    with pytest.raises(DataError, match="expected a size of at most 67108864 pixels, got 100000"):
        load("folder", data_dir=folder[0], size=100000)
    monkeypatch.setattr("sgdscope.data.folder.MAX_BYTES", 287)
    with pytest.raises(DataError, match=r"expected at most 287 bytes of pixels, got 4 images of 3x4x6\nhint: "):
        load("folder", data_dir=folder[0])


def test_grey_images_have_one_channel_and_a_mixture_three(tmp_path):
    grey = save(tmp_path / "a" / "1.png", (4, 4))
    data = load("folder", data_dir=tmp_path)
    assert data.inputs.shape == (1, 1, 4, 4)
    np.testing.assert_allclose(data.inputs[0, 0].numpy(), (grey - grey.mean()) / grey.std(), atol=1e-6)
    save(tmp_path / "a" / "2.png", (4, 4, 4))  # with alpha
    save(tmp_path / "a" / "3.gif", (4, 4, 3), mode="P")
    assert load("folder", data_dir=tmp_path).inputs.shape == (3, 3, 4, 4)


def test_images_of_16_bits_are_refused_rather_than_cut(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 4), 4000, dtype=np.uint16)).save(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match=r"expected images of 8 bits per channel, but .*1.png has mode I;16\nhint: "):
        load("folder", data_dir=tmp_path)


def test_folders_without_classes_or_images(tmp_path):
    with pytest.raises(
        DataError, match=r"expected sub-folders, one per class, in .*, found none\nhint: one sub-folder"
    ):
        load("folder", data_dir=tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match=r"expected images \(.png, .*\) in .*a, found none\nhint: one sub-folder"):
        load("folder", data_dir=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"expected a folder, got the file .*file\nhint: "):
        load("folder", data_dir=tmp_path / "file")


def test_damaged_images_are_named(folder):
    root, _ = folder
    whole = (root / "dog" / "b.png").read_bytes()
    for content in (b"", b"GIF89a", whole[:60], whole[:-30], b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        (root / "dog" / "b.png").write_bytes(content)
        with pytest.raises(DataError, match=r"cannot read the image .*b.png: .*\nhint: replace or remove"):
            load("folder", data_dir=root)


def test_images_too_large_to_open_are_refused(tmp_path, monkeypatch):
    save(tmp_path / "a" / "1.png", (20, 20))
    monkeypatch.setattr("sgdscope.data.folder.MAX_PIXELS", 399)
    with pytest.raises(DataError, match=r"at most 399 pixels, but .*1.png is larger .20x20 pixels.\nhint: scale it"):
        load("folder", data_dir=tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own limit, raised at twice its value
    with pytest.raises(DataError, match=r"1.png is larger \(.*decompression bomb"):
        load("folder", data_dir=tmp_path)
