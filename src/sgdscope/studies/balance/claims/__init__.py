"""Claims of the law of balance, in the order: charges, networks, stationary laws, phases, what steps of SGD break."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sgdscope.studies.balance.claims import charges, laws, limits, networks, phases
from sgdscope.studies.claim import Claim

if TYPE_CHECKING:
    from sgdscope.studies.balance.recipe import Balance


def claims(study: Balance) -> Sequence[Claim]:
    """All of them."""
    return [*charges.claims(study), *networks.claims(study), *laws.claims(study), *phases.claims(study),
            *limits.claims(study)]  # fmt: skip
