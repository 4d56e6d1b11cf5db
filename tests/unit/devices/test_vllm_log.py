"""Sentences as vLLM 0.18 to 0.32 and vLLM-Ascend log them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices.vllm.log import LoadLog
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
