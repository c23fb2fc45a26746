"""Twenty steps with and without the monitor are bit-identical: the promise everything else rests on."""

import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from tests.quick_readings import quick_readings
from torch import nn
from torch.nn import functional as F

from sgdscope.models import build
from sgdscope.monitor import Monitor
from sgdscope.monitor.readings import NAMES
from sgdscope.risk import Risk

SAMPLES, CLASSES = 24, 3


class Attention(nn.Module):
    """One head over four positions, by the fused kernel, with dropout inside it."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 18), nn.Linear(6, CLASSES)

    def forward(self, x):
        q, k, v = self.qkv(x).unsqueeze(1).chunk(3, -1)
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=0.2 if self.training else 0.0)
        return self.out(attended.squeeze(1).mean(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.out(torch.tanh(self.second(torch.tanh(self.first(x)))))


def perceptron(*between, frozen=False):
    model = nn.Sequential(nn.Linear(6, 8), *between, nn.Linear(8, CLASSES))
    model[0].weight.requires_grad_(not frozen)
    return model


MODELS = {
    "tanh": ((6,), lambda: perceptron(nn.Tanh())),
    "dropout": ((6,), lambda: perceptron(nn.ReLU(), nn.Dropout(0.3))),
    "cnn": ((1, 6, 6), lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.GELU(), nn.Flatten(), nn.Linear(48, CLASSES))),
    "resnet": ((3, 8, 8), lambda: build("resnet", input_shape=(3, 8, 8), classes=CLASSES, width=4, depth=1,
                                        norm="batch")),
    "attention": ((4, 6), Attention),
    "tied": ((6,), Tied),
    "frozen": ((6,), lambda: perceptron(nn.Tanh(), frozen=True)),
}  # fmt: skip
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-3),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=3e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=3e-3, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=3e-3, momentum=0.5, centered=True),
}
WAYS = ("plain", "clipping", "accumulation", "bfloat16")
TABLE = [
    (model, optimizer, WAYS[(i + j) % len(WAYS)])  # every pair of (model, optimizer, way) occurs
    for i, model in enumerate(MODELS)
    for j, optimizer in enumerate(OPTIMIZERS)
]


few_batches = pytest.fixture(autouse=True)(quick_readings)  # what one batch leaves alone, sixty do


def loss_fn(model, batch):
    inputs, labels = batch
    return F.cross_entropy(model(inputs).float(), labels)


def everything(model, optimizer, losses):
    """All that training has changed or will draw from, as comparable tensors and values."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    tensors |= {f"grad {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"{index} {key}": torch.as_tensor(value) for key, value in state.items() if value is not None}
    tensors["random"] = torch.get_rng_state()
    numpy = np.random.get_state()  # noqa: NPY002
    tensors["numpy"] = torch.from_numpy(numpy[1].astype(np.int64))
    flags = [module.training for module in model.modules()]
    hooks = [len(getattr(m, name)) for m in model.modules() for name in ("_forward_hooks", "_backward_hooks")]
    return tensors, (losses, random.getstate(), numpy[2:], flags, hooks, torch.is_autocast_enabled("cpu"))


def train(shape, make, optimizer, way, watched):
    torch.manual_seed(1)
    np.random.seed(2)  # noqa: NPY002
    random.seed(3)
    inputs, labels = torch.randn(SAMPLES, *shape), torch.randint(CLASSES, (SAMPLES,))
    model = make()
    optimizer = OPTIMIZERS[optimizer]([p for p in model.parameters() if p.requires_grad])
    risk = Risk(model, loss_fn, (inputs, labels))
    monitor = Monitor(risk, optimizer, every=5) if watched else None
    losses = []
    with monitor or nullcontext():
        for _ in range(20):
            optimizer.zero_grad()
            batches = []
            for _ in range(2 if way == "accumulation" else 1):
                # the order of data hangs on every global generator, so a disturbed one shows at once
                shift = random.randrange(SAMPLES) + np.random.randint(SAMPLES)  # noqa: NPY002
                chosen = (torch.randperm(SAMPLES)[:8] + shift) % SAMPLES
                batches.append((inputs[chosen], labels[chosen]))
                with torch.autocast("cpu", torch.bfloat16, enabled=way == "bfloat16"):
                    loss = loss_fn(model, batches[-1])
                (loss / 2 if way == "accumulation" else loss).backward()
                losses.append(loss.item())
            if way == "clipping":
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.3)
            optimizer.step()
            if monitor is not None:
                monitor.observe(*batches, loss=loss)
        state = everything(model, optimizer, losses)
    if monitor is not None:  # the final readings disturb nothing either
        after = everything(model, optimizer, losses)
        assert all(torch.equal(after[0][name], tensor) for name, tensor in state[0].items())
        assert after[1] == state[1]
    return *state, monitor


@pytest.mark.parametrize(("model", "optimizer", "way"), TABLE, ids=lambda value: value)
def test_training_is_bit_identical_under_the_monitor(model, optimizer, way):
    shape, make = MODELS[model]
    plain, other, _ = train(shape, make, optimizer, way, watched=False)
    watched, watched_other, monitor = train(shape, make, optimizer, way, watched=True)
    assert plain.keys() == watched.keys()
    assert [name for name, tensor in plain.items() if not torch.equal(tensor, watched[name])] == []
    assert other == watched_other
    # it did measure, and nothing raised inside
    assert {*NAMES, "spectrum", "batch_line", "edge_ratio", "loss"} <= monitor.latest.keys()
    assert ("charges" in monitor.latest) == (model in ("dropout", "resnet", "attention"))  # others cannot be rescaled
    assert ("full_loss_step" in monitor.latest) == (optimizer in ("sgd", "momentum", "nesterov"))
    assert ("noise_covariance" in monitor.latest) == (model != "resnet")  # whose samples are mixed by BatchNorm
    assert [e.reason for e in monitor.latest.values() if "Error" in e.reason] == []


def test_the_table_holds_every_pair():
    pairs = {pair for a, b, c in TABLE for pair in ((a, b), (a, c), (b, c))}
    assert len(pairs) == len(MODELS) * len(OPTIMIZERS) + (len(MODELS) + len(OPTIMIZERS)) * len(WAYS)


def train_with_failures(watched):
    """A loss that dies half way in every measurement, after meddling with mode and random state."""

    def failing(model, batch):
        if started:
            model.training = False
            torch.rand(3)
            raise RuntimeError("boom")
        return loss_fn(model, batch)

    started = False
    torch.manual_seed(0)
    model = perceptron(nn.ReLU(), nn.Dropout(0.3))
    data = (torch.randn(SAMPLES, 6), torch.randint(CLASSES, (SAMPLES,)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    risk = Risk(model, failing, data)
    started = True
    with Monitor(risk, optimizer, every=2, batch_size=8) if watched else nullcontext() as monitor:
        for step in range(6):
            batch = tuple(t[4 * (step % 3) :][:8] for t in data)
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
            if watched:
                monitor.observe(batch)
    return everything(model, optimizer, []), monitor


def test_measurements_that_die_half_way_leave_no_trace_either():
    (plain, other), _ = train_with_failures(watched=False)
    (watched, watched_other), monitor = train_with_failures(watched=True)
    assert all(torch.equal(watched[name], tensor) for name, tensor in plain.items())
    assert watched_other == other
    assert {name: monitor.latest[name].reason for name in NAMES} == dict.fromkeys(NAMES, "RuntimeError: boom")
