"""Torch backend: the processes of `simulate` as torch operations, for GPUs and where there is no Numba."""

from sgdscope.simulate.torch_backend.kernel import TorchKernel

__all__ = ["TorchKernel"]
