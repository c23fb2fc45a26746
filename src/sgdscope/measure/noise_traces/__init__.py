"""Noise traces: the variance of per-sample gradients on both sides of every rescaling symmetry, unit by unit."""

from sgdscope.measure.noise_traces.traces import NoiseTraces, Totals, noise_traces

__all__ = ["NoiseTraces", "Totals", "noise_traces"]
