from __future__ import annotations

import multiprocessing
import queue
import signal
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from harness.devices.vllm.process import EngineWatch, OwnProcess, how_it_ended


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "ended"),
        (3, "ended with status 3"),
        (-signal.SIGTERM, "was ended by SIGTERM"),
        (
            -signal.SIGKILL,
            "was ended by SIGKILL; unless somebody killed it, the host ran out of memory",
        ),
        (-99, "was ended by signal 99"),
    ],
)
def test_an_end_is_told_in_words(status: int | None, words: str) -> None:
    assert how_it_ended(status) == words


def test_whoever_waits_for_a_killed_process_is_woken() -> None:
    """The queue and the futures are those of vLLM's client, the process is real."""
    own = OwnProcess()
    process = multiprocessing.get_context("spawn").Process(
        target=time.sleep, args=(60,), name="EngineCore"
    )
    process.start()
    [found] = own.new_children()
    waiting: Future[Any] = Future()
    core = SimpleNamespace(outputs_queue=queue.Queue(), utility_results={1: waiting})
    watch = EngineWatch(core, [found])
    assert watch.cause() is None
    process.kill()
    error = core.outputs_queue.get(timeout=10)
    assert "EngineCore was ended by SIGKILL" in str(error)
    assert waiting.exception(timeout=1) is error
    assert watch.cause() == str(error)
    watch.close()


def test_a_watch_of_no_process_ends_at_once() -> None:
    watch = EngineWatch(SimpleNamespace(), [])
    watch.close()
    assert watch.cause() is None
