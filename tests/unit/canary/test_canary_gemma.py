"""Gemma's canaries: exact, and what a port of Gemma gets wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gemma_engine import GemmaEngine
from test_canary_faults import ALL, ALONE, run

from harness.canary.checkpoint import save
from harness.canary.sizes import Sizes

FAMILIES = {
    "gemma": Sizes(
        context=256, layers=2, heads=4, kv_heads=2, head_dim=32, hidden=256, vocab_size=128,
        family="gemma",
    ),
    "gemma2": Sizes(
        context=256, layers=3, heads=4, kv_heads=2, head_dim=32, hidden=256, vocab_size=128,
        family="gemma2", sliding_window=24,
    ),
    "gemma3": Sizes(
        context=256, layers=3, heads=4, kv_heads=2, head_dim=32, hidden=256, vocab_size=128,
        family="gemma3", sliding_window=24,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    made = {}
    for name, sizes in FAMILIES.items():
        made[name] = tmp_path_factory.mktemp(name)
        save(sizes, made[name])
    return made


class NotScaled(GemmaEngine):
    def x_root(self): return np.float32(1)
class ScaledByHidden(GemmaEngine):
    def x_root(self): return np.float32(256)
class PlainNorms(GemmaEngine):
    def x_norm(self, name): return super().x_norm(name) - ("self_attn" not in name)
class PlainLast(GemmaEngine):
    def x_norm(self, name): return super().x_norm(name) - (name == "model.norm")
class NoPost(GemmaEngine):
    def x_after(self, layer, part, x): return x
class NoPostAttention(GemmaEngine):
    def x_after(self, layer, part, x): return x if part == "attention" else super().x_after(layer, part, x)
class NoPostMlp(GemmaEngine):
    def x_after(self, layer, part, x): return x if part == "mlp" else super().x_after(layer, part, x)
class Swapped(GemmaEngine):
    def x_norm(self, name):
        a, b = "post_attention_layernorm", "pre_feedforward_layernorm"
        return super().x_norm(name.replace(a, b) if a in name else name.replace(b, a))
class NoCap(GemmaEngine):
    def x_logits(self, x): return x
class OtherCap(GemmaEngine):
    def x_logits(self, x):
        self.config["final_logit_softcapping"] = 50.0
        return super().x_logits(x)
class CapTwice(GemmaEngine):
    def x_logits(self, x): return super().x_logits(super().x_logits(x))
class GlobalBase(GemmaEngine):
    def x_base(self, layer): return self.config["rope_parameters"]["full_attention"]["rope_theta"]
class LocalBase(GemmaEngine):
    def x_base(self, layer): return self.config["rope_parameters"]["sliding_attention"]["rope_theta"]
class Pattern(GemmaEngine):
    def x_kind(self, layer): return super().x_kind((layer + 1) % self.layers)
class NoWindow(GemmaEngine):
    def x_window(self, layer): return None
class AllWindow(GemmaEngine):
    def x_window(self, layer): return 24
class Cap50(GemmaEngine):
    def x_scores(self, x): return 50 * np.tanh(x / 50)
class GateUp(GemmaEngine):
    def x_mlp(self, layer, g, u): return super().x_mlp(layer, u, g)
class GateUpLast(GemmaEngine):
    def x_mlp(self, layer, g, u): return super().x_mlp(layer, u, g) if layer == self.layers - 1 else super().x_mlp(layer, g, u)
class HeadZero(GemmaEngine):
    def x_heads(self, layer, what, x, run):
        if what == "output" and layer == 1:
            x = x.copy(); x[:, 2] = 0
        return x
class KvSwap(GemmaEngine):
    def x_heads(self, layer, what, x, run):
        return x[:, ::-1] if what in ("key", "value") and layer == 1 else x
class Interleaved(GemmaEngine):
    def x_rotate(self, x, angles):
        a = np.concatenate([x[..., 0::2], x[..., 1::2]], -1)
        return super().x_rotate(a, angles)
KINDS=[NotScaled, ScaledByHidden, PlainNorms, PlainLast, NoPost,NoPostAttention,NoPostMlp,Swapped,NoCap,OtherCap,CapTwice,GlobalBase,LocalBase,Pattern,NoWindow,AllWindow,Cap50,GateUp,GateUpLast,HeadZero,KvSwap,Interleaved]
if __name__ == "__main__":
    import tempfile
    for name, sizes in FAMILIES.items():
        f = Path(tempfile.mkdtemp()); save(sizes, f)
        for d in ("float32","bfloat16","float16"):
            o = run(GemmaEngine(f, d, budget=160, batch=3, prefix=True), sizes, ALL); print(name, d, o.outcome, [x.sentence for x in o.findings])
        for K in KINDS:
            if name != "gemma3" and K in (LocalBase,GlobalBase): continue
            if name != "gemma2" and "Cap" in K.__name__: continue
            if name == "gemma" and K in (Pattern,NoWindow,AllWindow,Swapped,NoPost,NoPostAttention,NoPostMlp): continue
            o = run(K(f), sizes, ALONE); print(name, K.__name__, o.outcome, [(x.cause, x.stage, x.sentence) for x in o.findings])
