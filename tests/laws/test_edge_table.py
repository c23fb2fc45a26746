"""The committed table of the edge: the page is what its file says, and a verdict is what its numbers say."""

import json

import pytest
from tests.laws.edge_table import PAGE, ROWS, Found, Noted, apart, noted, page, verdict


def test_the_page_is_made_from_the_file():
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(ROWS.read_text(encoding="utf-8")))


def test_distance_from_a_value_and_from_a_range():
    ours = Found(0.90, 0.03, (0.86, 0.94))
    difference, sd = apart(ours, noted(0.95, 0.04))
    assert difference == pytest.approx(-0.05)
    assert sd == pytest.approx((0.04**2 + 0.0032 + 0.005**2) ** 0.5, rel=1e-9)
    assert apart(ours, Noted(0.8, 0.91))[0] == 0
    assert apart(ours, Noted(0.7, 0.8))[0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("mean", "said"),
    [(0.92, "agrees; 1 of 3 seeds **diverged**, by 12k"),
     (0.80, "**differs**: EoR -0.12 (3.9 sd); 1 of 3 seeds **diverged**, by 12k")],
)  # fmt: skip
def test_verdict(mean, said):
    row = {"notes": {"eor": {"low": 0.92, "high": 0.92, "sd": 0.0}},
           "found": [{"eor": (mean, 0.03)}, {"diverged_at": 12_000}, {"eor": (mean, 0.03)}]}  # fmt: skip
    assert verdict(row) == said


def test_verdict_without_numbers():
    assert verdict({"notes": {}, "found": [{"eor": (1.0, 0.1)}]}) == "not in the notes"
    lost = {"notes": {"eor": {"low": 1.0, "high": 1.0, "sd": 0.0}}, "found": [{"diverged_at": 500}]}
    assert verdict(lost) == "**diverged**"
