"""Sentences as vLLM 0.18 to 0.32 and vLLM-Ascend log them."""

from __future__ import annotations

import logging
import logging.config
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices.vllm.log import LoadLog, compiler_seconds
from harness.devices.vllm.spool import Spool


@pytest.fixture
def log() -> Iterator[LoadLog]:
    before = {n: logging.getLogger(n).level for n in ("vllm.compilation.monitor", "vllm.logger")}
    log = LoadLog()
    log.install("first")
    yield log
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).removeHandler(log)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_the_parts_of_a_load_are_heard(log: LoadLog) -> None:
    say = logging.getLogger("vllm.model_executor.model_loader.default_loader").info
    say("Loading weights took %.2f seconds", 1.254)
    monitor = logging.getLogger("vllm.compilation.monitor").info
    monitor("%storch.compile took %.2f s in total", "[backbone] ", 8.1)
    monitor("%storch.compile took %.2f s in total", "", 1.5)
    monitor("%sInitial profiling/warmup run took %.2f s", "", 0.5)
    logging.getLogger("vllm.logger").info(
        "Graph capturing finished in %.0f secs, took %.2f GiB", 14.0, 0.3
    )
    logging.getLogger("vllm.v1.engine.core").info(
        "init engine (profile, create kv cache, warmup model) took %.2f s (compilation: %.2f s)",
        30.25,
        9.6,
    )
    assert log.seconds == {
        "weights_s": 1.25,
        "compile_s": pytest.approx(9.6),
        "warmup_s": 0.5,
        "graph_capture_s": 14.0,
        "init_engine_s": 30.25,
    }


def first_pass(seconds: float, *between: tuple[str, float]) -> None:
    """The first pass of vLLM's CPU engine, which takes so long."""
    say = logging.getLogger("vllm.v1.worker.cpu_model_runner")
    for text, moment in (("Warming up model for the compilation...", 0.0), ("Warming up done.", 1)):
        record = say.makeRecord(say.name, logging.INFO, __file__, 1, text, (), None)
        record.created = 1000.0 + moment * seconds
        say.handle(record)
        if not moment:
            for sentence, figure in between:
                logging.getLogger("vllm.compilation.monitor").info(sentence, "", figure)


class Clock:
    """In place of torch's clock of its compiler."""

    def __init__(self, *readings: float) -> None:
        self._readings = list(readings)

    def calculate_time_spent(self) -> dict[str, float]:
        return {"total_wall_time": self._readings.pop(0)} if self._readings else {}


def test_a_first_pass_that_compiles_ahead_is_compilation_but_for_the_warm_up(log: LoadLog) -> None:
    first_pass(72.0, ("%sInitial profiling/warmup run took %.2f s", 2.0))
    assert log.seconds == pytest.approx({"compile_s": 70.0, "warmup_s": 2.0})


def test_a_first_pass_that_compiles_as_it_goes_is_parted_by_torchs_clock(
    log: LoadLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", Clock(5.0, 65.0))
    first_pass(64.0)
    assert log.seconds == pytest.approx({"compile_s": 60.0, "warmup_s": 4.0})


def test_a_first_pass_that_vllm_times_itself_is_not_counted_twice(log: LoadLog) -> None:
    compiled = ("%storch.compile took %.2f s in total", 60.0)
    first_pass(64.0, compiled, ("%sInitial profiling/warmup run took %.2f s", 2.0))
    assert log.seconds == pytest.approx({"compile_s": 60.0, "warmup_s": 2.0})


def test_a_first_pass_of_another_load_has_no_part_in_this_one(log: LoadLog) -> None:
    say = logging.getLogger("vllm.v1.worker.cpu_model_runner").info
    say("Warming up model for the compilation...")
    log.install("second")
    say("Warming up done.")
    assert log.seconds == {}


@pytest.mark.parametrize("module", [None, object(), Clock()])
def test_without_a_clock_nothing_was_compiled(
    monkeypatch: pytest.MonkeyPatch, module: object
) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", module)
    assert compiler_seconds() == 0.0


def test_a_second_load_begins_anew(log: LoadLog) -> None:
    logger = logging.getLogger("vllm.model_executor.model_loader.default_loader")
    logger.info("Loading weights took %.2f seconds", 2.0)
    log.install("first")
    assert log.seconds == {"weights_s": 2.0}
    log.install("second")
    logger.info("Loading weights took %.2f seconds", 1.0)
    assert log.seconds == {"weights_s": 1.0}


def test_other_talk_and_other_levels_are_no_figures(log: LoadLog) -> None:
    logging.getLogger("vllm.v1.engine.core").info("Using 3 seconds of patience")
    logging.getLogger("vllm.v1.engine.core").debug("Loading weights took 3 seconds")
    assert log.seconds == {}


def test_why_an_engine_ends_is_left_after_it_has_set_up_its_log(
    log: LoadLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vLLM does at the start of its processes, which takes handlers away."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HARNESS_ROWS", "")
    spool = Spool()
    setup = {"version": 1, "disable_existing_loggers": False, "loggers": {"vllm": {}}}
    logging.config.dictConfig(setup)
    try:
        raise ValueError("No available memory for the cache blocks.")
    except ValueError:
        logging.getLogger("vllm.v1.engine.core").exception("EngineCore failed to start.")
    assert spool.cause() == "No available memory for the cache blocks."
    spool.close()


def test_why_an_engine_ends_is_left_for_the_harness(
    log: LoadLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HARNESS_ROWS", "")  # so that what a spool puts there is taken back
    spool = Spool()
    for name in ("vllm.logger", "vllm.v1.engine.core"):
        try:
            raise MemoryError(f"no room, says {name}\nand more")
        except MemoryError:
            logging.getLogger(name).exception("EngineCore failed to start.")
    assert spool.cause() == "no room, says vllm.v1.engine.core"
    spool.close()


@pytest.mark.parametrize(
    ("logger", "text", "told"),
    [
        (
            "vllm.v1.executor.multiproc_executor",
            "Worker proc VllmWorker-3 died unexpectedly (exit code: -9), shutting down executor.",
            "its process VllmWorker-3 was ended by SIGKILL",
        ),
        (
            "vllm.v1.executor.multiproc_executor",
            "Worker proc VllmWorker-0 died unexpectedly (exit code: None), shutting down executor.",
            "its process VllmWorker-0 ended",
        ),
        (
            "vllm.v1.executor.ray_executor_v2",
            "RayWorkerProc rank=[1] died unexpectedly, shutting down executor.",
            "its process of rank 1 ended",
        ),
        ("vllm.v1.executor.ray_executor_v2", "RayWorkerMonitor: unexpected error", None),
        ("vllm.logger", "Worker proc VllmWorker-3 died unexpectedly (exit code: -9)", None),
    ],
)
def test_a_rank_that_ended_without_a_word_is_named(
    log: LoadLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logger: str,
    text: str,
    told: str | None,
) -> None:
    """As in a process that vLLM starts for its engine, which starts the ranks."""
    monkeypatch.setenv("HARNESS_ROWS", str(tmp_path))
    logging.getLogger(logger).error(text)
    cause = tmp_path / "cause"
    if told is None:
        assert not cause.exists()
    else:
        assert cause.read_text().startswith(told)


def test_of_its_own_children_the_harness_knows_more_than_the_log(
    log: LoadLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HARNESS_ROWS", "")
    spool = Spool()
    logging.getLogger("vllm.v1.executor.multiproc_executor").error(
        "Worker proc VllmWorker-0 died unexpectedly (exit code: None), shutting down executor."
    )
    assert spool.cause() is None
    spool.close()
