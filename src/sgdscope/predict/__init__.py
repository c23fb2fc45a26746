"""Predict: theory on the command line. Each part takes plain numbers and returns an `Answer`. Loads no torch."""

from sgdscope.predict.answer import Answer, Table
from sgdscope.predict.averaging import averaging
from sgdscope.predict.escape import escape
from sgdscope.predict.fokker_planck import fokker_planck
from sgdscope.predict.stability import stability
from sgdscope.predict.stationary import stationary

__all__ = ["Answer", "Table", "averaging", "escape", "fokker_planck", "stability", "stationary"]
