"""Trajectory: what the path of a run says about it, where measurement meets theory.

`gain` predicts what averages of checkpoints are worth before any is evaluated; `half_learning_rate` tells a settled run
from one that still moves.
"""

from sgdscope.trajectory.gain import Gain, PredictedAverage, gain
from sgdscope.trajectory.half_learning_rate import HalfLearningRate, half_learning_rate

__all__ = ["Gain", "HalfLearningRate", "PredictedAverage", "gain", "half_learning_rate"]
