"""The catalogue's faults and variations on a model of another family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from needed import needed

from benchmarks.catalogue import faults as f
from benchmarks.catalogue import variations as v
from benchmarks.catalogue.anatomy import SMOLLM2, Anatomy, anatomy_of
from benchmarks.catalogue.passes import Chunked, Decode, LeftPadded, Pass, Stacked
from benchmarks.catalogue.workbench import Workbench
from harness.devices.base import Completion, Request
from harness.errors import MissingDependency
from harness.statistics.rows import squared_norm

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.nightly]

needed("torch", "transformers")

TOKENS = (2, *range(1300, 1347))
REQUESTS = [
    Request("long", TOKENS[:40], "forced-prefill", 8, forced_token_ids=TOKENS[40:]),
    Request("short", TOKENS[:7], "forced-prefill", 8, forced_token_ids=TOKENS[40:]),
]
FAULTS = {
    "head": f.head_zeroed(9, 2),
    "heads": f.heads_swapped([(9, 0, 3)]),
    "int8": f.rounded_weights("int8", [3]),
    "last norm": f.last_norm(1.01),
    "head row": f.lm_head_row(506, 1.5),
    "rope": f.rope_base(0.1),
    "longrope": f.longrope(2.0, 1.1547),
    "epsilon": f.norm_epsilon(1e-3),
    "softmax": f.softmax_scale(1.1),
    "skipped": f.layer_skipped(9),
    "block": f.stale_block(32),
    "one token": f.one_token(1.0, 42),
}
VARIATIONS: dict[str, tuple[Any, Pass | None]] = {
    "eager": (v.attention("eager"), None),
    "row-parallel": (v.row_parallel(8), None),
    "residual": (v.wide_residual(), None),
    "padded": (None, LeftPadded(2)),
    "chunked": (None, Chunked(7)),
    "decode": (None, Decode(2)),
}


@pytest.fixture(scope="module")
def bench() -> Iterator[Workbench]:
    try:
        bench = Workbench(model="gemma3-270m")
    except MissingDependency as error:
        pytest.skip(str(error))
    bench.open()
    yield bench
    bench.discard()


def run(bench: Workbench, injection: Any = None, passes: Pass | None = None) -> list[Completion]:
    bench.injection, bench.passes = injection, passes
    done = {c.prompt_id: c for c in bench.generate(REQUESTS)}
    return [done[r.prompt_id] for r in REQUESTS]


def same(a: list[Completion], b: list[Completion]) -> bool:
    pairs = [(x.rows, y.rows) for x, y in zip(a, b, strict=True)]
    return all(bool((x.digest == y.digest).all()) for x, y in pairs if x and y)


def distance(a: list[Completion], b: list[Completion]) -> float:
    pairs = [(x.rows, y.rows) for x, y in zip(a, b, strict=True)]
    squares = [squared_norm(x.sketch - y.sketch) for x, y in pairs if x and y]
    return float(np.sqrt(np.mean(np.concatenate(squares))))


@pytest.fixture(scope="module")
def clean(bench: Workbench) -> list[Completion]:
    return run(bench)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_changes_rows_and_is_mended(
    bench: Workbench, clean: list[Completion], name: str
) -> None:
    assert not same(run(bench, FAULTS[name]), clean)
    assert same(run(bench), clean)


def test_layers_of_two_kinds_are_resumed_as_what_they_are(bench: Workbench) -> None:
    kinds = bench.model.config.layer_types
    assert len(set(kinds)) == 2
    for since, name in ((8, "head"), (9, "skipped"), (18, "last norm")):
        resumed = run(bench, FAULTS[name], bench.resume(since, REQUESTS))
        assert same(resumed, run(bench, FAULTS[name], Stacked()))
    assert bench.model.config.layer_types == kinds


def test_the_last_norm_is_scaled_whole(bench: Workbench) -> None:
    """Its weight is held less one."""
    model, torch = bench.model, bench._torch
    states = torch.ones(1, 1, 640, dtype=torch.bfloat16)
    with torch.no_grad():
        before = model.model.norm(states).float()
        with f.last_norm(1.5)(torch, model):
            after = model.model.norm(states).float()
    assert float((after / before - 1.5).abs().max()) < 0.02


@pytest.mark.parametrize("name", VARIATIONS)
def test_a_correct_variation_stays_nearer_than_a_lost_head(
    bench: Workbench, clean: list[Completion], name: str
) -> None:
    lost = distance(run(bench, FAULTS["head"]), clean)
    # It may have the very same bits: that is for the CPU's kernels to decide.
    assert distance(run(bench, *VARIATIONS[name]), clean) < lost


def test_depths_are_shares_and_the_default_models_own_stay() -> None:
    assert [SMOLLM2.layer(n) for n in (10, 15, 25)] == [10, 15, 25]
    assert [SMOLLM2.count(n) for n in (10, 3, 1)] == [10, 3, 1]
    found = anatomy_of("gemma3-270m")
    assert found == Anatomy(18, 4, 1, bos=2, epsilon=1e-6, begun="texts")
    assert [found.layer(n) for n in (10, 15, 25)] == [6, 9, 15]
    assert [found.count(n) for n in (10, 3, 1)] == [6, 2, 1]
