"""Architecture: what a builder of a model is told, as one value, and the checks that all builders share."""

from __future__ import annotations

from dataclasses import dataclass

from sgdscope.models.activations import ACTIVATIONS
from sgdscope.models.norms import NORMS


@dataclass(frozen=True)
class Architecture:
    """Inputs, outputs and settings of a model. A setting left at None takes the default of the model's builder.

    Raises ValueError if a number is out of range, or an activation or norm is not known.

    Attributes:
        input_shape: shape of one input, e.g. ``(3, 32, 32)``; of one window of text ``(context length,)``.
        outputs: numbers given per input: classes, or 1 for a regression; for text per position.
        vocabulary: number of distinct tokens if the inputs are tokens (whole numbers from 0); None if they are numbers.
        width: units per hidden layer, channels of the first stage, or numbers per position.
        depth: hidden layers, convolutions, blocks per stage, or blocks.
        heads: of the attention.
        activation: a key of `ACTIVATIONS`.
        norm: one of `NORMS`.
    """

    input_shape: tuple[int, ...]
    outputs: int
    vocabulary: int | None = None
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    activation: str = "relu"
    norm: str = "none"

    def __post_init__(self) -> None:
        whole_number("classes", self.outputs, 1)
        if not self.input_shape:
            raise ValueError("expected input_shape with at least one dimension, got none")
        for side in self.input_shape:
            whole_number("every side of input_shape", side, 1)
        if self.vocabulary is not None:
            whole_number("vocabulary", self.vocabulary, 1)
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"expected an activation among {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        if self.norm not in NORMS:
            raise ValueError(f"expected a norm among {', '.join(NORMS)}, got {self.norm!r}")

    def width_or(self, default: int) -> int:
        """The width asked for, else `default`. Raises ValueError below 1."""
        return whole_number("width", default if self.width is None else self.width, 1)

    def depth_or(self, default: int, least: int = 1) -> int:
        """The depth asked for, else `default`. Raises ValueError below `least`."""
        return whole_number("depth", default if self.depth is None else self.depth, least)

    def image(self, model: str, least: int) -> tuple[int, int, int]:
        """(channels, height, width) of the inputs. Raises ValueError if they are no images of `least` pixels a side."""
        self.no_tokens(model)
        if len(self.input_shape) != 3:
            raise ValueError(
                f"expected input_shape (channels, height, width) for {model}, got {self.input_shape}\n"
                "hint: inputs that are no images go into an mlp"
            )
        channels, height, width = self.input_shape
        if min(height, width) < least:
            raise ValueError(
                f"expected images of at least {least}x{least} pixels for {model}, which halves them twice, "
                f"got {height}x{width}\nhint: use an mlp, or larger images"
            )
        return channels, height, width

    def no_tokens(self, model: str) -> None:
        """Raises ValueError if the inputs are tokens."""
        if self.vocabulary is not None:
            raise ValueError(f"expected inputs that are numbers for {model}, got tokens of a text\n"
                             "hint: text goes into a transformer")  # fmt: skip

    def no_heads(self, model: str) -> None:
        """Raises ValueError if attention heads are asked of a model without attention."""
        if self.heads is not None:
            raise ValueError(
                f"expected no heads for {model}, got {self.heads}\nhint: heads are an option of transformer"
            )

    def norm_among(self, model: str, known: tuple[str, ...]) -> str:
        """The norm asked for. Raises ValueError if the model does not have it."""
        if self.norm not in known:
            raise ValueError(
                f"expected norm {' or '.join(repr(name) for name in known)} for {model}, got {self.norm!r}\n"
                f"hint: {', '.join(NORMS)} are options of cnn and resnet"
            )
        return self.norm


def whole_number(what: str, value: int, least: int) -> int:
    """`value` if it is a whole number ≥ `least`. Raises ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"expected {what} to be a whole number ≥ {least}, got {value!r}")
    return value
