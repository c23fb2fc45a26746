"""Compiled kernels are kept on disk, and missed nowhere if they cannot be."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from sgdscope.simulate import compiling

TEXT = "def kernel(x):\n    return x * x + 1.0\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiling.kernel.cache_clear()
    yield tmp_path / "sgdscope" / "kernels"
    compiling.kernel.cache_clear()


def test_machine_code_is_kept(folder):
    assert compiling.kernel(TEXT)(3.0) == 10.0
    assert len(list(folder.glob("kernel_*.py"))) == 1
    assert list(folder.glob("__pycache__/*.nbc"))
    compiling.kernel.cache_clear()
    again = compiling.kernel(TEXT)
    assert again(3.0) == 10.0
    assert sum(again.stats.cache_hits.values()) == 1


def test_another_text_is_another_kernel(folder):
    assert compiling.kernel(TEXT)(3.0) == 10.0
    assert compiling.kernel(TEXT.replace("1.0", "2.0"))(3.0) == 11.0
    assert len(list(folder.glob("kernel_*.py"))) == 2


def test_a_damaged_file_is_written_anew(folder):
    compiling.kernel(TEXT)(3.0)
    (path,) = folder.glob("kernel_*.py")
    path.write_text("def kernel(x):\n    return 0.0\n", encoding="utf-8")
    compiling.kernel.cache_clear()
    assert compiling.kernel(TEXT)(3.0) == 10.0


def test_without_a_place_to_keep_it(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    compiling.kernel.cache_clear()
    assert compiling.kernel(TEXT)(3.0) == 10.0
    compiling.kernel.cache_clear()


def test_old_kernels_go(folder, monkeypatch):
    monkeypatch.setattr(compiling, "KEPT", 2)
    for i in range(4):
        assert compiling.kernel(TEXT.replace("1.0", f"{i}.0"))(3.0) == 9.0 + i
        for path in folder.glob("kernel_*.py"):
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**9))
    assert len(list(folder.glob("kernel_*.py"))) == 2
    assert len(list(folder.glob("__pycache__/*.nbi"))) == 2


def test_division_by_zero_raises_nothing():
    run = compiling.kernel("def kernel(x):\n    for i in range(len(x)):\n        x[i] = 1.0 / x[i]\n")
    x = np.array([0.0, 2.0], np.float32)
    run(x)
    np.testing.assert_array_equal(x, [np.inf, 0.5])


@pytest.mark.slow
def test_ctrl_c_returns_what_is_done(tmp_path):
    """The signal itself, in a process of its own: the result comes back marked, and can be gone on from."""
    code = """
import sys
from sgdscope.simulate import Average, Overdamped, ensemble
def tell(share):
    print("going", flush=True)
well, process = "x**4/4 - x**2/2", Overdamped(0.25, 0.01)
found = ensemble(well, process, replicas=4096, steps=10**8, start=-1.0, record=Average("x**2"), progress=tell)
assert found.interrupted and 0 < found.steps < 10**8, found.steps
assert 0.1 < found.averages["x**2"].value < 2
assert ensemble(well, process, start=found, steps=10).state.step == found.steps + 10
print("done", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "going\n"
        time.sleep(0.3)
        process.send_signal(2)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output.endswith("done\n")
