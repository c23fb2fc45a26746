"""Networks with their symmetries known by hand: name → units, each exact or up to the eps of a norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from tests.measure.symmetries.attention import CLASSES, POSITIONS, TOKENS, WIDTH
from torch import Tensor, nn

from sgdscope.models import build
from sgdscope.risk import Risk

SIDE, SAMPLES = 8, 24


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
    """Its forward looks at values."""

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
    """The same matrix there and back: what divides it by λ divides the output by λ²."""

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
    """x · x is of degree two, and a constant that is added fixes the scale."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(SIDE**2, 4), nn.Linear(4, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x.flatten(1))
        return self.c(torch.relu(self.b(x * x) + 1))


class Permuted(nn.Module):
    """Channels last before flattening: units lie elsewhere than they usually do."""

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


class SummedUp(nn.Module):
    """Channels are summed up one after the other: they can be scaled together only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(144, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).cumsum(1).flatten(1))


class Siamese(nn.Module):
    """One branch, used on two halves of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(SIDE**2 // 2, 5), nn.Linear(5, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        one, two = (self.second(torch.relu(self.first(half))) for half in x.flatten(1).chunk(2, dim=1))
        return self.head(torch.relu(one) - torch.relu(two))


class Joined(nn.Module):
    """Two layers side by side: each owns some columns of what reads both."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(SIDE**2, 3), nn.Linear(SIDE**2, 4), nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.head(torch.cat([torch.relu(self.one(x)), nn.functional.leaky_relu(self.two(x))], dim=1))


class Normalised(nn.Module):
    """Rows divided by their norm, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.gain, self.head = nn.Linear(SIDE**2, 6), nn.Parameter(torch.rand(6) + 1), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x.flatten(1))
        return self.head(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.gain)


@dataclass(frozen=True)
class Network:
    """A model and what is known of it.

    Attributes:
        exact, up_to_eps: units by name.
        rejected: by name words of the reason.
        mixed: of those whose units may be mixed by any matrix, in how many blocks.
        mode: of the risk, if it must be one.
        inputs: images, sequences of vectors or of tokens, or dictionaries of several such.
    """

    name: str
    model: Callable[[], nn.Module]
    exact: dict[str, int] = field(default_factory=dict)
    up_to_eps: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    mixed: dict[str, int] = field(default_factory=dict)
    mode: str | None = None
    inputs: str = "images"

    def risk(self, dtype: torch.dtype = torch.float64, mode: str = "train") -> Risk:
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(5)
            model = self.model()
            with torch.no_grad():  # gains of norms start equal
                for p in model.parameters():
                    p += 0.1 * torch.randn_like(p)
        model.to(dtype)
        g = torch.Generator().manual_seed(1)
        mode = self.mode or mode
        if self.inputs == "tokens":
            return Risk(model, next_token, torch.randint(TOKENS, (SAMPLES, POSITIONS), generator=g), mode=mode)
        if self.inputs == "dictionaries":
            ids = torch.randint(TOKENS, (SAMPLES, POSITIONS), generator=g)
            batch = {"ids": ids, "mask": torch.ones(SAMPLES, POSITIONS, dtype=dtype), "labels": ids.roll(1, 1)}
            return Risk(model, lambda m, b: m(**b)["loss"], batch, mode=mode)
        shape = (1, SIDE, SIDE) if self.inputs == "images" else (POSITIONS, WIDTH)
        x = torch.randn(SAMPLES, *shape, generator=g, dtype=torch.float64).to(dtype)
        y = torch.randn(SAMPLES, *outputs_of(model, x), generator=g, dtype=torch.float64).to(dtype)
        return Risk(model, squared, (x, y), mode=mode)


def outputs_of(model: nn.Module, x: Tensor) -> torch.Size:
    with torch.no_grad():
        return model.eval()(x[:1]).shape[1:]


def next_token(model: nn.Module, batch: Tensor) -> Tensor:
    return F.cross_entropy(model(batch)[:, :-1].flatten(0, 1), batch[:, 1:].flatten())


TWO = {"1 → 3": 6, "3 → 5": 5}
NETWORKS = [
    Network("mlp", lambda: perceptron("relu"), TWO),
    Network("mlp without bias", lambda: perceptron("relu", bias=False), TWO),
    Network("prelu", lambda: perceptron("prelu"), TWO),
    Network("linear layers", lambda: perceptron("none"), TWO, mixed={"1 → 3": 1, "3 → 5": 1}),
    Network("tanh", lambda: perceptron("tanh"), rejected=dict.fromkeys(TWO, "Tanh is not homogeneous")),
    Network("gelu", lambda: perceptron("gelu"), rejected=dict.fromkeys(TWO, "GELU is not homogeneous")),
    Network("cnn", lambda: build("cnn", input_shape=(1, SIDE, SIDE), classes=CLASSES, width=2),
            {"0 → 3": 2, "3 → 7": 4, "7 → 9": 16}),
    Network("resnet", lambda: resnet("none"), {
        "0 and 3 more → 2.branch.0 and 3 more": 2, "2.branch.0 → 2.branch.2": 2, "3.branch.0 → 3.branch.2": 4,
        "3.branch.2 and 1 more → 4.branch.0 and 1 more": 2, "4.branch.0 → 4.branch.2": 8, "4.branch.2 → 6": 4}),
    Network("resnet with BatchNorm", lambda: resnet("batch"), {
        "1 and 3 more → 3.branch.0 and 3 more": 2, "3.branch.1 → 3.branch.3": 2, "4.branch.1 → 4.branch.3": 4,
        "4.branch.4 and 1 more → 5.branch.0 and 1 more": 2, "5.branch.1 → 5.branch.3": 8, "5.branch.4 → 7": 4}, {
        "0 → 1": 2, "3.branch.0 → 3.branch.1": 2, "3.branch.3 → 3.branch.4": 2, "4.branch.0 → 4.branch.1": 4,
        "4.branch.3 → 4.branch.4": 4, "5.branch.0 → 5.branch.1": 8, "5.branch.3 → 5.branch.4": 8}, mode="train"),
    Network("BatchNorm after a bias", lambda: normed(nn.BatchNorm2d(4)), {"1 → 5": 4}, {"0 → 1": 4}, mode="train"),
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
        "stem and 2 more → blocks.0.0 and 2 more": 5, "blocks.0.0 → blocks.0.2": 4, "blocks.1.0 → blocks.1.2": 4},
        mixed={"stem and 2 more → blocks.0.0 and 2 more": 1}),
    Network("written forward", Written, {"conv → left and 1 more": 4}),
    Network("looks at values", Branching, {"body.1 → body.2.1": 5, "body.2.1 → body.4": 4, "body.4 → head": 4},
            mixed={"body.4 → head": 1}),
    Network("permuted", Permuted, {"conv → head": 4}),
    Network("summed up", SummedUp, {"conv → head": 1}),
    Network("tied back", TiedBack, {"there → head": 1}),
    Network("used elsewhere", UsedElsewhere, rejected={
        "first → second": "tied", "first and 1 more → second and 1 more": "tanh"}),
    Network("siamese", Siamese, {"first → second": 5, "second → head": 4}),
    Network("side by side", Joined, {"one → head": 3, "two → head": 4}),
    Network("degree two and constants", Squared, {"a → b": 4}),
    Network("norm written out", Normalised, {"gain → head": 6}, {"body → norm": 1}),
    Network("frozen", frozen, {"3 → 5": 5}, rejected={"1 → 3": "1.weight is frozen"}),
    Network("weight norm", lambda: rows(nn.Identity()).apply(
        lambda m: nn.utils.parametrizations.weight_norm(m) if isinstance(m, nn.Linear) and m.in_features > 6 else m),
        {"1 → 1": 6, "1 → 4": 6}),
]  # fmt: skip
