"""The functions for torch's AveragedModel against torch's own, and against the averages they come from."""

import pytest
import torch
from torch.optim import swa_utils

from sgdscope.average import EMA, PowerEMA, TwoPoint, UniformAverage, Window, avg_fn, multi_avg_fn
from tests.average.models import Net, batches, loss_fn


def trajectory(steps=15):
    """The same model after every step of training."""
    torch.manual_seed(0)
    model = Net().double()
    used = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.5)
    for x, y in batches(steps):
        loss_fn(model, (x.double(), y)).backward()
        used.step()
        used.zero_grad()
        yield model


def run(averaged, ours=None, every=1):
    for step, model in enumerate(trajectory(), 1):
        if step % every == 0:
            averaged.update_parameters(model)
        if ours is not None:
            ours.update(model, step)
    return averaged.module.state_dict()


def check_close(a, b, names=None):
    for name in names or a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("single", [False, True])
def test_ema_equals_torchs(single, use_buffers):
    model = Net().double()
    fn = {"avg_fn": avg_fn(EMA(0.9))} if single else {"multi_avg_fn": multi_avg_fn(EMA(0.9))}
    live = EMA(0.9, buffers="average" if use_buffers else "last")
    found = run(swa_utils.AveragedModel(model, use_buffers=use_buffers, **fn), live)
    theirs = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=use_buffers)
    expected = run(theirs)
    numbers = [name for name, value in expected.items() if value.is_floating_point()]
    check_close(found, expected, numbers)
    check_close(found, live.averaged_state_dict())
    assert found["calls"] == 15 == found["norm.num_batches_tracked"]  # theirs averages counters, and truncates


@pytest.mark.parametrize("single", [False, True])
def test_uniform_equals_torchs(single):
    model, live = Net().double(), UniformAverage(buffers="last")
    fn = {"avg_fn": avg_fn(UniformAverage())} if single else {"multi_avg_fn": multi_avg_fn(UniformAverage())}
    found = run(swa_utils.AveragedModel(model, **fn), live)
    check_close(found, run(swa_utils.AveragedModel(model)))
    check_close(found, live.averaged_state_dict())


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("kind", [lambda **k: PowerEMA(6.9, **k), lambda **k: EMA(0.9, start_corrected=True, **k)])
def test_rules_that_change_with_the_step(kind, every):
    live = kind(every=every, buffers="last")
    fn = multi_avg_fn(kind(), every=every)
    check_close(run(swa_utils.AveragedModel(Net().double(), multi_avg_fn=fn), live, every), live.averaged_state_dict())


@pytest.mark.parametrize("average", [Window(3), TwoPoint(3)])
def test_averages_of_several_copies_have_no_room_there(average):
    with pytest.raises(ValueError, match="an average of one copy"):
        multi_avg_fn(average)


def test_updates_have_an_interval():
    with pytest.raises(ValueError, match="steps between updates of at least 1, got 0"):
        avg_fn(EMA(0.9), every=0)
