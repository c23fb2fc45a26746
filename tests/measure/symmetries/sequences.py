"""Networks of sequences with their symmetries known by hand: attention, blocks, gates, adapters, embeddings."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from tests.measure.symmetries import attention as of
from tests.measure.symmetries.adapters import HIDDEN, RANK, Gated, Library, LowRank, Merged, adapted
from tests.measure.symmetries.attention import CLASSES, HEADS, POSITIONS, TOKENS, WIDTH, Block, Fused, Separate
from tests.measure.symmetries.networks import Network
from torch import nn

from sgdscope.models import build

PER_HEAD = {"q · k": HEADS, "v → out": HEADS}
FUSED = {"qkv · itself": HEADS, "qkv → out": HEADS}
OF_TORCH = {"attention · itself": HEADS, "attention → attention.out_proj": HEADS}
IN_BLOCK = {
    "one → attention.q and 2 more": WIDTH, "attention.q · attention.k": HEADS, "attention.v → attention.out": HEADS,
    "two → up": WIDTH,
}  # fmt: skip
MIXED_IN_BLOCK = {"attention.q · attention.k": HEADS, "attention.v → attention.out": HEADS}
IN_LANGUAGE = {
    "block.one → block.attention.q and 2 more": WIDTH, "block.attention.q · block.attention.k": HEADS,
    "block.attention.v → block.attention.out": HEADS, "block.two → block.up": WIDTH,
}  # fmt: skip
MIXED_IN_LANGUAGE = {"block.attention.q · block.attention.k": HEADS, "block.attention.v → block.attention.out": HEADS}
LAYER = "encoder.layers.0"
IN_LAYER = {
    f"{LAYER}.self_attn · itself": HEADS, f"{LAYER}.self_attn → {LAYER}.self_attn.out_proj": HEADS
}  # fmt: skip
QKV = "blocks.0.attention.queries_keys_values"
MIXED_OF_PACKAGE = {f"{QKV} · itself": HEADS, f"{QKV} → blocks.0.attention.out": HEADS}
OF_PACKAGE = {**MIXED_OF_PACKAGE, "blocks.0.hidden.0 → blocks.0.hidden.2": 4 * WIDTH}
GELU = {"block.up → block.down": "gelu is not homogeneous"}
GATES = {"gate → down": HIDDEN, "up → down": HIDDEN}
A_B = {"0.lora_A.default → 0.lora_B.default": RANK}


def attending(name: str, model: Any, exact: dict[str, int] = PER_HEAD, **more: Any) -> Network:
    return Network(name, model, exact, mixed=more.pop("mixed", exact), inputs="sequences", **more)


def plain(name: str, model: Any, *known: Any, **more: Any) -> Network:
    return Network(name, model, *known, inputs="sequences", **more)


def encoder(*, norm_first: bool) -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, dropout=0.1, batch_first=True, norm_first=norm_first)


def language_model(norm: str) -> nn.Module:
    return build("transformer", input_shape=(POSITIONS,), classes=TOKENS, width=WIDTH, depth=1, heads=HEADS, norm=norm,
                 vocabulary=TOKENS)  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.cell, self.head = nn.Linear(WIDTH, HIDDEN), nn.GRUCell(HIDDEN, 4), nn.Linear(4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = x.new_zeros(len(x), 4)
        for step in torch.relu(self.inner(x)).unbind(1):
            state = self.cell(step, state)
        return self.head(state)


SEQUENCES = [
    attending("attention by hand", Separate),
    attending("attention without bias", lambda: Separate(bias=False)),
    attending("causal mask", lambda: Separate(causal=True)),
    attending("causal kernel", lambda: Separate(attend=of.fused_kernel, causal=True)),
    attending("one head of keys for all", lambda: Separate(key_heads=1), {"q · k": 4, "v → out": 4},
              mixed={"q · k": 1, "v → out": 1}),
    attending("rotary embedding", lambda: Separate(rotary=of.turned), mixed={"v → out": HEADS}),
    attending("rotary embedding, complex", lambda: Separate(rotary=of.turned_as_complex), mixed={"v → out": HEADS}),
    attending("norm of queries and keys", lambda: Separate(norm=True), {"q_norm · k_norm": 4, "v → out": HEADS},
              up_to_eps={"q → q_norm": HEADS, "k → k_norm": HEADS}, mixed={"v → out": HEADS}),
    attending("ReLU on values", lambda: Separate(relu=True), mixed={"q · k": HEADS}),
    *(attending(f"one layer for all three, {layout}", lambda layout=layout: Fused(layout), FUSED)
      for layout in ("chunk", "split", "unbind", "heads")),
    attending("one layer without bias", lambda: Fused("chunk", bias=False), FUSED),
    attending("matrices by einsum", of.Stacked),
    attending("MultiheadAttention", of.Torch, OF_TORCH),
    attending("MultiheadAttention without bias", lambda: of.Torch(bias=False), OF_TORCH),
    attending("MultiheadAttention on others", lambda: of.Torch(other=6), OF_TORCH),
    plain("block", lambda: Block(Separate()), {**IN_BLOCK, "up → down": HIDDEN}, mixed=MIXED_IN_BLOCK),
    plain("block with RMSNorm", lambda: Block(Separate(bias=False), nn.RMSNorm, activation=F.gelu), IN_BLOCK,
          rejected={"up → down": "gelu is not homogeneous"}, mixed=MIXED_IN_BLOCK),
    plain("encoder layer", lambda: encoder(norm_first=False), {
        "self_attn · itself": HEADS, "self_attn → self_attn.out_proj": HEADS, "linear1 → linear2": HIDDEN},
        {"norm1 and 1 more → linear1": 1},
        mixed={"self_attn · itself": HEADS, "self_attn → self_attn.out_proj": HEADS}),
    plain("encoder layer, norms first", lambda: encoder(norm_first=True), {
        "norm1 → self_attn": WIDTH, "self_attn · itself": HEADS, "self_attn → self_attn.out_proj": HEADS,
        "norm2 → linear1": WIDTH, "linear1 → linear2": HIDDEN},
        mixed={"self_attn · itself": HEADS, "self_attn → self_attn.out_proj": HEADS}),
    Network("language model", of.Language, {**IN_LANGUAGE, "norm → head": WIDTH},
            {"token and 3 more → block.one and 2 more": 1}, GELU, MIXED_IN_LANGUAGE, inputs="tokens"),
    Network("language model with tied head", lambda: of.Language(tied=True), IN_LANGUAGE,
            {"token and 3 more · norm": 1}, GELU, MIXED_IN_LANGUAGE, inputs="tokens"),
    Network("vision transformer", of.Vision, {
        f"{LAYER}.norm1 → {LAYER}.self_attn": WIDTH, **IN_LAYER, f"{LAYER}.norm2 → {LAYER}.linear1": WIDTH,
        f"{LAYER}.linear1 → {LAYER}.linear2": HIDDEN}, {"patches and 4 more → head": 1}, mixed=IN_LAYER),
    Network("transformer of the package", lambda: language_model("layer"), {
        **OF_PACKAGE, f"blocks.0.attention_norm → {QKV}": WIDTH, "blocks.0.hidden_norm → blocks.0.hidden.0": WIDTH,
        "norm → out": WIDTH}, {"token and 3 more → blocks.0.attention_norm and 2 more": 1}, mixed=MIXED_OF_PACKAGE,
        inputs="tokens"),
    Network("transformer of the package without norm", lambda: language_model("none"), {
        **OF_PACKAGE, f"token and 3 more → {QKV} and 2 more": WIDTH},
        mixed={**MIXED_OF_PACKAGE, f"token and 3 more → {QKV} and 2 more": 1}, inputs="tokens"),
    plain("low-rank adapter", lambda: adapted(LowRank), A_B, mixed=dict.fromkeys(A_B, 1)),
    plain("low-rank adapter, trained layer, dropout", lambda: adapted(lambda y: LowRank(y, dropout=0.3, frozen=False)),
          A_B, rejected={"0.base_layer and 1 more → 2": "Tanh"}, mixed=dict.fromkeys(A_B, 1), mode="eval"),
    plain("low-rank adapter, merged", lambda: adapted(Merged), {"0 → 0": RANK},
          rejected={"0 and 1 more → 2": "Tanh"}, mixed={"0 → 0": 1}),
    plain("SwiGLU", lambda: Gated(F.silu), {"up → down": HIDDEN}, rejected={"gate → down": "silu"}),
    plain("ReGLU", lambda: Gated(F.relu, bias=True), GATES),
    plain("bilinear", lambda: Gated(lambda z: z), GATES),
    plain("GEGLU from one layer", lambda: Gated(F.gelu, fused=True), {"gate_up → down (2)": HIDDEN},
          rejected={"gate_up → down": "gelu"}),
    plain("ReGLU from one layer", lambda: Gated(F.relu, fused=True), {
        "gate_up → down": HIDDEN, "gate_up → down (2)": HIDDEN}),
    plain("GLU", lambda: nn.Sequential(nn.Linear(WIDTH, 2 * HIDDEN), nn.GLU(), nn.Linear(HIDDEN, CLASSES)),
          {"0 → 2": HIDDEN}, rejected={"0": "the gate of glu"}),
    plain("softplus", lambda: nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, CLASSES)),
          rejected={"0 → 2": "Softplus is not homogeneous"}),
    plain("recurrent", Recurrent, {"inner → cell": HIDDEN}, rejected={
        "cell · itself": "sigmoid", "cell": "tied", "cell → cell and 1 more": "sigmoid"}),
    Network("embedding and norm", lambda: nn.Sequential(
        nn.Embedding(TOKENS, WIDTH), nn.RMSNorm(WIDTH, eps=1e-5), nn.Linear(WIDTH, TOKENS)),
        {"1 → 2": WIDTH}, {"0 → 1": 1}, inputs="tokens"),
    Network("embedding and layer", lambda: nn.Sequential(
        nn.Embedding(TOKENS, WIDTH), nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, TOKENS)),
        {"0 → 1": WIDTH, "1 → 3": HIDDEN}, mixed={"0 → 1": 1}, inputs="tokens"),
    Network("experts chosen by tokens, in keywords and dictionaries", Library, {
        "table → inner": WIDTH, "inner and 2 more → experts.0 and 2 more": HIDDEN}, mixed={"table → inner": 1},
        inputs="dictionaries"),
]  # fmt: skip
