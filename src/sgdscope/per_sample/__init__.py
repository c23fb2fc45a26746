"""Per-sample gradients: their inner products, without forming them where the layers allow; or themselves."""

from sgdscope.per_sample.gradients import per_sample_gradients
from sgdscope.per_sample.gram import GradientGram, gradient_gram
from sgdscope.per_sample.slopes import directional_derivatives

__all__ = ["GradientGram", "directional_derivatives", "gradient_gram", "per_sample_gradients"]
