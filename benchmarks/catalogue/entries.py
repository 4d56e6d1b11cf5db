"""What the catalogue holds: every correct variation, every fault with its dial.

Faults of a family stand from the worst to the slightest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.catalogue import faults as f
from benchmarks.catalogue import variations as v
from benchmarks.catalogue.anatomy import SMOLLM2, Anatomy
from benchmarks.catalogue.faults import Injection
from benchmarks.catalogue.passes import Chunked, Decode, LeftPadded, Pass, quantized_cache
from benchmarks.catalogue.workbench import Edit
from harness.baseline.baseline import Baseline
from harness.devices.base import Replay
from harness.devices.hf.matmul import Matmul


@dataclass(frozen=True)
class Entry:
    """One recording of the catalogue.

    Attributes:
        family: what is varied or broken.
        severity: how much, for a reader; empty for a correct variation.
        must: the issue asks that 32 prompts always tell it.
        since: the first decoder layer that the fault reaches; what lies before
            is taken from the unbroken model. The number of layers stands for
            final norm and head.
        environment: asks for a child process, which reads it at its start.
    """

    family: str
    severity: str = ""
    correct: bool = False
    must: bool = False
    injection: Injection | None = None
    passes: Pass | None = None
    edit: Edit | None = None
    penalty: float | None = None
    since: int = 0
    dtype: str | None = None
    matmul: Matmul = "auto"
    replay: Replay = "forced-prefill"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A file name."""
        name = f"{'ok' if self.correct else 'fault'} {self.family} {self.severity}".lower()
        return re.sub(r"[^a-z0-9.]+", "-", name).strip("-")


#: torch and oneDNN held to what every x86-64 has; no control of the baseline.
LOWEST_ISA = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}


def correct_variations() -> Iterator[Entry]:
    """Each takes a path that is no arm of the committed baseline."""

    def entry(family: str, **options: Any) -> Entry:
        return Entry(family, correct=True, **options)

    eager = v.attention("eager")
    yield entry("prefill, eager attention", injection=eager)
    yield entry("prefill, attention in single products", injection=v.math_attention())
    yield entry("prefill, native bfloat16 GEMM", matmul="native")
    yield entry("row-parallel linears, 2 ways", injection=v.row_parallel(2))
    yield entry("row-parallel linears, 8 ways", injection=v.row_parallel(8))
    yield entry("residual sums in float32", injection=v.wide_residual())
    yield entry("batch of 4, left padding", passes=LeftPadded(4))
    yield entry("batch of 12, left padding", passes=LeftPadded(12))
    yield entry("chunked prefill, 16 tokens", passes=Chunked(16))
    yield entry("prefix cache, half of the prompt", passes=Chunked(prefix=True))
    yield entry("float16", dtype="float16")
    yield entry("float32, native GEMM", dtype="float32", matmul="native")
    yield entry("decode, batch of 12", passes=Decode(12), replay="forced-decode")
    yield entry(
        "decode, batch of 18, widened GEMM",
        passes=Decode(18),
        matmul="widened",
        replay="forced-decode",
    )
    yield entry("prefill, lower instruction set", environment=LOWEST_ISA)


def faults(
    baseline: Baseline, heads: dict[str, tuple[int, int]], model: Anatomy = SMOLLM2
) -> Iterator[Entry]:
    """All faults; ``heads`` names (layer, head) by how much their loss does."""
    yield from _config_faults(model)
    yield from _head_faults(heads, model)
    yield from _weight_faults(model)
    yield from _output_faults(baseline, model)
    yield from _input_faults(model)
    yield from _cache_faults()


def _config_faults(model: Anatomy) -> Iterator[Entry]:
    for factor, name in ((0.1, "÷ 10"), (0.5, "÷ 2"), (0.9, "10 % off"), (0.97, "3 % off")):
        yield Entry("RoPE base", name, must=factor == 0.1, injection=f.rope_base(factor))
    for stretch in (2.0, 1.1, 1.01):
        yield Entry("LongRoPE factors", f"1 to {stretch:g}", injection=f.longrope(stretch))
    for scaling in (1.1547, 1.02, 1.005):
        injection = f.longrope(scaling=scaling)
        yield Entry("LongRoPE attention factor", f"× {scaling:g}", injection=injection)
    for factor in (1.1, 1.05, 1.02, 1.01):
        name = f"{factor - 1:.0%} off"
        yield Entry("softmax scale", name, must=factor == 1.1, injection=f.softmax_scale(factor))
    for factor in (100.0, 10.0, 3.0, 0.1):
        epsilon = factor * model.epsilon
        name = f"{epsilon:g} for {model.epsilon:g}"
        yield Entry("norm epsilon", name, injection=f.norm_epsilon(epsilon))


def _head_faults(heads: dict[str, tuple[int, int]], model: Anatomy) -> Iterator[Entry]:
    for name, (layer, head) in heads.items():
        injection = f.head_zeroed(layer, head)
        severity, must = f"{name} ({layer}.{head})", name in ("strongest", "median")
        yield Entry("one head zeroed", severity, must=must, injection=injection, since=layer)
    layer, head = heads["median"]
    for part in (0.5, 0.25, 0.1):
        injection = f.head_zeroed(layer, head, part)
        severity = f"by {part:.0%}"
        yield Entry("median head weakened", severity, injection=injection, since=layer)
    last, half = model.heads - 1, model.layer(15)
    every = [(index, 0, last) for index in range(model.layers)]
    yield Entry("two heads swapped", "in every layer", injection=f.heads_swapped(every))
    injection = f.heads_swapped([(half, 0, last)])
    yield Entry("two heads swapped", f"in layer {half}", injection=injection, since=half)
    if model.kv_heads > 1:
        yield from _kv_head_faults(model)
    for one in (half, model.layer(25)):
        injection = f.layer_skipped(one)
        yield Entry("layer skipped", f"layer {one}", must=True, injection=injection, since=one)
    for part in (0.1, 0.03, 0.01):
        injection = f.layer_skipped(half, part)
        yield Entry("layer skipped", f"{part:.0%} of layer {half}", injection=injection, since=half)


def _kv_head_faults(model: Anatomy) -> Iterator[Entry]:
    yield Entry("KV heads exchanged", "in every layer", must=True, injection=f.kv_heads_swapped())
    for one in (model.layer(15), model.layers - 1):
        injection = f.kv_heads_swapped([one])
        severity = f"in layer {one}"
        yield Entry("KV heads exchanged", severity, injection=injection, since=one)


def _weight_faults(model: Anatomy) -> Iterator[Entry]:
    half, third = model.layer(15), model.layer(10)
    for kind in ("fp8", "int8"):
        injection = f.rounded_weights(kind)
        yield Entry(f"{kind} weights", "all layers", must=kind == "fp8", injection=injection)
        for count in map(model.count, (10, 3, 1)):
            injection = f.rounded_weights(kind, range(half, half + count))
            name = f"{count} of {model.layers} layers"
            yield Entry(f"{kind} weights", name, injection=injection, since=half)
    for value in (100.0, 10.0, 3.0, 1.0):
        injection = f.one_weight(value, third)
        yield Entry("one weight overwritten", f"with {value:g}", injection=injection, since=third)


def _output_faults(baseline: Baseline, model: Anatomy) -> Iterator[Entry]:
    def entry(family: str, severity: str, injection: Injection, must: bool = False) -> Entry:
        return Entry(family, severity, must=must, injection=injection, since=model.layers)

    for off in (0.05, 0.02, 0.01, 0.005, 0.002):
        yield entry("last norm", f"{off:.1%} off", f.last_norm(1.0 + off), must=off == 0.01)
    tokens = output_rows(baseline)
    for factor in (1.5, 1.1, 1.02):
        injection = f.lm_head_row(tokens["common"], factor)
        yield entry("one lm_head row", f"common token × {factor:g}", injection, must=factor == 1.5)
    for which in ("uncommon", "rare"):
        injection = f.lm_head_row(tokens[which], 1.5)
        yield entry(f"one lm_head row, {which} token", "× 1.5", injection)
    for which in ("common", "uncommon"):
        injection = f.lm_head_row(tokens[which], 0.5)
        yield entry("one lm_head row halved", f"{which} token", injection)
    for distance in (0.3, 0.03, 0.01, 0.003):
        injection = f.wrong_tied_head(distance)
        yield entry("wrong tied embeddings", f"{distance:.1%} apart", injection)
    for size in (1.0, 0.3, 0.1, 0.03):
        injection = f.one_token(size, position=56)
        yield entry("the token at position 56 perturbed", f"by {size:.0%}", injection)
    for start in (32, 48, 64):
        name = f"from position {start}"
        yield Entry("stale KV block", name, injection=f.stale_block(start))
    half = model.layer(15)
    injection, where = f.stale_block(32, where=[half]), f"in layer {half}"
    yield Entry(f"stale KV block {where}", "from position 32", injection=injection, since=half)


def _input_faults(model: Anatomy) -> Iterator[Entry]:
    bos, begun = model.bos, model.begun

    def where_it_stands(change: Edit) -> Edit:
        return lambda ids: change(ids) if ids[0] == bos and len(ids) > 1 else ids

    yield Entry("BOS", "added to every prompt", edit=lambda ids: (bos, *ids))
    yield Entry("BOS", f"doubled in {begun}", edit=where_it_stands(lambda ids: (bos, *ids)))
    yield Entry("BOS", f"missing in {begun}", edit=where_it_stands(lambda ids: ids[1:]))
    for penalty in (1.2, 1.1, 1.05, 1.01):
        family = "inherited repetition penalty"
        yield Entry(family, f"{penalty:g}", penalty=penalty, since=model.layers)


def _cache_faults() -> Iterator[Entry]:
    def entry(family: str, severity: str, passes: Pass) -> Entry:
        return Entry(family, severity, passes=passes, matmul="widened", replay="forced-decode")

    for kind in ("int4", "fp8", "int8"):
        yield entry("quantized KV cache", kind, Decode(18, quantized_cache(kind)))
    yield entry("cache position off", "by one", Decode(18, shift=1))
    yield entry("cache slot never read", "the prompt's last", Decode(18, unread=-1))


def output_rows(baseline: Baseline) -> dict[str, int]:
    """Tokens by how often they are among the reference's 20 likeliest: the most
    ``common`` one, an ``uncommon`` one (1 % of positions) and a ``rare`` one
    (never)."""
    rows = [p.run.rows.top_ids for p in baseline.reference.prompts]
    ids = np.concatenate([r.ravel() for r in rows])
    width = baseline.reference.model.vocab_size
    counts = np.bincount(ids[ids >= 0], minlength=width)
    positions = sum(map(len, rows))
    return {
        "common": int(np.argmax(counts)),
        "uncommon": int(np.argmin(np.abs(counts - 0.01 * positions))),
        "rare": int(np.flatnonzero(counts == 0)[width // 4]),
    }
