"""The front door of theory names every part, loads none before it is asked for, and never torch."""

import json
import pkgutil
import subprocess
import sys
import types

import pytest

import sgdscope as sg
from sgdscope import theory


def test_every_part_is_there_and_named_in_the_docstring():
    parts = {module.name for module in pkgutil.iter_modules(theory.__path__)}
    assert parts == set(theory._PARTS) | {"prediction"}
    for part in parts:
        assert f"`{part}`" in theory.__doc__
        assert getattr(sg.theory, part).__doc__
    assert set(dir(theory)) == set(theory.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = theory.nonsense


@pytest.mark.parametrize("part", theory._PARTS)
def test_what_each_exports_has_a_docstring(part):
    module = getattr(theory, part)
    for name in getattr(module, "__all__", []):
        thing = getattr(module, name)
        if isinstance(thing, type | types.FunctionType):
            assert thing.__doc__, f"{part}.{name}"


def test_loads_parts_on_first_use():
    code = "import sgdscope.theory, sys, json; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert not {"scipy", "sympy", "torch"} & set(loaded)
