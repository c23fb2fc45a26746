"""Simulate: replicas of SGD with one thing changed, to see what that thing does."""

from sgdscope.simulate.batch_noise import BatchNoise, batch_noise

__all__ = ["BatchNoise", "batch_noise"]
