"""Vectorisation: the loops of compiled kernels work on many lanes at once, which is what makes them fast.

Compilers give it up silently. Each loop that became packed instructions leaves behind a scalar one for arrays that
overlap (which they never do); a loop that did not leaves only that. So packed instructions must not be fewer.
"""

import platform
import re

import numpy as np
import pytest

from sgdscope.simulate import FirstPassage, GaussianSGD, Kinetic, Overdamped
from sgdscope.simulate.compiling import kernel
from sgdscope.simulate.lanes import Lanes, Motion
from sgdscope.simulate.plan import Plan
from sgdscope.simulate.state import State
from sgdscope.theory.potential import Potential, muller_brown

WELL = Potential("x**4/4 - x**2/2")
INTEL = platform.machine().lower() in ("x86_64", "amd64")
CASES = {
    "overdamped": (WELL, Overdamped(0.25, 0.01, "1 + x**2/2"), ()),
    "platen": (WELL, Overdamped(0.25, 0.01, "1 + x**2/2", scheme="platen"), ()),
    "first passage": (WELL, Overdamped(0.25, 0.01, "1 + x**2/2"), (FirstPassage(until=0.0),)),
    "first passage that goes on": (WELL, Overdamped(0.25, 0.01), (FirstPassage(until=0.0, absorb=False),)),
    "kinetic": (WELL, Kinetic(1.0, 0.25, 0.01), ()),
    "momentum": (WELL, GaussianSGD(0.01, 4, "1 + x**2", momentum=0.9), ()),
    "two dimensions": (muller_brown(), Overdamped(10.0, 1e-4), ()),
    "a division": (Potential("x**2 + log(1 + x**2)"), Overdamped(0.25, 0.01), ()),
    "double precision": (WELL, Overdamped(0.25, 0.01, "1 + x**2/2"), ()),
}


def assembly(name: str, fast: bool) -> str:
    landscape, process, records = CASES[name]
    precision = "float64" if name == "double precision" else "float32"
    start = np.full((len(landscape.symbols), 1), -1.0)
    plan = Plan.of(landscape, process, records, start)
    state = State.begin(landscape, process, plan.update, start, 0, 0, precision, fast)
    run = kernel(plan.text(precision, fast), keep=False)
    numbers = np.array(list(plan.numbers.values()), dtype=precision)
    motion = Motion(run, numbers, plan.times, 1, 0, 0, 0, 0, len(start), plan.sheds, 1)
    motion.compile(Lanes.of(state.rows, state.words, state.spare, state.passage, 0))
    return body(run, "kernel")


def body(run, name: str) -> str:
    """The instructions of a function itself, without those it has inlined and which stand beside it on their own."""
    found = [part for part in re.split(r"\n(?=_Z)", "\n".join(run.inspect_asm().values()))
             if re.match(rf"_ZN\S*{len(name)}{name}B", part)]  # fmt: skip
    assert found
    return "\n".join(found)


@pytest.mark.slow
@pytest.mark.skipif(not INTEL, reason="instructions are known for x86-64 only")
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_steps_are_packed_instructions(name, fast):
    packed, scalar = counts(assembly(name, fast))
    for operation in ("sqrt", "mul"):
        assert 0 < packed[operation] >= scalar[operation], (packed, scalar)


def counts(found: str) -> tuple[dict[str, int], dict[str, int]]:
    """Packed and scalar square roots and products (multiply-adds among them)."""
    patterns = {"sqrt": r"\tv?sqrt{}[sd]\t", "mul": r"\tv?(?:mul|fn?m(?:add|sub)\d+){}[sd]\t"}
    return tuple(
        {name: len(re.findall(pattern.format(kind), found)) for name, pattern in patterns.items()} for kind in "ps"
    )


@pytest.mark.skipif(not INTEL, reason="instructions are known for x86-64 only")
def test_the_guard_sees_scalar_code():
    text = (
        "import math\n\ndef kernel(x):\n    y = x[0]\n    for i in range(len(x)):\n"
        "        y = math.sqrt(y + x[i])\n        x[i] = y\n"
    )
    run = kernel(text, keep=False)
    run(np.ones(4, np.float32))
    packed, scalar = counts(body(run, "kernel"))
    assert scalar["sqrt"] > packed["sqrt"]
