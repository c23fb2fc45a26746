"""Potential: a loss landscape of few dimensions, written as a formula, with its minima, passes and barriers."""

from sgdscope.theory.potential.confining import Confinement
from sgdscope.theory.potential.critical_point import CriticalPoint
from sgdscope.theory.potential.degree import Completeness
from sgdscope.theory.potential.named import (
    asymmetric_double_well,
    double_well,
    muller_brown,
    quartic,
    skewed_double_well,
    styblinski_tang,
)
from sgdscope.theory.potential.passages import Passage
from sgdscope.theory.potential.potential import Potential

__all__ = [
    "Completeness",
    "Confinement",
    "CriticalPoint",
    "Passage",
    "Potential",
    "asymmetric_double_well",
    "double_well",
    "muller_brown",
    "quartic",
    "skewed_double_well",
    "styblinski_tang",
]
