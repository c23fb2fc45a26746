"""Study of the Fokker–Planck view of large-batch training (Dai & Zhu 2112.00987, 1812.00542)."""

from sgdscope.studies.fokker_planck.recipe import FokkerPlanck

__all__ = ["FokkerPlanck"]
