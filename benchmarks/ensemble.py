"""Ensembles: replica-steps per second against what the arithmetic allows, written by hand in C.

The task is the double well x⁴/4 − x²/2 with diffusion T(1 + x²/2), T = 1/4, in Euler steps of 0.01, single precision.
Everything is timed in turns in one process on one core; a ratio is the probe's time over ours, so that 1 is the limit.
"""

from __future__ import annotations

import ctypes
import math
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Ratio, Row, interleaved
from sgdscope.simulate import FirstPassage, Kinetic, Overdamped, ensemble
from sgdscope.theory.potential import Potential

REPLICAS = 102_400
STEPS = 2000
ROUNDS = 9
STEP, TEMPERATURE = 0.01, 0.25
WELL = Potential("x**4/4 - x**2/2")
VARYING = Overdamped(TEMPERATURE, STEP, "1 + x**2/2")
KINETIC = Kinetic(1.0, TEMPERATURE, STEP)
NEVER = FirstPassage(until="x > 50", absorb=True)
"""A level that is looked for at each step and never reached."""


def probe(folder: Path) -> Any:
    """The C probe as a library, or the reason why there is none."""
    library = folder / "probe.so"
    source = Path(__file__).with_name("ensemble_probe.c")
    flags = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
    try:
        subprocess.run(["gcc", *flags, str(source), "-o", str(library), "-lm"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no C compiler ({type(error).__name__})"
    return ctypes.CDLL(str(library))


def probed(library: Any, name: str, *numbers: float) -> Callable[[], object]:
    """One run of a probe on as many lanes and steps as ours."""
    x, v = np.full(REPLICAS, -1, np.float32), np.zeros(REPLICAS, np.float32)
    words = np.random.default_rng(0).integers(0, 1 << 32, (4, REPLICAS), dtype=np.uint32)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (x, v, words)]
    arguments = [ctypes.c_long(REPLICAS), ctypes.c_long(STEPS // 2), *map(ctypes.c_float, numbers)]

    def run() -> float:
        x[:] = -1
        getattr(library, name)(*pointers, *arguments)
        return float(x.sum())

    return run


def ours(process: Any = VARYING, threads: int = 1, **settings: Any) -> Callable[[], object]:
    """One run of an ensemble, all it takes included."""
    return lambda: ensemble(WELL, process, replicas=REPLICAS, steps=STEPS, start=-1.0, threads=threads, **settings)


def rows() -> Iterator[Row]:
    started = time.perf_counter()
    ours()()
    figure = "first run of a double well, Numba and its kernel loaded or compiled"
    yield Row(figure, f"{time.perf_counter() - started:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        library = probe(Path(folder))
        if isinstance(library, str):
            yield Row("ensembles against the C probe", library)
        else:
            yield from against_the_probe(library)


def against_the_probe(library: Any) -> Iterator[Row]:
    amplitude = math.sqrt(2 * TEMPERATURE * STEP)
    keep = math.exp(-STEP)
    actions = {
        "probe": probed(library, "well", STEP, amplitude),
        "generator": probed(library, "generator", 0.0, 0.0),
        "fast": ours(fast=True),
        "keyed": ours(),
        "passage": ours(fast=True, record=NEVER),
        "keyed passage": ours(record=NEVER),
        "double": ours(fast=True, precision="float64"),
        "kinetic probe": probed(library, "baoab", STEP / 2, keep, math.sqrt(TEMPERATURE * (1 - keep**2))),
        "kinetic": ours(KINETIC, fast=True),
        "keyed kinetic": ours(KINETIC),
        "two threads": ours(threads=2),
    }  # fmt: skip
    times = interleaved(actions, rounds=ROUNDS)
    rate = REPLICAS * STEPS / min(times["probe"])
    yield Row("limit: the probe in C, xoshiro128+", f"{rate:.3g} replica-steps/s on one core",
              f"normals alone {REPLICAS * STEPS / min(times['generator']):.3g}/s")  # fmt: skip

    def row(figure: str, name: str, reference: str, bar: float | None) -> Row:
        ratio = Ratio.of(times[reference], times[name])
        met = ratio.median >= bar if bar else None
        return Row(figure, f"{ratio} of the limit", "C probe", f"≥ {bar}" if bar else "-", met)

    yield row("double well, fast generator", "fast", "probe", 0.8)
    yield row("double well, keyed generator", "keyed", "probe", 0.5)
    yield row("the same with first passages, fast", "passage", "probe", 0.7)
    yield row("the same with first passages, keyed", "keyed passage", "probe", None)
    yield row("double well in double precision, fast", "double", "probe", None)
    yield row("kinetic BAOAB, fast", "kinetic", "kinetic probe", 0.7)
    yield row("kinetic BAOAB, keyed", "keyed kinetic", "kinetic probe", None)
    two = Ratio.of(times["keyed"], times["two threads"])
    yield Row("two threads", f"{two} × one", "one thread", "≥ 1.9", two.median >= 1.9)
