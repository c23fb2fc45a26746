"""The streamed edge ratio: exact on quadratics, whatever is done to gradients on the way, and audited throughout."""

import math

import pytest
import torch
from torch import nn

from sgdscope.measure import batch_sharpness
from sgdscope.measure.edge_ratio import edge_ratio_of_step
from sgdscope.models import build
from sgdscope.monitor import Monitor
from sgdscope.monitor.schedule import Stride
from sgdscope.monitor.stream import EdgeStream
from sgdscope.risk import Risk
from sgdscope.sampler import Sampler

SAMPLES, BATCH, STEPS = 32, 4, 40


def squared_error(model, batch):
    return 0.5 * (model(batch[0]) - batch[1]).square().sum(1).mean()


class Linear:
    """Linear regression: the Hessian of a batch is XᵀX / b for each output, so every ratio is known in closed form."""

    def __init__(self, *, optimizer="sgd", lr=0.1):
        torch.manual_seed(0)
        self.inputs = torch.randn(SAMPLES, 3, dtype=torch.float64)
        self.targets = torch.randn(SAMPLES, 2, dtype=torch.float64)
        self.model = nn.Linear(3, 2, bias=False, dtype=torch.float64)
        self.optimizer = {
            "sgd": lambda p: torch.optim.SGD(p, lr=lr),
            "nesterov": lambda p: torch.optim.SGD(p, lr=lr / 5, momentum=0.9, nesterov=True, weight_decay=0.01),
            "adamw": lambda p: torch.optim.AdamW(p, lr=lr / 3),
        }[optimizer](self.model.parameters())
        self.risk = Risk(self.model, squared_error, (self.inputs, self.targets))
        self.sampler = Sampler(SAMPLES, BATCH, replacement=True, seed=1)
        self.curvatures, self.descents = [], []

    def batch(self):
        chosen = self.sampler.next()
        return self.inputs[chosen], self.targets[chosen]

    def note(self, batches, before):
        """sᵀ H_B s and −g_Bᵀ s of the step just taken, by hand."""
        step = self.model.weight.detach() - before
        x = torch.cat([b[0] for b in batches])
        y = torch.cat([b[1] for b in batches])
        gradient = (x @ before.T - y).T @ x / len(x)
        self.curvatures.append(((step @ x.T) ** 2).sum().item() / len(x))
        self.descents.append(-(gradient * step).sum().item())

    @property
    def ratio(self):
        return sum(self.curvatures) / sum(self.descents)


def run(problem, monitor, way="plain", *, steps=STEPS, given=lambda step, loss: loss, observed="after"):
    """The loop a user writes, with one of the things that users do between backward and step."""
    model, optimizer = problem.model, problem.optimizer
    with monitor:
        for step in range(steps):
            batches = [problem.batch() for _ in range(2 if way.startswith("accumulated") else 1)]
            for batch in batches:
                loss = squared_error(model, batch)
                (loss * {"scaled": 1024, "unscaled": 1024, "accumulated": 0.5}.get(way, 1)).backward()
            if way == "clipped" or (way == "clipped late" and step >= 20):
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.2 if way == "clipped" else 0.05)
            if way == "unscaled":  # as GradScaler does before the step
                model.weight.grad /= 1024
            if observed == "before":
                monitor.observe(*batches, loss=loss)
            before = model.weight.detach().clone()
            optimizer.step()
            optimizer.zero_grad()
            problem.note(batches, before)
            if observed == "after":
                monitor.observe(*batches, loss=given(step, loss))
    return monitor.latest.get("edge_ratio")


def watched(problem, **options):
    return Monitor(problem.risk, problem.optimizer, every=STEPS, final=False, **options)


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adamw"])
def test_it_is_the_ratio_of_expectations_on_a_quadratic(optimizer):
    problem = Linear(optimizer=optimizer)
    found = run(problem, watched(problem))
    assert found.count == STEPS
    assert float(found) == pytest.approx(problem.ratio, rel=1e-9)
    assert found.settings["method"] == "one forward pass"


def test_for_sgd_it_is_lr_times_batch_sharpness():
    problem = Linear(lr=1e-9)  # at one point, over all batches of two out of thirty-two
    monitor = watched(problem)
    run(problem, monitor, steps=STEPS)
    sharpness = batch_sharpness(
        problem.risk, BATCH, statistic="ratio_of_expectations", replacement=True, max_batches=1000, min_batches=1000
    )
    # 40 draws against 1000: within four of its own standard errors
    ratio = problem.ratio
    assert abs(ratio / 1e-9 - float(sharpness)) < 4 * float(sharpness) / math.sqrt(STEPS)


@pytest.mark.parametrize(
    ("way", "method"),
    [
        ("clipped", "own gradient and one forward pass (the optimizer's gradients are not those of the batch)"),
        ("accumulated sum", "own gradient and one forward pass (the optimizer's gradients are not those of the batch)"),
        ("scaled", "own gradient and one forward pass (the optimizer's gradients are not those of the batch)"),
        ("unscaled", "one forward pass"),
        ("accumulated", "two forward passes (no usable loss was handed over)"),  # it is that of the last part alone
    ],
)
def test_gradients_that_are_not_the_batchs_own_are_noticed_and_the_result_is_right(way, method):
    problem = Linear(lr=1e-4 if way == "scaled" else 0.1)
    found = run(problem, watched(problem), way)
    assert float(found) == pytest.approx(problem.ratio, rel=1e-9)
    assert found.settings["method"] == method


def test_clipping_that_sets_in_later_drops_the_samples_since_the_last_audit():
    problem = Linear()
    monitor = watched(problem)
    run(problem, monitor, steps=20)
    assert monitor._stream.trusts_gradient
    clipped = Linear()
    found = run(clipped, watched(clipped), "clipped late")
    # the audit of the 32nd sample fails: what follows it, and itself, is right again
    expected = sum(clipped.curvatures[31:]) / sum(clipped.descents[31:])
    assert found.count == STEPS - 31
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("given", "method"),
    [
        (lambda step, loss: None, "two forward passes (no usable loss was handed over)"),
        (lambda step, loss: None if step % 3 else loss, "two forward passes (no usable loss was handed over)"),
    ],
)
def test_without_the_loss_it_pays_one_more_forward_pass(given, method):
    problem = Linear()
    found = run(problem, watched(problem), given=given)
    assert found.settings["method"] == method
    assert found.count >= STEPS - 1  # at most the first step whose loss was missing has no sample
    assert float(found) == pytest.approx(problem.ratio, rel=0.05)


def test_a_loss_of_something_else_is_not_used():
    problem = Linear()
    found = run(
        problem, watched(problem), given=lambda step, loss: loss.item() * 1.02
    )  # a running mean, a penalty, ...
    assert float(found) == pytest.approx(problem.ratio, rel=1e-9)


def trusted(loss_fn, *between, lr):
    """Whether a stream over twenty steps of a small network trusts the loss and the gradients handed over."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 16), *between, nn.Linear(16, 2))
    data = (torch.randn(SAMPLES, 3), torch.randn(SAMPLES, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with Monitor(Risk(model, loss_fn, data), optimizer, every=10, final=False) as monitor:
        for step in range(20):
            batch = tuple(t[step : step + 8] for t in data)
            optimizer.zero_grad()
            loss = loss_fn(model, batch)
            loss.backward()
            optimizer.step()
            monitor.observe(batch, loss=loss)
    assert monitor.latest["edge_ratio"].value is not None
    return monitor._stream.trusts_loss, monitor._stream.trusts_gradient


def test_dropout_has_another_mask_and_is_noticed():
    assert trusted(squared_error, nn.ReLU(), nn.Dropout(0.5), lr=0.01) == (False, False)


def test_autocast_inside_the_loss_is_the_same_function():
    def loss_fn(model, batch):
        with torch.autocast("cpu", torch.bfloat16):
            output = model(batch[0])
        return 0.5 * (output.float() - batch[1]).square().sum(1).mean()

    assert trusted(loss_fn, nn.Tanh(), lr=0.1) == (True, True)


def test_observe_before_the_step_is_found_out():
    problem = Linear()
    found = run(problem, watched(problem), observed="before")
    assert found.value is None
    assert "call observe after optimizer.step(), with the batch of that step" in found.reason


def test_where_nobody_observes_it_stops_keeping_parameters():
    problem = Linear()
    monitor = watched(problem)
    assert run(problem, monitor, observed="never") is None
    assert monitor._stream.next_step > 1e9


def test_a_step_of_length_zero_decides_nothing():
    problem = Linear()
    stream = EdgeStream(problem.risk, Stride(0.1, fixed=1))
    batch = problem.batch()
    squared_error(problem.model, batch).backward()
    stream.before_step(0)
    stream.after_step()  # a warm-up that begins at lr = 0
    stream.observe([batch], 123.0, 1, 1e-3)
    assert (stream.trusts_loss, stream.trusts_gradient) == (None, None)
    assert stream.estimate().reason.startswith("the steps do not descend their own batch's loss in mean")


def test_it_goes_on_from_its_state():
    problem = Linear()
    one = watched(problem)
    run(problem, one, steps=STEPS - 1)  # the window is still open
    other = EdgeStream(problem.risk, Stride(0.1))
    other.load_state_dict(one._stream.state_dict() | {"changes": ["nan", 1.0], "descents": [1, 1.0]})
    assert math.isnan(other.window.changes[0])  # as JSON holds it
    assert other.estimate().status == "diverged"
    assert (other.samples, other.next_step) == (STEPS - 1, one._stream.next_step)


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "same", "fresh"), [("tanh", 0.01, 0.02), ("relu", 0.02, 0.03)])
def test_over_a_run_at_the_edge_it_follows_batch_sharpness(activation, same, fresh):
    """256 digits, one hidden layer of 32, b = 8 drawn anew at every step, η = 0.5, float64, from step 4000 to 8000."""
    from sgdscope.data import load_digits

    digits = load_digits(subset=256, test=False)
    inputs, targets = digits.inputs.double(), nn.functional.one_hot(digits.labels, 10).double()
    model = build("mlp", input_shape=digits.input_shape, classes=10, width=32, depth=1, activation=activation,
                  initialisation="uniform-zero-bias").double()  # fmt: skip
    optimizer, generator = torch.optim.SGD(model.parameters(), lr=0.5), torch.Generator().manual_seed(0)
    risk = Risk(model, squared_error, (inputs, targets))
    stream = EdgeStream(risk, Stride(1.0, fixed=1))
    exact, sharpness = [], []
    for step in range(8000):
        chosen = torch.randperm(256, generator=generator)[:8]  # of an epoch reshuffled, they would be no fresh draws
        batch = inputs[chosen], targets[chosen]
        optimizer.zero_grad()
        loss = squared_error(model, batch)
        loss.backward()
        if step < 4000:
            optimizer.step()
            continue
        exact.append(edge_ratio_of_step(risk, batch, [-0.5 * p.grad for p in model.parameters()]))
        if step % 25 == 0:  # a ReLU network's sharpness scatters by an eighth from step to step
            found = batch_sharpness(risk, 8, statistic="ratio_of_expectations", min_batches=64, max_batches=64,
                                    generator=torch.Generator().manual_seed(step))  # fmt: skip
            norm = float(found.beside["squared_gradient_norm"])
            sharpness.append((float(found) * norm, norm))
        stream.before_step(step)
        optimizer.step()
        stream.after_step()
        stream.observe([batch], loss, step + 1, 1e-3)
    streamed = float(stream.estimate())
    # the very same batches: what is left is the finite step
    assert streamed == pytest.approx(sum(c for c, _ in exact) / sum(d for _, d in exact), rel=same)
    assert streamed == pytest.approx(0.5 * sum(c for c, _ in sharpness) / sum(n for _, n in sharpness), rel=fresh)
    assert stream.described() == "one forward pass"
