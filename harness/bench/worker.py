"""One side of a comparison: a process that holds one device and runs on request.

Each configuration has a process of its own, so that two engines, two versions
in two environments or two settings of one library never share state. It talks
JSON lines over two pipes, since engines print what they like on stdout.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from harness.bench.machine import machine_fingerprint
from harness.bench.measure import MOST_WARMUP, Text, is_stable, requests_of, run_once
from harness.bench.result import Accuracy, Cell
from harness.bench.run import bench_text, judge_first
from harness.devices.base import Completion, Device, Opened, Request, ignore_token
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.errors import HarnessError
from harness.messages.message import message
from harness.process.progress import Progress
from harness.recording.recorder import opened
from harness.suite.read import load_suite


class _Slowed:
    """A device that waits after each token: the known slowdown that the gate's
    own benchmark must find.

    Args:
        share: of the time since the token before.
    """

    def __init__(self, device: Device, share: float) -> None:
        self._device, self._share, self.name = device, share, device.name
        self._last = 0.0

    def open(self) -> Opened:
        return self._device.open()

    def close(self) -> None:
        self._device.close()

    def generate(
        self, requests: list[Request], on_token: Callable[[], None] = ignore_token
    ) -> Iterator[Completion]:
        self._last = time.perf_counter()

        def slower() -> None:
            on_token()
            end = time.perf_counter() + self._share * (time.perf_counter() - self._last)
            while time.perf_counter() < end:  # a sleep is too coarse for a share of a token
                pass
            self._last = time.perf_counter()

        return self._device.generate(requests, slower)


def main() -> None:
    """``python -m harness.bench.worker READ WRITE``, two file descriptors."""
    with (
        os.fdopen(int(sys.argv[1]), "r", encoding="utf-8") as asked,
        os.fdopen(int(sys.argv[2]), "w", encoding="utf-8") as answers,
    ):
        try:
            _serve(json.loads(asked.readline()), asked, answers)
        except HarnessError as error:
            _say(answers, {"error": str(error)})
        except BrokenPipeError:
            pass  # the other end was interrupted


def _serve(asked: dict[str, Any], lines: TextIO, answers: TextIO) -> None:
    progress = Progress(live=False)
    target = open_target(DeviceSpec(**asked["spec"]), progress=progress)
    suite = load_suite(asked["suite"])
    accuracy = Accuracy(verdict=None, message=message("bench.not_judged"))
    if asked["judge"]:
        accuracy, _ = judge_first(target, suite, Path(asked["baseline_dir"]), progress)
    device: Any = target.device
    if asked["slowdown"]:
        device = _Slowed(device, asked["slowdown"])
    with opened(device, progress) as facts:
        text = bench_text(suite, target, facts)
        _say(
            answers,
            {
                "device": device.name,
                "model": target.subject.facts.name,
                "dtype": facts.declared_dtype,
                "machine": machine_fingerprint(facts.environment),
                "engine": facts.engine.told(),
                "environment": dict(facts.environment),
                "accuracy": accuracy.model_dump(),
                "max_positions": facts.max_positions,
            },
        )
        for line in lines:
            _say(answers, _answer(json.loads(line), device, text))


def _answer(order: dict[str, Any], device: Any, text: Text) -> dict[str, Any]:
    requests = requests_of(Cell.model_validate(order["cell"]), text)
    if order["do"] == "warm":
        walls: list[int] = []
        while not (stable := is_stable(walls)) and len(walls) < MOST_WARMUP:
            walls.append(run_once(device, requests).wall_ns)
        return {"stable": stable}
    return run_once(device, requests).model_dump(mode="json")


def _say(answers: TextIO, what: dict[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
