"""Instrumented backward: the numbers of the batch trained on, from its own pass; training bit-identical."""

import pytest
import torch
import torch.nn.functional as F
from tests.cases import CASES, by_case, mlp, squared
from torch import nn

from sgdscope.chain.curvature import batch_curvatures
from sgdscope.measure import InstrumentedBackward, gradient_noise
from sgdscope.per_sample import gradient_gram
from sgdscope.risk import Risk

HEARD = {"mlp tanh", "mlp relu", "mlp gelu", "linear", "cnn", "attention", "dict", "mapping"}


@pytest.mark.parametrize(**by_case(only=lambda case: case.name in HEARD))
def test_as_measured_apart(case):
    risk, batch = case.risk(), case.data()
    with InstrumentedBackward(risk) as heard:
        case.loss(risk.model, case.data()).backward()
    found, right = heard.gram(batch), gradient_gram(risk, batch)
    assert list(found.layers) == list(right.layers)
    for name, gram in right.layers.items():
        torch.testing.assert_close(found.layers[name], gram, rtol=1e-9, atol=1e-12)
    if case.chain:
        own, apart = heard.curvature(case.data()), batch_curvatures(risk, case.data(), 12)
        assert own.curvature == pytest.approx(float(apart.curvatures), rel=1e-10)
        assert own.squared_norm == pytest.approx(float(apart.squared_norms), rel=1e-10)
        assert own.sharpness == pytest.approx(float(apart.curvatures / apart.squared_norms), rel=1e-10)
        assert heard.gram(batch).loss == pytest.approx(risk.value(), rel=1e-12)
    noise = heard.noise(batch)
    assert noise.value == pytest.approx(gradient_noise(risk).value, rel=1e-9)
    assert noise.standard_error > 0  # a batch is a sample, whatever the risk's data


@pytest.mark.parametrize(**by_case(only=lambda case: case.name in HEARD))
def test_training_is_bit_identical(case):
    def train(watched):
        risk = case.risk()
        optimizer = torch.optim.SGD(risk.model.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            if watched:
                with InstrumentedBackward(risk) as heard:
                    case.loss(risk.model, case.data()).backward()
                heard.noise(case.data())
                if case.chain:
                    heard.curvature(case.data())
            else:
                case.loss(risk.model, case.data()).backward()
            optimizer.step()
        return [p.detach() for p in risk.parameters], torch.random.get_rng_state()

    (plain, state), (watched, other) = train(False), train(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert torch.equal(state, other)


def test_in_place_activations_do_not_spoil_it():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)).double()
    risk = Risk(model, squared, CASES[0].data())
    with InstrumentedBackward(risk) as heard:
        squared(model, CASES[0].data()).backward()
    right = gradient_gram(risk, CASES[0].data(), method="explicit")
    torch.testing.assert_close(heard.gram(CASES[0].data()).total, right.total, rtol=1e-9, atol=1e-12)


def test_it_hears_the_step_not_the_weights_after_it():
    """Read after another batch's forward pass was heard too, or with another batch: refused, not wrong."""
    risk = Risk(mlp("tanh").double(), squared, CASES[0].data())
    x, y = CASES[0].data()
    with InstrumentedBackward(risk) as heard:
        squared(risk.model, (x, y)).backward()
        squared(risk.model, (x, y)).backward()
    with pytest.raises(ValueError, match="expected one forward pass heard, got 2\nhint: one InstrumentedBackward"):
        heard.gram((x, y))
    with InstrumentedBackward(risk) as heard:
        squared(risk.model, (x, y)).backward()
    with pytest.raises(ValueError, match=r"expected the batch of the step that was heard \(12 samples\), got one of 5"):
        heard.gram((x[:5], y[:5]))
    attention = next(c for c in CASES if c.name == "attention")
    with pytest.raises(ValueError, match="expected one forward and backward pass heard, got none"):
        InstrumentedBackward(attention.risk()).gram(attention.data())
    with pytest.raises(ValueError, match="expected a chain of layers, got one that is none: Block is neither"):
        InstrumentedBackward(attention.risk()).curvature(attention.data())


def test_refused_with_the_reason():
    tied = next(c for c in CASES if c.name == "tied")
    with pytest.raises(ValueError, match="got one that cannot: tied parameters\nhint: measure"):
        InstrumentedBackward(tied.risk())


def contrastive(model, batch):
    features = model(batch[0])
    return F.cross_entropy(features @ features.T, torch.arange(len(features)))


def test_losses_that_mix_samples_are_refused():
    with pytest.raises(ValueError, match="got one that cannot: "):
        InstrumentedBackward(Risk(mlp("tanh").double(), contrastive, CASES[0].data()))
