"""`predict escape`: known escape times come out of an expression and a few settings."""

import pytest

from sgdscope.predict.escape import escape

QUARTIC = "(x**2-1)**2/4"
SKEWED = "(x**2-1)**2*(1+x/2+x**2/8)/4"


def rows(table):
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_noise_that_follows_the_state():
    # per-sample variance 1 + x², 2 B / lr = 24: exact 384.383, leading order π e^Φ = 323.8, Φ = 4.6355
    answer = escape(QUARTIC, lr=0.05, batch_size=0.6, variance="1+x**2")
    found = rows(answer.tables[1])
    assert list(found) == ["-1 → 1", "1 → -1"]
    for way in found.values():
        assert float(way["exact"]) == pytest.approx(384.383, rel=1e-5)
        assert float(way["leading order"]) == pytest.approx(323.8, rel=1e-3)
        assert float(way["barrier in noise units"]) == pytest.approx(4.6355, rel=1e-4)
        assert float(way["iterations"]) == pytest.approx(384.383 / 0.05, rel=1e-5)
    changes = rows(answer.tables[2])
    assert changes["batch size doubled"]["-1 → 1"] == "× 103"  # e^Φ


def test_unequal_wells_and_a_temperature():
    found = rows(escape(SKEWED, temperature=0.04).tables[1])
    assert float(found["-1 → 1"]["exact"]) == pytest.approx(3632.94, rel=1e-5)
    assert float(found["1 → -1"]["exact"]) == pytest.approx(2297.81, rel=1e-5)
    assert found["-1 → 1"]["iterations"] == "–"
    assert "temperature doubled" in rows(escape(SKEWED, temperature=0.04).tables[2])


def test_two_dimensions_by_determinants():
    answer = escape(f"{QUARTIC} + y**2*(1+2*x**2)/2", temperature=0.04, variables=("x", "y"))
    (way, _) = answer.tables[1].rows
    # 2π √(|det H_b| / det H_a) e^{ΔL/D} = 2π / √6 · e^{6.25}
    assert float(way[3]) == pytest.approx(1328.75, rel=1e-4)
    assert way[4] == "–"
    assert len(answer.draw()) == 0


def test_momentum():
    found = rows(escape(QUARTIC, lr=0.01, batch_size=1.2, momentum=0.9).tables[1])
    assert float(found["-1 → 1"]["iterations"]) == pytest.approx(29001, rel=1e-4)
    assert found["-1 → 1"]["exact"] == "–"


def test_changes_under_momentum_are_those_of_the_law_itself():
    def at(lr):
        return escape(QUARTIC, lr=lr, batch_size=1.2, momentum=0.9)

    changes = rows(at(0.01).tables[2])
    assert list(changes) == ["batch size doubled", "learning rate doubled"]
    times = [float(rows(at(lr).tables[1])["-1 → 1"]["leading order"]) for lr in (0.01, 0.02)]
    said = float(changes["learning rate doubled"]["-1 → 1"].removeprefix("× "))
    assert said == pytest.approx(times[1] / times[0], rel=5e-3)
    assert said > 1.05 * 2.718281828**-3  # friction falls: not the exponent alone


def test_a_way_out_and_times_beyond_floating_point():
    assert list(rows(escape("x**3-x", lr=0.1).tables[1])) == ["0.57735 → outside"]
    far = rows(escape(QUARTIC, lr=1e-5).tables[1])["-1 → 1"]
    assert far["leading order"].startswith("e^5000")
    assert far["exact"] == "–"


def test_pictures():
    landscape, times = escape(SKEWED, lr=0.05, batch_size=0.6, variance="1+x**2/2").draw()
    assert [shape.label for shape in landscape.shapes] == ["", "minimum", "maximum", "minimum"]
    assert [shape.label for shape in times.shapes][-1] == "now"
    leading, exact = times.shapes[:2]
    assert max(abs(a / b - 1) for a, b in zip(leading.y[-5:], exact.y[-5:], strict=True)) < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"potential": "x**2", "lr": 0.1}, "1 minimum and no pass"),
        ({"potential": QUARTIC}, "expected a learning rate"),
        ({"potential": QUARTIC, "lr": -1}, "learning rate > 0"),
        ({"potential": QUARTIC, "lr": 0.1, "batch_size": 0}, "batch size > 0"),
        ({"potential": QUARTIC, "temperature": -0.1}, "temperature > 0"),
        ({"potential": QUARTIC, "temperature": 0.1, "variance": "2"}, "got both"),
        ({"potential": QUARTIC, "lr": 0.1, "variance": "-1"}, "variance > 0"),
        ({"potential": QUARTIC, "lr": 0.1, "variance": "x"}, "variance ≥ 0"),
        ({"potential": QUARTIC, "lr": 0.1, "variance": "x**2"}, "vanishes at x = 0"),
        ({"potential": QUARTIC, "lr": 0.1, "variance": "abs(3*x**2-1)"}, "never escapes"),
        ({"potential": QUARTIC, "lr": 0.1, "variance": "1+x**2", "momentum": 0.9}, "constant variance with momentum"),
        ({"potential": "__import__('os')", "lr": 0.1}, "unknown name"),
        (
            {"potential": f"{QUARTIC}+y**2", "lr": 0.1, "variables": ("x", "y"), "variance": "1+x**2"},
            "constant variance",
        ),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        escape(**arguments)
