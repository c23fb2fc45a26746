"""Fokker–Planck: the law of SGD in time, on grids of cells, and the rates at which it settles.

Source: Dai & Zhu 2112.00987 and 1812.00542 for the view; what is derived here says so.
"""

from sgdscope.theory.fokker_planck.generator import Generator
from sgdscope.theory.fokker_planck.heavy_ball import HeavyBall, best_friction
from sgdscope.theory.fokker_planck.hermite import HermiteExpansion
from sgdscope.theory.fokker_planck.kinetic import Kinetic
from sgdscope.theory.fokker_planck.landscape import Landscape
from sgdscope.theory.fokker_planck.line import Line
from sgdscope.theory.fokker_planck.plane import Plane
from sgdscope.theory.fokker_planck.rates import RelaxationRates, relaxation_rates
from sgdscope.theory.fokker_planck.selection import (
    BatchSizeSweep,
    SelectionTrade,
    batch_size_sweep,
    occupancy,
    selection_trade,
)

__all__ = [
    "BatchSizeSweep",
    "Generator",
    "HeavyBall",
    "HermiteExpansion",
    "Kinetic",
    "Landscape",
    "Line",
    "Plane",
    "RelaxationRates",
    "SelectionTrade",
    "batch_size_sweep",
    "best_friction",
    "occupancy",
    "relaxation_rates",
    "selection_trade",
]
