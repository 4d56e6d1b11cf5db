"""Two configurations on one host, in turn: A B B A, until the gate decides."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from harness.bench.gate import LOOKS, decided, judge_pairs, log_ratio
from harness.bench.result import Accuracy, Cell, Comparison, PairedCell, RepeatTimes, Side
from harness.devices.spec import DeviceSpec, parse_engine_args
from harness.errors import DeviceError, UsageError
from harness.files.timestamp import utc_now
from harness.messages.message import message
from harness.process.child import Child
from harness.process.progress import Progress
from harness.process.python import module_command, with_this_harness

#: Seconds that a side has for closing its engine.
CLOSING_S = 60.0


@dataclass(frozen=True)
class Configuration:
    """One side, as options of the command; ``python`` is the interpreter of
    another environment, which has the harness installed too.

    ``slowdown`` is for the benchmark of the gate: a share of each token's time
    that is added to it.
    """

    spec: DeviceSpec
    python: str = sys.executable
    slowdown: float = 0.0

    def options(self) -> str:
        """The options as they would be typed."""
        # The batch size belongs to the grid and is not an option of a side.
        parts = replace(self.spec, batch_size=1).options()
        parts += ["--python", self.python] if self.python != sys.executable else []
        return shlex.join(parts)


def parse_against(text: str, base: Configuration) -> Configuration:
    """``--against "--dtype float32 --engine-arg K=V"``: what differs from ``base``.

    Raises:
        UsageError: for an option that a configuration does not have.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    for name in ("--device", "--model", "--dtype", "--python"):
        parser.add_argument(name, default=argparse.SUPPRESS)
    parser.add_argument("--engine-arg", action="append", default=argparse.SUPPRESS)
    parser.add_argument("--trust-remote-code", action="store_true", default=argparse.SUPPRESS)
    try:
        changed = vars(parser.parse_args(shlex.split(text)))
    except ValueError as error:
        raise UsageError(f"--against {text!r}: {error}") from error
    pairs = changed.pop("engine_arg", [])
    if "device" in changed or pairs:  # another device has other arguments
        changed["engine_args"] = parse_engine_args(pairs)
    python = changed.pop("python", base.python)
    return replace(base, spec=replace(base.spec, **changed), python=python)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


@dataclass(frozen=True)
class Paired:
    """How to compare: the cells, and the longest total time in seconds."""

    cells: tuple[Cell, ...]
    suite: str = "mixed"
    baseline_dir: Path = Path("baselines")
    judge: bool = True
    budget_s: float = 900.0


def run_against(
    first: Configuration, second: Configuration, plan: Paired, progress: Progress
) -> Comparison:
    """Interleave both on this host and judge each cell.

    Raises:
        DeviceError: if a side does not start or fails.
    """
    with _worker(first, plan, progress) as a, _worker(second, plan, progress) as b:
        end = time.monotonic() + plan.budget_s
        cells = []
        for number, cell in enumerate(plan.cells):
            share = (end - time.monotonic()) / (len(plan.cells) - number)
            cells.append(_compare_cell(a, b, cell, max(share, 0.0), progress))
        return Comparison(
            created=utc_now(),
            first=a.side(first),
            second=b.side(second),
            cells=tuple(cells),
        )


def _compare_cell(
    a: _Worker, b: _Worker, cell: Cell, budget_s: float, progress: Progress
) -> PairedCell:
    for worker in (a, b):
        worker.ask("warm", cell)
    end = time.monotonic() + budget_s
    blocks: list[tuple[int, ...]] = []
    runs: list[tuple[RepeatTimes, RepeatTimes]] = []
    judgement = None
    with progress.stage(f"{cell.name}: blocks of pairs", LOOKS[-1]) as step:
        while judgement is None and (time.monotonic() < end or len(blocks) < 2):
            times = [RepeatTimes.model_validate(w.ask("run", cell)) for w in (a, b, b, a)]
            blocks.append(tuple(t.wall_ns for t in times))
            runs += [(times[0], times[1]), (times[3], times[2])]
            judgement = decided(_ratios(blocks))
            step()
    judged = judgement or judge_pairs(_ratios(blocks))
    counters = _differing(runs)
    outcome, said = judged.outcome, judged.message
    more = {name: pair for name, pair in counters.items() if pair[1] > pair[0]}
    if more and outcome != "REGRESSED":
        outcome = "REGRESSED"
        told = tuple(
            message("bench.counter", name=name, first=x, second=y) for name, (x, y) in more.items()
        )
        said = message("bench.counters", counters=told, clock=said)
    if judgement is None:
        said = message("bench.stopped", clock=said, seconds=budget_s)
    return PairedCell(
        cell=cell,
        blocks_ns=tuple(blocks),
        outcome=outcome,
        ratio=judged.ratio,
        low=judged.low,
        high=judged.high,
        detectable=judged.detectable,
        message=said,
        counters=counters,
    )


def _ratios(blocks: Sequence[Sequence[int]]) -> list[float]:
    return [log_ratio((t[0], t[3]), (t[1], t[2])) for t in blocks]


def _differing(runs: Sequence[tuple[RepeatTimes, RepeatTimes]]) -> dict[str, tuple[int, int]]:
    """Exact counts that both sides keep and that differ, in the last pair."""
    mine, theirs = runs[-1][0].counters, runs[-1][1].counters
    shared = mine.keys() & theirs.keys()
    return {k: (mine[k], theirs[k]) for k in sorted(shared) if mine[k] != theirs[k]}


class _Worker:
    """The parent's end of ``harness.bench.worker``."""

    def __init__(self, name: str, child: Child, asks: Any, answers: Any) -> None:
        self._name, self._child, self._asks, self._answers = name, child, asks, answers
        self._opened: dict[str, Any] = {}

    def begin(self, asked: dict[str, Any]) -> None:
        self._opened = self._exchange(asked)

    def ask(self, what: str, cell: Cell) -> dict[str, Any]:
        return self._exchange({"do": what, "cell": cell.model_dump()})

    def side(self, configuration: Configuration) -> Side:
        known = {k: self._opened[k] for k in ("device", "model", "dtype", "machine")}
        return Side(
            **known,
            options=configuration.options(),
            engine=self._opened["engine"],
            environment=self._opened["environment"],
            accuracy=Accuracy.model_validate(self._opened["accuracy"]),
        )

    def _exchange(self, what: dict[str, Any]) -> dict[str, Any]:
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self._asks.write(json.dumps(what) + "\n")
            self._asks.flush()
            line = self._answers.readline()
        if not line:
            status = self._child.process.wait()
            raise DeviceError(f"{self._name}: its process ended with status {status}; see above")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise DeviceError(f"{self._name}: {answer['error']}")
        return answer


@contextmanager
def _worker(side: Configuration, plan: Paired, progress: Progress) -> Iterator[_Worker]:
    """A process with that configuration, ended in every case."""
    asked_out, asked_in = os.pipe()
    told_out, told_in = os.pipe()
    progress.note(f"starting {side.options()}")
    try:
        child = Child(
            module_command(side.python, "harness.bench.worker", str(asked_out), str(told_in)),
            pass_fds=(asked_out, told_in),
            env=with_this_harness(os.environ),
            stdout=subprocess.DEVNULL,
        )
    except OSError as error:
        os.close(asked_in)
        os.close(told_out)
        raise UsageError(
            f"--python {side.python}: cannot be run ({error.strerror}); name the Python of an "
            "environment with the harness"
        ) from error
    finally:
        os.close(asked_out)
        os.close(told_in)
    try:
        with (
            os.fdopen(asked_in, "w", encoding="utf-8") as asks,
            os.fdopen(told_out, "r", encoding="utf-8") as answers,
        ):
            worker = _Worker(side.options(), child, asks, answers)
            worker.begin(
                asdict(side)
                | {
                    "suite": plan.suite,
                    "baseline_dir": str(plan.baseline_dir),
                    "judge": plan.judge,
                }
            )
            yield worker
    finally:
        # Its pipe is closed, so it ends by itself; an engine that takes longer is ended, and
        # what was measured stays.
        with child, contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(CLOSING_S)
