"""Networks with their symmetries known by hand: name → units, each exact or up to the eps of a norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgdscope.models import build
from sgdscope.risk import Risk

CLASSES, SIDE, SAMPLES = 3, 8, 24


def squared(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return 0.5 * (model(x) - y).square().sum(-1).mean()


class Written(nn.Module):
    """A forward of its own, with functions in place of modules and two readers of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.left, self.right = nn.Linear(36, CLASSES), nn.Linear(36, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.leaky_relu(self.conv(x), 0.1), 2).flatten(1)
        x = (x.reshape(x.shape[0], -1) + x) / 4
        return self.left(x) - 0.5 * self.right(x + x)


class Branching(nn.Module):
    """Does not trace: its forward looks at values."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(SIDE**2, 5), nn.Sequential(nn.ReLU(), nn.Linear(5, 4)), nn.ReLU(), nn.Linear(4, 4)
        )
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.head(-x if x.sum() > 1e9 else x)


class TiedBack(nn.Module):
    """The same matrix there and back: rescaling one side rescales the other."""

    def __init__(self) -> None:
        super().__init__()
        self.there, self.back = nn.Linear(SIDE**2, SIDE**2, bias=False), nn.Linear(SIDE**2, SIDE**2, bias=False)
        self.back.weight = self.there.weight
        self.head = nn.Linear(SIDE**2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.back(torch.relu(self.there(x.flatten(1))))))


class UsedElsewhere(nn.Module):
    """The reading layer is also used on another stream."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(SIDE**2, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.second(torch.relu(self.first(x.flatten(1))))))))


class Squared(nn.Module):
    """x · x is no product with a number, and a constant that is added fixes the scale."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(SIDE**2, 4), nn.Linear(4, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x.flatten(1))
        return self.c(torch.relu(self.b(x * x) + 1))


class Permuted(nn.Module):
    """Channels last before flattening: units lie elsewhere than they usually do, and can be scaled together only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(144, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).permute(0, 2, 3, 1).flatten(1))


class Residual(nn.Module):
    """A stream of one width through all blocks: its units can be scaled one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(SIDE**2, 5), nn.Linear(5, CLASSES)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 5)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        for block in self.blocks:
            x = x + 0.5 * block(x)
        return self.head(x)


def frozen() -> nn.Module:
    model = perceptron("relu")
    model[1].weight.requires_grad_(False)
    return model


def perceptron(activation: str, *, bias: bool = True) -> nn.Sequential:
    act = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "prelu": nn.PReLU, "none": nn.Identity}[activation]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE**2, 6, bias=bias), act(), nn.Linear(6, 5, bias=bias), act(),
        nn.Linear(5, CLASSES, bias=bias),
    )  # fmt: skip


def normed(*norm: nn.Module, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=bias), *norm, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, CLASSES)
    )


def rows(*norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 6), *norm, nn.ReLU(), nn.Linear(6, CLASSES))


def depthwise() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=4), nn.ReLU(), nn.Conv2d(8, 6, 1, groups=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES),
    )  # fmt: skip


def resnet(norm: str) -> nn.Module:
    return build("resnet", input_shape=(1, SIDE, SIDE), classes=CLASSES, width=2, depth=1, norm=norm)


@dataclass(frozen=True)
class Network:
    name: str
    model: Callable[[], nn.Module]
    exact: dict[str, int] = field(default_factory=dict)
    up_to_eps: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    """By name words of the reason."""
    mode: str = "train"

    def risk(self, dtype: torch.dtype = torch.float64) -> Risk:
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(5)
            model = self.model().to(dtype)
        g = torch.Generator().manual_seed(1)
        x = torch.randn(SAMPLES, 1, SIDE, SIDE, generator=g, dtype=torch.float64).to(dtype)
        y = torch.randn(SAMPLES, model_outputs(model, x), generator=g, dtype=torch.float64).to(dtype)
        return Risk(model, squared, (x, y), mode=self.mode)  # type: ignore[arg-type]


def model_outputs(model: nn.Module, x: Tensor) -> int:
    with torch.no_grad():
        return model.eval()(x[:1]).shape[-1]


TWO = {"1 → 3": 6, "3 → 5": 5}
NETWORKS = [
    Network("mlp", lambda: perceptron("relu"), TWO),
    Network("mlp without bias", lambda: perceptron("relu", bias=False), TWO),
    Network("prelu", lambda: perceptron("prelu"), TWO),
    Network("linear layers", lambda: perceptron("none"), TWO),
    Network("tanh", lambda: perceptron("tanh"), rejected=dict.fromkeys(TWO, "Tanh is not homogeneous")),
    Network("gelu", lambda: perceptron("gelu"), rejected=dict.fromkeys(TWO, "GELU is not homogeneous")),
    Network("cnn", lambda: build("cnn", input_shape=(1, SIDE, SIDE), classes=CLASSES, width=2),
            {"0 → 3": 2, "3 → 7": 4, "7 → 9": 16}),
    Network("resnet", lambda: resnet("none"), {
        "0 and 3 more → 2.branch.0 and 3 more": 1, "2.branch.0 → 2.branch.2": 2, "3.branch.0 → 3.branch.2": 4,
        "4.branch.0 → 4.branch.2": 8}),
    Network("resnet with BatchNorm", lambda: resnet("batch"), {
        "1 and 3 more → 3.branch.0 and 3 more": 1, "3.branch.1 → 3.branch.3": 2, "4.branch.1 → 4.branch.3": 4,
        "5.branch.1 → 5.branch.3": 8}, {
        "0 → 1": 2, "3.branch.0 → 3.branch.1": 2, "3.branch.3 → 3.branch.4": 2, "4.branch.0 → 4.branch.1": 4,
        "4.branch.3 → 4.branch.4": 4, "5.branch.0 → 5.branch.1": 8, "5.branch.3 → 5.branch.4": 8}),
    Network("BatchNorm after a bias", lambda: normed(nn.BatchNorm2d(4)), {"1 → 5": 4}, {"0 → 1": 4}),
    Network("BatchNorm in eval mode", lambda: normed(nn.BatchNorm2d(4)), {"1 → 5": 4}, mode="eval"),
    Network("GroupNorm", lambda: normed(nn.GroupNorm(2, 4)), {"1 → 5": 4}, {"0 → 1": 2}),
    Network("LayerNorm", lambda: rows(nn.LayerNorm(6)), {"2 → 4": 6}, {"1 → 2": 1}),
    Network("RMSNorm", lambda: rows(nn.RMSNorm(6, eps=1e-5)), {"2 → 4": 6}, {"1 → 2": 1}),
    Network("norm without weights", lambda: rows(nn.LayerNorm(6, elementwise_affine=False)), {}, {"1 → 2": 1}),
    Network("dropout", lambda: rows(nn.Dropout(0.3)), {"1 → 4": 6}),
    Network("depthwise and grouped", depthwise, {"0 → 2": 4, "2 → 4": 8, "4 → 8": 6}),
    Network("transposed convolution", lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.RReLU(), nn.ConvTranspose2d(4, 3, 3, stride=2), nn.ReLU(), nn.AdaptiveMaxPool2d(2),
        nn.Flatten(), nn.Linear(12, CLASSES)), {"0 → 2": 4, "2 → 6": 3}),
    Network("residual", Residual, {
        "stem and 2 more → blocks.0.0 and 2 more": 5, "blocks.0.0 → blocks.0.2": 4, "blocks.1.0 → blocks.1.2": 4}),
    Network("written forward", Written, {"conv → left and 1 more": 4}),
    Network("does not trace", Branching, {"body.1 → body.2.1": 5, "body.2.1 → body.4": 4}),
    Network("permuted", Permuted, {"conv → head": 1}),
    Network("tied back", TiedBack, rejected={
        "there → back": "tied: there.weight is on both sides", "back → head": "gradients of single samples"}),
    Network("used elsewhere", UsedElsewhere, rejected={
        "first → second": "gradients of single samples", "second → second": "tied", "second → head": "tanh"}),
    Network("products and constants", Squared),
    Network("frozen", frozen, {"3 → 5": 5}, rejected={"1 → 3": "1.weight is frozen"}),
    Network("weight norm", lambda: rows(nn.Identity()).apply(
        lambda m: nn.utils.parametrizations.weight_norm(m) if isinstance(m, nn.Linear) and m.in_features > 6 else m),
        rejected={"1 → 4": "computed from other parameters"}),
]  # fmt: skip
