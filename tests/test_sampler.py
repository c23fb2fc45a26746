"""The order of data: whole epochs without repetition, uniform draws with it, and exact continuation from a state."""

import pytest
import torch

from sgdscope.sampler import Sampler


def test_an_epoch_visits_every_sample_once_and_drops_the_rest():
    sampler = Sampler(11, 3, replacement=False, seed=0)
    epochs = [torch.cat([sampler.next() for _ in range(3)]).tolist() for _ in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == 9
        assert set(epoch) <= set(range(11))
    assert epochs[0] != epochs[1]  # a new order each time


def test_with_replacement_draws_are_uniform_and_may_exceed_the_data():
    sampler = Sampler(5, 1000, replacement=True, seed=0)
    counts = torch.bincount(sampler.next(), minlength=5)
    assert counts.sum() == 1000
    assert (counts - 200).abs().max() < 4 * (1000 * 0.2 * 0.8) ** 0.5


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("before", [0, 2, 3, 7])
def test_it_continues_exactly(replacement, before):
    one = Sampler(11, 3, replacement=replacement, seed=4)
    for _ in range(before):
        one.next()
    state = one.state()
    other = Sampler(11, 3, replacement=replacement, seed=5)
    other.load(state)
    for _ in range(8):  # over the end of an epoch
        assert torch.equal(one.next(), other.next())


def test_the_seed_is_the_order_and_nothing_global_is():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, same, other = (Sampler(64, 8, replacement=False, seed=s).next().tolist() for s in (1, 1, 2))
    assert one == same != other
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"expected a batch size of at most 10 \(the number of samples\), got 11\n"
                                         "hint: a smaller --batch-size, a larger --subset, or"):  # fmt: skip
        Sampler(10, 11, replacement=False, seed=0)
    with pytest.raises(ValueError, match="expected a batch size ≥ 1, got 0"):
        Sampler(10, 0, replacement=True, seed=0)
    one = Sampler(10, 2, replacement=False, seed=0)
    one.next()
    with pytest.raises(ValueError, match="expected an order of 12 samples, got one of 10"):
        Sampler(12, 2, replacement=False, seed=0).load(one.state())
