"""Elementary functions of kernels in single precision against the library's."""

import numpy as np
import pytest

from sgdscope.simulate.compiling import kernel

TEXT = "from sgdscope.simulate.functions import cos32, exp32, log32, sin32, tanh32\n" + "".join(
    f"\n\ndef {name}(x, found):\n    for i in range(len(x)):\n        found[i] = {name}32(x[i])\n"
    for name in ("exp", "log", "sin", "cos", "tanh")
)
NEAR_ZERO = np.concatenate([s * np.logspace(-30, 0, 2000) for s in (-1, 1)] + [[0.0]])


def computed(name, x):
    x = np.asarray(x, dtype=np.float32)
    found = np.empty_like(x)
    kernel(TEXT, name)(x, found)
    return x.astype(float), found


@pytest.mark.parametrize(
    ("name", "x"),
    [
        ("exp", np.linspace(-87, 88.7, 300_001)), ("exp", NEAR_ZERO), ("log", np.logspace(-44.5, 38, 300_001)),
        ("log", np.linspace(0.5, 2, 100_001)), ("sin", np.linspace(-1000, 1000, 300_001)), ("sin", NEAR_ZERO),
        ("cos", np.linspace(-1000, 1000, 300_001)), ("cos", NEAR_ZERO), ("tanh", np.linspace(-20, 20, 100_001)),
        ("tanh", NEAR_ZERO),
    ],
)  # fmt: skip
def test_errors_are_as_small_as_said(name, x):
    x, found = computed(name, x)
    exact = getattr(np, name)(x)
    scale = np.abs(exact) if name == "exp" else np.maximum(1, np.abs(exact))
    assert np.max(np.abs(found - exact) / scale) < 4e-7


def test_the_ends():
    inf, nan = np.inf, np.nan
    np.testing.assert_array_equal(computed("exp", [inf, 89, 200, -inf, -110, nan, 0])[1], [inf, inf, inf, 0, 0, nan, 1])
    np.testing.assert_array_equal(computed("log", [inf, 0, -1, nan, 1])[1], [inf, -inf, nan, nan, 0])
    np.testing.assert_array_equal(computed("tanh", [inf, -inf, nan, 0])[1], [1, -1, nan, 0])
    for name in ("sin", "cos"):
        assert np.all(np.isnan(computed(name, [inf, -inf, nan, 65536, 1e9])[1]))


@pytest.mark.parametrize("name", ["exp", "log", "sin", "cos", "tanh"])
def test_lanes_vectorise(name):
    run = kernel(TEXT, name, keep=False)
    run(np.ones(4, np.float32), np.ones(4, np.float32))
    assembly = "".join(run.inspect_asm().values())
    assert "mulps" in assembly or "fmul\tv" in assembly
