"""The processes around vLLM's engine: what it changes in ours, and the end of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

_POLL_S = 0.5
#: Beginnings of the variables that the harness and vLLM set for one engine.
_RESTORED = (
    *("VLLM_", "HARNESS_ROWS", "HF_HUB_OFFLINE", "LD_PRELOAD", "LOCAL_WORLD_SIZE"),
    *("OMP_", "KMP_", "GOMP_", "MKL_", "NUMEXPR_", "TORCHINDUCTOR_"),
)


class OwnProcess:
    """Settings that vLLM changes in its process, to be restored.

    It replaces ``torch.set_num_threads``, binds threads to cores and preloads
    libraries into children; a Transformers device that is opened later needs
    the first two, and its child processes must not get the last. Variables of
    others stay as they are: what a library sets when it is imported, as
    vLLM-Ascend does with the path of its kernels, it will not set again.
    """

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self._set_num_threads: Any = None
        self._children = multiprocessing.active_children()

    def remember(self, torch: Any) -> None:
        self._set_num_threads = torch.set_num_threads

    def unpin(self) -> None:
        """Let the calling thread run on every core again."""
        if self._cores:
            os.sched_setaffinity(0, self._cores)

    def new_children(self) -> list[BaseProcess]:
        """The processes that were started since."""
        return [c for c in multiprocessing.active_children() if c not in self._children]

    def restore(self) -> None:
        self.unpin()
        if self._set_num_threads is not None:
            sys.modules["torch"].set_num_threads = self._set_num_threads  # type: ignore[attr-defined]
        for key in {*os.environ, *self._environment}:
            if not key.startswith(_RESTORED):
                continue
            if key in self._environment:
                os.environ[key] = self._environment[key]
            else:
                del os.environ[key]


@contextmanager
def without_main() -> Iterator[None]:
    """Let new processes start without this program's own main module.

    A process that is spawned runs the file of ``__main__`` again: a script that opens a
    device outside of ``if __name__ == "__main__"`` would open it there too. The engine's
    processes need nothing of it.
    """
    main: Any = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    file = vars(main).pop("__file__", None)  # None in its place would break `inspect`
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


class EngineWatch:
    """Wakes the thread that waits for the engine when one of its processes dies.

    vLLM's client waits on a queue, which stays empty after the engine's process
    dies: it would wait for ever.

    Args:
        core: vLLM's ``engine_core`` client.
        processes: those of the engine; empty where it runs in this process.
    """

    def __init__(self, core: Any, processes: Collection[BaseProcess]) -> None:
        self._cause: str | None = None
        self._core = core
        self._processes = {process.sentinel: process for process in processes}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="harness-engine-watch", daemon=True)
        if self._processes:
            self._thread.start()

    def cause(self) -> str | None:
        """How a process ended; None while all are alive."""
        if any(not process.is_alive() for process in self._processes.values()):
            self._thread.join(2 * _POLL_S)
        return self._cause

    def close(self) -> None:
        """From here on the end of a process is expected."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._core = None

    def _run(self) -> None:
        ended: list[Any] = []
        while not ended and not self._over.is_set():
            ended = connection.wait(list(self._processes), timeout=_POLL_S)
        if self._over.is_set():
            return
        process = self._processes[ended[0]]
        # vLLM waits for it too, and only one of us two is told the status by the system.
        until = time.monotonic() + _POLL_S
        while process.exitcode is None and time.monotonic() < until:
            time.sleep(0.01)
        self._cause = f"its process {process.name} {how_it_ended(process.exitcode)}"
        dead = RuntimeError(self._cause)
        with suppress(AttributeError):  # another client; then vLLM is on its own
            for future in list(self._core.utility_results.values()):
                if not future.done():
                    future.set_exception(dead)
            self._core.outputs_queue.put_nowait(dead)


def how_it_ended(status: int | None) -> str:
    """How a process ended, in words; ``status`` as of ``multiprocessing``, a signal negative."""
    if status is None or status >= 0:
        return "ended" if status is None else f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    memory = "; unless somebody killed it, the host ran out of memory" if name == "SIGKILL" else ""
    return f"was ended by {name}{memory}"
