"""`sgdscope diagonal`: deep diagonal linear networks under SGD beside their stationary law, phases and sweeps."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from sgdscope.cli.answering import answering
from sgdscope.config import ConfigError
from sgdscope.picture import check_kind

if TYPE_CHECKING:
    from sgdscope.predict import Answer

_MORE = """
        phase_diagram: file to draw the plane of noise and temperature to, simulated cell by cell; .png, .svg or .pdf.
        temperature_sweep: file to draw mean and fluctuations at rising temperatures to; .png, .svg or .pdf.
        process: of these two: sgd, or diffusion, its differential equation, which weak noise asks for.
"""


def diagonal(arguments: tyro.conf.Positional[tuple[str, ...]] = ()) -> int:
    """Train many diagonal networks, from data to phases, and lay where they end beside theory: see diagonal --help.

    Args:
        arguments: options.
    """
    return diagonal_answered(list(arguments))


def diagonal_answered(arguments: list[str]) -> int:
    """`sgdscope diagonal` with the words that follow it."""
    return int(tyro.cli(_command(), prog="sgdscope diagonal", args=arguments))


def _command() -> Callable[..., int]:
    """The trial as a command, with two more files to draw."""
    from sgdscope import diagonal as package

    trial = answering(_with_progress(package.diagonal))
    drawn: dict[str, Callable[..., Answer]] = {
        "phase_diagram": package.phases, "temperature_sweep": package.temperatures,
    }  # fmt: skip

    def command(
        *, phase_diagram: Path | None = None, temperature_sweep: Path | None = None,
        process: Literal["sgd", "diffusion"] = "sgd", **settings: Any,
    ) -> int:  # fmt: skip
        files = {"phase_diagram": phase_diagram, "temperature_sweep": temperature_sweep}
        asked = {name: path for name, path in files.items() if path is not None}
        try:
            for path in asked.values():
                check_kind(path)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        code = trial(**settings)
        for name, path in asked.items():
            function = drawn[name]
            known = inspect.signature(function).parameters
            given = {key: value for key, value in {**settings, "process": process}.items() if key in known}
            print()
            code = code or answering(_with_progress(function))(plot=path, **given)
        return code

    own = inspect.signature(trial).parameters.values()
    more = [p for p in inspect.signature(command).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    hints = {"phase_diagram": Path | None, "temperature_sweep": Path | None, "process": Literal["sgd", "diffusion"]}
    added = [parameter.replace(annotation=hints[parameter.name]) for parameter in more]
    command.__signature__ = inspect.Signature([*own, *added], return_annotation=int)  # type: ignore[attr-defined]
    command.__annotations__ = {**trial.__annotations__, **hints}
    command.__doc__ = (trial.__doc__ or "").rstrip() + _MORE
    return command


def _with_progress(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """The function with a bar of its own instead of the argument for one."""

    def shown(**settings: Any) -> Answer:
        with _bar() as tell:
            return function(**settings, progress=tell)

    signature = inspect.signature(function, eval_str=True)
    kept = [parameter for parameter in signature.parameters.values() if parameter.name != "progress"]
    shown.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    shown.__annotations__ = {parameter.name: parameter.annotation for parameter in kept}
    shown.__doc__ = (function.__doc__ or "").split("        progress:")[0] + "    "
    return shown


@contextmanager
def _bar() -> Iterator[Callable[[float], None]]:
    """A bar on stderr, if that is a terminal, and what tells it the share done."""
    from tqdm import tqdm

    bar = tqdm(total=100, unit="%", file=sys.stderr, leave=False, disable=not sys.stderr.isatty(),
               bar_format="{l_bar}{bar}| {elapsed} < {remaining}")  # fmt: skip
    try:
        yield lambda share: bar.update(100 * share - bar.n) and None
    finally:
        bar.close()
