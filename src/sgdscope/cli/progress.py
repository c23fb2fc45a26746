"""Progress bars, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

    from sgdscope.monitor import Monitor
    from sgdscope.records import Run


class Progress:
    """Progress bar on stderr: loss, edge ratio and the monitor's share of time, refreshed twice a second."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.bar: tqdm[NoReturn] | None = None
        self._next = 0

    def around(self, action: Callable[[], Run]) -> Run:
        """Run an action and close the bar after it."""
        try:
            return action()
        finally:
            if self.bar is not None:
                self.bar.close()

    def __call__(self, step: int, steps: int, loss: float, monitor: Monitor) -> None:
        """After a step."""
        if self.quiet or (step < self._next and step < steps):
            return
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=steps, initial=step, unit=" steps", file=sys.stderr, mininterval=0)
        bar = self.bar
        speed = max(1.0, monitor.step_seconds and 0.5 / monitor.step_seconds)
        self._next = step + int(speed)
        shown = {"loss": f"{loss:.3g}"}
        ratio = monitor.latest.get("edge_ratio")
        if ratio is not None and ratio.value is not None:
            shown["edge ratio"] = f"{float(ratio) / 2:.2f}"
        shown["watching"] = f"{100 * monitor.share:.1f} %"
        bar.set_postfix(shown, refresh=False)
        bar.update(step - bar.n)
        bar.refresh()


class Forks:
    """Progress bar on stderr: forks done. It opens at the first call, when the input is known to be right."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.bar: tqdm[NoReturn] | None = None

    def __call__(self, done: int, of: int) -> None:
        """After a fork."""
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=of, unit=" forks", file=sys.stderr, disable=self.quiet)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()
