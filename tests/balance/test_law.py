"""What stands in the way of the law of balance."""

import pytest
import torch

from sgdscope.balance import law_reasons

WEIGHTS = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (None, []),
        (torch.optim.SGD(WEIGHTS, lr=0.1, weight_decay=1e-3), []),
        (torch.optim.SGD(WEIGHTS, lr=0.1, momentum=0.9), ["momentum 0.9"]),
        (torch.optim.SGD(WEIGHTS, lr=0.1, momentum=0.9, nesterov=True), ["Nesterov momentum 0.9"]),
        (torch.optim.SGD(WEIGHTS, lr=0.1, maximize=True), ["SGD that maximises"]),
        (torch.optim.AdamW(WEIGHTS), ["AdamW"]),
        (
            torch.optim.SGD([{"params": WEIGHTS[:1], "lr": 0.2}, {"params": WEIGHTS[1:]}], lr=0.1),
            ["learning rates differ between parameter groups"],
        ),
        (
            torch.optim.SGD([{"params": WEIGHTS[:1], "weight_decay": 0.1}, {"params": WEIGHTS[1:]}], lr=0.1),
            ["weight decays differ between parameter groups"],
        ),
    ],
)
def test_reasons(optimizer, said):
    assert law_reasons(optimizer) == said
