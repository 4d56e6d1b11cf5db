"""A full cache, aborted requests, a soak: a right engine keeps its bits, a wrong one is named."""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy_engine import NumpyEngine
from test_canary_faults import ALL, ALONE, SMALL, Plan

from harness.canary.checkpoint import save
from harness.canary.plan import plan
from harness.canary.result import Canary
from harness.canary.run import on_device
from harness.canary.stages import Abilities, stages
from harness.devices.spec import DeviceSpec
from harness.process.progress import Silent
from harness.report.canary import canary_lines, to_html

#: Tokens of the cache: the stages before fit, and three full requests do not.
ROOM = 33 * 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("canary")
    save(SMALL, path)
    return path


def run(engine: NumpyEngine, soak_s: float = 0.0, able: Abilities = ALL) -> Canary:
    asked = Plan(SMALL, DeviceSpec("fake"), soak_s=soak_s, asked=able)
    return on_device(asked, engine, engine.open(), Silent(), time.monotonic())


def made(kind: type[NumpyEngine], folder: Path, **given) -> NumpyEngine:
    return kind(folder, **({"budget": 160, "batch": 3, "prefix": True, "room": ROOM} | given))


def test_a_right_engine_keeps_its_bits_when_requests_lose_their_cache(folder: Path) -> None:
    engine = made(NumpyEngine, folder)
    outcome = run(engine)
    assert outcome.outcome == "EXACT", outcome.findings
    by_name = {s.name: s for s in outcome.stages}
    assert list(by_name)[-3:] == ["aborted", "preempted", "after"]
    assert by_name["preempted"].preemptions > 0
    assert by_name["aborted"].dropped > 0
    assert sum(s.preemptions for s in outcome.stages) == engine.preempted
    assert "preemption" in "\n".join(canary_lines(outcome))


@pytest.mark.parametrize("room", [10**9, 100 * 16])
def test_a_cache_that_cannot_be_filled_is_said(folder: Path, room: int) -> None:
    outcome = run(made(NumpyEngine, folder, room=room))
    assert "preempted" not in {s.name for s in outcome.stages}
    for text in ("\n".join(canary_lines(outcome)), to_html(outcome)):
        assert "Preemption was not tested" in text


class ResumesInTheMiddle(NumpyEngine):
    """A request that lost its blocks is believed to have what it had computed."""

    def x_preempt(self, run) -> None:
        done = run.done
        super().x_preempt(run)
        run.done = done


class AbortFreesTwice(NumpyEngine):
    """The blocks of an aborted request are given to two others."""

    def x_abort(self, run) -> None:
        super().x_abort(run)
        super().x_abort(run)
        self.free = list(itertools.chain(*zip(run.table, run.table, strict=True))) + self.free


class ResumedPositions(NumpyEngine):
    """After a preemption positions begin at 1."""

    def x_preempt(self, run) -> None:
        super().x_preempt(run)
        run.late = True

    def x_positions(self, run, positions, what):
        return positions + (2 if getattr(run, "late", False) and what == "query" else 0)


@pytest.mark.parametrize(
    ("kind", "stage", "causes"),
    [
        (ResumesInTheMiddle, "preempted", {"block", "slot", "prefix", "border"}),
        (AbortFreesTwice, "aborted", {"block", "slot", "prefix"}),
        (ResumedPositions, "preempted", {"positions", "positions_decode", "positions_from"}),
    ],
)
def test_a_fault_of_stress_is_named_in_its_stage(
    kind: type[NumpyEngine], stage: str, causes: set[str], folder: Path
) -> None:
    outcome = run(made(kind, folder))
    assert outcome.outcome == "WRONG"
    (finding,) = outcome.findings
    assert finding.stage == stage
    assert finding.cause in causes, finding.sentence


class WrongAfterAWhile(NumpyEngine):
    """The head loses a bit after so many requests."""

    most = 10**9

    def x_logits(self, logits: np.ndarray) -> np.ndarray:
        self.most -= 1
        return logits if self.most > 0 else logits + np.float32(0.5)


def test_a_soak_says_in_which_round_the_first_wrong_bit_came(folder: Path, monkeypatch) -> None:
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
    monkeypatch.setattr("harness.canary.run.time", clock)  # a second passes at each look
    right = run(made(NumpyEngine, folder), soak_s=12, able=ALONE)
    assert right.soak.rounds == 2
    assert (right.outcome, right.soak.wrong_rounds, right.soak.first_wrong) == ("EXACT", 0, None)
    one = run(made(NumpyEngine, folder), able=ALONE)
    assert right.stages[0].rows == right.soak.rounds * one.stages[0].rows
    assert one.soak is None

    counted = made(WrongAfterAWhile, folder)
    run(counted, able=ALONE)
    engine = made(WrongAfterAWhile, folder)
    engine.most = 10**9 - counted.most + 40  # some way into the second round
    wrong = run(engine, soak_s=12, able=ALONE)
    assert wrong.outcome == "WRONG"
    assert wrong.soak.first_wrong == 2
    assert 0 < wrong.soak.first_wrong_s <= wrong.soak.seconds
    assert "round 2" in "\n".join(canary_lines(wrong))


def test_a_soak_ends_after_a_first_round_that_is_wrong(folder: Path) -> None:
    engine = made(WrongAfterAWhile, folder)
    engine.most = 3
    wrong = run(engine, soak_s=60.0, able=ALONE)
    assert (wrong.soak.rounds, wrong.soak.first_wrong) == (1, 1)


def test_every_round_has_prompts_of_its_own() -> None:
    able = dataclasses.replace(ALL, cache_tokens=ROOM, block=16)
    first, second = ({r for s in stages(SMALL, able, n) for r in s.requests} for n in (0, 1))
    ids = {r.prompt_token_ids for r in first} & {r.prompt_token_ids for r in second}
    assert not ids


@pytest.mark.parametrize("block", [1, 4, 16, 32, 128])
@pytest.mark.parametrize("held", [256, 528, 700, 2048, 4096])
def test_a_full_cache_is_asked_for_more_than_it_has(block: int, held: int) -> None:
    able = Abilities(one_pass=False, batch=8, budget=160, cache_tokens=held, block=block)
    full = [s for s in stages(SMALL, able) if s.name == "preempted"]
    for stage in full:
        usable = held // block - 1
        lengths = [len(r.prompt_token_ids) for r in stage.requests]
        begun = sum(-(-n // block) for n in lengths)
        ended = sum(
            -(-(n + r.max_new_tokens) // block)
            for n, r in zip(lengths, stage.requests, strict=True)
        )
        assert begun <= usable < ended
        assert max(lengths) + 32 <= SMALL.context
    assert full or held in (256, 2048, 4096) or block == 128


def test_an_engine_gets_a_cache_that_can_be_filled_unless_the_user_says_otherwise() -> None:
    asked = plan(SMALL, DeviceSpec("vllm-cpu"))
    assert asked.small_cache == "kv_cache_memory_bytes"
    per_token = 2 * SMALL.layers * SMALL.kv_heads * SMALL.head_dim * 2
    assert int(asked.spec.engine_args["kv_cache_memory_bytes"]) >= SMALL.context * per_token
    assert "kv_cache_memory_bytes" not in asked.with_a_large_cache().spec.engine_args
    two = DeviceSpec("vllm-cpu", engine_args={"tensor_parallel_size": "2"})
    whole, half = (
        int(p.spec.engine_args["kv_cache_memory_bytes"]) for p in (asked, plan(SMALL, two))
    )
    assert half * 2 == whole
    assert plan(SMALL, DeviceSpec("npu")).small_cache == "num_gpu_blocks_override"
    own = DeviceSpec("vllm-cpu", engine_args={"kv_cache_memory_bytes": "100000000"})
    assert plan(SMALL, own).small_cache is None
    assert plan(SMALL, DeviceSpec("hf-cpu")).small_cache is None
