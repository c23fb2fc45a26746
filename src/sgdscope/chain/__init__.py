"""Chains: networks that are a sequence of layers with known first and second derivatives, differentiated by hand.

Where a model is an `nn.Sequential` of linear, convolutional, pooling and pointwise layers, what autograd records and
replays can be written down: faster, in less memory, and in forms autograd does not have (the Gram form of `curvature`).
"""

from sgdscope.chain.layers import NotAChainError, check_chain, layers_of

__all__ = ["NotAChainError", "check_chain", "layers_of"]
