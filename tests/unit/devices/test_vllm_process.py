from __future__ import annotations

import inspect
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.devices.vllm.process import (
    EngineWatch,
    OwnProcess,
    Waker,
    how_it_ended,
    without_main,
)
from harness.process import signals


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
        (
            -signal.SIGBUS,
            "was ended by SIGBUS; /dev/shm is full: give the container more (--shm-size)",
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
    watch = EngineWatch(lambda: [found])
    watch.attach(core)
    assert watch.cause() is None
    process.kill()
    error = core.outputs_queue.get(timeout=10)
    assert "EngineCore was ended by SIGKILL" in str(error)
    assert waiting.exception(timeout=1) is error
    assert watch.cause() == str(error)
    watch.close()


@pytest.mark.process
def test_the_death_of_one_rank_while_the_engine_starts_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM names no process then, and its other ranks wait for the dead one."""
    monkeypatch.setenv("HARNESS_ROWS", str(tmp_path))
    own = OwnProcess()
    context = multiprocessing.get_context("spawn")
    done = context.Process(target=int, name="Helper")
    ended = context.Process(target=time.sleep, args=(60,), name="Ended by vLLM")
    ranks = [context.Process(target=time.sleep, args=(60,), name=f"Rank-{n}") for n in (0, 1)]
    watch = EngineWatch(own.new_children)
    for process in (done, ended, *ranks):
        process.start()
    done.join()
    ended.terminate()
    ended.join()
    assert watch.cause() is None  # of these two nobody waits for
    while not {rank.sentinel for rank in ranks} <= set(watch._known):
        time.sleep(0.01)  # what ends before it was seen at all is told by vLLM
    ranks[1].kill()
    ranks[0].join(10)
    assert ranks[0].exitcode == -signal.SIGKILL
    assert str(watch.cause()).startswith("its process Rank-1 was ended by SIGKILL")
    assert (tmp_path / "cause").read_text() == watch.cause()
    watch.close()


@pytest.mark.process
@pytest.mark.parametrize("closed", [False, True], ids=["generating", "closing"])
def test_after_ctrl_c_the_ranks_are_ended_at_once(
    closed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM would give each ten seconds. That they are killed is no cause of anything."""
    monkeypatch.setenv("HARNESS_ROWS", str(tmp_path))
    own = OwnProcess()
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=time.sleep, args=(60,), name=f"Rank-{n}") for n in (0, 1)]
    for rank in ranks:
        rank.start()
    watch = EngineWatch(own.new_children)
    watch.attach(SimpleNamespace())
    while len(watch._known) < len(ranks):
        time.sleep(0.01)
    monkeypatch.setattr(signals, "received", lambda: signal.SIGINT)
    if closed:
        watch.close()
    for rank in ranks:
        rank.join(10)
        assert rank.exitcode == -signal.SIGKILL
    watch.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.process
@pytest.mark.parametrize("background", [False, True])
def test_a_step_that_waits_for_a_dead_rank_of_another_host_is_interrupted(
    background: bool,
) -> None:
    """In a background job of a shell too, where SIGINT is ignored."""
    own = signal.SIG_IGN if background else signal.default_int_handler
    before = signal.signal(signal.SIGINT, own)
    found: list[str] = []
    waker = Waker(lambda: found[0] if found else None)
    with waker.step():
        pass  # one that ends by itself
    found.append("its process of rank 1 ended")
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match=r"^its process of rank 1 ended$"), waker.step():
        time.sleep(60)
    assert time.monotonic() - begun < 30
    waker.close()
    assert signal.signal(signal.SIGINT, before) is own


def test_an_interruption_of_the_users_stays_one() -> None:
    waker = Waker(lambda: None)
    with pytest.raises(KeyboardInterrupt), waker.step():
        raise KeyboardInterrupt
    waker.close()


def test_a_watch_of_no_process_ends_at_once() -> None:
    watch = EngineWatch(list)
    watch.attach(SimpleNamespace())
    watch.close()
    assert watch.cause() is None


def test_only_what_the_engine_sets_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library sets the path of its kernels once, when it is imported."""
    environment = {"OMP_NUM_THREADS": "2", "KERNELS": "mine", "VLLM_PLUGINS": "ascend"}
    monkeypatch.setattr(os, "environ", environment)
    own = OwnProcess()
    environment |= {
        "OMP_NUM_THREADS": "1",
        "KMP_BLOCKTIME": "1",
        "LD_PRELOAD": "libtcmalloc.so",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "KERNELS": "theirs:mine",
        "ASCEND_CUSTOM_OPP_PATH": "/ops",
    }
    del environment["VLLM_PLUGINS"]
    own.restore()
    assert environment == {
        "OMP_NUM_THREADS": "2",
        "VLLM_PLUGINS": "ascend",
        "KERNELS": "theirs:mine",
        "ASCEND_CUSTOM_OPP_PATH": "/ops",
    }


@pytest.mark.process
def test_a_script_without_a_guard_can_start_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, operator\n"
        "from harness.devices.vllm.process import without_main\n"
        "print('main runs')\n"
        "spawn = multiprocessing.get_context('spawn')\n"
        "with without_main():\n"
        "    child = spawn.Process(target=operator.add, args=(1, 2))\n"
        "    child.start()\n"
        "child.join()\n"
        "print(child.exitcode, __file__.endswith('script.py'))\n"
    )
    command = [sys.executable, str(script)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.returncode) == ("main runs\n0 True\n", 0), ran.stderr


def test_the_main_module_is_itself_again_after_an_error() -> None:
    main = sys.modules["__main__"]
    before = (getattr(main, "__file__", None), main.__spec__)
    seen = []

    # As libraries do at their import: it looks through the files of all modules.
    code = compile("1", "<nowhere>", "eval")
    inspect.getmodule(code, "<nowhere>")

    def start() -> None:
        with without_main():
            seen.append(getattr(main, "__file__", None))
            assert inspect.getmodule(code, "<nowhere>") is None
            raise RuntimeError

    with pytest.raises(RuntimeError):
        start()
    assert seen == [None]
    assert (getattr(main, "__file__", None), main.__spec__) == before
