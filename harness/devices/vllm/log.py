"""What vLLM tells its log and nobody else.

That is the seconds of each part of a load, and why an engine in a process of its own
came to its end.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from harness.devices.vllm.load import reason
from harness.devices.vllm.spool import leave_cause

#: Loggers of vLLM and vLLM-Ascend that time the parts of a load.
_TIMERS = (
    "vllm.model_executor.model_loader",
    "vllm.compilation.monitor",
    "vllm.v1.worker.gpu_model_runner",
    "vllm.v1.engine.core",
    "vllm.logger",  # vLLM-Ascend's
    "vllm_ascend.worker",
)
#: Those that say why they end.
_ENDERS = ("vllm.v1.engine.core", "vllm.v1.executor.multiproc_executor")
#: Each part with its sentence in vLLM 0.18 to 0.32.
_SENTENCES: Mapping[str, re.Pattern[str]] = {
    "weights_s": re.compile(r"Loading weights took ([\d.]+) seconds"),
    "compile_s": re.compile(r"torch\.compile (?:took|takes) ([\d.]+) s in total"),
    "warmup_s": re.compile(r"(?:profiling|warmup) run took ([\d.]+) s"),
    "graph_capture_s": re.compile(r"Graph capturing finished in ([\d.]+) secs"),
    # Profiling, KV cache and warm-up, compilation and capture included.
    "init_engine_s": re.compile(r"init engine .*took ([\d.]+) s"),
}
LOAD_PARTS = tuple(_SENTENCES)


class LoadLog(logging.Handler):
    """Picks the figures out of vLLM's log, whether or not that log is shown.

    Attributes:
        seconds: what was said so far, by the names of ``Opened.load``.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.seconds: dict[str, float] = {}
        self._load: str | None = None

    def install(self, load: str | None) -> None:
        """Listen; a second call for the same load does no harm, another load begins anew."""
        if load != self._load:
            self.seconds, self._load = {}, load
        for name in {*_TIMERS, *_ENDERS}:
            logger = logging.getLogger(name)
            # vLLM's own handler has a level too, so nothing more is shown.
            if not logger.isEnabledFor(logging.INFO):
                logger.setLevel(logging.INFO)
            if self not in logger.handlers:
                logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and record.levelno >= logging.ERROR and record.name in _ENDERS:
            leave_cause(reason(error))
        text = record.getMessage()
        for name, sentence in _SENTENCES.items():
            found = sentence.search(text)
            if found is not None:
                # Parts of a model may be compiled or captured one after another.
                self.seconds[name] = self.seconds.get(name, 0.0) + float(found[1])


#: The one of this process.
LOAD_LOG = LoadLog()
