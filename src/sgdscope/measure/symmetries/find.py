"""Find: what the steps of a model allow, kept where it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from sgdscope.batches import Batch
from sgdscope.measure.symmetries.book import Book
from sgdscope.measure.symmetries.candidate import Candidate
from sgdscope.measure.symmetries.custom import Generator, custom_candidates
from sgdscope.measure.symmetries.evidence import Evidence, collect, samples_of
from sgdscope.measure.symmetries.general_linear import Mixed, even, mix
from sgdscope.measure.symmetries.part import quadratic
from sgdscope.measure.symmetries.propose import candidates_of
from sgdscope.measure.symmetries.small_constants import SmallConstantsShrunk
from sgdscope.measure.symmetries.symmetry import Symmetries, Symmetry
from sgdscope.measure.symmetries.verify import Move, Trial, twofold
from sgdscope.measure.symmetries.watch import watched
from sgdscope.risk import Risk

FEW = 4
"""Samples on which the model is really rescaled, and on which norms are looked at without their eps."""


def symmetries(
    risk: Risk,
    *,
    custom: Mapping[str, Generator] | None = None,
    samples: int = 16,
    tolerance: float | None = None,
    generator: torch.Generator | None = None,
) -> Symmetries:
    """Rescaling symmetries of the loss, read off the steps of a model and verified sample by sample.

    One loss is computed and watched: every operation asks for relations between the powers of λ by which parameters
    and activations change, and what all of them allow is proposed, for as small units as can be told apart. So found
    are neurons and channels through ReLU-like functions, pooling, residual sums and norms; per head, queries against
    keys and values against what reads them; branches of gated units against what reads their product; the two factors
    of low-rank adapters, per rank; weights that a norm makes scale-invariant; gains of norms; tied weights where they
    allow it. Nothing is asked of how the model is written, and its loss function is watched too. What a few samples do
    not run through is not looked at. Operations that are not known are taken to fix all they are given, which a note
    says.

    Verified is that θᵀA∇ℓ = 0 for the loss of every single sample (small batches where a batch is more than its
    samples, as with BatchNorm in train mode), and that outputs (or losses) stay the same when units are rescaled by 2
    and ½ at random. Units that may be mixed by any invertible matrix are marked: see `Symmetry.group`.

    Args:
        risk: mode included: in train mode BatchNorm makes weights scale-invariant, in eval mode it does not.
        custom: further generators by name, verified alike: ``{"mine": {"0.weight": 1, "2.weight": -1}}`` with powers,
            or with symmetric matrices and the dimension they act along: ``{"turn": {"0.weight": (matrix, 0)}}``.
        samples: number of samples, at least 1; all data where there are fewer.
        tolerance: largest residual; 1e-10 in double precision, 1e-6 in single. Where terms of a unit cancel, 16
            roundings of the sum of their magnitudes are allowed on top: in single precision residuals may be larger.
        generator: of the samples.

    Cost: `samples` gradients of one sample, 4 more if some hold up to the eps of a norm only, 8 losses for all
    symmetries together (8 more with such norms, 4 with mixing), one loss of 4 samples and its bookkeeping. Of a
    transformer of 98 million parameters on 256 tokens: 21 as so counted, 26 by the clock (on 64 tokens 29).
    Source: Ziyin, Li & Ueda 2308.06671 (rescaling, Eq. 26); Ziyin, Wang, Li & Wu 2402.07193 (exponential symmetries).
    Raises ValueError for parameters below single precision, unknown names or shapes in `custom`, or samples < 1.
    """
    if samples < 1:
        raise ValueError(f"expected at least 1 sample, got {samples}")
    rounding = max(torch.finfo(p.dtype).eps for p in risk.parameters)
    if rounding > 1e-6:
        raise ValueError("expected parameters in single or double precision, got a lower one, in which rounding looks "
                         "like a broken symmetry\nhint: verify model.float() and use its symmetries")  # fmt: skip
    tolerance = (1e-10 if rounding < 1e-12 else 1e-6) if tolerance is None else tolerance
    notes = ["each sample is a small batch: " + risk.mixing] if risk.mixing else []
    try:
        book = watched(risk)
    except Exception as error:  # whatever a model does that bookkeeping cannot follow
        book = Book()
        notes.append(f"nothing was looked for: the loss cannot be watched ({error or type(error).__name__})")
    candidates = candidates_of(book, dict(zip(risk.names, risk.parameters, strict=True)))
    candidates += custom_candidates(risk, custom or {})
    drawn = samples_of(risk, samples, generator or torch.Generator().manual_seed(0))
    search = _Search(risk, drawn, tolerance, rounding)
    found = search.verdicts(candidates)
    if book.unknown:
        notes.append("not looked through, and taken to fix the scale: " + ", ".join(sorted(book.unknown)))
    return Symmetries(tuple(found), len(drawn), search.cost, tuple(notes))


class _Search:
    """Candidates held against samples.

    Attributes:
        cost: gradient evaluations spent, each of one sample.
    """

    def __init__(self, risk: Risk, samples: Sequence[Batch], tolerance: float, rounding: float) -> None:
        self.risk, self.samples = risk, samples
        self.tolerance, self.rounding = tolerance, rounding
        self.cost = 4 / 3

    def verdicts(self, candidates: Sequence[Candidate]) -> list[Symmetry]:
        """Each candidate as it stands after all checks."""
        plain = {c: Evidence(c) for c in candidates}
        mixed = {c: Mixed(c) for c in candidates if c.coordinates and even(c.coordinates)}
        self._show([*plain.values(), *mixed.values()], self.samples)
        exact = {c: self._passes(evidence) for c, evidence in plain.items()}
        open_ = [c for c in candidates if not c.reason and _is_heard(plain[c])]
        without_eps = {c: Evidence(c) for c in open_ if not exact[c]}
        with SmallConstantsShrunk():
            self._show(list(without_eps.values()), self.samples[:FEW])
        up_to_eps = [c for c, evidence in without_eps.items() if self._passes(evidence)]
        as_it_is = Trial(self.risk, self.samples[:FEW])
        differences = self._moved(as_it_is, [c for c in open_ if exact[c]], twofold)
        mixable = [c for c, evidence in mixed.items() if exact[c] and _is_heard(evidence) and self._passes(evidence)]
        linear = {c for c, d in self._moved(as_it_is, mixable, mix).items() if d <= 10 * self.tolerance}
        if up_to_eps:
            with SmallConstantsShrunk():
                differences |= self._moved(Trial(self.risk, self.samples[:FEW]), up_to_eps, twofold)
        return [self._verdict(c, plain[c], differences.get(c), exact[c], c in linear) for c in candidates]

    def _show(self, evidence: Sequence[Evidence], samples: Sequence[Batch]) -> None:
        if evidence:
            collect(self.risk, evidence, samples)
            self.cost += len(samples)

    def _moved(self, trial: Trial, candidates: Sequence[Candidate], move: Move) -> dict[Candidate, float]:
        before = trial.losses
        differences = trial.differences(candidates, 10 * self.tolerance, move)
        self.cost += (trial.losses - before) / 3
        return dict(zip(candidates, differences, strict=True))

    def _passes(self, evidence: Evidence) -> bool:
        return evidence.passes(self.tolerance, self.rounding)

    def _verdict(
        self, candidate: Candidate, evidence: Evidence, changed: float | None, exact: bool, linear: bool
    ) -> Symmetry:
        named = dict(zip(self.risk.names, self.risk.parameters, strict=True))
        values = tuple(quadratic(candidate.parts, named, candidate.units).tolist())
        symmetry = Symmetry(candidate.name, candidate.kind, candidate.units, candidate.parts, unit=candidate.unit)
        if not all(map(math.isfinite, values)) or not bool(torch.isfinite(evidence.gap).all()):
            return replace(symmetry, status="rejected", reason="weights or gradients are not finite")
        silent = int(evidence.silent.sum())
        symmetry = replace(symmetry, charges=values, residual=evidence.residual, silent=silent, difference=changed)
        reason = candidate.reason
        if not reason and evidence.residual is None:
            reason = "no evidence: no gradient reaches it in these samples"
        elif not reason and changed is None:
            reason = "the gradients of single samples break it"
        elif not reason and not (changed is not None and changed <= 10 * self.tolerance):
            reason = "outputs change when it is rescaled"
        if reason:
            return replace(symmetry, status="rejected", reason=reason)
        said = [] if exact else ["of the norm"]
        if silent:
            said.append(f"{silent} of {candidate.units} {candidate.unit} silent")
        symmetry = replace(symmetry, status="exact" if exact else "up to eps", reason="; ".join(said))
        if linear:
            symmetry = replace(
                symmetry, group="general linear", coordinates=candidate.coordinates, blocks=candidate.blocks
            )
        return symmetry


def _is_heard(evidence: Evidence) -> bool:
    return evidence.residual is not None and bool(torch.isfinite(evidence.gap).all())
