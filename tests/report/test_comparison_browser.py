"""What a reader's browser makes of the page of a sweep."""

import browser as chromium
import pytest
from test_browser import OVERFLOW, show
from tests.sweep.demo_sweep import edge_of, make

from sgdscope.report import comparison
from sgdscope.sweep import Grid

pytestmark = pytest.mark.browser

LONG = "x" * 60
SWEEPS = {
    "plane": ({"lr": [0.05, 0.1, 0.2, 0.4, 0.8], "batch-size": [4, 16, 64, 256], "seed": [0, 1]}, edge_of),
    "many": ({"lr": [0.01 * 1.5**i for i in range(14)], "batch-size": [2**i for i in range(9)]}, edge_of),
    "along": ({"lr": [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2]}, lambda c: "diverged" if c["lr"] > 3 else edge_of(c)),
    "words": ({"target": [LONG, "y"], "optimizer": ["sgd", "momentum", f"a.b:{LONG}"], "data": "table",
               "data-file": "t.csv", "lr": 0.3}, lambda c: "failed" if c["optimizer"] == "momentum" else 0.9),
    "panels": ({"lr": [0.1, 0.2, 0.4], "batch-size": [4, 16, 64], "width": [16, 32, 64]}, edge_of),
    "waiting": ({"lr": [0.1, 0.2], "batch-size": [4, 16]}, lambda c: "waiting"),
}  # fmt: skip


@pytest.mark.parametrize("name", SWEEPS)
def test_the_page_loads_clean_at_every_width(browser: chromium.Browser, tmp_path, name):
    values, ending = SWEEPS[name]
    page = comparison.write(make(tmp_path / "a", Grid(values), ending), tmp_path / "a" / "report.html")
    for width in (1200, 720, 360):
        figures = show(browser, page, width, dark=width == 720)
        assert browser.complaints() == []
        assert all(address.startswith(("file:", "data:")) for address in browser.requests())
        assert browser.run(OVERFLOW) <= 0
        assert bool(figures) == (name != "waiting")
        for figure in figures:
            assert figure["width"] > 250
            assert figure["shapes"] > 2
            assert figure["smallest"] >= 10
            assert figure["left"] >= 0
            assert figure["right"] <= width
