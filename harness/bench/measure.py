"""Measuring one opened device: warm until stable, then repeats without rows."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.bench import machine
from harness.bench.result import Cell, CellTimes, RepeatTimes, RequestTimes
from harness.devices.base import Completion, Device, Request
from harness.errors import DeviceError

#: Warm-up ends when this many runs in a row agree within STABLE_WITHIN.
STABLE_RUNS = 3
STABLE_WITHIN = 1.05
MOST_WARMUP = 8


@dataclass(frozen=True)
class Text:
    """The source of prompts: token ids of a suite, end to end.

    Real text, so that nothing is unusually easy; every request of a batch
    starts elsewhere in it, so that no prefix is shared.
    """

    token_ids: tuple[int, ...]

    def prompt(self, length: int, number: int) -> tuple[int, ...]:
        """``length`` ids for the request ``number`` of a batch."""
        start = number * 131  # a prime: few batches meet the same start again
        n = len(self.token_ids)
        return tuple(self.token_ids[(start + i) % n] for i in range(length))


def requests_of(cell: Cell, text: Text) -> list[Request]:
    """The requests of one run of a cell. They keep no rows and ignore eos."""
    return [
        Request(
            prompt_id=f"bench-{number}",
            prompt_token_ids=text.prompt(cell.prompt_tokens, number),
            replay="free",
            max_new_tokens=cell.output_tokens,
            keep="nothing",
        )
        for number in range(cell.batch_size)
    ]


def run_once(device: Device, requests: Sequence[Request]) -> RepeatTimes:
    """Hand the requests over together and time them.

    Raises:
        DeviceError: if the device fails, or leaves a request unanswered.
    """
    before = counters(device)
    started = time.perf_counter_ns()
    done = list(device.generate(requests))
    wall = time.perf_counter_ns() - started
    if len(done) != len(requests):
        raise DeviceError(f"{device.name}: answered {len(done)} of {len(requests)} requests")
    done.sort(key=lambda c: c.prompt_id)
    after = counters(device)
    counted = {name: after[name] - before.get(name, 0) for name in after}
    counted["output_tokens"] = sum(len(c.token_ids) for c in done)
    peak = machine.peak_device_bytes(sys.modules.get("torch"))
    if peak is not None:
        counted["peak_allocated_bytes"] = peak
    return RepeatTimes(
        wall_ns=wall,
        requests=tuple(map(_times, done)),
        tokens=_digest(done),
        counters=counted,
    )


def counters(device: Device) -> dict[str, int]:
    """Exact counts that a device keeps of its own work; only vLLM devices have them."""
    own: Callable[[], dict[str, int]] | None = getattr(device, "counters", None)
    return {} if own is None else dict(own())


def measure_cell(
    device: Device,
    cell: Cell,
    text: Text,
    repeats: int,
    *,
    finished: Sequence[RepeatTimes] = (),
    on_repeat: Callable[[CellTimes], None] = lambda _: None,
) -> CellTimes:
    """Warm up until stable, then repeat.

    Args:
        finished: repeats of an earlier, interrupted run.
        on_repeat: called with what there is after each repeat.

    Raises:
        DeviceError: if the device fails on the very first run.
    """
    requests = requests_of(cell, text)
    warmup: list[int] = []
    while not (stable := is_stable(warmup)) and len(warmup) < MOST_WARMUP:
        warmup.append(run_once(device, requests).wall_ns)
    machine.forget_peak()
    times = CellTimes(
        cell=cell, warmup_ns=tuple(warmup), stable=stable, repeats=tuple(finished)[:repeats]
    )
    while len(times.repeats) < repeats:
        done = run_once(device, requests)
        times = times.model_copy(
            update={
                "repeats": (*times.repeats, done),
                "peak_host_bytes": machine.peak_host_bytes(),
                "peak_device_bytes": machine.peak_device_bytes(sys.modules.get("torch")),
            }
        )
        on_repeat(times)
    return times


def is_stable(walls: Sequence[int]) -> bool:
    """Whether the last runs agree, so that what follows is warm."""
    last = walls[-STABLE_RUNS:]
    return len(last) == STABLE_RUNS and max(last) <= STABLE_WITHIN * min(last)


def _times(done: Completion) -> RequestTimes:
    return RequestTimes(
        ttft_ns=round(done.timings.ttft_s * 1e9),
        itl_ns=tuple(round(gap * 1e9) for gap in done.timings.itl_s),
        e2e_ns=round(done.timings.e2e_s * 1e9),
    )


def _digest(done: Sequence[Completion]) -> str:
    text = ";".join(",".join(map(str, c.token_ids)) for c in done)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
