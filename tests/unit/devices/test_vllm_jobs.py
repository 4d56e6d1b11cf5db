from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.devices.base import NO_CHOICE, Completion, Request
from harness.devices.vllm.capture import Order
from harness.devices.vllm.jobs import Job, MakeOrder, Part
from harness.statistics.rows import row_statistics

WIDTH = 30
PROMPT = (5, 6)


@pytest.fixture
def make_order(tmp_path: Path) -> MakeOrder:
    numbers = count()
    return lambda rows, forced: Order(str(tmp_path / str(next(numbers))), WIDTH, rows, forced)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def logits(tokens: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(tokens).standard_normal((tokens, WIDTH)).astype(np.float32)


def answer(part: Part, tokens: Sequence[int], rows: Any, stamps: Sequence[float]) -> list[None]:
    """What worker and engine leave for a part; the calls of on_token."""
    records = np.zeros(len(tokens), part.order.record)
    records["t"], records["stamp"] = np.arange(len(tokens)), stamps
    if part.order.rows:
        records["row"] = rows
    records.tofile(part.order.file)
    calls: list[None] = []
    for end in range(1, len(tokens) + 1):
        output = SimpleNamespace(token_ids=list(tokens[:end]))
        ended = SimpleNamespace(outputs=[output], finished=end == len(tokens))
        part.follow(ended, lambda: calls.append(None))
    return calls


def free(make_order: MakeOrder, pool: ThreadPoolExecutor, rows: Any, **changes: Any) -> Completion:
    fields: dict[str, Any] = {"stop_token_ids": (2,), "keep": "full"}
    request = Request("p", PROMPT, "free", 9, **(fields | changes))
    job = Job(request, make_order)
    [part] = job.parts
    assert (part.prompt_token_ids, part.max_tokens) == (PROMPT, 9)
    assert part.stop_token_ids == (2,)
    part.started = 10.0
    assert len(answer(part, [3, 4, 2], rows, [10.5, 11.0, 13.0])) == 3
    assert job.finished
    return job.completion(pool)


def test_a_worker_of_another_host_has_another_clock(
    make_order: MakeOrder, pool: ThreadPoolExecutor
) -> None:
    """Its clock began with that host: what counts is when a token came here."""
    request = Request("p", PROMPT, "free", 3)
    job = Job(request, make_order, same_clock=False)
    [part] = job.parts
    part.started = time.monotonic() - 2.0
    answer(part, [3, 4, 5], logits(3), [9e6, 9e6 + 1, 9e6 + 2])
    timings = job.completion(pool).timings
    assert 2.0 <= timings.ttft_s < 60.0
    assert all(0 <= gap < 60.0 for gap in timings.itl_s)
    assert len(timings.itl_s) == 2


def test_free_is_one_request_of_the_engine(make_order: MakeOrder, pool: ThreadPoolExecutor) -> None:
    rows = logits(3)
    completion = free(make_order, pool, rows)
    assert (completion.token_ids, completion.stop) == ((3, 4, 2), "eos")
    assert completion.logits is not None
    assert np.array_equal(completion.logits, rows)
    assert completion.rows is not None
    assert np.array_equal(completion.rows.digest, row_statistics(rows).digest)
    timings = completion.timings
    assert (timings.ttft_s, timings.itl_s, timings.e2e_s) == (0.5, (0.5, 2.0), 3.0)


def test_without_rows_there_are_tokens_and_timings(
    make_order: MakeOrder, pool: ThreadPoolExecutor
) -> None:
    completion = free(make_order, pool, None, keep="nothing")
    assert (completion.rows, completion.logits) == (None, None)
    assert completion.timings.e2e_s == 3.0


def test_a_run_ends_at_a_row_without_a_choice(
    make_order: MakeOrder, pool: ThreadPoolExecutor
) -> None:
    rows = logits(3)
    rows[1] = np.nan
    completion = free(make_order, pool, rows)
    assert (completion.token_ids, completion.stop) == ((3, NO_CHOICE), "nonfinite")
    assert completion.rows is not None
    assert completion.rows.nonfinite.tolist() == [0, WIDTH]
    assert completion.timings.itl_s == (0.5,)
    assert completion.logits is not None
    assert len(completion.logits) == 2


def test_a_forced_decode_names_its_tokens_and_stops_at_none(make_order: MakeOrder) -> None:
    request = Request("p", PROMPT, "forced-decode", 9, (2,), forced_token_ids=(2, 7))
    [part] = Job(request, make_order).parts
    assert (part.max_tokens, part.stop_token_ids, part.order.forced) == (2, (), (2, 7))


def test_a_forced_prefill_is_one_request_for_each_token(
    make_order: MakeOrder, pool: ThreadPoolExecutor
) -> None:
    forced = (7, 2, 8)
    job = Job(Request("p", PROMPT, "forced-prefill", 9, (2,), forced_token_ids=forced), make_order)
    prompts = [part.prompt_token_ids for part in job.parts]
    assert prompts == [PROMPT, (*PROMPT, 7), (*PROMPT, 7, 2)]
    assert {(part.max_tokens, part.order.forced) for part in job.parts} == {(1, None)}
    rows = logits(3)
    calls: list[None] = []
    for t in (1, 0, 2):  # a batch may finish them in any order
        assert not job.finished
        calls += answer(job.parts[t], [9], rows[t], [20.0])
    assert len(calls) == 1  # one for the whole pass
    completion = job.completion(pool)
    assert (completion.token_ids, completion.stop) == (forced, "forced")
    assert completion.rows is not None
    assert np.array_equal(completion.rows.digest, row_statistics(rows).digest)
    assert completion.timings.itl_s == ()
    assert completion.timings.ttft_s == completion.timings.e2e_s
