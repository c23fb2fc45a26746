"""Deep diagonal linear networks from end to end: data, phases, stationary law, and runs of SGD laid beside them.

The loss is ``(v x − y)² + γ ‖θ‖²`` without ½, v a sum over subnetworks of products of weights (Ziyin, Li & Ueda, arXiv
2308.06671). `diagonal` gives the whole answer for one setting, `phases` the plane of noise and temperature,
`temperatures` a sweep; their numbers come from `run_trial`, `phase_diagram`, `temperature_sweep`, `data_moments`,
`balance_decay` and `growth_at_zero`.
"""

from sgdscope.diagonal.answer import diagonal, phases, temperatures
from sgdscope.diagonal.cell import Cell, simulate_cell
from sgdscope.diagonal.comparison import Row, chance_distance, distance, distance_of_samples
from sgdscope.diagonal.data import GaussianData, SampledData
from sgdscope.diagonal.decay import BalanceDecay, balance_decay
from sgdscope.diagonal.growth import Growth, growth_at_zero
from sgdscope.diagonal.moments import DataMoments, data_moments
from sgdscope.diagonal.motion import Motion
from sgdscope.diagonal.phase_plane import PhaseDiagram, phase_diagram
from sgdscope.diagonal.replicas import Replicas, run
from sgdscope.diagonal.setting import Setting
from sgdscope.diagonal.sweep import Sweep, temperature_sweep
from sgdscope.diagonal.trial import Observation, Trial, run_trial

__all__ = [
    "BalanceDecay",
    "Cell",
    "DataMoments",
    "GaussianData",
    "Growth",
    "Motion",
    "Observation",
    "PhaseDiagram",
    "Replicas",
    "Row",
    "SampledData",
    "Setting",
    "Sweep",
    "Trial",
    "balance_decay",
    "chance_distance",
    "data_moments",
    "diagonal",
    "distance",
    "distance_of_samples",
    "growth_at_zero",
    "phase_diagram",
    "phases",
    "run",
    "run_trial",
    "simulate_cell",
    "temperature_sweep",
    "temperatures",
]
