"""Names with and without what wrappers put into them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.average import MismatchError, plain_names


@pytest.mark.parametrize(
    ("names", "plain"),
    [
        (["a.weight", "b"], ["a.weight", "b"]),
        (["_orig_mod.a.weight", "_orig_mod.b"], ["a.weight", "b"]),
        (["a._orig_mod.weight", "b"], ["a.weight", "b"]),
        (["module.a.weight", "module.b"], ["a.weight", "b"]),
        (["module._orig_mod.a", "module._orig_mod.b"], ["a", "b"]),
        (["_orig_mod.module.module.a"], ["a"]),
        (["n_averaged", "module.a", "module.b"], ["a", "b"]),
        (["n_averaged", "a"], ["n_averaged", "a"]),
        (["module.a", "b"], ["module.a", "b"]),  # a module of that name, and no wrapper
        (["modules.a", "my_orig_mod.b"], ["modules.a", "my_orig_mod.b"]),
        (["_fsdp_wrapped_module.a._checkpoint_wrapped_module.w"], ["a.w"]),
        ([], []),
    ],
)
def test_wrappers_are_taken_off(names, plain):
    found = plain_names(names)
    assert list(found) == plain
    assert list(found.values()) == [name for name in names if name != "n_averaged" or "n_averaged" in plain]


def test_two_names_of_one_tensor_are_refused():
    with pytest.raises(MismatchError, match=r"got 'a' and '_orig_mod.a' for one"):
        plain_names(["a", "_orig_mod.a"])


@given(st.lists(st.text("abm", min_size=1, max_size=4), unique=True, min_size=1), st.integers(0, 3))
def test_any_nesting_of_wrappers_comes_off(names, depth):
    wrapped = [f"{'module._orig_mod.' * depth}{name}" for name in names]
    assert list(plain_names(wrapped)) == names
