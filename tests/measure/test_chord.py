"""Chord of two checkpoints: exact on quadratics, from two gradients what the line of losses says."""

import pytest
import torch
from tests.cases import CASES, dense, diagonal, flat

from sgdscope.measure import chord
from sgdscope.risk import Risk


def points_of(risk, scale):
    generator = torch.Generator().manual_seed(3)

    def moved():
        return [p.detach() + scale * torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in risk.parameters]

    return moved(), moved()


def test_on_a_quadratic_two_gradients_predict_the_whole_line():
    risk = diagonal([4.0, 1.0, 0.25])
    older, newer = points_of(risk, 1.0)
    found = chord(risk, older, newer)
    d = newer[0] - older[0]
    D = float(d @ (torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64) * d))
    assert found.beside["chord_curvature"].value == pytest.approx(D, rel=1e-12)
    assert found.beside["fitted_chord_curvature"].value == pytest.approx(D, rel=1e-9)
    assert found.beside["asymmetry"].value == pytest.approx(0, abs=1e-12)
    assert found.beside["distance"].value == pytest.approx(float(d.norm()))
    assert found.fits["full"].r_squared == pytest.approx(1, abs=1e-10)
    first, last = risk.value(at=older), risk.value(at=newer)
    predicted = [(1 - a) * first + a * last - 0.5 * a * (1 - a) * D for a in found.coordinates]
    assert found.full == pytest.approx(predicted, rel=1e-10)
    assert (found.coordinates[0], found.coordinates[-1], found.batch, found.unseen) == (-0.5, 1.5, (), ())
    assert found.cost == pytest.approx(21 / 3 + 2)


def test_on_a_network_d_is_the_second_derivative_along_a_short_chord():
    risk = next(case for case in CASES if case.name == "mlp tanh").risk()
    older, newer = points_of(risk, 1e-5)
    _, h = dense(risk, CASES[0].data())
    d = flat(newer) - flat(older)
    found = chord(risk, older, newer, 4, unseen=2, resolution=5)
    assert found.beside["chord_curvature"].value == pytest.approx(float(d @ h @ d), rel=1e-3)
    batch = risk.source.take(torch.randperm(risk.size, generator=torch.Generator().manual_seed(0))[:4])
    slopes = [sum(float((g * e).sum()) for g, e in zip(risk.gradient(batch, at=p)[1], [n - o for n, o in zip(
        newer, older, strict=True)], strict=True)) for p in (older, newer)]  # fmt: skip
    assert found.beside["batch_chord_curvature"].value == pytest.approx(slopes[1] - slopes[0], rel=1e-9)
    middle = [0.5 * (a + b) for a, b in zip(older, newer, strict=True)]
    assert found.full[2] == pytest.approx(risk.value(at=middle), rel=1e-12)
    assert found.batch[2] == pytest.approx(risk.value(batch, at=middle), rel=1e-12)
    assert len(found.unseen) == 2


def test_asymmetry_is_the_third_order_along_the_chord():
    # ½x² + k x³: L_t − L_s − ½ (g_s + g_t) d = −½ k d³
    risk = Risk.of_function(lambda p: (0.5 * p[0] ** 2 + 0.3 * p[0] ** 3).sum(), [torch.zeros(1, dtype=torch.float64)])
    found = chord(risk, [torch.tensor([0.1])], [torch.tensor([0.6])])
    d = float(torch.tensor([0.6]) - torch.tensor([0.1]))
    assert found.beside["asymmetry"].value == pytest.approx(-0.5 * 0.3 * d**3, rel=1e-6)
    assert found.fits["full"].r_squared < 1 - 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 2}, "expected resolution ≥ 3"),
        ({"extent": (1.0, 1.0)}, "expected resolution ≥ 3 and a range"),
        ({"full": False}, "nothing to follow"),
        ({"unseen": 2}, "expected a batch where unseen"),
        ({"newer": None}, "expected two different points"),
    ],
)
def test_bad_input_is_refused_at_the_door(options, message):
    risk = diagonal([1.0, 2.0])
    older, newer = points_of(risk, 1.0)
    if "newer" in options:
        newer, options = older, {}
    with pytest.raises(ValueError, match=message):
        chord(risk, older, newer, **options)
