"""Optimizers of a configuration: by name, or any class of torch optimizer by its import path."""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import nn

from sgdscope import checkpoint
from sgdscope.config import ConfigError, RunConfig

_WORDS = {"true": True, "false": False, "none": None}


def build(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a configuration on the parameters of `model`.

    A class given as ``package.module:Class`` is looked for where Python looks, then in the working folder. It gets
    ``lr``, ``weight_decay`` if that is not 0, and the options. It is tried out on a copy of the model first, so that an
    optimizer that needs a closure, refuses a parameter or cannot be stored in a checkpoint is told before anything is
    trained. State that it keeps outside of ``state_dict`` is lost on resume.

    Raises ConfigError if it cannot be imported, is no torch optimizer, refuses its options or cannot step the model.
    """
    kind, settings = _named(config) or (_imported(config.optimizer), _common(config))
    options = dict(_option(text) for text in config.optimizer_options)
    twice = sorted(settings.keys() & options.keys())
    if twice:
        raise ConfigError(
            f"expected {twice[0]} as --{twice[0].replace('_', '-')}, got it in --optimizer-options\n"
            "hint: --optimizer-options is for what has no option of its own"
        )
    if kind not in (torch.optim.SGD, torch.optim.AdamW) or options:
        _try_out(kind, {**settings, **options}, copy.deepcopy(model))
    return kind(model.parameters(), **settings, **options)


def _named(config: RunConfig) -> tuple[type[torch.optim.Optimizer], dict[str, Any]] | None:
    """Class and settings of an optimizer with a name; None for an import path."""
    common = {"lr": config.lr, "weight_decay": config.weight_decay}
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD, {**common, "momentum": 0.0, "nesterov": False}
        case "momentum" | "nesterov":
            nesterov = config.optimizer == "nesterov"
            return torch.optim.SGD, {**common, "momentum": config.momentum, "nesterov": nesterov}
        case "adamw":
            return torch.optim.AdamW, common
    return None


def _common(config: RunConfig) -> dict[str, Any]:
    return {"lr": config.lr} | ({"weight_decay": config.weight_decay} if config.weight_decay else {})


def _imported(path: str) -> type[torch.optim.Optimizer]:
    name, _, attribute = path.partition(":")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)  # last: it hides no installed package
    try:
        module = importlib.import_module(name)
    except Exception as error:  # whatever the module does when it is run
        raise ConfigError(
            f"expected a module that can be imported in --optimizer {path}, but {name} raised "
            f"{type(error).__name__}: {_first_line(error)}\n"
            "hint: install its package, or start from the folder that holds the file"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    found = getattr(module, attribute, None)
    if not _is_optimizer(found):
        known = sorted(key for key, value in vars(module).items() if _is_optimizer(value))
        what = "nothing of that name" if found is None else f"{type(found).__name__} {attribute}"
        raise ConfigError(
            f"expected a subclass of torch.optim.Optimizer in --optimizer {path}, got {what}\n"
            f"hint: {name} has {', '.join(known) or 'none'}"
        )
    return found


def _is_optimizer(value: Any) -> TypeGuard[type[torch.optim.Optimizer]]:
    base = torch.optim.Optimizer
    return isinstance(value, type) and issubclass(value, base) and value is not base


def _option(text: str) -> tuple[str, Any]:
    """``key=value`` with the value as Python writes it; true, false and none in any case; anything else is a string."""
    key, _, value = text.partition("=")
    if value.lower() in _WORDS:
        return key, _WORDS[value.lower()]
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _try_out(kind: type[torch.optim.Optimizer], settings: Mapping[str, Any], model: nn.Module) -> None:
    """One step on `model`, which is a copy. Raises ConfigError if that fails or leaves what cannot be stored."""
    shown = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    try:
        optimizer = kind(model.parameters(), **settings)
    except Exception as error:
        raise ConfigError(
            f"expected options that {kind.__name__} takes, got {shown}: {_first_line(error)}\n"
            f"hint: it takes {_taken_by(kind)}"
        ) from error
    try:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    except Exception as error:
        raise ConfigError(
            f"expected an optimizer that can step this model by optimizer.step(), but {kind.__name__} raised "
            f"{type(error).__name__}: {_first_line(error)}\n"
            f"hint: it was given {shown}"
        ) from error
    lost = checkpoint.unstorable(optimizer)
    if lost:
        raise ConfigError(
            f"expected an optimizer whose state is made of tensors and plain numbers, but {kind.__name__} keeps "
            f"{', '.join(lost)}, which no checkpoint can hold"
        )


def _taken_by(kind: type) -> str:
    names = [name for name in inspect.signature(kind).parameters if name != "params"]
    return ", ".join(names) or "none"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no reason given"])[0][:200]
