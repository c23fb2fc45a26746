"""Names: which tensors of two models are the same, whatever has been wrapped around the models.

torch.compile puts ``_orig_mod`` into the names of a state dict, data-parallel wrappers and torch's AveragedModel put
``module`` in front. An average that matches names without knowing this silently never moves; one that matches loosely
averages the wrong things. So wrappers are taken off, and everything else must fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

_WRAPPERS = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
"""Parts of a name that no module of a user has."""
_PARALLEL = "module."
_COUNTER = "n_averaged"
"""The one entry that AveragedModel adds beside its ``module``."""
_SHOWN = 4


class MismatchError(ValueError):
    """Models that are no copies of one another: the message names what is missing, unexpected, or of another shape."""


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Each name without wrappers → the name as given. Raises MismatchError where two of them become one."""
    plain: dict[str, str] = {}
    for name in names:
        bare = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if bare in plain:
            raise MismatchError(f"expected one tensor per name, got {plain[bare]!r} and {name!r} for one of them")
        plain[bare] = name
    while True:
        inner = {bare: name for bare, name in plain.items() if bare != _COUNTER}
        if not inner or not all(bare.startswith(_PARALLEL) for bare in inner):
            return plain
        plain = {bare.removeprefix(_PARALLEL): name for bare, name in inner.items()}


def match(
    wanted: Iterable[str], given: Iterable[str], *, source: str, target: str, whole: bool = True
) -> dict[str, str]:
    """Name in `wanted` → name in `given` of the same tensor.

    `source` and `target` say in words whose names are wanted and given; with `whole` there must be none left over.
    Raises MismatchError.
    """
    of_wanted, of_given = plain_names(wanted), plain_names(given)
    missing = [name for name in of_wanted if name not in of_given]
    unexpected = [name for name in of_given if name not in of_wanted] if whole else []
    if missing or unexpected:
        faults = [f"it lacks {few(missing)}"] * bool(missing) + [f"it has {few(unexpected)} besides"] * bool(unexpected)
        raise MismatchError(
            f"expected {target} to have the tensors of {source}, but {' and '.join(faults)}\n"
            "hint: both must be of one architecture; names put in by torch.compile, DataParallel and AveragedModel are "
            "understood, others have to be renamed first"
        )
    return {name: of_given[bare] for bare, name in of_wanted.items()}


def check_alike(name: str, wanted: Tensor, given: Tensor, *, source: str, target: str, exactly: bool = True) -> None:
    """Raises MismatchError unless shapes agree, and dtypes: `exactly`, or in being real, complex or whole numbers."""
    if wanted.shape != given.shape:
        raise MismatchError(
            f"expected {name!r} in {target} to have shape {tuple(wanted.shape)} as in {source}, got "
            f"{tuple(given.shape)}: both must be of one architecture"
        )
    if (wanted.dtype != given.dtype) if exactly else (_kind(wanted.dtype) != _kind(given.dtype)):
        raise MismatchError(
            f"expected {name!r} in {target} to be {_short(wanted.dtype)} as in {source}, got {_short(given.dtype)}: "
            "convert one of them first"
        )


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more


def _kind(dtype: torch.dtype) -> tuple[bool, bool]:
    return dtype.is_floating_point, dtype.is_complex


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
