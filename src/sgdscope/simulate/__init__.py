"""Simulate: replicas of SGD with one thing changed, to see what that thing does.

``ensemble(landscape, process, steps=…, start=…, replicas=…, record=…)`` runs 10⁵ to 10⁸ replicas and reduces them as
they run. How it is made, so that further landscapes, processes and backends fit in:

- A *process* (`process.Process`) states its step as formulas of SymPy, an `process.Update`: parts of the step, the new
  value of each coordinate and of further state, what is drawn, and numbers that may change without compiling anew. It
  knows nothing of lanes, threads or precision. It asks the landscape for what it needs: `Overdamped`, `Kinetic`,
  `GaussianSGD` and `SGLD` for `symbols` and `expression`, which `theory.potential.Potential` has. `SGD`, which draws
  real minibatches, asks landscapes made of data (`simulate.data`) for the gradient of a batch as formulas in the
  coordinates and in averages over samples (`data.Minibatch`); these are added up over the batch (`Update.sums` and
  `rounds`: one round of draws is one sample).
- A *record* (`record`) says what is kept; `plan.Plan` reads process, landscape and records into formulas, and asks at
  the `door` whether they should run.
- `kernel.kernel_text` writes the loop in Python from the formulas; `compiling.kernel` compiles it with Numba, once per
  text, and keeps it on disk. A backend on another machine (torch) takes the same `Plan` and `keyed` integers.
- `lanes.Motion` calls the kernel slice by slice on threads; `ensembles.ensemble` is the front door. A part of an
  ensemble is the same call with `first` and fewer replicas; `ensembles.join` puts parts together to the last bit, which
  is all that an executor over processes or machines needs.

Importing this package does not import Numba.
"""

from __future__ import annotations

from sgdscope.simulate.batch_noise import BatchNoise, batch_noise
from sgdscope.simulate.data import SGD, DiagonalNetwork, LogisticRegression, Pairs, Quadratics, ScalarNetwork, Stream
from sgdscope.simulate.ensembles import Ensemble, ensemble, join
from sgdscope.simulate.kinetic import Kinetic
from sgdscope.simulate.landscape_risk import landscape_risk
from sgdscope.simulate.overdamped import Overdamped
from sgdscope.simulate.parts import ensemble_in_parts
from sgdscope.simulate.record import Average, Course, FirstPassage, Histogram, Paths
from sgdscope.simulate.recursions import SGLD, GaussianSGD
from sgdscope.simulate.state import State
from sgdscope.simulate.survival import EscapeTimes, SurvivalCurve, fit_log_rates

__all__ = [
    "SGD", "SGLD", "Average", "BatchNoise", "Course", "DiagonalNetwork", "Ensemble", "EscapeTimes", "FirstPassage",
    "GaussianSGD", "Histogram", "Kinetic", "LogisticRegression", "Overdamped", "Pairs", "Paths", "Quadratics",
    "ScalarNetwork", "State", "Stream", "SurvivalCurve", "batch_noise", "ensemble", "ensemble_in_parts",
    "fit_log_rates", "join", "landscape_risk",
]  # fmt: skip
