"""Recipe: a study as plain values, from which its cells, its claims and its figures follow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

from sgdscope.cells import Cell, Results
from sgdscope.picture import Picture
from sgdscope.studies.claim import Claim

Size = Literal["toy", "small", "paper"]
"""`toy` takes seconds, `small` minutes on two cores, `paper` has the source's own settings where they are known."""
SIZES: tuple[Size, ...] = get_args(Size)


@dataclass(frozen=True)
class Figure:
    """One figure of the page.

    Attributes:
        name: of its file: small letters, digits and ``-``.
        pictures: side by side.
        caption: what to see in it, in a sentence or two.
    """

    name: str
    pictures: tuple[Picture, ...]
    caption: str


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """A study: frozen values in, cells, claims and figures out. Subclasses add their grids as fields.

    Importing a recipe, judging its claims and drawing its figures need no torch; its cells do.

    Attributes:
        size: which of the sizes its fields were filled in for.
        data_dir: folder of the real data sets; None for data that ship with a dependency.
        seed: of everything.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """What is asked, in a sentence."""
    paper: ClassVar[str]
    """Authors, title, arXiv number."""

    size: Size = "toy"
    data_dir: Path | None = None
    seed: int = 0

    @classmethod
    @abstractmethod
    def of_size(cls, size: Size, *, data_dir: Path | None = None, seed: int = 0) -> Recipe:
        """The recipe with its fields filled in. Raises ValueError for data that are not in `data_dir`."""

    @abstractmethod
    def cells(self) -> Sequence[Cell]:
        """Independent pieces of work, dear ones first."""

    @abstractmethod
    def claims(self) -> Sequence[Claim]:
        """Statements in the order of the paper."""

    @abstractmethod
    def figures(self, results: Results) -> Sequence[Figure]:
        """What can be drawn of the results there are."""

    def notes(self, results: Results) -> Sequence[str]:
        """What else a reader should know: settings that differ from the source's, misprints, what was left out."""
        return ()
