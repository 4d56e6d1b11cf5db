"""Facts that vLLM writes only to its log.

These are the seconds of each part of a load, and why an engine in a separate
process ended.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.devices.vllm.cause import cause_of
from harness.devices.vllm.process import how_it_ended
from harness.devices.vllm.spool import is_owner, leave_cause

#: Loggers of vLLM and vLLM-Ascend that time the parts of a load.
_TIMERS = (
    "vllm.model_executor.model_loader",
    "vllm.compilation.monitor",
    "vllm.v1.worker.gpu_model_runner",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.v1.engine.core",
    "vllm.logger",  # vLLM-Ascend's
    "vllm_ascend.worker",
)
#: Those that say why they end.
_ENDERS = (
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.executor.ray_executor_v2",
)
#: Prints the whole configuration where an engine fails, before anybody says why.
_PAGES = "vllm.logging_utils.dump_input"
#: A worker that ended without a word of its own, as the process that started it says it.
_DIED = re.compile(
    r"(?:Worker proc (?P<name>\S+)|RayWorkerProc rank=\[?(?P<rank>\d+).*?) died unexpectedly"
    r"(?: \(exit code: (?P<status>-?\d+)\))?"
)
#: Each part with its sentence in vLLM 0.18 to 0.32.
_SENTENCES: Mapping[str, re.Pattern[str]] = {
    "weights_s": re.compile(r"Loading weights took ([\d.]+) seconds"),
    "compile_s": re.compile(r"torch\.compile (?:took|takes) ([\d.]+) s in total"),
    "warmup_s": re.compile(r"(?:profiling|warmup) run took ([\d.]+) s"),
    "graph_capture_s": re.compile(r"Graph capturing finished in ([\d.]+) secs"),
    # Profiling, KV cache and warm-up, compilation and capture included.
    "init_engine_s": re.compile(r"init engine .*took ([\d.]+) s"),
}
#: Before and after the first pass of vLLM's CPU engine, which compiles in it and
#: does not say for how long.
_FIRST_PASS = ("Warming up model for the compilation", "Warming up done")


@dataclass(frozen=True)
class _FirstPass:
    """When it began, and what torch had compiled and the log had said by then."""

    at: float
    compiled: float
    heard: Mapping[str, float]


def compiler_seconds() -> float:
    """Seconds that torch's compiler has taken in this process, by its own clock.

    0 where nothing was compiled, or where this torch keeps no such clock.
    """
    dynamo: Any = sys.modules.get("torch._dynamo.utils")
    try:
        return float(dynamo.calculate_time_spent()["total_wall_time"])
    except (AttributeError, KeyError, TypeError):
        return 0.0


class Ends(logging.Filter):
    """Leaves for the harness why a process of the engine ends, and lets every record pass.

    A filter and no handler: vLLM takes its loggers' handlers away where a process of the engine
    sets up its log.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Hear a record of one of ``_ENDERS``."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and record.levelno >= logging.ERROR:
            cause = cause_of(error)
            if cause is not None:  # else another process of the engine says it
                leave_cause(cause)
        died = _DIED.match(record.getMessage())
        if died is not None:
            _say_who_died(died)
        return True


def _say_who_died(died: re.Match[str]) -> None:
    if died["name"] is not None and is_owner():
        return  # a child of this process: the watch knows how it ended
    name = died["name"] or f"of rank {died['rank']}"
    status = None if died["status"] is None else int(died["status"])
    leave_cause(f"its process {name} {how_it_ended(status)}")


def _nothing(_: logging.LogRecord) -> bool:
    return False


class LoadLog(logging.Handler):
    """Picks the figures out of vLLM's log, whether or not that log is shown.

    Attributes:
        seconds: what was said so far, by the names of ``environment.WorkerFacts``.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.seconds: dict[str, float] = {}
        self._load: str | None = None
        self._first_pass: _FirstPass | None = None

    def install(self, load: str | None) -> None:
        """Listen; may be called twice for one load; another load starts from zero."""
        if load != self._load:
            self.seconds, self._load, self._first_pass = {}, load, None
        for name in _ENDERS:
            logging.getLogger(name).addFilter(ENDS)
        logging.getLogger(_PAGES).addFilter(_nothing)  # a level would be set anew
        for name in _TIMERS:
            logger = logging.getLogger(name)
            # vLLM's own handler has a level too, so nothing more is shown.
            if not logger.isEnabledFor(logging.INFO):
                logger.setLevel(logging.INFO)
            if self not in logger.handlers:
                logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        for name, sentence in _SENTENCES.items():
            found = sentence.search(text)
            if found is not None:
                self._add(name, float(found[1]))
        self._watch_first_pass(text, record.created)

    def _watch_first_pass(self, text: str, now: float) -> None:
        """Part the first pass into compilation and warm-up.

        vLLM itself times the warm-up where it compiles ahead of time, and
        torch's clock the compilation where it compiles as it goes.
        """
        before, after = _FIRST_PASS
        if text.startswith(before):
            self._first_pass = _FirstPass(now, compiler_seconds(), dict(self.seconds))
        elif text.startswith(after) and self._first_pass is not None:
            begun, self._first_pass = self._first_pass, None
            whole = max(0.0, now - begun.at)
            warmup = self.seconds.get("warmup_s", 0.0) - begun.heard.get("warmup_s", 0.0)
            if self.seconds.get("compile_s") != begun.heard.get("compile_s"):
                return  # this vLLM says it
            if warmup:
                self._add("compile_s", max(0.0, whole - warmup))
            else:
                compiled = min(whole, compiler_seconds() - begun.compiled)
                self._add("compile_s", compiled)
                self._add("warmup_s", whole - compiled)

    def _add(self, name: str, seconds: float) -> None:
        """Parts of a model may be compiled or captured one after another."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


#: Those of this process.
ENDS = Ends()
LOAD_LOG = LoadLog()
