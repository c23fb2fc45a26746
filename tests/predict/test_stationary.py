"""`predict stationary`: the law, its phases, and what happens where there is no law."""

import pytest

from sgdscope.predict.stationary import stationary


def rows(table):
    return {row[0]: row[1] for row in table.rows}


def test_two_layers_on_gaussian_data():
    law, phases = (rows(table) for table in stationary(0.2).tables)
    assert float(law["mean"]) == pytest.approx(0.5809051199, rel=1e-5)
    assert float(law["standard deviation"]) == pytest.approx(0.3720966814**0.5, rel=1e-5)
    assert float(law["median"]) == pytest.approx(0.4712543, rel=1e-5)
    assert law["falls at large weights as"] == "|v|^−3.5"
    assert phases["regime here"] == "IIb: density diverges at 0; a maximum away from 0"
    assert float(phases["all mass at 0 from T_c"]) == pytest.approx(1 / 3, rel=1e-5)
    assert float(phases["maximum away from 0 up to"]) == pytest.approx(0.2015527, rel=1e-5)
    assert phases["fluctuations are largest at"].startswith("0.20239")
    assert rows(stationary(0.4, batch_size=2).tables[0]) == law  # only lr / batch size counts


def test_other_depths():
    spread = float(rows(stationary(0.05, depth=0).tables[0])["standard deviation"])
    assert spread == pytest.approx(0.0555555556**0.5, rel=1e-5)
    deep = stationary(0.05, depth=float("inf"), width=0.5)
    assert rows(deep.tables[0])["falls at large weights as"] == "|v|^−5"
    assert len(deep.tables) == 1


def test_collapse_is_stated():
    law = rows(stationary(0.5).tables[0])
    assert "critical" in law["collapsed"]
    assert law["probability of weight 0"] == "1"
    assert len(stationary(0.5).draw()) == 1  # no density, but the way there
    assert "metastable" in rows(stationary(0.05, depth=2, weight_decay=0.1).tables[0])["collapsed"]
    before = stationary(0.05, depth=2, weight_decay=0.1, metastable=True)
    assert "outside its range: metastable" in str(before)
    split = rows(stationary(0.75, noise_variance=0, start=0.5).tables[0])
    assert float(split["probability of weight 1"]) == pytest.approx(0.92779202, rel=1e-5)  # θ = 1/3, v0/k = ½


def test_data_of_ones_own(tmp_path):
    file = tmp_path / "xy.csv"
    file.write_text("x,y\n1,.5\n2,1\n\n-1,1.5\n.5,-.3\n")
    phases = rows(stationary(0.1, batch_size=2, data_file=file).tables[1])
    assert float(phases["all mass at 0 from T_c"]) == pytest.approx(0.13402976, rel=1e-5)
    finite = float(phases["all mass at 0 from, steps of finite size"])
    assert 0.1 < finite < 0.134
    half = rows(stationary(0.1, batch_size=2.5, data_file=file).tables[1])
    assert half["all mass at 0 from, steps of finite size"] == "asks for a whole batch size"


def test_pictures():
    density, way = stationary(0.05).draw()
    assert [shape.label for shape in density.shapes] == ["", "least loss"]
    mean = way.shapes[0]
    assert mean.y[0] > 0.95
    assert mean.y[-1] < 0.05


@pytest.mark.parametrize(
    ("text", "message"),
    [("x,y\n1,2,3\n", "line 2"), ("a,b\n", "found none"), ("1,2\n3,x\n", "line 2: expected two numbers"), ("", "none")],
)
def test_bad_files(tmp_path, text, message):
    file = tmp_path / "xy.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        stationary(0.1, data_file=file)
    with pytest.raises(ValueError, match="cannot read"):
        stationary(0.1, data_file=tmp_path / "missing.csv")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot read"):
        stationary(0.1, data_file=file)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": 0}, "learning rate > 0"),
        ({"batch_size": 0}, "batch size > 0"),
        ({"depth": -1}, "depth"),
        ({"noise_variance": -1}, "noise variance"),
        ({"lr": 0.75, "noise_variance": 0}, "give start"),
    ],
)
def test_bad_input(changed, message):
    with pytest.raises(ValueError, match=message):
        stationary(**{"lr": 0.1, **changed})
