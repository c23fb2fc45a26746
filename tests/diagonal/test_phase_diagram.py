"""Phase diagram: cells, how they are told apart, counts, and pictures."""

import numpy as np
import pytest

from sgdscope.diagonal import GaussianData, Motion, SampledData, Setting, phase_diagram, simulate_cell
from sgdscope.diagonal import cell as cells
from sgdscope.diagonal.phase_answer import phase_answer
from sgdscope.picture import Field
from sgdscope.report.draw import save
from sgdscope.simulate import Histogram
from sgdscope.simulate.result import Counted
from sgdscope.theory import stationary as theory
from sgdscope.theory.stationary import DiagonalLaw


def counted(law, draws, groups=16):
    """A histogram of ln v of the law, as a cell records it."""
    record = Histogram(-6.0, 2.0, 40)
    counts = np.array([
        np.append(np.histogram(np.log(law.sample(draws, seed)), record.edges[0])[0], [0, 0]) for seed in range(groups)
    ])  # fmt: skip
    return Counted(record, counts)


@pytest.mark.parametrize(("ratio", "has"), [(0.4, True), (0.5, True), (0.75, False), (0.9, False)])
def test_a_maximum_away_from_0_is_seen_where_it_is(ratio, has):
    law = DiagonalLaw(theory.DiagonalNoise.gaussian(1.0, 1.0), ratio / 3, 1)  # T* / T_c = 0.605
    found = cells._rise(counted(law, 30_000), 0.0)
    assert (found.value > cells.SURE * found.standard_error) is has
    if not has:
        assert found.value + cells.CONFIDENCE * found.standard_error < cells.FLAT


def test_too_few_counts_say_nothing():
    law = DiagonalLaw(theory.DiagonalNoise.gaussian(1.0, 1.0), 0.2, 1)
    found = cells._rise(counted(law, 20), 0.0)
    assert (
        found.value - cells.SURE * found.standard_error
        < 0
        < found.value + cells.CONFIDENCE * found.standard_error - cells.FLAT
    )


@pytest.mark.parametrize(
    ("kind", "noise_variance", "ratio", "label"),
    [("diffusion", 1.0, 0.2, "III"), ("diffusion", 1.0, 0.45, "IIb"), ("diffusion", 1.0, 1.3, "I"),
     ("diffusion", 9.0, 0.7, "IIa"), ("sgd", 400.0, 0.2, "III"), ("sgd", 400.0, 1.2, "I")],
)  # fmt: skip
def test_cells(kind, noise_variance, ratio, label):
    data = GaussianData(-1.0, noise_variance)
    setting = Setting(data, ratio * data.noise.critical_temperature())
    found = simulate_cell(Motion(setting, kind), time=30, replicas=1024)
    assert (found.predicted, found.found) == (label, label)
    assert found.ratio == pytest.approx(ratio)
    if label != "I":
        assert found.mean.value == pytest.approx(abs(found.law.mean), abs=5 * found.mean.standard_error)
        assert found.near.value == pytest.approx(found.predicted_near, abs=5 * found.near.standard_error + 0.01)
    else:
        assert found.near.value > 0.7
        assert found.predicted_near == 1


def test_on_a_border_nothing_is_decided():
    data = GaussianData(1.0, 4.0)
    setting = Setting(data, data.noise.critical_temperature())
    assert simulate_cell(Motion(setting, "diffusion"), time=5, replicas=512).found in ("", "I", "IIa")
    third = Setting(data, data.noise.critical_temperature() / 3)
    found = simulate_cell(Motion(third, "diffusion"), time=10, replicas=512)
    assert abs(found.growth.exponent.value - 1) < 4 * found.growth.exponent.standard_error


def test_cells_that_diverge_have_no_phase():
    setting = Setting(GaussianData(1.0, 1.0), 0.3)
    found = simulate_cell(Motion(setting), time=30, replicas=512)
    assert found.diverged > cells.LOST
    assert found.found == ""


@pytest.fixture(scope="module")
def diagram():
    return phase_diagram(GaussianData(), kind="diffusion", deviations=(0.5, 3.0), ratios=(0.2, 0.5, 1.2))


@pytest.mark.slow
def test_a_diagram(diagram):
    assert [[one.found for one in row] for row in diagram.cells] == [["III", "III"], ["IIb", "IIa"], ["I", "I"]]
    verdict = diagram.agreement
    assert verdict.outcome == "agrees"
    assert verdict.claim.startswith("6 of 6 decided cells")
    near = diagram.field(lambda one: float(one.near))
    assert near.shape == (3, 2)
    assert (np.diff(near, axis=0) > 0).all()
    critical = diagram.boundary(theory.critical_temperature)
    assert critical == pytest.approx([1 / 2.25, 1 / 11])
    answer = phase_answer(diagram)
    assert "6 of 6 decided cells are in the phase" in str(answer)
    assert ["III: density vanishes at 0", "2", "2", "2"] in answer.tables[0].rows


@pytest.mark.slow
def test_pictures(diagram, tmp_path):
    plane, shares = phase_answer(diagram).draw()
    fields = [shape for shape in plane.shapes if isinstance(shape, Field)]
    assert sum(np.isfinite(field.values).sum() for field in fields) == 6
    assert plane.title == "6 of 6 decided cells are in the phase of theory"
    (field,) = [shape for shape in shares.shapes if isinstance(shape, Field)]
    np.testing.assert_array_equal(field.values, diagram.field(lambda one: float(one.near)))
    assert save([plane, shares], tmp_path / "a.png").stat().st_size > 10_000


@pytest.mark.slow
def test_steps_of_finite_size_have_a_threshold_of_their_own():
    # σ = 10: 0.935 of T_c, so that a cell between is in phase I
    found = phase_diagram(GaussianData(), deviations=(10.0,), ratios=(0.2, 0.97), replicas=1024)
    assert [row[0].found for row in found.cells] == ["III", "I"]
    assert [row[0].predicted for row in found.cells] == ["III", "IIa"]
    assert found.agreement.outcome == "disagrees"
    assert found.discrete_agreement.outcome == "agrees"
    assert found.discrete_boundary() / found.boundary(theory.critical_temperature) == pytest.approx([0.935], abs=0.001)
    assert "T_c of real steps" in {getattr(shape, "label", "") for shape in phase_answer(found).draw()[1].shapes}


@pytest.mark.slow
def test_of_a_table_of_pairs():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(300)
    data = SampledData(x, 0.5 * x + rng.standard_normal(300))
    found = phase_diagram(data, deviations=(8.0,), ratios=(0.15, 1.3), replicas=512)
    assert [row[0].found for row in found.cells] == ["III", "I"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"deviations": ()}, "deviations > 0"), ({"ratios": (0.5, -1)}, "ratios > 0"),
     ({"weight_decay": 3.0}, "weight decay"), ({"kind": "diffusion", "deviations": (0.0,)}, "deviations > 0")],
)  # fmt: skip
def test_bad_input_gets_a_sentence(arguments, said):
    with pytest.raises(ValueError, match=said):
        phase_diagram(GaussianData(), **{"deviations": (3.0,), "ratios": (0.5,), **arguments})
