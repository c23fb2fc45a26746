"""Claims: the paper's statements about the edge of stochastic stability, with their judges; no torch."""

from sgdscope.studies.stochastic_edge.claims.changing import changing
from sgdscope.studies.stochastic_edge.claims.forking import edge_tests, fates, theorem
from sgdscope.studies.stochastic_edge.claims.oscillating import oscillating
from sgdscope.studies.stochastic_edge.claims.rivals import adaptive, momenta, noises
from sgdscope.studies.stochastic_edge.claims.settling import full_batch, mini_batches, settling
from sgdscope.studies.stochastic_edge.claims.sharpness import sharpness

__all__ = [
    "adaptive", "changing", "edge_tests", "fates", "full_batch", "mini_batches", "momenta", "noises", "oscillating",
    "settling", "sharpness", "theorem",
]  # fmt: skip
