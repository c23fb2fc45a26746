"""Running statistics taken anew: right for any batch, and nothing else touched."""

import random
from collections import UserDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sgdscope.average import EMA, buffer_losses, recompute_batch_norm
from tests.average.models import Net, batches, bits, loss_fn, same


def inputs(count=6):
    return [x for x, _ in batches(count)]


def plain_net(seed=0):
    """Net without its dropout, for which torch's own update_bn is right."""
    model = Net(seed)
    model.drop = nn.Identity()
    return model


def test_as_torch_does_without_dropout():
    ours, theirs = plain_net(), plain_net()
    done = recompute_batch_norm(ours, inputs())
    torch.optim.swa_utils.update_bn(inputs(), theirs)
    assert same(bits(ours), bits(theirs))
    assert (done.layers, done.batches) == (1, 6)
    assert str(done) == "running statistics of 1 layers recomputed from 6 batches"


def test_statistics_are_means_over_batches():
    model = Net()
    hidden = [model.first(x).detach().double() for x in inputs()]
    recompute_batch_norm(model, inputs())
    torch.testing.assert_close(model.norm.running_mean.double(), sum(h.mean(0) for h in hidden) / 6, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.norm.running_var.double(), sum(h.var(0) for h in hidden) / 6, rtol=0, atol=1e-6)
    assert model.norm.num_batches_tracked == 6


class Behind(nn.Module):
    """Dropout before the layer with statistics."""

    def __init__(self):
        super().__init__()
        self.drop, self.norm = nn.Dropout(0.9), nn.BatchNorm1d(6)

    def forward(self, x):
        return self.norm(self.drop(x))


def test_layers_see_what_they_will_see():
    model = Behind()
    recompute_batch_norm(model, inputs())
    torch.testing.assert_close(model.norm.running_mean, sum(x.mean(0) for x in inputs()) / 6)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain_net()

    def forward(self, x, y=None):
        return self.net(x)


@pytest.mark.parametrize(
    ("form", "call"),
    [
        (lambda x, y: x, None),
        (lambda x, y: (x, y), None),
        (lambda x, y: [x, y], None),
        (lambda x, y: {"x": x, "y": y}, None),
        (lambda x, y: UserDict(x=x), None),
        (lambda x, y: {"inputs": x, "targets": y}, lambda model, batch: model(batch.pop("inputs"))),
        (lambda x, y: (y, x), lambda model, batch: loss_fn(model, batch[::-1])),
    ],
)
def test_batches_of_any_form(form, call):
    model, expected = Named(), plain_net()
    recompute_batch_norm(expected, inputs(20))
    given = [form(x, y) for x, y in batches()]
    for _ in range(2):  # what the call pops comes back
        recompute_batch_norm(model, given, call)
        assert same(bits(model.net), {**bits(expected), "calls": model.net.calls, "scratch": model.net.scratch})


def test_a_loader_does():
    x, y = map(torch.cat, zip(*batches(4), strict=True))
    model, state = Net(), (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())  # noqa: NPY002
    done = recompute_batch_norm(model, DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True))
    assert done.batches == 4
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1] == random.getstate()
    assert (state[2] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_modes_momenta_and_gradients_come_back():
    model = Net()
    model.norm.momentum = 0.37
    loss_fn(model, batches(1)[0]).backward()
    model.norm.eval()  # some in one mode, some in the other
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    recompute_batch_norm(model, inputs())
    assert model.norm.momentum == 0.37
    assert modes == [m.training for m in model.modules()]
    assert all((g is None and p.grad is None) or torch.equal(g, p.grad) for g, p in zip(grads, model.parameters(),
                                                                                      strict=True))  # fmt: skip
    assert not model.norm.running_mean.requires_grad


def fails_late():
    yield from inputs(2)
    raise OSError("disk gone")


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ([], ValueError, "at least one batch"),
        (fails_late(), OSError, "disk gone"),
        ([torch.full((4, 6), torch.nan)], ValueError, "finite running statistics"),
        (torch.zeros(4, 6), ValueError, "one after another, got Tensor"),
        ({"x": torch.zeros(4, 6)}, ValueError, "one after another, got dict"),
        (3, ValueError, "one after another, got int"),
        ([{"inputs": torch.zeros(4, 6)}], ValueError, "takes inputs by name.*\n.*pass loss_fn"),
    ],
)
def test_on_an_error_statistics_are_as_before(given, error, said):
    model = Net()
    for batch in batches(3):
        loss_fn(model, batch)
    model.norm.momentum, before = 0.2, {k: v for k, v in bits(model).items() if "norm" in k}
    with pytest.raises(error, match=said):
        recompute_batch_norm(model, given)
    assert same(before, {k: v for k, v in bits(model).items() if "norm" in k})
    assert model.norm.momentum == 0.2
    assert model.norm.training


def test_no_statistics_nothing_to_do():
    model = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3, track_running_stats=False), nn.LayerNorm(3))
    untouched = iter(inputs())
    done = recompute_batch_norm(model, untouched)
    assert done.layers == 0
    assert str(done) == "no layer with running statistics: nothing to recompute"
    assert len(list(untouched)) == 6
    losses = buffer_losses(model, {k: v * 0 for k, v in model.state_dict().items()}, [], batches(3), loss_fn)
    assert losses.last == losses.averaged == losses.recomputed == pytest.approx(np.log(3), rel=1e-6)
    assert "nothing to recompute" in str(losses)


def test_instance_norm_has_statistics_too():
    model = nn.InstanceNorm1d(3, track_running_stats=True)
    data = [torch.randn(5, 3, 7, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    recompute_batch_norm(model, data)
    torch.testing.assert_close(model.running_mean, sum(x.mean((0, 2)) for x in data) / 4)
    torch.testing.assert_close(model.running_var, sum(x.var(2).mean(0) for x in data) / 4)
    assert model.momentum == 0.1


def test_losses_by_their_statistics():
    model, average = Net(), EMA(0.8)
    used = torch.optim.SGD(model.parameters(), lr=0.5)
    for step, batch in enumerate(batches(), 1):
        loss_fn(model, batch).backward()
        used.step()
        used.zero_grad()
        average.update(model, step)
    before, held = bits(model), average.averaged_state_dict()
    random_state = torch.get_rng_state()
    shuffled = DataLoader(batches(), batch_size=None, shuffle=True)
    losses = buffer_losses(model, average, shuffled, batches(5, 8, 3), loss_fn)
    assert torch.equal(random_state, torch.get_rng_state())
    assert same(before, bits(model))
    assert model.training

    def by_hand(state):
        other = Net().eval()
        other.load_state_dict(state)
        with torch.no_grad():
            return np.mean([float(loss_fn(other, batch)) for batch in batches(5, 8, 3)])

    assert losses.averaged == pytest.approx(by_hand(held), rel=1e-6)
    of_last = {name: value for name, value in model.state_dict().items() if name.startswith("norm.run")}
    assert losses.last == pytest.approx(by_hand({**held, **of_last}), rel=1e-6)
    other = Net()
    other.load_state_dict(held)
    recompute_batch_norm(other, inputs(20))
    assert losses.recomputed == pytest.approx(by_hand(other.state_dict()), rel=1e-6)
    assert "with recomputed statistics" in str(losses)
    by_state = buffer_losses(model, held, batches(), batches(5, 8, 3), loss_fn)
    assert (by_state.last, by_state.averaged, by_state.done) == (losses.last, losses.averaged, losses.done)


def test_losses_need_something_to_evaluate_and_averages():
    model, average = Net(), EMA(0.8, buffers="last")
    average.update(model)
    with pytest.raises(ValueError, match="averages buffers, got one with buffers='last'"):
        buffer_losses(model, average, batches(), batches(), loss_fn)
    before = bits(model)
    with pytest.raises(ValueError, match="to evaluate on, more than once, got none"):
        buffer_losses(model, average.averaged_state_dict(), batches(), iter(batches()[:1]), loss_fn)
    assert same(before, bits(model))
    assert model.training
