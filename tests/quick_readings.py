"""Readings as the monitor takes them, but of few batches: for tests of what is around them."""

from sgdscope import what_if
from sgdscope.monitor import along_gradient, readings


def quick_readings(monkeypatch):
    """Makes every reading quick until the end of a test; how well they measure is tested elsewhere."""
    few = {"min_batches": 2, "max_batches": 3}
    for module in (readings, what_if):
        sharpness = module.batch_sharpness
        monkeypatch.setattr(module, "batch_sharpness", lambda *a, f=sharpness, **options: f(*a, **options | few))
    interaction = readings.gradient_noise_interaction
    monkeypatch.setattr(
        readings, "gradient_noise_interaction", lambda *a, **options: interaction(*a, **options | {"batches": 2})
    )
    pairs = readings.leading_eigenpairs
    monkeypatch.setattr(readings, "leading_eigenpairs", lambda *a, **options: pairs(*a, max_products=12, **options))
    monkeypatch.setattr(readings, "BY_HAND", readings.BY_HAND._replace(steps=3, probes=1))
    monkeypatch.setattr(readings, "BY_GRAPH", readings.BY_GRAPH._replace(steps=3, probes=1))
    monkeypatch.setattr(along_gradient, "FEW", 2)
    monkeypatch.setattr(along_gradient, "MANY", 2)
    monkeypatch.setattr(along_gradient, "_POINTS", 4)
