"""`predict fokker-planck`: stationary laws, rates and evolutions whose numbers are known."""

import pytest

from sgdscope.predict.fokker_planck import fokker_planck

QUARTIC = "(x**2-1)**2/4"
SKEWED = "(x**2-1)**2*(1+x/2+x**2/8)/4"


def rows(table):
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_unequal_wells():
    law, rates, path = fokker_planck(SKEWED, temperature=0.04, start=(-1.0,)).tables
    flat, sharp = (float(rows(law)[well]["share of time"]) for well in ("-1", "1"))
    assert flat / sharp == pytest.approx(1.58266, rel=1e-4)
    simple = [float(rows(law)[well]["by depth and determinant"]) for well in ("-1", "1")]
    assert simple[0] / simple[1] == pytest.approx((3.25 / 1.25) ** 0.5, rel=1e-4)
    assert float(rows(rates)["between wells"]["value"]) == pytest.approx(7.13009e-4, rel=1e-5)
    shares = [float(row[1]) for row in path.rows]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(flat, abs=0.005)


def test_noise_that_follows_the_state():
    law, rates = fokker_planck(QUARTIC, lr=0.05, batch_size=0.6, variance="1+x**2").tables
    assert law.columns == ["well", "loss", "curvatures", "share of time"]
    # spectral gap · escape time / 2 = 1.025 with escape time 384.383
    assert float(rows(rates)["between wells"]["value"]) == pytest.approx(2 * 1.025 / 384.383, rel=1e-3)


def test_batch_size_moves_only_the_rate_between_wells():
    found = [fokker_planck(QUARTIC, lr=0.1, batch_size=b).tables[1] for b in (0.8, 1.6)]
    between, inside = ([float(rows(t)[name]["value"]) for t in found] for name in ("between wells", "inside a well"))
    assert between[0] == pytest.approx(7.44489e-3, rel=1e-5)
    assert between[1] == pytest.approx(1.42967e-4, rel=1e-5)
    assert inside[1] == pytest.approx(inside[0], rel=0.2)
    alone = rows(fokker_planck("3*x**2/2", lr=0.1, batch_size=2).tables[1])
    assert list(alone) == ["inside a well"]
    assert float(alone["inside a well"]["value"]) == pytest.approx(3, rel=1e-4)


def test_momentum():
    # friction (1 − μ) / √lr = 1, temperature lr / (2 B (1 − μ)) = 1/24: slowest rate 6.60541e-4
    table = fokker_planck(QUARTIC, lr=0.01, batch_size=1.2, momentum=0.9).tables[1]
    assert "friction 1, temperature 0.04167" in table.title
    found = rows(table)
    assert float(found["slowest, kinetic equation"]["per √lr · iterations"]) == pytest.approx(6.60541e-4, rel=2e-3)
    assert float(found["slowest, kinetic equation"]["per iteration"]) == pytest.approx(6.60541e-5, rel=2e-3)
    assert float(found["inside a well, quadratic"]["per √lr · iterations"]) == pytest.approx(0.5, rel=1e-6)


def test_two_dimensions():
    answer = fokker_planck(
        f"{QUARTIC} + 2*y**2", temperature=0.0625, variables=("x", "y"), cells=80, start=(-1.0, 0.0), times=(1e4,)
    )
    law, rates, path = answer.tables
    assert float(rows(law)["(-1, 0)"]["share of time"]) == pytest.approx(0.5, abs=0.002)
    assert float(rows(rates)["between wells"]["value"]) == pytest.approx(7.44489e-3, rel=0.01)  # as in one dimension
    assert float(path.rows[0][1]) == pytest.approx(0.5, abs=0.002)
    assert answer.draw() == []


def test_the_picture():
    (picture,) = fokker_planck(SKEWED, temperature=0.04, start=(-1.0,), times=(1, 100)).draw()
    assert [shape.label for shape in picture.shapes if shape.label] == ["stationary", "time 1", "time 100"]
    assert -2 < picture.span_across[0] < -1 < 1 < picture.span_across[1] < 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"potential": "x**3-x", "lr": 0.1}, "not confining"),
        ({"potential": "x**4", "lr": 0.1}, "positive curvature"),
        ({"potential": QUARTIC, "lr": 1e-7}, "at least .* cells"),
        ({"potential": "x**2+y**2+z**2", "variables": ("x", "y", "z"), "lr": 0.1}, "one or two variables"),
        ({"potential": "x**2", "lr": 0.1, "times": (1.0,)}, "a start as well"),
        ({"potential": "x**2", "lr": 0.1, "start": (1.0, 2.0)}, "1 coordinates, got 2"),
        ({"potential": "x**2", "temperature": 0.1, "momentum": 0.9}, "learning rate, a constant variance"),
        ({"potential": "x**2"}, "expected a learning rate"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        fokker_planck(**arguments)
