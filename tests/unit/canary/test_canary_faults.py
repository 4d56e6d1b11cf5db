"""Each injected fault is named by its cause, and what has no pattern by no name."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from canary_faults import FAULTS, TOGETHER
from numpy_engine import NumpyEngine

from harness.canary.checkpoint import save
from harness.canary.plan import CanaryPlan
from harness.canary.result import Canary
from harness.canary.run import on_device
from harness.canary.sizes import Sizes
from harness.canary.stages import Abilities
from harness.devices.spec import DeviceSpec
from harness.process.progress import Silent

SMALL = Sizes(
    context=256, layers=2, heads=4, kv_heads=2, head_dim=32, hidden=128, vocab_size=128,
    intermediate=32,
)  # fmt: skip
ALONE = Abilities(one_pass=True, batch=1, budget=0)
ALL = Abilities(one_pass=True, batch=3, budget=160)
#: The faults that the quick suite runs; all of them run with the marker slow.
QUICK = (
    "rope_base_2.0", "Interleaved", "query_one_late", "decode_positions_one_late",
    "head_zero_output", "head_zero_query", "heads_exchanged_output", "kv_exchanged", "KvTiled",
    "shards_of_heads", "slot_lost", "block_lost", "StaleBlock", "WrongTable", "PrefixOfAnother",
    "ChunkForgets", "window_where_there_is_none_40", "RowsExchanged", "StaleInput", "StaleRow",
    "GateUp", "HeadShards", "EmbeddingShards", "LastNorm", "Noise",
    "LengthOneShort", "NoCausalMask", "InputOfTheCapture",
)  # fmt: skip


@dataclass(frozen=True)
class Plan(CanaryPlan):
    """A plan for a device that the registry does not know."""

    asked: Abilities = ALONE

    @property
    def able(self) -> Abilities:
        return self.asked


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("canary")
    save(SMALL, path)
    return path


def run(engine: NumpyEngine, sizes: Sizes, able: Abilities) -> Canary:
    plan = Plan(sizes, DeviceSpec("fake"), asked=able)
    return on_device(plan, engine, engine.open(), Silent(), time.monotonic())


def named(folder: Path, name: str) -> tuple[Canary, set[str]]:
    kind, causes = FAULTS[name]
    able = ALL if name in TOGETHER else ALONE
    engine = kind(
        folder, budget=able.budget or 10**9, batch=able.batch, prefix=able is ALL, page=16
    )
    return run(engine, SMALL, able), causes


@pytest.mark.parametrize("name", QUICK)
def test_a_fault_is_named(folder: Path, name: str) -> None:
    outcome, causes = named(folder, name)
    assert outcome.outcome == "WRONG"
    assert outcome.findings[0].cause in causes, outcome.findings[0].sentence


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FAULTS) - set(QUICK)))
def test_siblings_are_named(folder: Path, name: str) -> None:
    outcome, causes = named(folder, name)
    assert outcome.findings[0].cause in causes, outcome.findings[0].sentence


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_right_engine_is_exact(folder: Path, dtype: str) -> None:
    engine = NumpyEngine(folder, dtype, budget=160, batch=3, prefix=True)
    outcome = run(engine, SMALL, ALL)
    assert outcome.outcome == "EXACT"
    assert outcome.findings == ()
    assert all(s.rows == s.exact and s.tokens == s.right for s in outcome.stages)


def test_a_window_that_is_one_too_long_or_too_short_is_seen(tmp_path: Path) -> None:
    sizes = Sizes(
        context=256, layers=2, heads=4, kv_heads=2, head_dim=32, hidden=128, vocab_size=128,
        intermediate=32, family="mistral", sliding_window=24,
    )  # fmt: skip
    save(sizes, tmp_path)
    assert run(NumpyEngine(tmp_path), sizes, ALONE).outcome == "EXACT"
    for window, cause in ((25, "window_long"), (30, "window_long"), (23, "window_short")):
        engine = NumpyEngine(tmp_path)
        engine.config["sliding_window"] = window
        found = run(engine, sizes, ALONE).findings
        assert [f.cause for f in found] == [cause], found


def test_slots_that_are_one_late_are_named_beside_a_window(tmp_path: Path) -> None:
    class Late(NumpyEngine):
        def x_slot(self, layer: int, run, position: int) -> tuple[int, int]:
            return super().x_slot(layer, run, position + 1)

    sizes = Sizes(
        context=256, layers=2, heads=4, kv_heads=2, head_dim=32, hidden=128, vocab_size=128,
        family="mistral", sliding_window=48,
    )  # fmt: skip
    save(sizes, tmp_path)
    (finding,) = run(Late(tmp_path), sizes, ALONE).findings
    assert finding.cause == "stale_length", finding.sentence
