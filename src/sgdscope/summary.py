"""Summary: a few plain lines that say where a run stands, for the terminal."""

from __future__ import annotations

from sgdscope.edge_map import SPIKE, EdgeMap
from sgdscope.estimate import Estimate, short, with_error
from sgdscope.gradient_steps import BatchLine, FullLossStep
from sgdscope.layer_balance import LayerBalance, charges_in_words, standing_in_words
from sgdscope.records import Run
from sgdscope.regime import Standing


def summary(run: Run) -> str:
    """Regime, the gauges in edge units, what two usual changes would do, noise, layers, steps, curvature, cost."""
    standing = run.standing()
    lines = [standing.headline]
    rows = [*_gauges(run, standing), *_changes(standing), *_edges(run)]
    rows += [*_noise(run), *_balance(run), *_steps(run), *_shape(run), *_cost(run)]
    width = max((len(name) for name, _ in rows), default=0)
    lines += [f"  {name.ljust(width)}  {text}" for name, text in rows]
    return "\n".join(lines)


def _gauges(run: Run, standing: Standing) -> list[tuple[str, str]]:
    rows = []
    level = standing.threshold.formula if standing.threshold is not None else ""
    names = {"batch_sharpness": "batch sharpness", "lambda_max": "λ_max, full loss", "edge_ratio": "edge ratio"}
    if standing.edge.value is not None:
        of = f" of {level}" if standing.edge.name != "edge_ratio" else ""
        rows.append((names.get(standing.edge.name, standing.edge.name), f"{short(standing.edge)}{of}"))
    if standing.lambda_max.value is not None and standing.edge.name != "lambda_max":
        residual = standing.lambda_max.residual
        doubt = f" (residual {residual:.1g})" if isinstance(residual, float) and residual > 0 else ""
        rows.append(("λ_max, full loss", f"{short(standing.lambda_max)} of {level}{doubt}"))
    return rows


def _changes(standing: Standing) -> list[tuple[str, str]]:
    latest = {str(e.settings.get("change", "change")): e for e in standing.changes}
    rows = []
    for change, estimate in latest.items():
        if estimate.value is None:
            rows.append((change, f"not predicted: {estimate.reason}"))
            continue
        x = float(estimate)
        error = estimate.standard_error if isinstance(estimate.standard_error, float) else 0.0
        said = (
            "expect a spike or divergence" if x - 2 * error > SPIKE else
            "no spike expected" if x + 2 * error < 1 else "near the edge, a spike is possible"
        )  # fmt: skip
        rows.append((change, f"{short(estimate)} of the new threshold: {said}"))
    return rows


def _edges(run: Run) -> list[tuple[str, str]]:
    """The edge learning rate at the run's batch size, a quarter and four times that."""
    found = EdgeMap.of(run)
    if found is None:
        return []
    wanted = {max(found.batch_size // 4, 1), found.batch_size, 4 * found.batch_size}
    shown = [(size, found.edge_at(size)) for size in sorted(wanted)]
    words = ", ".join(f"{_glance(edge)} at batch {size}" for size, edge in shown if edge.value is not None)
    return [("edge learning rate", f"{words} (now {found.lr:g} at {found.batch_size})")]


def _noise(run: Run) -> list[tuple[str, str]]:
    """Noise scale and critical batch size beside the batch size; which model of the noise the spectrum supports."""
    said = []
    scale = run.get("gradient_noise").component("simple_noise_scale").latest
    batch_size = run.manifest.get("batch_size")
    beside = f" (batch {batch_size})" if isinstance(batch_size, int) else ""
    if scale is not None and float(scale) > 0:
        exact = ", from all data" if scale.standard_error == 0 else ""
        said.append(f"scale {_glance(scale)} samples{exact}{beside}")
    shape = run.get("noise_covariance").latest
    supported = str(shape.settings.get("supported", "")) if shape is not None else ""
    words = {
        "constant": "as strong in flat directions as in sharp ones",
        "proportional to the Hessian": "proportional to the curvature",
        "neither": "neither constant nor proportional to the curvature",
    }
    if supported in words:
        said.append(words[supported])
    rows = [("gradient noise", "; ".join(said))] if said else []
    for critical in run.get("gradient_noise_interaction").component("critical_batch_size").estimates[-1:]:
        meaning = "not measured: " + critical.reason
        if critical.value is not None:
            halves = "there noise halves the gain of the best step"
            meaning = f"{_glance(critical)} samples{beside}: " + (
                halves if float(critical) > 0 else "along the noise the loss curves downward"
            )
        rows.append(("critical batch size", meaning))
    return rows


def _balance(run: Run) -> list[tuple[str, str]]:
    """How far the layers are from noise balance, and whether their charges move as predicted."""
    found = LayerBalance.of(run)
    if not found:
        return []
    said = [standing_in_words(found)]
    resting = [b for b in found if b.equilibrium_ratio is not None]
    if len(resting) == 1 and resting[0].equilibrium_ratio is not None:
        said[0] += f" (ratio {resting[0].ratio:.3g}, predicted {_glance(resting[0].equilibrium_ratio)})"
    if not resting and found[0].scale_free:
        said[0] = "scale-free weights only, which noise makes grow"
    said.append(charges_in_words(found))
    if found[0].law:
        said.append(f"no claim about this run ({', '.join(found[0].law)})")
    return [("balance of layers", "; ".join(part for part in said if part))]


def _glance(estimate: Estimate) -> str:
    """Value and error to one digit of the error; three digits and never 4e+03 for 4,000 where there is none."""
    x, error = float(estimate), estimate.standard_error
    if isinstance(error, float) and error > 0:
        return with_error(x, error, digits=1)
    return f"{float(f'{x:.3g}'):,.10g}" if 1e-4 <= abs(x) < 1e9 else f"{x:.3g}"


def _steps(run: Run) -> list[tuple[str, str]]:
    """How far along a batch's gradient the loss of all data falls, and that of the batch itself."""
    said, full, line = [], FullLossStep.of(run), BatchLine.of(run)
    if full is not None:
        expected = "½" if full.expected == 0.5 else f"about {full.expected:.3g}"
        shown = f"{_glance(full.estimate)} of the learning rate for the full loss"
        said.append(f"{shown} ({expected} in the mean where settled)")
    if line is not None and line.in_learning_rates:
        best = f"{line.best:.2f}" if 0.095 <= line.best < 1 else f"{line.best:.2g}"
        far = line.best > max(1.0, float(full.estimate) if full is not None else 0.0)
        words = f"goes on falling for {best} learning rates" if far else f"is lowest at {best}"
        said.append(f"one batch itself {words}")
    return [("best step along a batch", "; ".join(said))] if said else []


def _shape(run: Run) -> list[tuple[str, str]]:
    """How much of the spectrum is negative."""
    latest = run.get("spectrum").component("negative_share").latest
    if latest is None:
        return []
    if float(latest) == 0:
        return [("negative curvature", "none to be seen")]
    return [("negative curvature", f"{_glance(latest.scaled(100))} % of the directions")]


def _cost(run: Run) -> list[tuple[str, str]]:
    share = run.get("monitor_share").latest
    if share is None:
        return []
    seconds = share.settings.get("seconds", {})
    final = seconds.get("final readings", 0.0) if isinstance(seconds, dict) else 0.0
    extra = f", and {final:.1f} s of readings at the end" if isinstance(final, float) and final >= 0.05 else ""
    return [("watching", f"{100 * float(share):.1f} % of the time{extra}")]
