"""Rates: how fast SGD settles inside a well, and how fast it settles which well.

Batch size acts on the second only. Source: Dai & Zhu 2112.00987 for the statement that it sets the speed of
convergence; the separation of the two rates derived here.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdscope.theory.fokker_planck.landscape import Landscape
from sgdscope.theory.fokker_planck.line import Line, Potential
from sgdscope.theory.prediction import Prediction

_UNIT = "1 / (learning rate · iterations)"
_SEPARATED = 2.0
"""Noise units of barrier below which there are no wells to speak of."""
_KRAMERS = 4.0


@dataclass(frozen=True)
class RelaxationRates:
    """Decay rates of a potential at a temperature, per unit time lr · iterations.

    Attributes:
        temperature: D.
        landscape: minima and barriers.
        between_wells: rates at which occupations of wells settle, ascending, one less than there are wells; exact for
            this potential and temperature. Empty for a single well.
        in_well: slowest rate of all else. Exact too; the least curvature of a quadratic well, whatever the batch size.
        kramers: what Kramers' formula says for `between_wells`, right as D → 0.
        poincare: constant C_P = λ₁ / D of the stationary law, λ₁ the slowest rate of all.
    """

    temperature: float
    landscape: Landscape
    between_wells: tuple[Prediction, ...]
    in_well: Prediction
    kramers: tuple[Prediction, ...]
    poincare: Prediction

    @property
    def gap(self) -> float:
        """λ₁, the slowest rate of all."""
        return (*self.between_wells, self.in_well)[0].value

    @property
    def selection(self) -> Prediction:
        """The slowest rate between wells. Raises ValueError for a single well, where nothing is selected."""
        if not self.between_wells:
            raise ValueError(
                f"expected two wells, got the single well at {self.landscape.minima[0]:.6g}: its only rate is in_well"
            )
        return self.between_wells[0]


def relaxation_rates(potential: Potential, temperature: float, line: Line | None = None) -> RelaxationRates:
    """In-well and between-well rates of the loss of one variable under SGD with isotropic noise.

    The rates are those of the Fokker–Planck operator on `line` (by default `Line.of_potential`), to about 1e-6. Below
    two noise units of barrier the names lose their meaning, and warnings say so. Raises ValueError as `Line`.
    """
    line = Line.of_potential(potential, temperature) if line is None else line
    landscape = Landscape.of(potential, line)
    exchanges = len(landscape.saddles)
    rates = line.slow_modes(exchanges + 1)[0]
    warnings: tuple[str, ...] = ()
    kramers: tuple[Prediction, ...] = ()
    if exchanges:
        height = landscape.lowest_barrier / temperature
        if height < _SEPARATED:
            warnings = (
                f"a barrier of {height:.2g} noise units separates no wells: the slowest rate is no escape rate",
            )
        formula_warnings = (
            (f"a barrier of {height:.2g} noise units is low for the formula, which wants {_KRAMERS:.0f}",)
            if height < _KRAMERS
            else ()
        )
        kramers = tuple(
            Prediction(
                value, "between-wells rate", "decay rates of the walk with 1/τ = √(H_i |H_b|) / 2π · e^(−ΔL/D)",
                "isotropic noise, D → 0", "Kramers 1940; Dai & Zhu 2112.00987", _UNIT, warnings=formula_warnings,
            )
            for value in landscape.kramers_rates(temperature)
        )  # fmt: skip

    def exact(value: float, quantity: str) -> Prediction:
        return Prediction(
            value, quantity, "eigenvalue of the Fokker–Planck operator", "isotropic noise, this potential",
            "derived here", _UNIT, warnings=warnings,
        )  # fmt: skip

    return RelaxationRates(
        temperature,
        landscape,
        tuple(exact(value, "between-wells rate") for value in rates[:exchanges]),
        exact(rates[exchanges], "in-well rate"),
        kramers,
        Prediction(
            rates[0] / temperature, "Poincaré constant", "λ₁ / D", "isotropic noise, this potential",
            "Dai & Zhu 2112.00987, who bound λ₁ below by it", "1 / loss · curvature",
        ),
    )  # fmt: skip
