"""Report: a run's records as one quiet HTML file that answers first and shows its evidence below.

The file stands alone: no script, no font and no picture is fetched. Importing this package does not load torch.
"""

from __future__ import annotations

from sgdscope.report.page import render, write

__all__ = ["render", "write"]
