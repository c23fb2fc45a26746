"""Run folders as real runs leave them, one per situation the report must handle."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.balance_rows import Pair, balance_row, charges_row, record

from sgdscope.estimate import Estimate
from sgdscope.records import Run, RunWriter, open_run

LR = 0.7
HOSTILE = "<script>alert(1)</script>'\"&</style><img src=x onerror=alert(2)>\u202e\u0007 $x^2$"
CURVATURE = "loss / parameter²"


def manifest(method: str = "sgd", momentum: float = 0.0, *, full_batch: bool = False) -> dict[str, object]:
    return {
        "sgdscope": "0.1.0",
        "versions": {"python": "3.11.7", "numpy": "2.0", "torch": "2.6"},
        "command": ["sgdscope", "run", "--data", "digits", "--lr", "0.7"],
        "config": {"data": "digits", "lr": LR, "batch_size": 8, "steps": 20000, "model": {"name": "mlp", "width": 32}},
        "batch_size": 8,
        "optimizer": {"method": method, "momentum": momentum, "full_batch": full_batch},
        "seed": 3,
        "risk": {"size": 256, "parameters": 2410, "mode": "train"},
    }


def fill(
    writer: RunWriter,
    *,
    level: float = 0.96,
    rise: float = 2500.0,
    steps: int = 20000,
    every: int = 100,
    rates: dict[int, float] | None = None,
    theory: bool = True,
    spectrum: float = 0.65,
    threshold: Callable[[float], float] = lambda lr: 2 / lr,
    noise: float = 1.0,
) -> None:
    """Rows of a run whose batch sharpness climbs to `level` (edge units) within about `rise` steps."""
    rng = np.random.default_rng(0)
    rates = rates or {0: LR}
    lr, changed = 0.0, 0
    for step in range(0, steps + 1, every):
        for at in [at for at in rates if step - every < at <= step]:
            lr, changed = rates[at], at
            writer.append(at, Estimate("learning_rate", lr))
        x = level * (1 - 0.9 * math.exp(-(step - changed) / rise))
        scale = threshold(lr)
        loss = 2 * math.exp(-step / 1500) + 0.002 + 0.001 * rng.random()
        writer.append(step, Estimate("loss", loss, 0.0005, count=every, unit="loss"))
        if step:
            ratio = 2 * (x + 0.04 * rng.normal())
            writer.append(step, Estimate("edge_ratio", ratio, 0.08, count=50, cost=12, settings={"method": "change"}))
        if step % (10 * every):
            continue
        writer.append(step, Estimate("full_loss", loss * 1.1, cost=1, unit="loss"))
        writer.append(step, Estimate("lambda_max", (spectrum * x * scale, 0.5 * x * scale), residual=(1e-3, 1e-2),
                                     cost=4, unit=CURVATURE))  # fmt: skip
        if theory:
            roe = Estimate("ratio_of_expectations", x * scale, 0.03 * scale, count=64, unit=CURVATURE)
            sharpness = (x - 0.04 + 0.01 * rng.normal()) * scale
            writer.append(step, Estimate("batch_sharpness", sharpness, 0.02 * scale, count=64, cost=120, unit=CURVATURE,
                                         settings={"batch_size": 8}, beside={roe.name: roe}))  # fmt: skip
            writer.append(step, Estimate("gradient_noise_interaction", scale * (noise + 0.1 * rng.normal()),
                                         0.1 * scale, count=64, unit=CURVATURE))  # fmt: skip
        writer.append(step, Estimate("monitor_share", 0.031, settings={
            "seconds": {"edge_ratio": 0.1, "lambda_max": 0.3, "batch_sharpness": 0.2}}))  # fmt: skip


def at_the_edge(writer: RunWriter) -> None:
    fill(writer)
    writer.append(5000, Estimate.failed("lambda_max", "out of memory in chunk 3 of 8; next try with smaller chunks"))
    writer.append(6000, Estimate("lambda_max", 1.7, residual=0.3, status="not_converged", reason="40 products spent"))
    for change, lr, batch, x in (
        ("double the learning rate", 1.4, 8, 1.94),
        ("raise the learning rate by a tenth", 0.77, 8, 1.05),
        ("halve the batch", 0.7, 4, 1.45),
        ("four times the batch", 0.7, 32, 0.63),
    ):
        settings = {"change": change, "lr": lr, "batch_size": batch}
        writer.append(20000, Estimate("predicted_edge", x, 0.03, count=64, settings=settings))
    writer.append(20000, Estimate.failed("predicted_edge", "out of memory", settings={"change": "half", "lr": 0.35}))


def changing_rate(writer: RunWriter) -> None:
    fill(writer, rates={0: 0.7, 9000: 0.35, 14000: 0.5})


def schedule(writer: RunWriter) -> None:
    fill(writer, rates={s: 0.35 * (1 + math.cos(math.pi * s / 20200)) for s in range(0, 20001, 200)})


def edge_map(sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64), lr: float = LR, batch_size: int = 8) -> Estimate:
    """The row of a map: batch sharpness (1.6 + 21 / b) / (1 + 0.4 / b)."""
    edges = tuple(2 * (1 + 0.4 / b) / (1.6 + 21 / b) for b in sizes)
    settings = {"batch_sizes": sizes, "lr": lr, "batch_size": batch_size, "threshold": "2 / lr", "scope": "plain SGD",
                "threshold_times_lr": 2.0, "coefficients": [1.6, 21.0, 0.0, 0.4]}  # fmt: skip
    return Estimate("edge_map", edges, tuple(0.02 * e for e in edges), count=300, cost=32, settings=settings)


def mapped(writer: RunWriter) -> None:
    fill(writer, rates={0: 0.2, 9000: LR}, level=0.8)
    writer.append(20000, edge_map())


def shape(writer: RunWriter, *, k: int = 8, power: float = 1.0, bars: bool = True, part: bool = False) -> None:
    """Readings of noise and spectrum: gradient noise along the run, the rest at its end."""
    for step, scale in ((0, 12.0), (8000, 150.0), (20000, 420.0)):
        beside = {"simple_noise_scale": Estimate("simple_noise_scale", scale, scale / 20, unit="samples")}
        writer.append(step, Estimate("gradient_noise", 0.8, 0.02, count=256, cost=1, beside=beside))
    top = tuple(1.9 / 1.35**j for j in range(k))
    of = {"samples": 128, "of": 256} if part else {"samples": 256, "of": 256}
    pairs = Estimate("lambda_max", top, residual=0.01, settings={"kind": "hessian", **of}, unit=CURVATURE)
    nodes = [[-0.2, -0.01, 0.01, 0.4, 1.0, 1.9], [-0.22, 0.0, 0.02, 0.5, 1.1, 1.85]]
    weights = [[0.02, 0.4, 0.5, 0.05, 0.02, 0.01]] * 2
    settings = {**of, "parameters": ["0.weight", "2.weight", HOSTILE], "shares": [[0.2, 0.7, 0.1]] * k,
                "density": {"nodes": nodes, "weights": weights, "resolution": 0.07}}  # fmt: skip
    beside = {
        "hessian_trace": Estimate("hessian_trace", 88.0, 9.0, count=2, unit=CURVATURE),
        "negative_share": Estimate("negative_share", 0.02, 0.001, count=2),
    }
    writer.append(20000, Estimate("spectrum", top, residual=(0.01,) * k, cost=110, unit=CURVATURE, settings=settings,
                                  beside=beside))  # fmt: skip
    found = tuple(0.01 * x**power for x in top)
    error = 0.05 if abs(power - round(power)) < 0.1 else 0.4
    models = {0: "constant", 1: "proportional to the Hessian"}
    supported = models.get(round(power), "neither") if error < 0.25 else "undecided"
    beside = {
        "eigenvalues": pairs,
        "slope": Estimate("slope", 0.01, 0.001, unit="loss"),
        "cosine": Estimate("cosine", 0.9, 0.01),
        "alignment": Estimate("alignment", 0.3, 0.03),
        "exponent": Estimate("exponent", power, error),
        "loss": Estimate("loss", 0.5),
    }
    errors = tuple(0.2 * v if bars else 0.0 for v in found)
    writer.append(20000, Estimate("noise_covariance", found, errors, count=256, cost=60, beside=beside,
                                  settings={"samples": 256, "supported": supported}))  # fmt: skip


def shaped(writer: RunWriter) -> None:
    fill(writer)
    shape(writer)


def line(*, batch: float = 2.6, full: float = 0.5, reach: float = 5.2, lr: float | None = LR) -> Estimate:
    """The row of a batch line of parabolas lowest at `batch` and `full`."""
    steps = [reach * i / 16 for i in range(17)]
    curves = {
        "steps": steps, "batch": [0.02 + 0.03 * (x / batch - 1) ** 2 for x in steps],
        "unseen": [0.07 + 0.002 * x**2 for x in steps], "unseen_error": [0.01] * 17,
        "full": [0.06 + 0.002 * (x - full) ** 2 for x in steps],
    }  # fmt: skip
    beside = {
        "loss_before": Estimate("loss_before", 0.05, unit="loss"),
        "loss_reached": Estimate("loss_reached", 0.02, residual=0.0001, unit="loss"),
        "batch_r_squared": Estimate("batch_r_squared", 0.9987),
    }
    settings = {"batch_size": 8, "lr": lr, "samples": 256, "of": 256, "curves": curves}
    return Estimate("batch_line", batch, residual=0.001, cost=9, settings=settings, beside=beside)


def step(ratio: float, *, lr: float = LR, error: float = 0.05, expected: float = 0.5) -> Estimate:
    """The row of a best full-loss step."""
    beside = {
        "squared_gradient": Estimate("squared_gradient", 0.1 * ratio * lr, 0.0),
        "curvature": Estimate("curvature", 0.1, 0.01),
    }
    settings = {"batch_size": 8, "lr": lr, "expected": expected}
    return Estimate("full_loss_step", ratio, error, count=48, cost=60, settings=settings, beside=beside)


def stepped(writer: RunWriter) -> None:
    fill(writer)
    for index in range(41):
        writer.append(500 * index, step(0.5 + 0.1 * (-1) ** index))
    writer.append(20000, line())


def hostile_steps(writer: RunWriter) -> None:
    one_point(writer)
    good = line().settings["curves"]
    for what in (HOSTILE, {}, None, [1e308] * 17, [HOSTILE] * 17, [0.0] * 17, [1.0], [-1.0, 0.0, 1.0]):
        for curves in (what, *({**good, name: what} for name in good)):
            settings = {"curves": curves, "lr": what, "expected": what, "samples": what, "of": what}
            companion = {"loss_before": Estimate("loss_before", 1e308), "curvature": Estimate("curvature", -1e308)}
            for value in (1e308, 0.0, (1.0, 2.0), 0.5):
                writer.append(5, Estimate("batch_line", value, settings=settings, beside=companion))
                writer.append(5, Estimate("full_loss_step", value, 1e308, settings=settings, beside=companion))


def hostile_shape(writer: RunWriter) -> None:
    one_point(writer)
    bad = [HOSTILE, {}, None, [[1e308]]]
    for value in ((1e308, -1e308), (0.0,), (1e-320, 2.0), (2.0, 1.0)):
        for what in bad:
            settings = {"density": {"nodes": what, "weights": what, "resolution": what}, "shares": what,
                        "parameters": what, "samples": what, "of": what, "supported": what}  # fmt: skip
            writer.append(5, Estimate("spectrum", value, residual=0.0, settings=settings))
            beside = {"eigenvalues": Estimate("lambda_max", value), "slope": Estimate("slope", value),
                      "exponent": Estimate("exponent", 1e308, 1e-308)}  # fmt: skip
            writer.append(
                5, Estimate("noise_covariance", value, (1e308,) * len(value), settings=settings, beside=beside)
            )
            scale = {"simple_noise_scale": Estimate("simple_noise_scale", value[0], 1e308)}
            writer.append(5, Estimate("gradient_noise", value, beside=scale))
    writer.update(batch_size=HOSTILE)


PAIRS = (
    Pair("0 → 2"),
    Pair("2 → 4", ratio=1.03, equilibrium=1.04),
    Pair("blocks.4.mlp.0 → blocks.4.mlp.2", ratio=4.2, equilibrium=1.1, real=-1.0),
    Pair("blocks.5.norm → blocks.5.mlp", kind="scale invariance"),
)


def balanced(writer: RunWriter) -> None:
    record(writer, PAIRS, last=20000, every=500, readings=10)


def one_pair(writer: RunWriter) -> None:
    record(writer, [Pair("1 → 3", ratio=1.01)])


def many_pairs(writer: RunWriter) -> None:
    ratios = np.exp(np.random.default_rng(0).normal(size=100))
    names = (f"features.{i}.branch.0 → features.{i}.branch.2" for i in range(100))
    record(writer, [Pair(name, ratio=float(ratio)) for name, ratio in zip(names, ratios, strict=True)], every=400)


def hostile_balance(writer: RunWriter) -> None:
    one_point(writer)
    names = [HOSTILE, "层.注意力 → 层.输出", "\ud800" + 300 * "x"]
    pairs = [Pair(name, ratio=ratio, relaxation=at) for name, ratio, at in zip(names, (1e-15, 1.0, 1e15), (
        1e-3, 4e5, 1e39), strict=True)]  # fmt: skip
    for step in (5, 6, 7):
        writer.append(step, charges_row(pairs, step, 7, every=1, samples=1))
        for what in (HOSTILE, {}, None, [HOSTILE] * 3, [1e308] * 3, [-1, 0, 1], [0, 0, 0]):
            row = balance_row(pairs)
            for name in row.settings:
                writer.append(step, replace(row, settings={**row.settings, name: what}))
    writer.append(7, balance_row(pairs, law=[HOSTILE]))


def diverged(writer: RunWriter) -> None:
    fill(writer, level=1.1, steps=6000)
    for i, x in enumerate((1.6, 3.0, 9.0, 40.0)):
        writer.append(6100 + 100 * i, Estimate("edge_ratio", 2 * x, 0.2, count=50))
        writer.append(6100 + 100 * i, Estimate("loss", 10.0**i, 0.1, count=100))
    writer.append(6500, Estimate.failed("batch_sharpness", "the loss was not finite", status="diverged"))


def one_point(writer: RunWriter) -> None:
    writer.append(0, Estimate("learning_rate", LR))
    writer.append(0, Estimate("loss", 2.3))
    writer.append(0, Estimate("batch_sharpness", 0.4, 0.05, count=16, unit=CURVATURE))


def hostile(writer: RunWriter) -> None:
    one_point(writer)
    bad = {"change": HOSTILE, "lr": HOSTILE, "batch_size": HOSTILE, HOSTILE: HOSTILE}
    writer.append(1, Estimate(HOSTILE, 1.0, unit=HOSTILE, settings=bad))
    writer.append(1, Estimate("predicted_edge", 1.3, settings=bad))
    writer.append(1, Estimate.failed("lambda_max", HOSTILE))
    writer.append(1, Estimate.failed(HOSTILE, HOSTILE))
    writer.append(2, Estimate("monitor_share", 0.1, settings={"seconds": {HOSTILE: 1.0, "x": HOSTILE}}))
    writer.append(3, Estimate("batch_sharpness", 1e308, 1e308, unit=CURVATURE))
    writer.append(4, Estimate("edge_ratio", -5.0))
    writer.append(4, Estimate("loss", -1.0))
    writer.update(command=[HOSTILE, "--x"], config={HOSTILE: {"a": HOSTILE}}, status=HOSTILE, risk=HOSTILE)


def _many(writer: RunWriter) -> None:
    for k in range(40):
        writer.append(500 * k, Estimate.failed("lambda_max", f"try {k} ran out of memory"))
    fill(writer)


Filler = Callable[[RunWriter], None]
SITUATIONS: dict[str, tuple[dict[str, object], Filler, str]] = {
    "at_the_edge": (manifest(), at_the_edge, "finished"),
    "above": (manifest(), lambda w: fill(w, level=1.3), "interrupted"),
    "approaching": (manifest(), lambda w: fill(w, rise=9000, noise=3.0), "running"),
    "noise_driven": (manifest(), lambda w: fill(w, level=0.4, rise=500), "finished"),
    "below": (manifest(), lambda w: fill(w, level=0.7, rise=500, noise=3.0), "finished"),
    "empty": (manifest(), lambda w: None, "running"),
    "bare": ({}, lambda w: None, "failed"),
    "one_point": (manifest(), one_point, "running"),
    "diverged": (manifest(), diverged, "diverged"),
    "changing_rate": (manifest(), changing_rate, "finished"),
    "mapped": (manifest(), mapped, "finished"),
    "shaped": (manifest(), shaped, "finished"),
    "stepped": (manifest(), stepped, "finished"),
    "balanced": (manifest(), balanced, "finished"),
    "one_pair": (manifest(), one_pair, "finished"),
    "many_pairs": (manifest(), many_pairs, "finished"),
    "hostile_balance": (manifest(), hostile_balance, "finished"),
    "hostile_steps": (manifest(), hostile_steps, "finished"),
    "hostile_shape": (manifest(), hostile_shape, "finished"),
    "schedule": (manifest(), schedule, "finished"),
    "adamw": (manifest("adamw"), lambda w: fill(w, theory=False), "finished"),
    "momentum": (
        manifest("momentum", 0.9),
        lambda w: fill(w, rates={0: 0.05}, threshold=lambda lr: 0.2 / lr),
        "finished",
    ),
    "full_batch": (manifest(full_batch=True), lambda w: fill(w, theory=False, spectrum=1.05, level=0.98), "finished"),
    "many_failures": (manifest(), _many, "finished"),
    "hostile": (manifest(), hostile, "interrupted"),
}
"""Name -> manifest, what fills the rows, final status."""


def make(folder: Path, situation: str) -> Run:
    """Write the run folder of a situation and read it back."""
    head, filler, status = SITUATIONS[situation]
    path = folder / situation
    writer = RunWriter.create(path, {"created": "2026-01-01T00:00:00Z", **head})
    filler(writer)
    if status == "running":
        writer.close()
        writer.manifest["status"] = "running"
        text = (path / "manifest.json").read_text(encoding="utf-8").replace('"finished"', '"running"')
        (path / "manifest.json").write_text(text, encoding="utf-8")
    else:
        writer.close(status)  # type: ignore[arg-type]
    return open_run(path)
