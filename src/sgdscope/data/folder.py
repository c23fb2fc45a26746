"""Folder: images on disk, one sub-folder per class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sgdscope.data.arrays import MAX_BYTES, DataError, Dataset, folder_of, kept, scaling_of, shuffle

MAX_PIXELS = 1 << 26
"""Largest image that is opened (67 million pixels), whatever Pillow's own limit is set to."""

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".webp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP", "TIFF")  # none that calls an outside program, as EPS does
_GREY = ("1", "L", "LA")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_HINT = "one sub-folder per class, with the images of that class in it"


def load_folder(
    *,
    data_dir: str | Path | None = None,
    subset: int | None = None,
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
) -> Dataset:
    """Images of a folder with one sub-folder per class, shape ``(N, C, H, W)``, standardised per channel.

    Classes and, in each, files are in sorted order; hidden files and files that are no images by their ending are
    passed over. A `subset` is the first of a fixed shuffle of all files (``numpy.random.default_rng(seed)``), in that
    order, and only those are read. Grey images have one channel; if any of them is in colour all have three (alpha is
    dropped). All must be of one size, unless `size` (a side, or height and width) says what to resize them to,
    bilinearly. There is no test set.
    Raises DataError if there are no classes or images, an image is damaged or larger than 67 million pixels, or the
    images differ in size and `size` is not given.
    """
    target = _target(size)
    root = folder_of("folder", data_dir, _HINT)
    if not root.is_dir():
        raise DataError(f"expected a folder, got the file {root}\nhint: {_HINT}")
    names, files = _listing(root)
    count = kept(subset, len(files), f"the folder {root.name}")
    if subset is not None:
        files = [files[i] for i in shuffle(len(files), seed)[:count]]
    images = _read_all([path for path, _ in files], target)
    scaling = scaling_of(images)
    how = "in sorted order" if subset is None else f"first {count} of a fixed shuffle (seed {seed})"
    resized = f", resized to {target[0]}x{target[1]}" if target else ""
    return Dataset(
        name="folder",
        inputs=scaling(images),
        labels=torch.tensor([label for _, label in files], dtype=torch.int64),
        classes=len(names),
        class_names=names,
        preprocessing=f"images of the folder {root.name!r}, {how}{resized}: {scaling}",
    )


def _target(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """(height, width) asked for."""
    if size is None:
        return None
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(sides) != 2 or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in sides):
        raise DataError(f"expected size as one number of pixels ≥ 1 or (height, width), got {size!r}")
    if sides[0] * sides[1] > MAX_PIXELS:
        raise DataError(f"expected a size of at most {MAX_PIXELS} pixels, got {size!r}")
    return sides[0], sides[1]


def _listing(root: Path) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """Class names, and (file, label) of every image, sorted."""
    classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise DataError(f"expected sub-folders, one per class, in {root}, found none\nhint: {_HINT}")
    files: list[tuple[Path, int]] = []
    for label, folder in enumerate(classes):
        found = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in _ENDINGS and not path.name.startswith(".") and path.is_file()
        )
        if not found:
            raise DataError(f"expected images ({', '.join(_ENDINGS)}) in {folder}, found none\nhint: {_HINT}")
        files += [(path, label) for path in found]
    return tuple(folder.name for folder in classes), files


def _read_all(paths: list[Path], target: tuple[int, int] | None) -> NDArray[np.uint8]:
    """All images as bytes, shape ``(n, c, h, w)``. Headers are looked at first, so that a misfit costs no decoding."""
    modes = set()
    expected = target
    for path in paths:
        with _opened(path) as image:
            width, height = image.size
            if image.mode not in _GREY + _COLOUR:
                raise DataError(
                    f"expected images of 8 bits per channel, but {path} has mode {image.mode}\n"
                    "hint: convert it to 8-bit grey or RGB"
                )
            modes.add(image.mode)
            expected = expected or (height, width)
            if target is None and (height, width) != expected:
                raise DataError(
                    f"expected images of one size, got {expected[0]}x{expected[1]} in {paths[0]} and {height}x{width} "
                    f"in {path}\nhint: pass size=(height, width) to resize them"
                )
    height, width = expected or (0, 0)
    mode, channels = ("L", 1) if modes <= set(_GREY) else ("RGB", 3)
    if len(paths) * channels * height * width > MAX_BYTES:
        raise DataError(
            f"expected at most {MAX_BYTES} bytes of pixels, got {len(paths)} images of {channels}x{height}x{width}\n"
            "hint: pass a smaller subset or size"
        )
    images = np.empty((len(paths), channels, height, width), dtype=np.uint8)
    for i, path in enumerate(paths):
        with _opened(path) as image:
            # a palette's transparency is dropped with the alpha, and converting it directly would warn
            pixels = (image.convert("RGBA") if "transparency" in image.info else image).convert(mode)
            if pixels.size != (width, height):
                pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
            images[i] = np.asarray(pixels).reshape(height, width, channels).transpose(2, 0, 1)
    return images


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image, not decoded yet; whatever goes wrong inside the block is a DataError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is judged here; other warnings are about optional metadata
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
                yield image
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(
            f"expected images of at most {MAX_PIXELS} pixels, but {path} is larger ({error})\nhint: scale it down first"
        ) from error
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        raise DataError(
            f"cannot read the image {path}: {error}\nhint: replace or remove the file, or change its ending"
        ) from error
