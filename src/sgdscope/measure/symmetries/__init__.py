"""Symmetries: which rescalings of the parameters leave the loss of every sample as it is, and their charges."""

from sgdscope.measure.symmetries.charges import charges, matrix_charges
from sgdscope.measure.symmetries.find import symmetries
from sgdscope.measure.symmetries.part import Part
from sgdscope.measure.symmetries.symmetry import Symmetries, Symmetry

__all__ = ["Part", "Symmetries", "Symmetry", "charges", "matrix_charges", "symmetries"]
