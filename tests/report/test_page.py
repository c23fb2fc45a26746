import itertools
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from demo_runs import CURVATURE, HOSTILE, SITUATIONS, fill, make, manifest

from sgdscope import report
from sgdscope.estimate import Estimate
from sgdscope.records import RecordsError, RunWriter, open_run
from sgdscope.report.advice import outlook
from sgdscope.report.markup import full, short, source, text

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that elements close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def page_of(tmp_path: Path, situation: str) -> str:
    return report.render(make(tmp_path, situation))


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_situation_gives_a_sound_page(tmp_path: Path, situation: str) -> None:
    run = make(tmp_path, situation)
    page = report.render(run)
    read = Reader(page)
    assert len(page.encode()) < 1_000_000
    names = [tag for tag, _ in read.tags]
    assert names.count("main") == 1
    assert names.count("h1") == 1
    levels = [int(n[1]) for n in names if re.fullmatch(r"h\d", n)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in read.tags:
        for name in (attributes.get("aria-labelledby") or "").split():
            assert name in ids
    assert "How this run was made" in read.text
    start = text(run.standing().headline.rpartition(": ")[0] or run.standing().headline)
    assert start in page
    # the headline comes before everything else
    assert page.index("<h1>") < page.index("<section")


def test_the_parts_come_in_their_order(tmp_path: Path) -> None:
    page = page_of(tmp_path, "at_the_edge")
    order = ["<h1>", 'class="gauge"', 'class="advice"', *(f'<section id="{name}"' for name in (
        "what-if", "stability", "loss", "verdicts", "cost", "numbers", "failures", "provenance"))]  # fmt: skip
    places = [page.index(mark) for mark in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("situation", "regime", "words"),
    [
        ("at_the_edge", "at the edge", "a larger learning rate or a smaller batch makes the loss spike"),
        ("above", "above the edge", "Expect loss spikes"),
        ("approaching", "approaching the edge", "Almost no room is left"),
        ("noise_driven", "stable, noise-driven", "What oscillates is noise"),
        ("below", "below the edge", "There is room"),
        ("empty", "unknown", "Nothing to advise yet"),
        ("full_batch", "at the edge", "a larger learning rate makes the loss spike"),
        ("adamw", "unknown", "No theory says where this optimizer becomes unstable"),
        ("diverged", "", "The run diverged: start again"),
    ],
)
def test_every_regime_is_told_with_advice(tmp_path: Path, situation: str, regime: str, words: str) -> None:
    run = make(tmp_path, situation)
    assert regime in ("", run.standing().regime)
    assert words in Reader(report.render(run)).text


@pytest.mark.parametrize(
    ("situation", "words"),
    [
        ("empty", "still running"), ("above", "interrupted"), ("diverged", "diverged"),
        ("bare", "ended with an error"), ("below", "finished"),
    ],
)  # fmt: skip
def test_how_far_the_run_got_is_said(tmp_path: Path, situation: str, words: str) -> None:
    assert words in Reader(page_of(tmp_path, situation)).text


def test_what_was_measured_is_on_the_page(tmp_path: Path) -> None:
    read = Reader(page_of(tmp_path, "at_the_edge"))
    for words in (
        "double the learning rate", "would spike", "safe: below the edge", "past the edge: might spike",
        "not predicted: out of memory", "agrees", "batch sharpness, ratio of expectations", "Definition 3",
        "out of memory in chunk 3 of 8", "40 products spent", "not converged", "3.1 %", "sgdscope run --data digits",
        "model.width", "versions.torch", "2,520",
    ):  # fmt: skip
        assert words in read.text, words


def test_hostile_records_stay_text(tmp_path: Path) -> None:
    page = page_of(tmp_path, "hostile")
    assert "<script" not in page.lower()
    assert "<img" not in page.lower()
    assert page.count("</style>") == 1
    assert "\u202e" not in page
    assert "\u0007" not in page
    read = Reader(page)
    assert {tag for tag, _ in read.tags} & {"script", "img", "iframe", "object", "form", "base"} == set()
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)
    assert HOSTILE[:20] in read.text


def test_a_hostile_folder_name_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "<b>\"run' & \udcff"
    try:
        RunWriter.create(path, manifest()).close()
    except (OSError, UnicodeError):
        pytest.skip("this file system refuses the name")
    page = report.render(open_run(path))
    page.encode()
    assert "<b>" not in page


def test_the_page_forbids_outside_requests(tmp_path: Path) -> None:
    read = Reader(page_of(tmp_path, "at_the_edge"))
    policy = next(
        a["content"] for t, a in read.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy
    outside = [
        (t, a) for t, a in read.tags for k, v in a.items() if k in ("src", "href") and v and v.startswith("http")
    ]
    assert {t for t, _ in outside} == {"a"}
    assert all((a["href"] or "").startswith("https://arxiv.org/abs/") for _, a in outside)


def test_a_long_run_stays_small(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", manifest()) as writer:
        fill(writer, steps=500_000)
    run = open_run(tmp_path / "run")
    assert len(run.rows) > 10_000
    page = report.render(run)
    assert len(page.encode()) < 600_000
    assert "500 of 5,000 points are drawn" in page


def test_many_failures_are_folded_and_many_names_are_cut(tmp_path: Path) -> None:
    page = page_of(tmp_path, "many_failures")
    assert "40 measurements: 40 × λ_max of the full loss failed" in page
    with RunWriter.create(tmp_path / "names", manifest()) as writer:
        for k in range(1000):
            writer.append(k, Estimate.failed(f"quantity_{k}", "x" * 10_000))
    page = report.render(open_run(tmp_path / "names"))
    assert "800 more quantities" in page
    assert "800 more are in the records" in page
    assert len(page.encode()) < 1_000_000


def test_unreadable_rows_are_counted(tmp_path: Path) -> None:
    run = make(tmp_path, "one_point")
    with open(run.path / "rows.jsonl", "a", encoding="utf-8") as rows:
        rows.write("not json\n{}\n")
    assert "2 lines of the records could not be read" in report.render(open_run(run.path))


def test_only_the_last_prediction_of_a_change_counts(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", manifest()) as writer:
        for step, x in ((10, 1.111), (20, 1.222)):
            settings = {"change": "double", "lr": 1.4, "batch_size": 8}
            writer.append(step, Estimate("predicted_edge", x, 0.05, settings=settings))
    what_if = report.render(open_run(tmp_path / "run")).split('id="what-if"')[1].split("</section>")[0]
    assert "1.22 ± 0.05" in what_if
    assert "1.11" not in what_if


def test_companions_are_listed_in_edge_units(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", manifest()) as writer:
        writer.append(0, Estimate("learning_rate", 0.5))
        beside = {"ratio_of_expectations": Estimate("ratio_of_expectations", 3.0, 0.2, unit=CURVATURE)}
        writer.append(5, Estimate("batch_sharpness", 2.0, 0.2, unit=CURVATURE, beside=beside))
    numbers = Reader(report.render(open_run(tmp_path / "run"))).text.split("All numbers")[1]
    assert "3.00 ± 0.20" in numbers
    assert "Recorded as batch_sharpness" in numbers
    assert "0.75 ± 0.05" in numbers


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (1.5, 0.05, "would spike"), (1.25, 0.1, "would probably spike"), (1.1, 0.01, "past the edge: might spike"),
        (0.97, 0.05, "probably safe, close to the edge"), (0.6, 0.02, "safe: below the edge"),
    ],
)  # fmt: skip
def test_predictions_in_words(value: float, error: float, words: str) -> None:
    assert outlook(Estimate("predicted_edge", value, error))[0] == words


def test_numbers_for_a_glance_and_in_full() -> None:
    assert short(Estimate("x", 0.94976, 0.0082)) == "0.950 ± 0.008"
    assert short(Estimate("x", 0.64933, 0.00019)) == "0.649"
    assert short(Estimate("x", 0.5)) == "0.50"
    assert short(Estimate("x", 12.0, 3.0)) == "12 ± 3"
    assert short(Estimate.failed("x", "why")) == "not measured"
    assert full(Estimate("x", (3.0, -2.0), (0.1, 0.2))) == "3.00\u00a0±\u00a00.10, −2.00\u00a0±\u00a00.20"
    assert full(Estimate("x", 0.0728286, 0.0)) == full(Estimate("x", 0.0728286)) == "0.07283"
    assert full(Estimate("x", tuple(float(k) for k in range(9)))).endswith("… (9 in all)")
    assert source("A 2412.20553, p. 1") == (
        'A <a href="https://arxiv.org/abs/2412.20553" rel="noreferrer">2412.20553</a>, p. 1'
    )
    assert text("<&\u0000\ud800>") == "&lt;&amp;��&gt;"


def test_writing_is_whole_and_returns_the_path(tmp_path: Path) -> None:
    run = make(tmp_path, "one_point")
    target = tmp_path / "new" / "page.html"
    assert report.write(run, target) == target
    first = target.read_bytes()
    assert report.write(run, str(target)) == target
    assert target.read_bytes() == first
    assert [p.name for p in target.parent.iterdir()] == ["page.html"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    run = make(tmp_path, "one_point")
    with pytest.raises(RecordsError, match=r"cannot write the report .*: it is a folder"):
        report.write(run, tmp_path)
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    with pytest.raises(RecordsError, match="hint: choose another place"):
        report.write(run, tmp_path / "file" / "page.html")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"


def test_a_failed_write_keeps_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, "one_point")
    target = tmp_path / "page.html"
    target.write_text("old", encoding="utf-8")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(RecordsError, match="Permission denied"):
        report.write(run, target)
    assert target.read_text(encoding="utf-8") == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one_point", "page.html"]


def test_rendering_loads_no_torch(tmp_path: Path) -> None:
    run = make(tmp_path, "at_the_edge")
    code = (
        "import sys; import sgdscope as sg\n"
        "sg.report.write(sg.open_run(sys.argv[1]), sys.argv[2])\n"
        "assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, run.path, tmp_path / "a.html"], check=True)
    assert (tmp_path / "a.html").stat().st_size > 10_000


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_colours_have_contrast(scheme: int) -> None:
    style = (Path(report.__file__).with_name("style.css")).read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", style, flags=re.S)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", blocks[scheme]))
    for role in ("ink", "soft", "sharpness", "full", "streamed", "edge", "good", "bad", "unsure", "link"):
        for ground in ("paper", "raised", "shade"):
            light, dark = sorted((_luminance(colours[role]), _luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (role, ground)


def test_the_room_left_is_told_as_a_factor(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", manifest()) as writer:
        writer.append(0, Estimate("learning_rate", 0.5))
        for step in range(0, 101, 5):  # edge 4; climbs to 2.4, mean over the window 2.1
            writer.append(step, Estimate("batch_sharpness", 2.4 * (step / 100) ** 0.5, 0.001, unit=CURVATURE))
    run = open_run(tmp_path / "run")
    assert run.standing().regime == "approaching the edge"
    words = Reader(report.render(run)).text
    assert "about 1.7 times the present learning rate" in words  # 4 / 2.4, not 4 over the mean
    assert "still rising, so the room shrinks" in words


def test_the_cost_at_the_end_of_a_run_is_told_apart(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", manifest()) as writer:
        writer.append(9, Estimate("loss", 1.0, count=9))
        writer.append(9, Estimate("spectrum", (1.0,), cost=110, unit=CURVATURE))
        seconds = {"lambda_max": 0.0, "training loss": 0.5, "final readings": 1.25}
        writer.append(9, Estimate("monitor_share", 0.031, settings={"seconds": seconds}))
    run = open_run(tmp_path / "run")
    read = Reader(report.render(run)).text.split("Cost of watching")[1].split("All numbers")[0]
    assert "3.1 % of the run's wall time, and readings at its end 1.2 s more" in read
    assert re.search(r"training loss 1 – 0.5 s 29 %", read)
    assert re.search(r"largest eigenvalues of the Hessian 1 110 – –", read)
    assert "λ_max" not in read  # neither read nor paid for


@pytest.mark.parametrize(
    ("residual", "words"),
    [(None, "Bars: two standard errors."), (0.1, "Bars: two standard errors, and the residual of the solver.")],
)
def test_what_the_bars_of_the_gauge_show(tmp_path: Path, residual: float | None, words: str) -> None:
    with RunWriter.create(tmp_path / "run", manifest()) as writer:
        writer.append(0, Estimate("learning_rate", 0.5))
        writer.append(5, Estimate("batch_sharpness", 2.0, 0.2, unit=CURVATURE))
        writer.append(5, Estimate("lambda_max", 1.0, residual=residual, unit=CURVATURE))
    answer = Reader(report.render(open_run(tmp_path / "run"))).text.split("Stability along")[0]
    assert f"From a single reading, the last one. {words} Edge" in answer


@pytest.mark.parametrize(
    ("steps", "error", "words"),
    [
        (9, None, ""),
        (9, 0.1, "Band: two standard errors."),
        (600, 0.1, "Band: two standard errors, and the range of the readings that were averaged into a point."),
        (600, None, "Band: range of the readings that were averaged into a point."),
    ],
)
def test_what_the_band_of_the_loss_shows(tmp_path: Path, steps: int, error: float | None, words: str) -> None:
    with RunWriter.create(tmp_path / "run", manifest()) as writer:
        for step in range(steps):
            writer.append(step, Estimate("loss", 1.0, error, count=2 if error else 1))
    page = report.render(open_run(tmp_path / "run"))
    loss = page.split('<section id="loss"')[1].split("</section>")[0]
    assert (f"<figcaption>{words}</figcaption>" in loss) if words else ("figcaption" not in loss)
