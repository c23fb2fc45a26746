"""The problems the tests of averaging share, and a plain simulation of them."""

import numpy as np

from sgdscope.theory.averaging import NoisyQuadratic

LR = 0.3
STEPS = 200
CURVATURES = [1, 0.2, 0.02]
NOISE = [1, 2, 4]
STATIONARY = NoisyQuadratic(CURVATURES, NOISE)
FROM_START = NoisyQuadratic(CURVATURES, NOISE, [1, 2, 3])
T = np.arange(1, STEPS + 1)
COSINE = LR / 2 * (1 + np.cos(np.pi * (T - 1) / STEPS))
SGD_AND_HEAVY_BALL = [0.0, 0.9]

HESSIAN = np.array([[1.0, 0.4, 0.1], [0.4, 0.6, -0.2], [0.1, -0.2, 0.5]])
COVARIANCE = np.array([[2.0, -0.9, 0.3], [-0.9, 1.0, 0.5], [0.3, 0.5, 1.5]])
START = np.array([2.0, -1.0, 1.5])
MATRICES = NoisyQuadratic.from_matrices(HESSIAN, COVARIANCE, START)


def simulate(H, C, start, rates, chains, seed, momentum=0.0):
    """Iterates of independent runs of SGD, drawn batch by batch, shape (steps + 1, chains, parameters)."""
    H, C = np.atleast_2d(H), np.atleast_2d(C)
    generator = np.random.default_rng(seed)
    root = np.linalg.cholesky(C)
    theta, buffer = np.tile(start, (chains, 1)).astype(float), np.zeros((chains, len(H)))
    iterates = [theta]
    for rate in rates:
        minima = generator.standard_normal(theta.shape) @ root.T
        buffer = momentum * buffer + (theta - minima) @ H
        theta = theta - rate * buffer
        iterates.append(theta)
    return np.stack(iterates)


def losses(H, points):
    """½ θᵀ H θ for points of shape (chains, parameters)."""
    return 0.5 * np.einsum("ca,ab,cb->c", points, np.atleast_2d(H), points)


def agrees(samples, expected):
    """Whether a mean of samples lies within three standard errors of what is expected."""
    return abs(samples.mean() - expected) < 3 * samples.std() / np.sqrt(samples.size)
