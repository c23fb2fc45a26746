"""Study of training trajectories, fixed-batch losses and averages (Sandler et al. 2301.02312)."""

from sgdscope.studies.averaging.recipe import Averaging

__all__ = ["Averaging"]
