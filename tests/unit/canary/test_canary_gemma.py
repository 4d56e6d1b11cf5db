"""Gemma's canaries: exact, and what a port of Gemma gets wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gemma_engine import GemmaEngine
from test_canary_faults import ALL, ALONE, run

from harness.canary.build import weights
from harness.canary.caps import BFLOAT16, FLOAT16, capped, uncapped
from harness.canary.checkpoint import bfloat16, save
from harness.canary.sizes import Sizes
from harness.errors import UsageError

SMALL = {
    "context": 192, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 32, "hidden": 256,
    "vocab_size": 128,
}  # fmt: skip
WINDOW = 24
FAMILIES = {
    "gemma": Sizes(**SMALL, family="gemma"),
    "gemma2": Sizes(**SMALL, family="gemma2", sliding_window=WINDOW),
    "gemma3": Sizes(**SMALL, family="gemma3", sliding_window=WINDOW),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in FAMILIES}
    for name, folder in made.items():
        save(FAMILIES[name], folder)
    return made


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_right_gemma_is_exact(family: str, dtype: str, folders: dict[str, Path]) -> None:
    able = ALL if dtype == "bfloat16" else ALONE
    engine = GemmaEngine(folders[family], dtype, budget=160, batch=3, prefix=True)
    outcome = run(engine, FAMILIES[family], able)
    assert outcome.outcome == "EXACT", outcome.findings


def scaled(root: float) -> type[GemmaEngine]:
    class Scaled(GemmaEngine):
        def x_root(self) -> np.ndarray:
            return np.asarray(root, np.float32)

    return Scaled


def plain(*names: str) -> type[GemmaEngine]:
    """Norms that multiply by their weights."""

    class Plain(GemmaEngine):
        def x_norm(self, name: str) -> np.ndarray:
            return super().x_norm(name) - name.endswith(names)

    return Plain


def not_after(*parts: str) -> type[GemmaEngine]:
    """No norms after some parts."""

    class NotAfter(GemmaEngine):
        def x_after(self, layer: int, part: str, x: np.ndarray) -> np.ndarray:
            return x if part in parts else super().x_after(layer, part, x)

    return NotAfter


class NormsExchanged(GemmaEngine):
    def x_norm(self, name: str) -> np.ndarray:
        a, b = "post_attention_layernorm", "pre_feedforward_layernorm"
        return super().x_norm(name.replace(a, b) if a in name else name.replace(b, a))


class NoCap(GemmaEngine):
    def x_logits(self, logits: np.ndarray) -> np.ndarray:
        return logits


def cap_of(cap: float) -> type[GemmaEngine]:
    class CapOf(GemmaEngine):
        def x_logits(self, logits: np.ndarray) -> np.ndarray:
            self.config["final_logit_softcapping"] = cap
            return super().x_logits(logits)

    return CapOf


class CapTwice(GemmaEngine):
    def x_logits(self, logits: np.ndarray) -> np.ndarray:
        return super().x_logits(super().x_logits(logits))


def base_of(kind: str) -> type[GemmaEngine]:
    """All layers have the base of one kind of layers."""

    class BaseOf(GemmaEngine):
        def x_base(self, layer: int) -> float:
            return self.config["rope_parameters"][kind]["rope_theta"]

    return BaseOf


def window_of(window: int | None) -> type[GemmaEngine]:
    """All layers have one window, or none has one."""

    class WindowOf(GemmaEngine):
        def x_window(self, layer: int) -> int | None:
            return window

    return WindowOf


class OtherPattern(GemmaEngine):
    """Layers with a window and without change places."""

    def x_kind(self, layer: int) -> str:
        return super().x_kind((layer + 1) % self.layers)


def gate_up(of: int) -> type[GemmaEngine]:
    class GateUp(GemmaEngine):
        def x_mlp(self, layer: int, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
            return super().x_mlp(layer, *((up, gate) if layer == of else (gate, up)))

    return GateUp


class HeadNothing(GemmaEngine):
    def x_heads(self, layer: int, what: str, x: np.ndarray, run) -> np.ndarray:
        keep = np.arange(x.shape[1]) != (2 if (layer, what) == (1, "output") else -1)
        return x * keep[:, None]


class KvExchanged(GemmaEngine):
    def x_heads(self, layer: int, what: str, x: np.ndarray, run) -> np.ndarray:
        return x[:, ::-1] if layer == 1 and what in ("key", "value") else x


LAST, AFTER = "model.norm", ("post_attention_layernorm", "post_feedforward_layernorm")
FAULTS = [
    ("gemma", scaled(1), "embedding_scale"),
    ("gemma", plain("layernorm", LAST), "norm_plus_one"),
    ("gemma", gate_up(1), "gate_up"),
    ("gemma2", NormsExchanged, "norm_after"),
    ("gemma2", NoCap, "cap_missing"),
    ("gemma2", cap_of(50), "cap_other"),
    ("gemma2", not_after("attention", "mlp"), "norm_after"),
    ("gemma3", scaled(256), "embedding_scale"),
    ("gemma3", base_of("full_attention"), "rope_base"),
    ("gemma3", window_of(None), "window_long"),
    ("gemma3", gate_up(1), "gate_up"),
    ("gemma3", KvExchanged, "kv_exchanged"),
]
SIBLINGS = [
    ("gemma", plain(LAST), "norm_plus_one"),
    ("gemma", gate_up(0), "gate_up"),
    ("gemma", HeadNothing, "head_nothing"),
    ("gemma2", scaled(1), "embedding_scale"),
    ("gemma2", plain("layernorm", LAST), "norm_plus_one"),
    ("gemma2", not_after("mlp"), "norm_after"),
    ("gemma2", cap_of(29), "cap_other"),
    ("gemma2", CapTwice, "cap_other"),
    ("gemma2", OtherPattern, "window_long"),
    ("gemma2", window_of(WINDOW), "window_short"),
    ("gemma2", gate_up(0), "gate_up"),
    ("gemma3", plain(LAST), "norm_plus_one"),
    ("gemma3", not_after("attention"), "norm_after"),
    ("gemma3", NormsExchanged, "norm_after"),
    ("gemma3", base_of("sliding_attention"), "rope_base"),
    ("gemma3", window_of(WINDOW + 1), "window_long"),
    ("gemma3", HeadNothing, "head_nothing"),
]


@pytest.mark.parametrize(("family", "kind", "cause"), FAULTS)
def test_a_fault_of_gemma_is_named(
    family: str, kind: type[GemmaEngine], cause: str, folders: dict[str, Path]
) -> None:
    (finding,) = run(kind(folders[family]), FAMILIES[family], ALONE).findings
    assert finding.cause == cause, finding.sentence


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind", "cause"), SIBLINGS)
def test_siblings_of_gemma_are_named(
    family: str, kind: type[GemmaEngine], cause: str, folders: dict[str, Path]
) -> None:
    (finding,) = run(kind(folders[family]), FAMILIES[family], ALONE).findings
    assert finding.cause == cause, finding.sentence


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_fault_is_named_in_every_dtype(dtype: str, folders: dict[str, Path]) -> None:
    engine = gate_up(0)(folders["gemma3"], dtype)
    (finding,) = run(engine, FAMILIES["gemma3"], ALONE).findings
    assert (finding.cause, finding.layer) == ("gate_up", 0), finding.sentence


@pytest.mark.parametrize("family", FAMILIES)
def test_what_must_be_exact_in_bfloat16_is(family: str) -> None:
    sizes = Sizes(context=512, family=family, layers=2)
    for name, values in weights(sizes).items():
        if "q_" in name or "k_" in name:
            continue  # only the best position counts
        kept = (bfloat16(values).astype(np.uint32) << 16).view(np.float32)
        assert np.array_equal(kept.reshape(values.shape), values), name


@pytest.mark.parametrize("hidden", [64, 256, 1024])
def test_what_norms_after_a_part_take_has_the_same_size_for_all_tokens(hidden: int) -> None:
    few = {"heads": 2, "kv_heads": 1, "layers": 1} if hidden == 64 else {"layers": 2}
    sizes = Sizes(context=256, hidden=hidden, vocab_size=128, head_dim=32, family="gemma3", **few)
    made = weights(sizes)
    out = made["model.layers.0.self_attn.o_proj.weight"]
    group = sizes.group
    for signs in (1, -1):  # what every head copies, and the one of every head
        given = np.tile([signs] * group + [1] + [0] * (31 - group), sizes.heads)
        assert ((out @ given) ** 2).mean() == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"family": "gemma", "hidden": 512}, "hidden"),
        ({"family": "gemma3", "hidden": 640}, "1024"),
        ({"family": "gemma2", "original_context": 512}, "LongRoPE"),
        ({"family": "gemma", "sliding_window": 64}, "gemma2"),
    ],
)
def test_sizes_that_do_not_fit_gemma_are_refused(given: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Sizes(**given)


@pytest.mark.parametrize("grain", [BFLOAT16, FLOAT16, 2.0**-20])
def test_a_soft_cap_can_be_taken_back(grain: float) -> None:
    logits = np.arange(-64, 65, 4).astype(np.float32)
    made = capped(logits, 30.0, grain)
    assert np.array_equal(uncapped(made, 30.0, grain), logits)
    assert np.abs(made).max() < 30
    assert np.isnan(uncapped(np.float32([np.nan]), 30.0, grain)).all()
    assert np.isfinite(uncapped(np.float32([30.0, 1e9]), 30.0, grain)).all()
