"""Power EMAs rebuilt after training from snapshots of two."""

import numpy as np
import pytest
import torch

from sgdscope.average import CheckpointError, PowerEMA, PowerProfiles, combine, rebuild, save
from sgdscope.average.checkpoints import Checkpoints
from sgdscope.theory.averaging import averages, power_exponent
from tests.average.models import walk

STEPS = 1024
STORED = (0.05, 0.10)


def snapshots(folder, every, *, steps=STEPS, **settings):
    """Iterates are unit vectors, so that every average is its own profile over the steps."""
    profiles = PowerProfiles(STORED, **settings)
    for step in range(1, steps + 1):
        iterate = torch.zeros(steps, dtype=torch.float64)
        iterate[step - 1] = 1.0
        profiles.update([iterate], step)
        if step % every == 0:
            profiles.save(folder)
    return folder


@pytest.mark.parametrize(
    ("every", "exponent", "error"),
    [(128, 10.0, 0.0120), (128, 3.5579, 0.0329), (128, 1.8262, 0.0753),
     (32, 10.0, 0.00085), (32, 3.5579, 0.0023), (32, 1.8262, 0.0064)],
)  # fmt: skip
def test_profiles_are_rebuilt_as_well_as_snapshots_allow(tmp_path_factory, every, exponent, error):
    folder = snapshots(tmp_path_factory.mktemp("power"), every)
    state, found = rebuild(folder, exponent)
    wanted = averages.power(exponent, STEPS).weights[1:]
    measured = np.linalg.norm(state["0"].numpy() - wanted) / np.linalg.norm(wanted)
    assert measured == pytest.approx(error, rel=0.06)
    assert found.profile_error == pytest.approx(measured, rel=0.05)
    assert float(state["0"].sum()) == pytest.approx(1, abs=1e-9)
    assert found.coefficients.size == 2 * STEPS // every


def test_a_stored_profile_comes_back(tmp_path):
    path = walk(400)
    profiles, live = PowerProfiles(STORED, start=100), PowerEMA(relative_width=0.10, start=100)
    for step, theta in enumerate(path):
        for average in (profiles, live):
            average.update([torch.from_numpy(theta)], step)
        if step > 100 and step % 50 == 0:
            profiles.save(tmp_path)
    state, found = rebuild(tmp_path, relative_width=0.10)
    np.testing.assert_allclose(state["0"], live.averaged_state_dict()["0"], rtol=0, atol=1e-6)
    assert found.profile_error < 1e-6
    # an earlier end, counted from the start of the averages
    early, _ = rebuild(tmp_path, relative_width=0.10, step=200)
    weights = averages.power(power_exponent(0.10), 200).weights
    np.testing.assert_allclose(early["0"], weights @ path[100:301], rtol=0, atol=1e-6)


def test_models_in_half_precision_keep_their_snapshots_in_float32(tmp_path):
    profiles = PowerProfiles()
    for step in (1, 2, 3):
        profiles.update({"a": torch.full((2,), 1.0 + step / 64).bfloat16(), "n": torch.tensor(step)}, step)
    files = profiles.save(tmp_path)
    assert [path.name for path in files] == ["power-16.9722-step-00000003.safetensors",
                                             "power-6.9372-step-00000003.safetensors"]  # fmt: skip
    state = combine(Checkpoints.of(files), [0.5, 0.5])
    assert state["a"].dtype == torch.float32
    assert state["n"] == 3
    with pytest.raises(CheckpointError, match="exists"):
        profiles.save(tmp_path)


def test_they_go_on_bit_for_bit():
    path, one, two = walk(40), PowerProfiles(every=3), PowerProfiles(every=3)
    for step in range(1, 20):
        one.update([torch.from_numpy(path[step])], step)
    two.load_state_dict(one.state_dict())
    for profiles in (one, two):
        for step in range(20, 41):
            assert profiles.update([torch.from_numpy(path[step])], step) == (step % 3 == 0)
    for a, b in zip(one.averages, two.averages, strict=True):
        assert torch.equal(a.averaged_state_dict()["0"], b.averaged_state_dict()["0"])
    with pytest.raises(ValueError, match="state of 2 averages, got 0"):
        one.load_state_dict({})
    with pytest.raises(ValueError, match="exponent"):
        one.load_state_dict(PowerProfiles((0.05, 0.12), every=3).state_dict())


def test_what_cannot_be_rebuilt(tmp_path):
    with pytest.raises(ValueError, match="at least two different relative widths, got"):
        PowerProfiles((0.1, 0.1))
    with pytest.raises(CheckpointError, match="expected snapshots of power EMAs, got 0"):
        rebuild(tmp_path, 3.0)
    profiles = PowerProfiles()
    profiles.update([torch.zeros(1)], 0)
    with pytest.raises(ValueError, match="an update after step 0, where the averages start"):
        profiles.save(tmp_path)
    profiles.update([torch.zeros(1)], 5)
    profiles.save(tmp_path)
    with pytest.raises(ValueError, match="a target no later than the last snapshot"):
        rebuild(tmp_path, 3.0, step=6)
    with pytest.raises(ValueError, match="an exponent or a relative width, got neither"):
        rebuild(tmp_path)
    other = save({"0": torch.zeros(1)}, tmp_path / "power-1-step-1.safetensors")
    with pytest.raises(CheckpointError, match=r"expected a snapshot of a power EMA, got .*power-1-step-1"):
        rebuild([other, *profiles_of(tmp_path)], 3.0)


def profiles_of(folder):
    return sorted(folder.glob("power-*-step-00*.safetensors"))
