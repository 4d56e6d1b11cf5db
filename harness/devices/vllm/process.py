"""The processes around vLLM's engine: what it changes in ours, and the end of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

from harness.devices.vllm.spool import leave_cause
from harness.process import signals

_POLL_S = 0.5
#: Seconds in which vLLM may notice a death itself.
_OWN_S = 3.0
#: What ended a process by a signal, most often.
_LIKELY = {
    "SIGKILL": "; unless somebody killed it, the host ran out of memory",
    "SIGBUS": "; /dev/shm is full: give the container more (--shm-size)",
}
#: Beginnings of the variables that the harness and vLLM set for one engine.
_RESTORED = (
    *("VLLM_", "HARNESS_ROWS", "HF_HUB_OFFLINE", "LD_PRELOAD", "LOCAL_WORLD_SIZE"),
    *("PYTHONWARNINGS", "RAY_"),
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
    """Tells when a process of the engine dies, ends the others, and wakes who waits for them.

    vLLM's client waits on a queue, which stays empty after the engine's process
    dies: it would wait for ever. The ranks of a model wait for each other, and vLLM leaves them
    ten seconds; without the dead one they are of no use. Nor are they after Ctrl-C.

    Args:
        children: gives the processes of the engine that are alive. It is asked from the start
            of the engine until ``attach``.
    """

    def __init__(self, children: Callable[[], Collection[BaseProcess]]) -> None:
        self._children = children
        self._cause: str | None = None
        self._core: Any = None
        self._known: dict[int, BaseProcess] = {}
        self._attached, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="harness-engine-watch", daemon=True)
        self._thread.start()

    def attach(self, core: Any) -> None:
        """The engine has started.

        Args:
            core: vLLM's ``engine_core`` client.
        """
        self._core = core
        self._attached.set()

    def cause(self) -> str | None:
        """How the first process to die ended; None while all are alive."""
        if any(not process.is_alive() for process in list(self._known.values())):
            self._thread.join(3 * _POLL_S)
        return self._cause

    def close(self) -> None:
        """From here on the end of a process is expected."""
        self._over.set()
        self._thread.join()
        if signals.received() is not None:
            self._kill()
        self._core = None

    def _kill(self) -> None:
        for process in list(self._known.values()):
            if process.is_alive():
                process.kill()

    def _run(self) -> None:
        dead: BaseProcess | None = None
        while dead is None and not self._over.is_set():
            if signals.received() is not None:
                self._kill()
                return
            started = self._attached.is_set()
            for process in self._children():
                self._known[process.sentinel] = process
            if not self._known and started:
                return  # the engine runs in this process
            if not self._known:
                self._over.wait(_POLL_S / 5)
                continue
            ended = connection.wait(list(self._known), timeout=_POLL_S)
            dead = self._died([self._known[s] for s in ended], started)  # type: ignore[index]
        if dead is None or self._over.is_set():
            return
        self._cause = f"its process {dead.name} {how_it_ended(dead.exitcode)}"
        leave_cause(self._cause)
        self._kill()
        self._wake(RuntimeError(self._cause))

    def _died(self, ended: Sequence[BaseProcess], started: bool) -> BaseProcess | None:
        """The first of them that counts: before the start one may end when its work is done, and
        vLLM ends the others where one has failed and said why."""
        # vLLM waits for it too, and only one of us two is told the status by the system.
        until = time.monotonic() + _POLL_S
        while any(p.exitcode is None for p in ended) and time.monotonic() < until:
            time.sleep(0.01)
        for process in ended:
            if started or process.exitcode not in (0, -signal.SIGTERM):
                return process
            del self._known[process.sentinel]
        return None

    def _wake(self, dead: RuntimeError) -> None:
        with suppress(AttributeError):  # another client, or none; then vLLM is on its own
            for future in list(self._core.utility_results.values()):
                if not future.done():
                    future.set_exception(dead)
            self._core.outputs_queue.put_nowait(dead)


class Waker:
    """Interrupts a step that waits for a rank of another host after one has died.

    Ray tells that death. vLLM ends the other ranks then, and goes on waiting for an answer.

    Args:
        cause: why a process of the engine died; None while none has.
    """

    def __init__(self, cause: Callable[[], str | None]) -> None:
        self._cause = cause
        self._since: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="harness-waker", daemon=True)
        self._thread.start()

    @contextmanager
    def step(self) -> Iterator[None]:
        """A step of the engine; in the main thread, as signals are.

        Raises:
            RuntimeError: with the cause, where the step was interrupted for it.
        """
        self._since = time.monotonic()
        try:
            with signals.heeded():
                yield
        except KeyboardInterrupt as error:
            cause = self._cause()
            if cause is None or signals.received() is not None:
                raise
            raise RuntimeError(cause) from error
        finally:
            self._since = None

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_POLL_S):
            if self._cause() is None:
                continue
            if self._over.wait(_OWN_S):  # most often vLLM itself raises an error
                return
            if self._since is not None:
                signals.poke()
                return


def how_it_ended(status: int | None) -> str:
    """How a process ended, in words; ``status`` as of ``multiprocessing``, a signal negative."""
    if status is None or status >= 0:
        return "ended" if status is None else f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was ended by {name}{_LIKELY.get(name, '')}"
