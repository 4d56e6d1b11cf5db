"""What the counter makes of a scheduler's steps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from harness.devices.vllm.counters import StepCounter


def _step(tokens: int, preempted: Any = None) -> SimpleNamespace:
    return SimpleNamespace(total_num_scheduled_tokens=tokens, preempted_req_ids=preempted)


def test_counts_steps_tokens_and_preemptions() -> None:
    counter = StepCounter()
    for step in (_step(17), _step(2, {"a"}), _step(3, set()), _step(0)):
        counter.count(step)
    assert counter.counts() == {"engine_steps": 3, "scheduled_tokens": 22, "preemptions": 1}


def test_an_engine_that_does_not_name_the_preempted_counts_none() -> None:
    counter = StepCounter()
    counter.count(SimpleNamespace(total_num_scheduled_tokens=4))
    assert counter.preemptions == 0


def test_what_is_watched_gets_everything_and_answers_as_before() -> None:
    counter = StepCounter()
    seen = []
    watched = counter.watching(lambda *given, **named: seen.append((given, named)) or "answer")
    step = _step(5)
    assert watched(step, 1, more=2) == "answer"
    assert seen == [((step, 1), {"more": 2})]
    assert counter.engine_steps == 1
