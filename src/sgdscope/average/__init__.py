"""Average: act on the weights. Averages kept while a model trains, and averages of checkpoints afterwards.

While training: `EMA`, `PowerEMA`, `Window`, `UniformAverage` and `TwoPoint`, each with ``update(model, step)``,
``swapped(model)``, ``apply_to(model)`` and ``averaged_state_dict()``. From files: `combine` with any weights, and
`rebuild` for power EMAs chosen after training. Running statistics of normalisation are recomputed
(`recompute_batch_norm`), and `buffer_losses` says what they cost. `average_of` and `schedule_of` turn schedules of
torch into averages and back.
"""

from sgdscope.average.batch_norm import BatchNormWarning, Recomputed, recompute_batch_norm
from sgdscope.average.buffer_losses import BufferLosses, buffer_losses
from sgdscope.average.checkpoints import Checkpoints
from sgdscope.average.combine import combine
from sgdscope.average.ema import EMA
from sgdscope.average.files import CheckpointError, save
from sgdscope.average.names import MismatchError, plain_names
from sgdscope.average.post_hoc import PowerProfiles, rebuild
from sgdscope.average.power_ema import PowerEMA
from sgdscope.average.recursion import RecursiveAverage
from sgdscope.average.running import RunningAverage
from sgdscope.average.schedules import ScheduleWarning, average_of, learning_rates, schedule_of
from sgdscope.average.swa_utils import avg_fn, multi_avg_fn
from sgdscope.average.tensors import assign
from sgdscope.average.two_point import TwoPoint
from sgdscope.average.window import UniformAverage, Window

__all__ = [
    "EMA",
    "BatchNormWarning",
    "BufferLosses",
    "CheckpointError",
    "Checkpoints",
    "MismatchError",
    "PowerEMA",
    "PowerProfiles",
    "Recomputed",
    "RecursiveAverage",
    "RunningAverage",
    "ScheduleWarning",
    "TwoPoint",
    "UniformAverage",
    "Window",
    "assign",
    "average_of",
    "avg_fn",
    "buffer_losses",
    "combine",
    "learning_rates",
    "multi_avg_fn",
    "plain_names",
    "rebuild",
    "recompute_batch_norm",
    "save",
    "schedule_of",
]
