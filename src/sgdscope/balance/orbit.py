"""Orbit: all networks that rescaling symmetries make of one, by the log scales of their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from sgdscope.measure.symmetries import Part, Symmetry

Floats = npt.NDArray[np.float64]
Parameters = Mapping[str, Tensor]


class Orbit:
    """Parameters times e^{Ps}, with one log scale in s for each unit of each symmetry.

    A weight between two layers of units has two of them: it is read by one unit and writes another. Elements that the
    same units scale with the same powers make one *cell*: what is summed over elements needs one number per cell.

    Attributes:
        symmetries: those that are acted on.
        units: number of all their units, the length of s.
        powers: P by cell, sparse, shape (cells, units).
    """

    def __init__(self, symmetries: Sequence[Symmetry], parameters: Parameters) -> None:
        self.symmetries = tuple(symmetries)
        starts = np.cumsum([0, *(symmetry.units for symmetry in self.symmetries)])
        self.units = int(starts[-1])
        self._slices = [slice(*pair) for pair in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
        self._cells: dict[str, npt.NDArray[np.intp]] = {}
        blocks = []
        for name, value in parameters.items():
            scaled = [
                _units_and_powers(part, symmetry.units, own.start, tuple(value.shape))
                for own, symmetry in zip(self._slices, self.symmetries, strict=True)
                for part in symmetry.parts
                if part.name == name
            ]
            if scaled:
                self._cells[name], rows = _cells_of(scaled, self.units)
                blocks.append(rows)
        self.powers = csr_matrix(vstack(blocks)) if blocks else csr_matrix((0, self.units))

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters that are moved."""
        return tuple(self._cells)

    def sums(self, values: Parameters) -> Floats:
        """Sums of tensors like the parameters over each cell, shape (cells,)."""
        return np.concatenate([
            np.bincount(cells, values[name].detach().double().cpu().reshape(-1).numpy())
            for name, cells in self._cells.items()
        ])  # fmt: skip

    def by_symmetry(self, values: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.generic]]:
        """What there is one of per unit, by the name of the symmetry."""
        return {symmetry.name: values[own] for own, symmetry in zip(self._slices, self.symmetries, strict=True)}

    def factors(self, scales: Floats, parameters: Parameters) -> dict[str, Tensor]:
        """What each parameter that is moved is multiplied by, in its shape and on its device, in double precision."""
        found: dict[str, Tensor] = {}
        for own, symmetry in zip(self._slices, self.symmetries, strict=True):
            for part in symmetry.parts:
                value = parameters[part.name]
                like = torch.empty_like(value, dtype=torch.float64)
                factor = part.factors(torch.from_numpy(scales[own]).to(value.device), like)
                found[part.name] = found[part.name] * factor if part.name in found else factor
        return found


def _units_and_powers(
    part: Part, units: int, first: int, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.intp], Floats]:
    """Of each element: the number of the unit that scales it, counted from `first`, and the power; −1 if none does.

    Read off the factors that chosen scales give, whatever way the part lays out its units.
    """
    like = torch.empty(shape, dtype=torch.float64)
    twos = torch.full((units,), 2.0, dtype=torch.float64)
    power = part.factors(twos, like).log2().reshape(-1)
    numbered = part.factors(torch.arange(2, units + 2, dtype=torch.float64), like).reshape(-1)
    touched = power != 0
    unit = torch.where(touched, numbered.pow(1 / power.where(touched, torch.ones_like(power))).round() - 2, -1.0)
    return torch.where(touched, unit + first, -1.0).long().numpy(), power.numpy()


def _cells_of(
    scaled: Sequence[tuple[npt.NDArray[np.intp], Floats]], units: int
) -> tuple[npt.NDArray[np.intp], csr_matrix]:
    """The cell of each element of a parameter, and the powers of all units by cell: one row each."""
    cells = np.zeros(len(scaled[0][0]), dtype=np.intp)
    for unit, power in scaled:
        cells = _numbered(cells * (units + 1) + unit + 1)
        owned = power[unit >= 0]
        if owned.size and owned.min() != owned.max():  # powers given element by element
            values, which = np.unique(power, return_inverse=True)
            cells = _numbered(cells * len(values) + which)
    example = np.empty(int(cells.max()) + 1, dtype=np.intp)
    example[cells] = np.arange(len(cells))
    rows, columns, powers = [], [], []
    for unit, power in scaled:
        there = np.flatnonzero(unit[example] >= 0)
        rows.append(there)
        columns.append(unit[example][there])
        powers.append(power[example][there])
    placed = (np.concatenate(rows), np.concatenate(columns))
    return cells, csr_matrix((np.concatenate(powers), placed), shape=(len(example), units))


def _numbered(codes: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Codes that occur, numbered from 0 on without gaps."""
    codes = codes - codes.min()
    most = int(codes.max()) + 1
    if most > 8 * len(codes):
        return np.unique(codes, return_inverse=True)[1]
    seen = np.zeros(most, dtype=bool)  # without sorting
    seen[codes] = True
    numbers: npt.NDArray[np.intp] = (np.cumsum(seen, dtype=np.intp) - 1)[codes]
    return numbers
