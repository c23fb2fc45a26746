"""Further architectures with their symmetries known by hand, each in the line or two that make it what it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from tests.measure.symmetries.attention import CLASSES, WIDTH
from tests.measure.symmetries.networks import Network
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

relu = torch.relu


class Written(nn.Module):
    """A forward as a function of the module, whose parts are given by name."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], parts: dict[str, Any]) -> None:
        super().__init__()
        self._forward = forward
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(0.5 * torch.randn(*part)) if isinstance(part, tuple) else part)

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def written(name: str, forward: Any, parts: Any, exact: dict[str, int], inputs: str = "sequences", **more: Any) -> Any:
    return Network(name, lambda: Written(forward, parts()), exact, inputs=inputs, **more)


def conv(inputs: int, outputs: int, **how: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **how)


def dense(m: Any, x: Tensor) -> Tensor:
    a = relu(m.a(x))
    b = torch.cat([a, relu(m.b(a))], 1)
    return m.head(torch.cat([b, relu(m.c(b))], 1).mean((2, 3)))


def there_and_back(m: Any, x: Tensor) -> Tensor:
    a = relu(m.a(x))
    b = F.interpolate(relu(m.b(F.max_pool2d(a, 2))), scale_factor=2, mode="bilinear", align_corners=False)
    return m.head(relu(m.c(torch.cat([b, a], 1))).mean((2, 3)))


def mixer(m: Any, x: Tensor) -> Tensor:
    x = m.inner(x)
    x = x + m.tokens_out(relu(m.tokens(m.one(x).transpose(1, 2)))).transpose(1, 2)
    return m.head((x + m.channels_out(relu(m.channels(m.two(x))))).mean(1))


def linear_attention(m: Any, x: Tensor) -> Tensor:
    q, k, v = relu(m.q(x)), relu(m.k(x)), m.v(x)
    return m.out(q @ (k.transpose(1, 2) @ v) / (q @ k.sum(1, keepdim=True).transpose(1, 2) + 1e-6))


def windows(m: Any, x: Tensor) -> Tensor:
    z = relu(m.a(x)).roll((1, 1), (2, 3)).view(-1, 4, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1)
    return m.head(z.reshape(-1, 16, 4).amax(1).view(-1, 4, 4).mean(1))


def experts(m: Any, x: Tensor) -> Tensor:
    """The two highest gates of each sequence choose among three layers."""
    weights, chosen = m.gate(x[:, 0]).topk(2, -1)
    made = torch.stack([expert(x[:, 1]) for expert in m.experts], 1)
    rows = torch.arange(len(x))
    return m.head(sum(weights.softmax(-1)[:, i : i + 1] * made[rows, chosen[:, i]] for i in range(2)))


def neighbours(m: Any, x: Tensor) -> Tensor:
    """Messages along edges, added up where they arrive."""
    z = relu(m.a(x))
    arrived = torch.zeros_like(z).index_add_(1, torch.tensor([0, 0, 1, 2, 3]), z)
    return m.head(relu(m.b(arrived)).mean(1))


def in_part(m: Any, x: Tensor) -> Tensor:
    """Written into some columns of a tensor of zeros, one after the other."""
    z = x.new_zeros(len(x), 9)
    z[:, :5] = relu(m.a(x[:, 0]))
    z[:, 5:] = relu(m.b(x[:, 1]))
    return m.head(z)


def made_by_a_layer(m: Any, x: Tensor) -> Tensor:
    weights = m.a(x[:, 0]).view(-1, 4, WIDTH)
    return F.linear(relu(weights @ x[:, 1, :, None])[..., 0], m.b)


ARCHITECTURES = [
    written("densely connected", dense, lambda: {
        "a": conv(1, 3), "b": conv(3, 2), "c": conv(5, 2), "head": nn.Linear(7, CLASSES)},
        {"a → b and 2 more": 3, "b → c and 1 more": 2, "c → head": 2}, "images"),
    written("there and back", there_and_back, lambda: {
        "a": conv(1, 3), "b": conv(3, 4), "c": conv(7, 3), "head": nn.Linear(3, CLASSES)},
        {"a → b and 1 more": 3, "b → c": 4, "c → head": 3}, "images"),
    written("squeeze and excite", lambda m, x: m.head((
        relu(m.a(x)) * torch.sigmoid(m.c(relu(m.b(relu(m.a(x)).mean((2, 3))))))[..., None, None]).mean((2, 3))),
        lambda: {"a": conv(1, 4), "b": nn.Linear(4, 2), "c": nn.Linear(2, 4), "head": nn.Linear(4, CLASSES)},
        {"a → b and 1 more": 4, "b → c": 2}, "images", rejected={"c → head": "sigmoid"}),
    written("pixel shuffle", lambda m, x: m.head(F.pixel_shuffle(relu(m.a(x)), 2).flatten(1)),
        lambda: {"a": conv(1, 4), "head": nn.Linear(256, CLASSES)}, {"a → head": 4}, "images"),
    written("windows that are shifted", windows, lambda: {"a": conv(1, 4), "head": nn.Linear(4, CLASSES)},
        {"a → head": 4}, "images"),
    written("instance norm", lambda m, x: m.head(relu(m.norm(m.a(x))).mean((2, 3))), lambda: {
        "a": conv(1, 4), "norm": nn.InstanceNorm2d(4, affine=True), "head": nn.Linear(4, CLASSES)},
        {"norm → head": 4}, "images", up_to_eps={"a → norm": 4}),
    written("mixer", mixer, lambda: {
        "inner": nn.Linear(WIDTH, 6), "one": nn.LayerNorm(6), "tokens": nn.Linear(5, 4), "tokens_out": nn.Linear(4, 5),
        "two": nn.LayerNorm(6), "channels": nn.Linear(6, 4), "channels_out": nn.Linear(4, 6),
        "head": nn.Linear(6, CLASSES)},
        {"one → tokens": 1, "tokens → tokens_out": 4, "two → channels": 6, "channels → channels_out": 4},
        up_to_eps={"inner and 2 more → head": 1}),
    written("sets", lambda m, x: m.head(relu(m.b(relu(m.a(x)).sum(1)))), lambda: {
        "a": nn.Linear(WIDTH, 5), "b": nn.Linear(5, 4), "head": nn.Linear(4, CLASSES)}, {"a → b": 5, "b → head": 4}),
    written("scaled and shifted by others", lambda m, x: m.head(relu(m.a(x)) * m.b(x) + m.c(x)), lambda: {
        "a": nn.Linear(WIDTH, 5), "b": nn.Linear(WIDTH, 5), "c": nn.Linear(WIDTH, 5), "head": nn.Linear(5, CLASSES)},
        {"a · b": 5, "a and 1 more → head": 5}),
    written("highway", lambda m, x: m.head((t := torch.sigmoid(m.t(x))) * relu(m.b(z := relu(m.a(x)))) + (1 - t) * z),
        lambda: {"a": nn.Linear(WIDTH, 5), "b": nn.Linear(5, 5), "t": nn.Linear(WIDTH, 5),
                 "head": nn.Linear(5, CLASSES)}, {"a and 1 more → b and 1 more": 5}),
    written("attention that pools", lambda m, x: m.head((m.q(z := relu(m.a(x))).softmax(1).mT @ z).flatten(1)),
        lambda: {"a": nn.Linear(WIDTH, 5), "q": nn.Linear(5, 2), "head": nn.Linear(10, CLASSES)},
        {"a → q and 1 more": 5}),
    written("linear attention", linear_attention, lambda: {
        "q": nn.Linear(WIDTH, 4), "k": nn.Linear(WIDTH, 4), "v": nn.Linear(WIDTH, 4), "out": nn.Linear(4, CLASSES)},
        {"q · k": 4, "v → out": 4}, up_to_eps={"q": 1}, mixed={"v → out": 1}),
    written("weights made by a layer", made_by_a_layer,
        lambda: {"a": nn.Linear(WIDTH, 4 * WIDTH), "b": (CLASSES, 4)}, {"a → b": 4}),
    written("product of two factors", lambda m, x: m.head(relu(x @ (m.a @ m.b))), lambda: {
        "a": (WIDTH, 3), "b": (3, 5), "head": nn.Linear(5, CLASSES)}, {"a → b": 3, "b → head": 5}, mixed={"a → b": 1}),
    written("larger of two", lambda m, x: m.head(torch.maximum(m.a(x), m.b(x))), lambda: {
        "a": nn.Linear(WIDTH, 5), "b": nn.Linear(WIDTH, 5), "head": nn.Linear(5, CLASSES)}, {"a and 1 more → head": 5}),
    written("largest of pairs", lambda m, x: m.head(m.a(x).unflatten(-1, (5, 2)).amax(-1)), lambda: {
        "a": nn.Linear(WIDTH, 10), "head": nn.Linear(5, CLASSES)}, {"a → head": 5}),
    written("both halves", lambda m, x: m.head(torch.cat([relu(m.a(x)), relu(-m.a(x))], -1)), lambda: {
        "a": nn.Linear(WIDTH, 5), "head": nn.Linear(10, CLASSES)}, {"a → head": 5}),
    written("powers", lambda m, x: m.head(relu(m.a(x)) ** 3 + relu(m.b(x)) * m.c(x) ** 2), lambda: {
        "a": nn.Linear(WIDTH, 5), "b": nn.Linear(WIDTH, 5), "c": nn.Linear(WIDTH, 5), "head": nn.Linear(5, CLASSES)},
        {"a and 1 more → head": 5, "a and 1 more → head (2)": 5}),
    written("gain squared", lambda m, x: m.head(relu(m.a(x)) * m.gain.square()), lambda: {
        "a": nn.Linear(WIDTH, 5), "gain": (5,), "head": nn.Linear(5, CLASSES)}, {"a → head": 5, "gain → head": 5}),
    written("bilinear module", lambda m, x: m.b(relu(m.a(x)), relu(m.c(x))), lambda: {
        "a": nn.Linear(WIDTH, 4), "c": nn.Linear(WIDTH, 3), "b": nn.Bilinear(4, 3, CLASSES)}, {"a → b": 4, "c → b": 3}),
    written("cosine of both", lambda m, x: 5 * F.linear(F.normalize(relu(m.a(x)), dim=-1), F.normalize(m.b, dim=-1)),
        lambda: {"a": nn.Linear(WIDTH, 5), "b": (CLASSES, 5)}, {"a → norm": 1, "b → norm": CLASSES}),
    written("spectral norm", lambda m, x: m.head(relu(m.a(x))), lambda: {
        "a": nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, 5)), "head": nn.Linear(5, CLASSES)},
        {"a": 1}, mode="eval"),
    written("recurrent ReLU", lambda m, x: m.head(m.cell(x)[0]), lambda: {
        "cell": nn.RNN(WIDTH, 4, batch_first=True, nonlinearity="relu"), "head": nn.Linear(4, CLASSES)},
        {"cell → cell and 1 more": 4}),
    written("experts by the highest gates", experts, lambda: {
        "experts": nn.ModuleList(nn.Linear(WIDTH, 5) for _ in range(3)), "gate": nn.Linear(WIDTH, 3),
        "head": nn.Linear(5, CLASSES)}, {"experts.0 and 2 more → head": 5}),
    written("messages", neighbours, lambda: {
        "a": nn.Linear(WIDTH, 5), "b": nn.Linear(5, 4), "head": nn.Linear(4, CLASSES)}, {"a → b": 5, "b → head": 4}),
    written("written in part", in_part, lambda: {
        "a": nn.Linear(WIDTH, 5), "b": nn.Linear(WIDTH, 4), "head": nn.Linear(9, CLASSES)},
        {"a → head": 5, "b → head": 4}),
    written("checkpoints", lambda m, x: m.head(checkpoint(lambda z: relu(m.b(relu(m.a(z)))), x, use_reentrant=False)),
        lambda: {"a": nn.Linear(WIDTH, 5), "b": nn.Linear(5, 4), "head": nn.Linear(4, CLASSES)},
        {"a → b": 5, "b → head": 4}),
    written("one reader for two", lambda m, x: m.head(relu(m.a(x))) + m.head(relu(m.b(x))), lambda: {
        "a": nn.Linear(WIDTH, 5), "b": nn.Linear(WIDTH, 5), "head": nn.Linear(5, CLASSES)}, {"a and 1 more → head": 5}),
]  # fmt: skip
