"""Hostile models: every exported measurement is right against a plain reference or refuses with a reason.

And it leaves no trace: parameters, buffers, attributes, ``.grad``, train flags, hooks and random states are as before.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from typing import Any

import pytest
import torch
from tests.cases import CASES, CLASSES, dense, flat, squared
from tests.measure.hostile import HOSTILE, SAMPLES, Checkpointed, Hostile, Plain, around, gauss_newton, state_of
from torch import Tensor, nn

from sgdscope import measure
from sgdscope.estimate import Estimate
from sgdscope.measure import Plane
from sgdscope.measure.interaction import Draws
from sgdscope.measure.plane import filter_normalised
from sgdscope.risk import Risk

LR = 0.05
MEASUREMENTS = [name for name in measure.__all__ if inspect.isfunction(getattr(measure, name))]
FEW = {"max_batches": 4, "batches": 4, "min_batches": 2, "resolution": 3, "tolerance": 0.02, "images": 2,
       "iterations": 4}  # fmt: skip
"""Settings that make a measurement cheap, used where it has them."""


def refusal(case: Hostile, name: str) -> str:
    """Words of the reason why a measurement has no meaning for a model; empty if it has one."""
    if name in ("gradient_noise", "noise_covariance", "noise_traces") and not case.additive:
        return "each sample stands alone"
    if name == "gauss_newton_trace" and case.calls > 1:
        return "one call of the model"
    if name == "critical_sharpness" and case.name in ("contrastive", "two views"):
        return "the loss is still below its start there"  # of normalised outputs: far away nothing changes any more
    return ""


def given(name: str, risk: Risk) -> dict[str, Any]:
    """Arguments of a measurement, by their names: all samples in one batch."""
    known = {
        "batch_size": SAMPLES,
        "batch_sizes": [SAMPLES // 2, SAMPLES],
        "lr": LR,
        "optimizer": torch.optim.SGD(risk.parameters, lr=LR, momentum=0.9),
        "batch": CASES[0].data(),
        "step": [torch.full_like(p, 0.01) for p in risk.parameters],
        "points": [[p.detach() + 0.1 * x for p, x in zip(risk.parameters, noise(risk, seed), strict=True)]
                   for seed in range(3)],
        **{key: list(risk.parameters) for key in ("older", "start")},
        **{key: [p.detach() + 0.1 * x for p, x in zip(risk.parameters, noise(risk, 0), strict=True)]
           for key in ("newer", "end")},
    }  # fmt: skip
    arguments: dict[str, Any] = {}
    for parameter in inspect.signature(getattr(measure, name)).parameters.values():
        if parameter.name == "risk":
            continue
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:  # those of another measurement
            arguments |= {key: FEW[key] for key in Draws.__annotations__ if key in FEW}
            continue
        if parameter.default is inspect.Parameter.empty:
            assert parameter.name in known, f"say here what {name} takes as {parameter.name}"
            arguments[parameter.name] = known[parameter.name]
        elif parameter.name in FEW:
            arguments[parameter.name] = FEW[parameter.name]
    if name.endswith("trace"):
        arguments |= {"tolerance": 1e-3, "max_probes": 60}  # with two probes an error says little
    return arguments


def noise(risk: Risk, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in risk.parameters]


class Truth:
    """What all samples in one batch should give, from a dense Hessian and plain losses."""

    def __init__(self, case: Hostile, drawn: bool, seed: int) -> None:
        self.case = case
        self.risk = case.risk(twin=True)
        self.batch = self.risk.draw(SAMPLES, torch.Generator().manual_seed(0)) if drawn else CASES[0].data()
        self.g, self.h = dense(self.risk, self.batch, seed=seed)
        self.plain = Plain(case.risk(twin=True), self.batch, seed)
        self.square = float(self.g @ self.g)

    @property
    def along(self) -> float:
        return float(self.g @ self.h @ self.g) / self.square

    @property
    def largest(self) -> float:
        return float(torch.linalg.eigvalsh(self.h)[-1])

    def change(self, displacement: Tensor) -> float:
        return self.plain.loss(self.plain.flat + displacement) - self.plain.loss()


@functools.cache
def truth_of(case: Hostile, drawn: bool, seed: int) -> Truth:
    return Truth(case, drawn, seed)


def truth_for(case: Hostile, name: str) -> Truth:
    """Measurements that draw batches permute the samples."""
    drawn = "batch_size" in inspect.signature(getattr(measure, name)).parameters and name != "sam_sharpness"
    return truth_of(case, drawn, 0)


OVER_MASKS = {
    "batch_sharpness", "momentum_batch_sharpness", "mini_batch_sharpness", "gradient_noise_interaction",
    "interaction_aware_sharpness", "edge_ratio", "gradient_noise", "second_moment_contraction", "full_loss_step",
    "gradient_alignment",
}  # fmt: skip
"""With dropout the mean over draws, each with a mask of its own, even where a batch is all data."""


def near(found: Estimate, truth: float, *, rel: float = 1e-7) -> bool:
    """Equal within its own doubt (four standard errors, or the residual)."""
    doubt = 4 * first(found.standard_error) + first(found.residual)
    return abs(float(found) - truth) <= doubt + rel * max(abs(truth), 1e-9)


def first(number: float | tuple[float, ...] | None) -> float:
    return number[0] if isinstance(number, tuple) else number or 0.0


def is_right(name: str, found: Any, truth: Truth, risk: Risk) -> bool | None:
    """Whether the result agrees with the reference; None if there is no reference for it."""
    if truth.case.random and name in OVER_MASKS:
        return None
    if name in ("batch_sharpness", "momentum_batch_sharpness", "gradient_noise_interaction",
                "interaction_aware_sharpness"):  # fmt: skip
        return near(found, truth.along)
    if name in ("leading_eigenvalues", "mini_batch_sharpness"):
        return near(found, truth.largest)
    if name == "leading_eigenpairs":
        estimate, (v, *_) = found
        image = truth.h @ flat(v)
        off = float((image - estimate.value[0] * flat(v)).norm())
        return near(estimate, truth.largest) and off <= 1.01 * estimate.residual[0]
    if name == "edge_ratio":
        ratio = 2 * (1 + truth.change(-LR * truth.g) / (LR * truth.square))
        return near(found, ratio)
    if name == "edge_ratio_of_step":
        s = torch.full_like(truth.g, 0.01)
        return found == pytest.approx((float(s @ truth.h @ s), -float(s @ truth.g)), rel=1e-7)
    if name == "hessian_trace":
        return near(found, float(truth.h.trace()))
    if name == "gauss_newton_trace":
        return near(found, float(gauss_newton(truth.risk, truth.batch).trace()))
    if name == "gradient_noise":
        return near(found, scatter(truth))
    if name == "second_moment_contraction":
        return near(found, float(torch.linalg.eigvalsh(torch.eye(len(truth.h)) - LR * truth.h).square().max()))
    if name == "critical_sharpness":
        eta = found.beside["critical_learning_rate"]
        before, after = (truth.change(-(eta.value + side * (eta.residual + 1e-9)) * truth.g) for side in (-1, 1))
        return before < 0 < after
    if name == "keskar_sharpness":
        theta = truth.plain.flat
        rise = truth.change(1e-3 * (theta.abs() + 1) * truth.g.sign()) / (1 + truth.plain.loss())
        return found.beside["one_step"].value == pytest.approx(100 * rise, rel=1e-6) and found.value > 99.9 * rise
    if name == "sam_sharpness":
        rise = truth.change(0.05 * truth.g / math.sqrt(truth.square))
        return found.beside["one_step"].value == pytest.approx(rise, rel=1e-7) and found.value > 0.999 * rise
    if name == "plane":
        return grid_of_random_directions(found, truth, risk)
    if name == "plane_through":
        return grid_through(found, truth, risk)
    if name == "batch_line":
        losses = [truth.plain.loss(truth.plain.flat - alpha * truth.g) for alpha in found.coordinates]
        return near(found.beside["curvature"], truth.along) and found.batch == pytest.approx(losses, rel=1e-7)
    if name == "batch_path":
        losses = [truth.plain.loss(truth.plain.flat + 0.1 * flat(noise(risk, seed))) for seed in range(3)]
        return found.batch == pytest.approx(losses, rel=1e-7) and found.full == pytest.approx(losses, rel=1e-7)
    if name == "chord":
        losses = [truth.plain.loss(truth.plain.flat + a * 0.1 * flat(noise(risk, 0))) for a in found.coordinates]
        return found.full == pytest.approx(losses, rel=1e-7)
    if name == "barrier":
        ends = [truth.plain.loss(), truth.plain.loss(truth.plain.flat + 0.1 * flat(noise(risk, 0)))]
        coordinates, losses = found.straight_line
        line = [truth.plain.loss(truth.plain.flat + t * 0.1 * flat(noise(risk, 0))) for t in coordinates]
        return losses == pytest.approx(line, rel=1e-7) and found.ends == pytest.approx(ends, rel=1e-7)
    if name == "full_loss_step":
        return near(found, 1 / truth.along)
    if name == "gradient_alignment":
        return near(found, 1.0)
    return None


def grid_of_random_directions(found: Plane, truth: Truth, risk: Risk) -> bool:
    """All losses of the plane along filter-normalised random directions."""
    parameters = [p.detach() for p in risk.parameters]
    axes = []
    for seed in found.seeds:
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(p.shape, generator=generator).to(p) for p in parameters]
        axes.append(flat(filter_normalised(drawn, parameters, ignore_vectors=True)))
    losses = [[truth.plain.loss(truth.plain.flat + x * axes[0] + y * axes[1]) for x in found.first]
              for y in found.second]  # fmt: skip
    return torch.allclose(torch.tensor(found.losses), torch.tensor(losses), rtol=1e-7)


def grid_through(found: Plane, truth: Truth, risk: Risk) -> bool:
    """All losses of the plane through three points, by plain algebra on flat vectors."""
    a, b, c = (truth.plain.flat + 0.1 * flat(noise(risk, seed)) for seed in range(3))
    u = (b - a) / (b - a).norm()
    v = (c - a) - ((c - a) @ u) * u
    v = v / v.norm()
    losses = [[truth.plain.loss(a + x * u + y * v) for x in found.first] for y in found.second]
    return torch.allclose(torch.tensor(found.losses), torch.tensor(losses), rtol=1e-7)


def scatter(truth: Truth) -> float:
    """Trace of the covariance of the gradients of single samples."""
    x, y = CASES[0].data()
    rows = torch.stack([dense(truth.risk, (x[i : i + 1], y[i : i + 1]))[0] for i in range(SAMPLES)])
    return float((rows - rows.mean(0)).square().sum()) / (SAMPLES - 1)


def numbers(found: Any) -> list[float]:
    """All numbers inside a result."""
    if isinstance(found, bool) or found is None or isinstance(found, str):
        return []
    if isinstance(found, int | float):
        return [float(found)]
    if isinstance(found, Tensor):
        return [float(x) for x in found.reshape(-1)]
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        return [x for field in dataclasses.fields(found) for x in numbers(getattr(found, field.name))]
    if isinstance(found, dict):
        return [x for value in found.values() for x in numbers(value)]
    return [x for part in found for x in numbers(part)] if isinstance(found, list | tuple) else []


FIRST_ORDER = {
    "critical_sharpness", "edge_ratio", "gradient_noise", "keskar_sharpness", "plane", "plane_through", "sam_sharpness",
}  # fmt: skip
"""Measurements without second derivatives: their backward passes end while the model is held."""


QUICK = {"BatchNorm", "dropout", "buffer in place", "contrastive", "checkpoint, dropout, training"}
"""One of each kind; the others are run with the slow tests."""


def ways() -> list[Any]:
    """All models, those with checkpoints also while the model itself is in train mode."""
    found = []
    for case in HOSTILE:
        for training in (False, True) if case.twin else (False,):
            name = case.name + (", training" if training else "")
            found.append(pytest.param(case, training, id=name, marks=() if name in QUICK else pytest.mark.slow))
    return found


@pytest.mark.parametrize("name", MEASUREMENTS)
@pytest.mark.parametrize(("case", "training"), ways())
def test_right_or_refused_and_undisturbed(case, training, name):
    risk = case.risk()
    risk.model.train(training)
    list(risk.model.modules())[-1].train()  # flags of their own
    for p in risk.parameters:
        p.grad = torch.ones_like(p)
    arguments = given(name, risk)
    before, others = state_of(risk.model)
    try:
        found = getattr(measure, name)(risk, **arguments)
    except ValueError as error:
        found = str(error)
    after, others_after = state_of(risk.model)
    assert [key for key, tensor in before.items() if not torch.equal(tensor, after[key])] == []
    assert others == others_after
    if isinstance(found, str) or (isinstance(found, Estimate) and found.value is None):
        reason = found if isinstance(found, str) else found.reason
        assert refusal(case, name)
        assert refusal(case, name) in reason
        return
    if name == "noise_traces" and not found:  # no symmetry: nothing is asked of the samples
        return
    assert not refusal(case, name), str(found)
    assert all(map(math.isfinite, numbers(found)))
    truth = truth_for(case, name)
    assert is_right(name, found, truth, risk) in (True, None), (str(found), truth.along, truth.largest)


@pytest.mark.parametrize("name", ["critical_sharpness", "leading_eigenvalues", "gradient_noise"])
def test_reentrant_checkpoints_are_refused_at_the_door(name):
    model = Checkpointed(nn.Identity(), used=True, reentrant=True).double()
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        Risk(model, squared, CASES[0].data())
    risk = Risk(model, squared, CASES[0].data(), check=False)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        getattr(measure, name)(risk)


@pytest.mark.parametrize("name", ["batch_sharpness", "mini_batch_sharpness"])
def test_with_dropout_all_data_are_still_a_sample_of_the_masks(name):
    case = next(case for case in HOSTILE if case.name == "dropout")
    found = [getattr(measure, name)(case.risk(seed=seed), SAMPLES, tolerance=0.03) for seed in (0, 1000)]
    difference, error = found[0].value - found[1].value, math.hypot(*(e.standard_error for e in found))
    assert 0 < error < 0.06 * found[0].value
    assert abs(difference) < 4 * error + first(found[0].residual)
    assert [case.risk().random for case in HOSTILE] == [case.random for case in HOSTILE]


class OwnNoise(nn.Module):
    """Draws from a generator that nobody can seed."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn(x.shape, generator=self.generator, dtype=x.dtype)


def test_noise_that_cannot_be_seeded_is_refused():
    with pytest.raises(ValueError, match="expected the same loss for the same parameters, batch and seed"):
        Risk(around(OwnNoise()).double(), squared, CASES[0].data())


def at_chance(model: nn.Module, batch: Any) -> Tensor:
    """Contrastive with all similarities alike, as at the start: log n, so that 4 samples have the loss of 2 plus 2."""
    outputs = model(batch[0])
    return nn.functional.cross_entropy(outputs @ outputs.T * 1e-9, torch.arange(len(outputs)))


def test_a_contrastive_loss_at_chance_is_no_sum():
    risk = Risk(around(nn.Tanh()).double(), at_chance, CASES[0].data())
    assert risk.value() == pytest.approx(math.log(SAMPLES))
    assert "a loss of the batch as a whole" in risk.mixing
    assert risk.batch_dependent


def test_only_losses_of_the_batch_as_a_whole_are_called_so():
    for case in CASES:
        assert case.risk().mixing == ("BatchNorm in train mode" if case.name == "BatchNorm" else "")
        assert case.risk(mode="eval").mixing == ""
    for case in HOSTILE:
        assert case.risk().batch_dependent != case.additive

    class Augmented(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return torch.randn(1, 4, 4, dtype=torch.float64), torch.eye(CLASSES, dtype=torch.float64)[index % CLASSES]

    assert Risk(around(nn.Tanh()).double(), squared, Augmented()).mixing == ""


class TwoDevices(nn.Module):
    """The first layer on the CPU, the second on an accelerator."""

    def __init__(self, other: str) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 6), nn.Linear(6, CLASSES).to(other)
        self.other = other

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x.flatten(1))).to(self.other)).to(x.device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="weights on several devices need a second device")
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_weights_on_two_devices(name):
    case = Hostile("two devices", lambda: TwoDevices("cuda"), twin=lambda: TwoDevices("cpu"))
    risk = case.risk()
    found = getattr(measure, name)(risk, **given(name, risk))
    assert is_right(name, found, truth_for(case, name), risk) in (True, None), str(found)
