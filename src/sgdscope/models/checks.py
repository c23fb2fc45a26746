"""Checks of what `build` is asked for: each failure says what was expected and what was given."""

from __future__ import annotations

from collections.abc import Sequence


def whole_number(what: str, value: int, least: int) -> int:
    """`value` if it is a whole number ≥ `least`. Raises ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"expected {what} to be a whole number ≥ {least}, got {value!r}")
    return value


def image_shape(model: str, input_shape: Sequence[int], least: int) -> tuple[int, int, int]:
    """`input_shape` as (channels, height, width), with sides of `least` pixels or more. Raises ValueError otherwise."""
    if len(input_shape) != 3:
        raise ValueError(
            f"expected input_shape (channels, height, width) for {model}, got {tuple(input_shape)}\n"
            "hint: inputs that are no images go into an mlp"
        )
    channels, height, width = input_shape
    if min(height, width) < least:
        raise ValueError(
            f"expected images of at least {least}x{least} pixels for {model}, which halves them twice, "
            f"got {height}x{width}\nhint: use an mlp, or larger images"
        )
    return channels, height, width


def no_norm(model: str, norm: str) -> None:
    """Raises ValueError if a normalisation is asked of a model that has none."""
    if norm != "none":
        raise ValueError(f"expected norm 'none' for {model}, got {norm!r}\nhint: norm='batch' is an option of resnet")
