"""Answer: SGD on a diagonal network from data to phases, law and simulation, as tables and pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sgdscope.diagonal.comparison import DISTANCE, Row
from sgdscope.diagonal.data import GaussianData, RegressionData, SampledData
from sgdscope.diagonal.moments import DataMoments, data_moments
from sgdscope.diagonal.motion import Process
from sgdscope.diagonal.phase_answer import phase_answer
from sgdscope.diagonal.phase_plane import phase_diagram
from sgdscope.diagonal.pictures import pictures
from sgdscope.diagonal.setting import Setting
from sgdscope.diagonal.sweep import temperature_sweep
from sgdscope.diagonal.sweep_answer import sweep_answer
from sgdscope.diagonal.trial import Trial, run_trial
from sgdscope.estimate import Estimate, with_error
from sgdscope.predict.answer import Answer, Table, number
from sgdscope.predict.columns import columns
from sgdscope.theory import stationary as theory

_REGIMES = {
    "I": "all mass at 0", "II": "density diverges at 0", "III": "density vanishes at 0",
    "a": "no maximum away from 0", "b": "a maximum away from 0",
}  # fmt: skip
_NAMES = {
    "square_variance": "α1 = Var[x²]", "covariance": "α2 = Cov(x², xy)", "product_variance": "α3 = Var[xy]",
    "square_mean": "β1 = E[x²]", "product_mean": "β2 = E[xy]", "discriminant": "Δ = α1 α3 − α2²",
    "optimum": "v* = β2 / β1, weight of least loss",
}  # fmt: skip
_SOURCE = "source: Ziyin, Li & Ueda, arXiv 2308.06671, Theorems 3.1 and 4.2, Eqs. 7–15, sections 4.2 and A.8"


def diagonal(
    lr: float = 0.01, batch_size: int = 1, depth: int = 1, width: int = 1, weight_decay: float = 0.0,
    slope: float = 1.0, noise_variance: float = 1.0, input_variance: float = 1.0, data_file: Path | None = None,
    start: tuple[float, ...] = (), replicas: int = 20_000, steps: int | None = None, seed: int = 0,
    threads: int | None = None, progress: bool | Callable[[float], None] = False,
) -> Answer:  # fmt: skip
    """Train many diagonal networks, (sum of products of weights · x − y)², and lay where they end beside theory.

    Args:
        lr: learning rate.
        batch_size: samples per batch.
        depth: hidden layers: 0 is linear regression, 1 two layers, …
        width: subnetworks.
        weight_decay: γ in the loss γ ‖weights‖² (PyTorch's weight_decay is 2 γ).
        slope: y = slope · x + noise, inputs and noise Gaussian.
        noise_variance: of the targets.
        input_variance: of the inputs.
        data_file: two columns x, y (CSV, a header line is skipped) instead of Gaussian data.
        start: nothing for the optimum, the weight of the whole network, one of each subnetwork, or all weights.
        replicas: runs.
        steps: of each. [as many as theory says it takes to settle, as far as a few seconds allow]
        seed: of the noise; equal seeds give equal noise.
        threads: of the processor. [all]
        progress: a bar, or a function of the share done.
    """
    data = _data(slope, noise_variance, input_variance, data_file)
    setting = Setting(data, lr, batch_size, depth, width, weight_decay)
    trial = run_trial(setting, start, steps=steps, replicas=replicas, seed=seed, threads=threads, progress=progress)
    moments = None
    if isinstance(data, SampledData):
        moments = data_moments(data.x, data.y, batch_size=batch_size, weight_decay=weight_decay)
    tables = [_moments(setting, moments)]
    if depth == 1:
        tables.append(_phases(setting, moments))
    tables += [_comparison(trial), _observations(trial)]
    notes = [f"doubt: {warning}" for warning in trial.warnings]
    return Answer(tables, [*notes, _SOURCE], lambda: pictures(trial))


def phases(
    batch_size: int = 1, weight_decay: float = 0.0, slope: float = 1.0, input_variance: float = 1.0,
    data_file: Path | None = None, process: Process = "sgd", seed: int = 0, threads: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Answer:  # fmt: skip
    """Which phase is a two-layer network in, on the plane of noise and temperature?

    Args:
        batch_size: samples per batch.
        weight_decay: γ in the loss γ ‖weights‖².
        slope: y = slope · x + noise, inputs and noise Gaussian; the noise is what is changed.
        input_variance: of the inputs.
        data_file: two columns x, y; what the best line leaves over is made smaller and larger.
        process: sgd, with real minibatches, at strong noise; or diffusion, its differential equation, at weak noise.
        seed: of the noise.
        threads: of the processor. [all]
        progress: a function of the share done.
    """
    data = _data(slope, 1.0, input_variance, data_file)
    found = phase_diagram(
        data,
        kind=process,
        batch_size=batch_size,
        weight_decay=weight_decay,
        seed=seed,
        threads=threads,
        progress=progress,
    )
    return phase_answer(found)


def temperatures(
    batch_size: int = 1, depth: int = 1, width: int = 1, weight_decay: float = 0.0, slope: float = 1.0,
    noise_variance: float = 1.0, input_variance: float = 1.0, data_file: Path | None = None, process: Process = "sgd",
    seed: int = 0, threads: int | None = None, progress: Callable[[float], None] | None = None,
) -> Answer:  # fmt: skip
    """From which temperature on is the weight 0, and where are its fluctuations largest?

    Args:
        batch_size: samples per batch, kept; the learning rate is changed.
        depth: hidden layers, at least 1.
        width: subnetworks.
        weight_decay: γ in the loss γ ‖weights‖².
        slope: y = slope · x + noise, inputs and noise Gaussian.
        noise_variance: of the targets.
        input_variance: of the inputs.
        data_file: two columns x, y (CSV, a header line is skipped) instead of Gaussian data.
        process: sgd, with real minibatches; or diffusion, its differential equation (depth 1).
        seed: of the noise.
        threads: of the processor. [all]
        progress: a function of the share done.
    """
    data = _data(slope, noise_variance, input_variance, data_file)
    setting = Setting(data, 1.0, batch_size, depth, width, weight_decay)
    return sweep_answer(temperature_sweep(setting, kind=process, seed=seed, threads=threads, progress=progress))


def _data(slope: float, noise_variance: float, input_variance: float, data_file: Path | None) -> RegressionData:
    if data_file is None:
        return GaussianData(slope, noise_variance, input_variance)
    return SampledData(*columns(data_file), name=data_file.name)


def _moments(setting: Setting, moments: DataMoments | None) -> Table:
    rows = [[words, _shown(getattr(moments, name)) if moments else number(getattr(setting.noise, name))]
            for name, words in _NAMES.items()]  # fmt: skip
    errors = "; errors: the data as a sample of more" if moments else ""
    return Table(f"Data: {setting.data}{errors}", ["moment", "value"], rows)


def _phases(setting: Setting, moments: DataMoments | None) -> Table:
    """Phase boundaries of two layers, with the doubt that the data leave, and where the temperature stands."""
    noise, temperature, weight_decay = setting.noise, setting.temperature, setting.weight_decay
    rows = [["T = lr / batch size", number(temperature)]]
    title = "Phases of two layers in temperature"
    try:
        theory.critical_temperature(noise, weight_decay)
    except ValueError as error:
        return Table(title, ["phase", "temperature"], [*rows, ["no phases", str(error)]])

    def row(words: str, name: str, find: Callable[[], float], factor: float = 1.0) -> None:
        if moments is not None:
            measured: Estimate = getattr(moments, name)
            if measured.value is None:
                rows.append([words, measured.reason.split(":")[0]])
            else:
                rows.append([words, _shown(measured.scaled(factor))])
            return
        try:
            rows.append([words, number(factor * find())])
        except ValueError as error:
            rows.append([words, str(error).split(":")[0]])

    def critical() -> float:
        return theory.critical_temperature(noise, weight_decay).value

    row("T_c: from here on all mass at 0", "critical_temperature", critical)
    row("T_c / 3: from here on the density diverges at 0", "critical_temperature", critical, 1 / 3)
    row("from here on no maximum away from 0", "mode_temperature",
        lambda: theory.mode_temperature(noise, weight_decay).value)  # fmt: skip
    row("T_c of steps of finite size", "discrete_critical_temperature",
        lambda: setting.data.discrete_critical_temperature(setting.batch_size, weight_decay).value)  # fmt: skip
    rows.append(["regime", _regime(setting, moments)])
    return Table(title, ["phase", "temperature"], rows)


def _regime(setting: Setting, moments: DataMoments | None) -> str:
    label = theory.regime(setting.noise, setting.temperature, setting.weight_decay).label
    phase = label.rstrip("ab")
    words = f"{label}: " + ", ".join(_REGIMES[key] for key in (phase, label[len(phase) :]) if key)
    doubtful = moments is not None and any(
        isinstance(found.standard_error, float)
        and abs(setting.temperature - float(found) * factor) < 2 * found.standard_error * factor
        for found, factor in ((moments.critical_temperature, 1.0), (moments.critical_temperature, 1 / 3),
                              (moments.mode_temperature, 1.0))
    )  # fmt: skip
    return words + (" (a boundary is within two errors)" if doubtful else "")


def _comparison(trial: Trial) -> Table:
    law, replicas = trial.law, trial.replicas
    kind = "the law before the collapse" if law.metastable else "the stationary law"
    if law.collapsed:
        kind = f"point masses: {law.reason}"
    title = (
        f"Simulated ({len(replicas.v):,} networks, {replicas.steps:,} steps of {trial.setting.lr:g}, batch size "
        f"{trial.setting.batch_size}, depth {trial.setting.depth}, width {trial.setting.width}) beside {kind}"
    )
    return Table(title, ["quantity", "simulated", "predicted", "verdict"], [_row(row) for row in trial.rows])


def _row(row: Row) -> list[str]:
    verdict, measured = row.verdict, row.verdict.measured
    name = {
        "distance": "distance of distributions",
        "growth_rate": "growth of ln |v| close to 0, per lr · steps",
        "balance_decay": "change of ln |u² − w²| of unlike layers",
    }.get(measured.name, measured.name)
    if verdict.claim.endswith("with steps of finite size"):
        name += ", to second order in lr"
    predicted = number(row.predicted)
    if row.chance is not None:
        return [name, f"{float(measured):.4f}", f"0 (by chance up to {row.chance:.4f})",
                f"{verdict.outcome} (within {max(row.chance, DISTANCE):.2g})"]  # fmt: skip
    if row.shown is not None:
        below = f"{100 * float(measured):.3g} % of the law below"
        return [row.shown.name, _shown(row.shown), predicted, f"{verdict.outcome} ({below})"]
    said: str = verdict.outcome
    if verdict.relation == "equal" and verdict.margin is not None:
        said += f" ({100 * verdict.margin:+.1f} %)"
    return [name, _shown(measured), predicted, said]


def _observations(trial: Trial) -> Table:
    rows = [[seen.measured.name, _shown(seen.measured), seen.said] for seen in trial.observations]
    return Table("What the law leaves open, as simulated", ["quantity", "simulated", "theory"], rows)


def _shown(measured: Estimate) -> str:
    if measured.value is None:
        return measured.reason
    error = measured.standard_error
    if error is None:
        return f"{float(measured):.4g}" + (f" ({measured.reason})" if measured.reason else "")
    return with_error(float(measured), error if isinstance(error, float) else None)
