"""What a reader's browser makes of the page. Set SGDSCOPE_REQUIRE_BROWSER=1 to fail where no browser is found."""

from pathlib import Path
from typing import Any

import browser as chromium
import pytest
from demo_runs import SITUATIONS, make

from sgdscope import report

pytestmark = pytest.mark.browser

FIGURES = """
return [...document.querySelectorAll('figure svg, svg.gauge')].filter(s => s.getClientRects().length).map(s => {
  const box = s.getBoundingClientRect();
  const shapes = [...s.querySelectorAll('path, rect, use, line')].filter(e => e.getClientRects().length).length;
  const scale = s.viewBox.baseVal && s.viewBox.baseVal.width ? box.width / s.viewBox.baseVal.width : 1;
  const letters = [...s.querySelectorAll('text')].map(t => parseFloat(getComputedStyle(t).fontSize) * scale);
  const texts = [...s.querySelectorAll('text')].map(t => t.getBoundingClientRect());
  return {width: box.width, height: box.height, shapes: shapes, smallest: Math.min(...letters),
          right: Math.max(...texts.map(t => t.right)), left: Math.min(...texts.map(t => t.left)),
          title: s.querySelector('title').textContent};
});
"""
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth;"


def show(browser: chromium.Browser, path: Path, width: int, *, dark: bool = False) -> list[dict[str, Any]]:
    """Open a page afresh; its figures as the reader sees them."""
    browser.screen(width, dark=dark)
    browser.complaints(), browser.requests()  # of the page before
    browser.open(path.as_uri())
    return list(browser.run(FIGURES))


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_page_loads_clean_at_every_width(browser: chromium.Browser, tmp_path: Path, situation: str) -> None:
    run = make(tmp_path, situation)
    page = report.write(run, tmp_path / "page.html")
    for width in (1200, 720, 360):
        figures = show(browser, page, width, dark=width == 720)
        assert browser.complaints() == []
        asked = browser.requests()
        assert asked
        assert all(address.startswith(("file:", "data:")) for address in asked)
        assert browser.run(OVERFLOW) <= 0
        expected = {"Position relative to the edge"} if run.standing().edge.value is not None else set()
        if any(len(run.get(name)) for name in ("edge_ratio", "batch_sharpness")):
            expected.add("Stability along the run")
        if "loss" in run:
            expected.add("Loss along the run")
        if "edge_map" in run:
            expected.add("What-if map")
        if situation == "stepped":
            expected.add("Losses along a batch's gradient")
        if situation in ("balanced", "one_pair", "many_pairs", "hostile_balance"):
            expected |= {"Balance of layers", "Change of the charges", "Charges along the run"}
        if situation in ("shaped", "hostile_shape"):
            expected |= {"Noise against curvature", "Spectrum of the Hessian"}
        if situation == "shaped":
            expected.add("Noise scale along the run")
        assert {f["title"] for f in figures} == expected
        assert len(figures) == len(expected)  # one of the two drawings of each chart is shown
        for figure in figures:
            assert figure["width"] > 250
            assert figure["height"] > 80
            assert figure["shapes"] > 2
            assert figure["smallest"] >= 11
            assert figure["left"] >= 0
            assert figure["right"] <= width


def test_colours_follow_the_readers_scheme(browser: chromium.Browser, tmp_path: Path) -> None:
    page = report.write(make(tmp_path, "at_the_edge"), tmp_path / "page.html")
    seen = []
    for dark in (False, True):
        show(browser, page, 1200, dark=dark)
        seen.append(
            browser.run(
                "const s = e => getComputedStyle(document.querySelector(e)); return [s('body').backgroundColor, "
                "s('body').color, s('.gauge rect.sharpness').fill, s('figure .wide text').fill];"
            )
        )
    assert all(light != dark for light, dark in zip(*seen, strict=True))


def test_definitions_open_without_script(browser: chromium.Browser, tmp_path: Path) -> None:
    page = report.write(make(tmp_path, "at_the_edge"), tmp_path / "page.html")
    show(browser, page, 1200)
    visible = "return document.querySelector('#numbers details p').checkVisibility();"
    assert browser.run(visible) is False
    found = browser.call("element", {"using": "css selector", "value": "#numbers details summary"})
    browser.call(f"element/{next(iter(found.values()))}/click")
    assert browser.run(visible) is True


def test_the_checks_notice_what_they_look_for(browser: chromium.Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<!doctype html><script>throw new Error('on purpose')</script><div style='width:3000px'>.</div>"
        "<img src='http://127.0.0.1:9/x.png'>",
        encoding="utf-8",
    )
    assert show(browser, page, 360) == []
    assert any("on purpose" in line for line in browser.complaints())
    assert "http://127.0.0.1:9/x.png" in browser.requests()
    assert browser.run(OVERFLOW) > 0


def test_the_policy_stops_an_outside_request(browser: chromium.Browser, tmp_path: Path) -> None:
    page = report.write(make(tmp_path, "one_point"), tmp_path / "page.html")
    smuggled = page.read_text(encoding="utf-8").replace(
        "<main>", "<main><img src='http://127.0.0.1:9/x.png'><script>document.title = 'ran'</script>"
    )
    page.write_text(smuggled, encoding="utf-8")
    show(browser, page, 1200)
    assert len([line for line in browser.complaints() if "Content Security Policy" in line]) == 2
    assert browser.run("return document.title;") != "ran"
