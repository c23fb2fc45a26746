"""What all running averages share: precision, names, buffers, saving, putting to use, and leaving training alone."""

import copy
import io
from collections import OrderedDict

import pytest
import torch
from torch import nn

from sgdscope.average import EMA, BatchNormWarning, MismatchError, PowerEMA, TwoPoint, UniformAverage, Window, assign
from tests.average.models import KINDS, Net, batches, bits, loss_fn, same


def trained(model, average=None, steps=12, optimizer=torch.optim.AdamW, first=0, **options):
    """Train a model under an average that is updated after every step."""
    used = optimizer(model.parameters(), lr=0.01, **options)
    for number, batch in enumerate(batches(first + steps)[first:], first + 1):
        loss_fn(model, batch).backward()
        used.step()
        if average is not None:
            average.update(model, number)
        used.zero_grad(set_to_none=False)
    return used


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("optimizer", "options"), [(torch.optim.SGD, {"momentum": 0.9, "nesterov": True}), (torch.optim.AdamW, {})]
)
def test_training_is_the_same_bit_for_bit(kind, optimizer, options):
    alone, watched = Net(), Net()
    torch.manual_seed(3)
    without = trained(alone, optimizer=optimizer, **options)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    average = KINDS[kind](every=2)
    with_average = trained(watched, average, optimizer=optimizer, **options)
    with average.swapped(watched, batches(3)):
        loss_fn(watched.eval(), batches(1)[0])
    watched.train()
    assert torch.equal(state, torch.get_rng_state())
    assert same(bits(alone), bits(watched))
    grads = [(p.grad, q.grad) for p, q in zip(alone.parameters(), watched.parameters(), strict=True)]
    assert all((g is None and h is None) or torch.equal(g, h) for g, h in grads)
    a, b = without.state_dict()["state"], with_average.state_dict()["state"]
    assert all(torch.equal(torch.as_tensor(a[i][k]), torch.as_tensor(b[i][k])) for i in a for k in a[i])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [0, 8])
def test_saved_in_the_middle_it_goes_on_bit_for_bit(kind, start):
    def build():
        return KINDS[kind](start=start, every=2)

    torch.manual_seed(0)
    model, through = Net(), build()
    trained(model, through, steps=5)  # with start 8: nothing has been averaged yet
    stream = io.BytesIO()
    torch.save({"average": through.state_dict(), "model": model.state_dict()}, stream)
    random = torch.get_rng_state()
    trained(model, through, steps=9, first=5)

    stream.seek(0)
    loaded = torch.load(stream, weights_only=True)
    resumed, again = build(), Net(seed=9)
    resumed.load_state_dict(loaded["average"])
    again.load_state_dict(loaded["model"])
    torch.set_rng_state(random)
    trained(again, resumed, steps=9, first=5)
    assert same(through.averaged_state_dict(), resumed.averaged_state_dict())
    assert (through.taken, through.last_step) == (resumed.taken, resumed.last_step)


def test_a_loaded_state_is_its_own():
    model, average = Net(), EMA(0.5)
    average.update(model, 1)
    state = average.state_dict()
    other = EMA(0.5)
    other.load_state_dict(state)
    with torch.no_grad():
        model.first.weight.add_(1)
    average.update(model, 2)
    assert not torch.equal(average.averaged_state_dict()["first.weight"], other.averaged_state_dict()["first.weight"])


@pytest.mark.parametrize(
    ("other", "said"),
    [(EMA(0.8), "decay 0.8, in the state 0.9"), (PowerEMA(2.0), "kind 'PowerEMA', in the state 'EMA'"),
     (EMA(0.9, every=5), "every 5, in the state 1"), (EMA(0.9, start=3), "start 3, in the state 0")],
)  # fmt: skip
def test_the_state_of_another_average_is_refused(other, said):
    with pytest.raises(ValueError, match=said):
        other.load_state_dict(EMA(0.9).state_dict())


@pytest.mark.parametrize("state", [{}, {"kind": "EMA"}, {"state": 3}])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(ValueError, match="expected the state dict of a EMA"):
        EMA(0.9).load_state_dict(state)


@pytest.mark.parametrize("kind", KINDS)
def test_swapped_restores_everything(kind):
    model, average = Net(), KINDS[kind]()
    trained(model, average)
    before, identities = bits(model), {n: (id(t), t.data_ptr()) for n, t in model.state_dict(keep_vars=True).items()}
    modes = [m.training for m in model.modules()]
    with average.swapped(model, batches(4)) as nothing:
        assert nothing is None
        held = average.averaged_state_dict()
        assert torch.equal(model.first.weight, held["first.weight"])
        assert model.again.weight is model.second.weight
        assert not torch.equal(model.norm.running_mean, held["norm.running_mean"])  # recomputed
        model.norm.running_mean = torch.ones(8)  # another tensor
        with torch.no_grad():
            model.scratch.fill_(7)
            model.head.weight.fill_(torch.nan)
    assert same(before, bits(model))
    assert identities == {n: (id(t), t.data_ptr()) for n, t in model.state_dict(keep_vars=True).items()}
    assert modes == [m.training for m in model.modules()]


def test_swapped_restores_after_an_error():
    model, average = Net(), EMA(0.9)
    trained(model, average)
    before = bits(model)
    with pytest.raises(KeyError), average.swapped(model, batches(1)):
        raise KeyError
    assert same(before, bits(model))
    with pytest.raises(ZeroDivisionError), average.swapped(model, batches(1), loss_fn=lambda m, b: 1 / 0):
        pass
    assert same(before, bits(model))


def test_it_is_a_state_dict_of_its_own_with_all_names():
    model, average = Net(), EMA(0.5)
    trained(model, average)
    state = average.averaged_state_dict()
    assert list(state) == list(model.state_dict())
    fresh = Net(seed=5)
    fresh.load_state_dict(state)  # strict
    assert "scratch" not in state
    assert torch.equal(state["again.weight"], state["second.weight"])
    assert state["calls"] == model.calls
    assert state["norm.num_batches_tracked"].dtype == torch.int64
    state["first.weight"].zero_()
    assert average.averaged_state_dict()["first.weight"].abs().sum() > 0


def test_buffers_as_asked_for():
    kept = {mode: EMA(0.5, buffers=mode) for mode in ("recompute", "average", "last")}
    model, means = Net(), []
    for step, batch in enumerate(batches(6), 1):
        loss_fn(model, batch)
        means.append(model.norm.running_mean.clone())
        for average in kept.values():
            average.update(model, step)
    expected = means[0]
    for mean in means[1:]:
        expected = 0.5 * expected + 0.5 * mean
    for mode in ("recompute", "average"):
        torch.testing.assert_close(kept[mode].averaged_state_dict()["norm.running_mean"], expected)
    last = kept["last"].averaged_state_dict()
    assert torch.equal(last["norm.running_mean"], means[-1])
    assert last["norm.num_batches_tracked"] == 6 == kept["average"].averaged_state_dict()["calls"]


def test_statistics_that_are_not_recomputed_are_spoken_of():
    model, average = Net(), EMA(0.5)
    average.update(model)
    with pytest.warns(BatchNormWarning, match="1 layers keep averaged running statistics.*pass"):
        average.apply_to(model)
    quiet = EMA(0.5, buffers="average")
    quiet.update(model)
    quiet.apply_to(model)
    plain = nn.Linear(2, 2)
    none = EMA(0.5)
    none.update(plain)
    none.apply_to(plain)


def test_apply_to_takes_statistics_anew():
    model, average = Net(), EMA(0.5)
    trained(model, average)
    other = Net(seed=4)
    average.apply_to(other, batches(5))
    assert other.norm.num_batches_tracked == 5
    assert torch.equal(other.first.weight, average.averaged_state_dict()["first.weight"])


# -- precision and place ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ema", "power", "uniform", "window", "two points"])
@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str
)
def test_accumulators_hold_what_short_formats_lose(kind, dtype):
    path = [1 + 1e-3 * torch.randn(400, generator=torch.Generator().manual_seed(i)) for i in range(60)]
    average = KINDS[kind]()
    exact = KINDS[kind](dtype=torch.float64)
    for step, values in enumerate(path):
        average.update([values.to(dtype)], step)
        exact.update([values.to(dtype)], step)
    assert average.averaged_state_dict()["0"].dtype == dtype
    found = average.averaged_state_dict(rounded=False)["0"]
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (found - exact.averaged_state_dict(rounded=False)["0"]).abs().max() < 1e-6


def test_a_bfloat16_ema_moves_where_one_in_bfloat16_stands_still():
    average, stuck = EMA(0.999), torch.ones(3, dtype=torch.bfloat16)
    for step in range(2000):
        new = torch.full((3,), 1.0 if step == 0 else 1.5, dtype=torch.bfloat16)
        average.update([new], step)
        stuck.lerp_(new, 0.001)
    assert stuck.max() < 1.01
    assert average.averaged_state_dict()["0"].min() > 1.4


def test_many_tensors_are_converted_in_chunks():
    tensors = [torch.randn(1 << 20).bfloat16() for _ in range(9)] + [torch.randn(3)]
    average = EMA(0.5)
    average.update(tensors)
    average.update([t + 1 for t in tensors])
    for index, tensor in enumerate(tensors):
        expected = 0.5 * tensor.float() + 0.5 * (tensor + 1).float()
        torch.testing.assert_close(
            average.averaged_state_dict(rounded=False)[str(index)], expected, rtol=1e-6, atol=1e-6
        )


def test_double_precision_where_float32_stands_still():
    coarse, fine = EMA(1 - 1e-8), EMA(1 - 1e-8, dtype=torch.float64)
    for step in range(3):
        for average in (coarse, fine):
            average.update([torch.full((1,), 1.0 + step)], step)
    assert coarse.averaged_state_dict()["0"] == 1
    assert fine.averaged_state_dict(rounded=False)["0"].item() == pytest.approx(1 + 3e-8, abs=1e-12)


def test_complex_weights_and_inference_mode():
    values = torch.randn(4, dtype=torch.complex64)
    average = EMA(0.5)
    with torch.inference_mode():
        average.update([values])
    average.update([3 * values])
    torch.testing.assert_close(average.averaged_state_dict()["0"], 2 * values)


# -- sources and targets ---------------------------------------------------------------------------------------------


def test_sources_of_any_form_give_the_same():
    model = nn.Linear(3, 2)
    kinds = [EMA(0.5) for _ in range(4)]
    for step in range(4):
        with torch.no_grad():
            model.weight.add_(1)
        for average, source in zip(
            kinds, [model, dict(model.named_parameters()), model.state_dict(), model.parameters()], strict=True
        ):
            average.update(source, step)
    expected = kinds[0].averaged_state_dict()
    assert same(expected, kinds[1].averaged_state_dict())
    assert same(expected, kinds[2].averaged_state_dict())
    assert list(kinds[3].averaged_state_dict()) == ["0", "1"]
    for average in kinds[:3]:
        other = nn.Linear(3, 2)
        average.apply_to(other)
        assert torch.equal(other.weight, expected["weight"])
    with kinds[3].swapped(model.parameters()):
        assert torch.equal(model.weight, expected["weight"])


def test_a_part_of_a_model_is_put_back_into_the_whole():
    model = Net()
    average = EMA(0.5, buffers="average")
    average.update({name: p for name, p in model.named_parameters() if p.requires_grad})
    with torch.no_grad():
        model.head.bias.fill_(3)
        model.head.weight.fill_(3)
    average.apply_to(model)
    assert (model.head.bias == 3).all()
    assert not (model.head.weight == 3).any()


class Wrapped(nn.Module):
    def __init__(self, inner, name):
        super().__init__()
        self.add_module(name, inner)


@pytest.mark.parametrize("wrap", ["_orig_mod", "module", "both", "inside"])
def test_wrapped_models_are_seen_through(wrap):
    model = Net()
    if wrap == "inside":
        wrapped = copy.deepcopy(model)
        wrapped.first = Wrapped(wrapped.first, "_orig_mod")
    else:
        wrapped = Wrapped(copy.deepcopy(model), "module" if wrap != "_orig_mod" else wrap)
        wrapped = Wrapped(wrapped, "_orig_mod") if wrap == "both" else wrapped
    average = EMA(0.5, buffers="average")
    average.update(model, 1)
    average.update(wrapped, 2)
    average.apply_to(wrapped)
    average.apply_to(model)
    assert list(average.averaged_state_dict()) == list(model.state_dict())


def test_compiled_and_parallel_models_are_seen_through():
    model = nn.Linear(3, 2)
    average = EMA(0.5)
    average.update(torch.compile(model), 1)
    average.update(nn.DataParallel(model), 2)
    average.update(torch.optim.swa_utils.AveragedModel(model).state_dict(), 3)
    average.apply_to(model)
    average.apply_to(torch.compile(nn.DataParallel(model)))


def test_other_models_are_refused_with_names():
    average = EMA(0.5)
    average.update(nn.Sequential(OrderedDict(a=nn.Linear(3, 2), b=nn.Linear(2, 2))))
    with pytest.raises(MismatchError, match=r"it lacks 'b.weight', 'b.bias' and it has 'c.weight', 'c.bias' besides"):
        average.update(nn.Sequential(OrderedDict(a=nn.Linear(3, 2), c=nn.Linear(2, 2))))
    with pytest.raises(MismatchError, match=r"'a.weight' in the model to have shape \(2, 3\).*got \(2, 4\)"):
        average.update(nn.Sequential(OrderedDict(a=nn.Linear(4, 2), b=nn.Linear(2, 2))))
    with pytest.raises(MismatchError, match=r"'a.weight' in the model to be float32.*got float64: convert"):
        average.update(nn.Sequential(OrderedDict(a=nn.Linear(3, 2), b=nn.Linear(2, 2))).double())
    many = nn.Sequential(*[nn.Linear(3, 2) for _ in range(5)])
    with pytest.raises(MismatchError, match=r"'1.bias' and 6 more besides"):
        average.apply_to(many)
    assert average.taken == 1
    average.update(nn.Sequential(OrderedDict(a=nn.Linear(3, 2), b=nn.Linear(2, 2))), 2)  # none of it did harm


def test_a_target_that_does_not_fit_is_unchanged():
    average = EMA(0.5)
    average.update(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))
    target = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5))
    before = bits(target)
    with pytest.raises(MismatchError, match="shape"):
        average.apply_to(target)
    assert same(before, bits(target))
    with pytest.raises(MismatchError, match="int64"):
        assign({"a": torch.zeros(2, dtype=torch.int64)}, {"a": torch.zeros(2)}, source="this average")


def test_it_is_put_into_another_precision():
    average = EMA(0.5)
    average.update(nn.Linear(3, 2))
    target = nn.Linear(3, 2).double()
    average.apply_to(target)
    assert torch.equal(target.weight.float(), average.averaged_state_dict()["weight"])


@pytest.mark.parametrize("source", [3, "weights", {}, [], torch.zeros(2), nn.ReLU(), {"a": 3}, [1.0]])
def test_what_holds_no_tensors_is_refused(source):
    with pytest.raises(ValueError, match="expected a model"):
        EMA(0.5).update(source)


def test_whole_numbers_alone_are_refused():
    with pytest.raises(ValueError, match="whole numbers only"):
        EMA(0.5).update([torch.zeros(3, dtype=torch.int64)])


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: EMA(1.0), r"decay in \[0, 1\), got 1.0"),
        (lambda: EMA(-0.1), r"decay in \[0, 1\), got -0.1"),
        (lambda: EMA(float("nan")), "decay"),
        (lambda: EMA(0.9, every=0), "steps between updates of at least 1, got 0"),
        (lambda: EMA(0.9, start=-1), "start of the average of at least 0, got -1"),
        (lambda: EMA(0.9, buffers="none"), "recompute, average, last, got 'none'"),
        (lambda: EMA(0.9, dtype=torch.int64), "dtype of real numbers"),
        (lambda: Window(0), "length of the window of at least 1, got 0"),
        (lambda: Window(3, 0), "stride of at least 1, got 0"),
        (lambda: Window(2.5), "whole number"),
        (lambda: TwoPoint(0), "gap between the two points of at least 1"),
        (lambda: TwoPoint(10, every=3), "multiple of the steps between updates, got 10 and 3"),
        (lambda: PowerEMA(-1.0), "exponent > −1, got -1.0"),
        (lambda: PowerEMA(), "an exponent or a relative width, got neither"),
        (lambda: PowerEMA(1.0, relative_width=0.1), "an exponent or a relative width, got both"),
        (lambda: PowerEMA(relative_width=0.5), "relative width of at most"),
    ],
)
def test_settings_without_sense_are_refused(build, said):
    with pytest.raises(ValueError, match=said):
        build()


def test_steps_go_forward():
    average, p = EMA(0.5, every=3), [torch.zeros(1)]
    average.update(p, 4)
    for step in (4, 2):
        with pytest.raises(ValueError, match=f"expected a step after 4, the last one seen, got {step}"):
            average.update(p, step)
    with pytest.raises(ValueError, match="steps that increase, got 3 after 5"):
        average.weights([5, 3])


def test_nothing_averaged_yet():
    average = EMA(0.5, start=100)
    with pytest.raises(ValueError, match="begins at step 100, and the last call was none"):
        average.averaged_state_dict()
    average.update([torch.zeros(1)], 7)
    with pytest.raises(ValueError, match="begins at step 100, and the last call was step 7"):
        average.averaged_state_dict()


@pytest.mark.parametrize("kind", ["ema", "window"])
def test_nan_is_named(kind):
    average, model = KINDS[kind](), nn.Linear(3, 2)
    average.update(model)
    with torch.no_grad():
        model.bias[0] = torch.nan
    average.update(model)
    with pytest.raises(ValueError, match="NaN or infinity in 'bias'"):
        average.averaged_state_dict()


def test_large_numbers_are_no_infinity():
    average = UniformAverage()
    average.update([torch.full((3,), 3e38)])
    assert average.averaged_state_dict()["0"][0] == torch.tensor(3e38)


@pytest.mark.parametrize(
    ("average", "copies"),
    [(EMA(0.9), 1), (UniformAverage(), 1), (PowerEMA(3.0), 1), (Window(4), 4), (TwoPoint(10), 2),
     (TwoPoint(10, every=5), 3)],
)  # fmt: skip
def test_copies_kept_are_those_stated(average, copies):
    for step in range(60):
        average.update([torch.zeros(10)], step)
    assert len(average.state_dict()["copies"]) == copies


def test_an_update_makes_no_tensors():
    from torch.profiler import ProfilerActivity, profile

    model = nn.Sequential(*[nn.Linear(100, 100) for _ in range(4)])
    for average in (EMA(0.9), Window(2)):
        average.update(model)
        average.update(model)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            average.update(model)
        made = sum(
            e.nbytes() for e in record.profiler.kineto_results.events() if e.name() == "[memory]" and e.nbytes() > 0
        )
        assert made <= 64, average
