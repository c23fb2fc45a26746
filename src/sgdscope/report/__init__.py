"""Report: a run's records as one quiet HTML file that answers first and shows its evidence below.

The file stands alone: no script, no font and no picture is fetched. Importing this package does not load torch.
"""

from __future__ import annotations

from sgdscope.report.page import render, write
from sgdscope.report.plane_figure import plane_chart

__all__ = ["plane_chart", "render", "write"]
