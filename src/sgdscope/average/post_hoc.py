"""Post-hoc EMA: two power EMAs kept while training, and any other one rebuilt from their snapshots afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sgdscope.average.checkpoints import Checkpoints
from sgdscope.average.combine import combine
from sgdscope.average.files import CheckpointError, opened, save
from sgdscope.average.power_ema import PowerEMA, exponent_of
from sgdscope.average.running import Buffers
from sgdscope.average.tensors import Source
from sgdscope.theory.averaging import Reconstruction, reconstruct

_WIDTHS = (0.05, 0.10)
_EXPONENT, _STEP = "power_ema_exponent", "power_ema_step"


class PowerProfiles:
    """Power EMAs of a few relative widths, side by side, and snapshots of them.

    Arguments as in `PowerEMA`. Memory: one copy of the model per width. Source: Karras et al. 2312.02696, Sec. 3.2.
    """

    def __init__(
        self, relative_widths: Sequence[float] = _WIDTHS, *, start: int = 0, every: int = 1,
        buffers: Buffers = "recompute", dtype: torch.dtype | None = None, device: str | torch.device | None = None,
    ) -> None:  # fmt: skip
        if len(set(relative_widths)) < 2:
            raise ValueError(f"expected at least two different relative widths, got {list(relative_widths)}")
        self.averages = tuple(
            PowerEMA(relative_width=width, start=start, every=every, buffers=buffers, dtype=dtype, device=device)
            for width in relative_widths
        )

    def update(self, source: Source, step: int | None = None) -> bool:
        """As `RunningAverage.update`, for all of them."""
        source = source if isinstance(source, torch.nn.Module | Mapping) else list(source)
        counted = [average.update(source, step) for average in self.averages]
        return counted[0]

    def save(self, folder: str | Path) -> list[Path]:
        """Write a snapshot of each: ``power-EXPONENT-step-STEP.safetensors``, in the precision it is kept in.

        Errors of a snapshot grow with the coefficients it is used with, so it is not rounded to the model's precision.
        Snapshots some thirty times in a run give profiles to about 1 %. Raises CheckpointError where a file exists.
        """
        written = []
        for average in self.averages:
            state = average.averaged_state_dict(rounded=False)
            step = (average.last_step or 0) - average.start
            if step < 1:
                raise ValueError(f"expected an update after step {average.start}, where the averages start, got none")
            name = f"power-{average.exponent:.4f}-step-{average.last_step:08d}.safetensors"
            metadata = {_EXPONENT: repr(average.exponent), _STEP: str(step)}
            written.append(save(state, Path(folder) / name, metadata=metadata))
        return written

    def state_dict(self) -> dict[str, Any]:
        """As `RunningAverage.state_dict`."""
        return {"averages": [average.state_dict() for average in self.averages]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`. Raises ValueError for the state of other averages."""
        states = state.get("averages", [])
        if len(states) != len(self.averages):
            raise ValueError(f"expected the state of {len(self.averages)} averages, got {len(states)}")
        for average, one in zip(self.averages, states, strict=True):
            average.load_state_dict(one)


def rebuild(
    snapshots: str | Path | Iterable[str | Path], exponent: float | None = None, *, relative_width: float | None = None,
    step: int | None = None,
) -> tuple[dict[str, Any], Reconstruction]:  # fmt: skip
    """The power EMA of an exponent, or a relative width, that ends at `step`: its state dict and how well it is met.

    `snapshots` is the folder they were saved in, or the files; `step` counts from the start of the averages (default:
    the last snapshot). Coefficients are solved for and the sum is taken in float64; the state dict comes in the
    precision of the snapshots. Look at `profile_error` of the reconstruction: snapshots too far apart do not
    know enough. Raises CheckpointError for files that are no snapshots, ValueError for a `step` after the last.
    """
    paths = [Path(snapshots)] if isinstance(snapshots, str | Path) else [Path(path) for path in snapshots]
    if len(paths) == 1 and paths[0].is_dir():
        paths = sorted(paths[0].glob("power-*-step-*.safetensors"))
    if len(paths) < 2:
        raise CheckpointError(
            f"expected snapshots of power EMAs, got {len(paths)} in {snapshots}: see PowerProfiles.save"
        )
    labels = sorted((_label(path), path) for path in paths)
    steps = [label[0] for label, _ in labels]
    found = reconstruct(steps, [label[1] for label, _ in labels], exponent_of(exponent, relative_width), step)
    files = Checkpoints.of([path for _, path in labels])
    state = combine(files, found.coefficients.tolist(), dtype=torch.float64)
    return state, found


def _label(path: Path) -> tuple[int, float]:
    """Step and exponent of a snapshot."""
    with opened(path) as file:
        try:
            step, exponent = int(file.metadata[_STEP]), float(file.metadata[_EXPONENT])
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"expected a snapshot of a power EMA, got {path}: see PowerProfiles.save") from error
    if not math.isfinite(exponent) or step < 1:
        raise CheckpointError(f"expected a snapshot of a power EMA after its first step, got {path}")
    return step, exponent
