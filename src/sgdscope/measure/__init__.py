"""Measure: what SGD does at the present weights. Each function takes a `Risk` and returns an `Estimate`."""

from sgdscope.measure.barrier import Barrier, barrier
from sgdscope.measure.batch_line import batch_line
from sgdscope.measure.batch_sharpness import batch_sharpness
from sgdscope.measure.batch_sharpness_curve import batch_sharpness_curve
from sgdscope.measure.chord import chord
from sgdscope.measure.critical_sharpness import critical_sharpness
from sgdscope.measure.edge_ratio import edge_ratio, edge_ratio_of_step
from sgdscope.measure.full_loss_step import full_loss_step
from sgdscope.measure.gradient_alignment import gradient_alignment
from sgdscope.measure.gradient_noise import gradient_noise
from sgdscope.measure.instrumented_backward import InstrumentedBackward
from sgdscope.measure.interaction import gradient_noise_interaction, interaction_aware_sharpness
from sgdscope.measure.keskar_sharpness import keskar_sharpness
from sgdscope.measure.leading_eigenvalues import EigenvalueTracker, leading_eigenpairs, leading_eigenvalues
from sgdscope.measure.loss_curves import LossCurves
from sgdscope.measure.mini_batch_sharpness import mini_batch_sharpness
from sgdscope.measure.momentum_batch_sharpness import momentum_batch_sharpness
from sgdscope.measure.noise_covariance import noise_covariance
from sgdscope.measure.noise_traces import NoiseTraces, noise_traces
from sgdscope.measure.path import batch_path
from sgdscope.measure.plane import Plane, plane, plane_through
from sgdscope.measure.sam_sharpness import sam_sharpness
from sgdscope.measure.second_moment import second_moment_contraction
from sgdscope.measure.spectral_density import SpectralDensity, spectral_density
from sgdscope.measure.spectrum import spectrum
from sgdscope.measure.symmetries import Symmetries, Symmetry, charges, matrix_charges, symmetries
from sgdscope.measure.trace import gauss_newton_trace, hessian_trace

__all__ = [
    "Barrier",
    "EigenvalueTracker",
    "InstrumentedBackward",
    "LossCurves",
    "NoiseTraces",
    "Plane",
    "SpectralDensity",
    "Symmetries",
    "Symmetry",
    "barrier",
    "batch_line",
    "batch_path",
    "batch_sharpness",
    "batch_sharpness_curve",
    "charges",
    "chord",
    "critical_sharpness",
    "edge_ratio",
    "edge_ratio_of_step",
    "full_loss_step",
    "gauss_newton_trace",
    "gradient_alignment",
    "gradient_noise",
    "gradient_noise_interaction",
    "hessian_trace",
    "interaction_aware_sharpness",
    "keskar_sharpness",
    "leading_eigenpairs",
    "leading_eigenvalues",
    "matrix_charges",
    "mini_batch_sharpness",
    "momentum_batch_sharpness",
    "noise_covariance",
    "noise_traces",
    "plane",
    "plane_through",
    "sam_sharpness",
    "second_moment_contraction",
    "spectral_density",
    "spectrum",
    "symmetries",
]
