from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from needed import needed

from benchmarks.catalogue import faults as f
from benchmarks.catalogue import variations as v
from benchmarks.catalogue.passes import Chunked, Decode, LeftPadded, Pass, Stacked, quantized_cache
from benchmarks.catalogue.workbench import Workbench
from harness.devices.base import Completion, Request
from harness.model.model import Model
from harness.statistics.rows import squared_norm

pytestmark = pytest.mark.engine

needed("torch", "transformers")

TOKENS = tuple(range(300, 348))
REQUESTS = [
    Request("long", TOKENS[:40], "forced-prefill", 8, forced_token_ids=TOKENS[40:]),
    Request("short", TOKENS[10:17], "forced-prefill", 8, forced_token_ids=TOKENS[40:]),
]

FAULTS = {
    "head": f.head_zeroed(15, 4),
    "heads": f.heads_swapped([(15, 0, 8)]),
    "kv": f.kv_heads_swapped(),
    "fp8": f.rounded_weights("fp8"),
    "int8": f.rounded_weights("int8", [3]),
    "one weight": f.one_weight(3.0),
    "last norm": f.last_norm(1.01),
    "head row": f.lm_head_row(198, 1.5),
    "tied": f.wrong_tied_head(0.01),
    "rope": f.rope_base(0.1),
    "longrope": f.longrope(2.0, 1.1547),
    "epsilon": f.norm_epsilon(1e-3),
    "softmax": f.softmax_scale(1.1),
    "skipped": f.layer_skipped(15),
    "block": f.stale_block(32),
    "one token": f.one_token(1.0, 42),
}


@pytest.fixture(scope="module")
def bench(embedded_model: Model) -> Iterator[Workbench]:
    del embedded_model  # asked for, so that these skip without it
    bench = Workbench()
    bench.open()
    yield bench
    bench.discard()


def run(bench: Workbench, injection: Any = None, passes: Pass | None = None) -> list[Completion]:
    bench.injection, bench.passes = injection, passes
    done = {c.prompt_id: c for c in bench.generate(REQUESTS)}
    return [done[r.prompt_id] for r in REQUESTS]


def digests(done: list[Completion]) -> list[Any]:
    return [c.rows.digest for c in done if c.rows is not None]


@pytest.fixture(scope="module")
def clean(bench: Workbench) -> list[Completion]:
    return run(bench)


def distance(a: list[Completion], b: list[Completion]) -> float:
    """Root-mean-square norm of the difference of rows."""
    pairs = [(x.rows, y.rows) for x, y in zip(a, b, strict=True)]
    squares = [squared_norm(x.sketch - y.sketch) for x, y in pairs if x and y]
    return float(np.sqrt(np.mean(np.concatenate(squares))))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_changes_rows_and_is_mended_bit_for_bit(
    bench: Workbench, clean: list[Completion], name: str
) -> None:
    broken = run(bench, FAULTS[name])
    assert any((a != b).any() for a, b in zip(digests(broken), digests(clean), strict=True))
    again = run(bench)
    assert all((a == b).all() for a, b in zip(digests(again), digests(clean), strict=True))


def test_resuming_before_a_late_fault_gives_the_bits_of_a_whole_pass(bench: Workbench) -> None:
    for since, name in ((15, "head"), (15, "skipped"), (30, "last norm"), (30, "head row")):
        resumed = run(bench, FAULTS[name], bench.resume(since, REQUESTS))
        whole = run(bench, FAULTS[name], Stacked())
        assert all((a == b).all() for a, b in zip(digests(resumed), digests(whole), strict=True))


def test_a_stale_block_leaves_the_positions_before_it_bit_equal(
    bench: Workbench, clean: list[Completion]
) -> None:
    equal = [
        (a == b).all(axis=1).tolist()
        for a, b in zip(digests(run(bench, f.stale_block(44))), digests(clean), strict=True)
    ]
    # Row t of the long prompt stands at position 39 + t; the short one ends at 13.
    assert equal[0] == [True] * 5 + [False] * 3
    assert equal[1] == [True] * 8


#: Names of operations, each with the shapes and dtypes that it was given.
Operations = list[tuple[str, tuple[object, ...]]]


def operations(run_: Callable[[], object]) -> Operations:
    """What torch was asked to do, in its order."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: Operations = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            given = tuple((tuple(a.shape), a.dtype) for a in args if hasattr(a, "dtype"))
            seen.append((operation.name(), given))
            return operation(*args, **(kwargs or {}))

    with Watch():
        run_()
    return seen


@pytest.fixture(scope="module")
def usual(bench: Workbench) -> Operations:
    """Those of an unbroken model, run as hf-cpu does."""
    return operations(lambda: run(bench))


@pytest.fixture(scope="module")
def lost_head(bench: Workbench, clean: list[Completion]) -> float:
    """How far one zeroed head moves the rows."""
    return distance(run(bench, FAULTS["head"]), clean)


VARIATIONS: dict[str, tuple[Any, Pass | None]] = {
    "eager": (v.attention("eager"), None),
    "math": (v.math_attention(), None),
    "row-parallel": (v.row_parallel(8), None),
    "residual": (v.wide_residual(), None),
    "stacked": (None, Stacked()),
    "padded": (None, LeftPadded(2)),
    "chunked": (None, Chunked(7)),
    "prefix": (None, Chunked(prefix=True)),
    "decode": (None, Decode(2)),
}


@pytest.mark.parametrize("name", VARIATIONS)
def test_a_correct_variation_computes_otherwise_and_stays_nearer_than_a_lost_head(
    bench: Workbench, clean: list[Completion], usual: Operations, lost_head: float, name: str
) -> None:
    """Whether its bits differ is the CPU's affair; that other operations ran, or on other
    shapes, is the variation's."""
    varied: list[Completion] = []
    taken = operations(lambda: varied.extend(run(bench, *VARIATIONS[name])))
    assert taken != usual
    assert distance(varied, clean) < lost_head


def test_cache_faults_show_in_decode_steps_only(bench: Workbench) -> None:
    right = run(bench, None, Decode(2))
    for passes in (
        Decode(2, make_cache=quantized_cache("int4")),
        Decode(2, shift=1),
        Decode(2, unread=-1),
    ):
        wrong = run(bench, None, passes)
        for a, b in zip(digests(wrong), digests(right), strict=True):
            equal = (a == b).all(axis=1)
            assert equal[0]
            assert not equal[1:].any()


def test_a_head_that_is_untied_leaves_the_embedding_alone(bench: Workbench) -> None:
    model, torch = bench.model, bench._torch
    embedding = model.model.embed_tokens.weight
    before = embedding.detach().clone()
    with f.lm_head_row(198, 1.5)(torch, model):
        assert torch.equal(embedding, before)
        assert not torch.equal(model.lm_head.weight, embedding)
    assert model.lm_head.weight is embedding


def test_a_fault_leaves_the_model_whole_when_its_user_fails(bench: Workbench) -> None:
    model, torch = bench.model, bench._torch
    before = model.model.norm.weight.detach().clone()
    with pytest.raises(RuntimeError), f.last_norm(1.5)(torch, model):
        raise RuntimeError("interrupted")
    assert torch.equal(model.model.norm.weight, before)
