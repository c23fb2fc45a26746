"""Predict: theory on the command line. Each part takes plain numbers and returns an `Answer`. Loads no torch."""

from sgdscope.predict.answer import Answer, Table
from sgdscope.predict.averaging import averaging
from sgdscope.predict.stability import stability

__all__ = ["Answer", "Table", "averaging", "stability"]
