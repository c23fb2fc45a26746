"""Trace of the Gauss-Newton matrix for ten classes: exact, and by two passes with random signs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import torch
from torch import nn

import sgdscope as sg
from benchmarks.harness import Ratio, Row, class_images, cnn, interleaved, mlp, optional, plain_gradient, risk_of

NEEDS_RIVALS = True


def measure(name: str, model: nn.Module, count: int, bars: tuple[float, float]) -> Iterator[Row]:
    """Two rows: exact, and one shot with its error; PyHessian's Hutchinson estimate of the whole trace beside them."""
    data = class_images(count)
    risk = risk_of(model, data)
    actions: dict[str, Callable[[], object]] = {
        "gradient": plain_gradient(model, data),
        "exact": lambda: sg.measure.gauss_newton_trace(risk, method="exact"),
        "signs": lambda: sg.measure.gauss_newton_trace(risk, method="signs"),
    }
    exact = sg.measure.gauss_newton_trace(risk, method="exact")
    pyhessian = optional("pyhessian")
    against = pyhessian if isinstance(pyhessian, str) else ""
    if not isinstance(pyhessian, str):
        found: list[float] = []

        def hutchinson() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.manual_seed(0)
                made = pyhessian.hessian(model, nn.MSELoss(), data=data, cuda=False)
                values = made.trace()
                found.append(float(sum(values) / len(values)))

        actions["rival"] = hutchinson
    times = interleaved(actions, rounds=3, least=0.1)
    if not against:
        whole = sg.measure.hessian_trace(risk, tolerance=0.002)
        against = f"PyHessian {Ratio.of(times['rival'], times['gradient']).median:.0f}, " \
                  f"{100 * abs(found[-1] / whole.value - 1):.1g} % off the whole trace"  # fmt: skip
    cost = Ratio.of(times["exact"], times["gradient"])
    yield Row(f"Gauss-Newton trace, exact, {name}, in gradients", str(cost), against, f"≤ {bars[0]}",
              cost.median <= bars[0])  # fmt: skip
    cost = Ratio.of(times["signs"], times["gradient"])
    shots = [sg.measure.gauss_newton_trace(risk, method="signs", generator=torch.Generator().manual_seed(s))
             for s in range(24)]  # fmt: skip
    off = (sum((shot.value / exact.value - 1) ** 2 for shot in shots) / len(shots)) ** 0.5
    stated = sum(shot.standard_error for shot in shots) / len(shots) / exact.value
    yield Row(
        f"Gauss-Newton trace, random signs, {name}, in gradients",
        f"{cost}; root mean square error {100 * off:.2f} %, states {100 * stated:.2f} %", against,
        f"≤ {bars[1]}, error ≤ 0.5 %", cost.median <= bars[1] and off <= 0.005,
    )  # fmt: skip


def rows() -> Iterator[Row]:
    yield from measure("MLP tanh, n = 1000", mlp("tanh"), 1000, (2.5, 0.8))
    yield from measure("CNN, n = 1000", cnn(), 1000, (8, 1.4))
