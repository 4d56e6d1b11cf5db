"""Requests of the harness as requests of the engine, and back to completions."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.devices.base import NO_CHOICE, Completion, Request, Stop, Timings
from harness.devices.vllm.capture import Captured, Order, collect
from harness.statistics.routes import Routes, joined
from harness.statistics.rows import Detail, RowStatistics, concatenate, row_statistics

MakeOrder = Callable[[bool, "tuple[int, ...] | None"], Order]


class Part:
    """One request of the engine.

    Attributes:
        job: the request of the harness that it belongs to.
        started: when it was handed over, seconds of the monotonic clock.
        token_ids: tokens that the engine has chosen so far.
        arrived: when each of them came, seconds of the same clock.
    """

    def __init__(
        self, job: Job, prompt_token_ids: tuple[int, ...], max_tokens: int, order: Order
    ) -> None:
        self.job = job
        self.prompt_token_ids = prompt_token_ids
        self.max_tokens = max_tokens
        self.order = order
        self.stop_token_ids = job.request.stop_token_ids if job.request.replay == "free" else ()
        self.started = 0.0
        self.token_ids: tuple[int, ...] = ()
        self.arrived: list[float] = []

    def follow(self, output: Any, on_token: Callable[[], None]) -> None:
        """Take the engine's output for this request after a step."""
        before = len(self.token_ids)
        self.token_ids = tuple(output.outputs[0].token_ids)
        self.arrived += [time.monotonic()] * (len(self.token_ids) - before)
        if self.job.request.replay != "forced-prefill":
            for _ in range(len(self.token_ids) - before):
                on_token()
        if output.finished:
            self.job.unfinished -= 1
            self.job.ended = time.monotonic()
            if self.job.finished and self.job.request.replay == "forced-prefill":
                on_token()


class Job:
    """One request of the harness.

    ``free`` and ``forced-decode`` are one request of the engine. Its
    processors see no rows of a prompt, so ``forced-prefill`` is one for each
    token: the row after ``prompt + forced[:t]``.

    Args:
        make_order: called with whether rows are kept, and the tokens to force.
        same_clock: whether the worker that stamps rows reads this host's clock.
    """

    def __init__(self, request: Request, make_order: MakeOrder, *, same_clock: bool = True) -> None:
        self.request = request
        self._same_clock = same_clock
        rows = request.keep != "nothing"
        prompt, forced = request.prompt_token_ids, request.forced_token_ids
        if forced is None:
            self.parts = [Part(self, prompt, request.max_new_tokens, make_order(rows, None))]
        elif request.replay == "forced-decode":
            self.parts = [Part(self, prompt, len(forced), make_order(rows, forced))]
        else:
            self.parts = [
                Part(self, (*prompt, *forced[:t]), 1, make_order(rows, None))
                for t in range(len(forced))
            ]
        self.unfinished = len(self.parts)
        self.ended = 0.0

    @property
    def finished(self) -> bool:
        return self.unfinished == 0

    def completion(self, pool: Executor) -> Completion:
        """The completion, once the request is finished.

        Raises:
            DeviceError: if the worker has not written every row.
        """
        captured = [collect(part.order, len(part.token_ids)) for part in self.parts]
        blocks = [each.rows for each in captured if each.rows is not None]
        logits = np.concatenate(blocks) if blocks else None
        rows = None if logits is None else _statistics(logits, pool, self.request.detail)
        tokens, stop = self._outcome(rows)
        n = len(tokens)
        return Completion(
            prompt_id=self.request.prompt_id,
            token_ids=tokens,
            stop=stop,
            rows=None if rows is None else rows[:n],
            timings=self._timings(self._stamps(captured[0])[:n]),
            logits=logits[:n] if logits is not None and self.request.keep == "full" else None,
            routes=self._routes(captured, n),
        )

    def _routes(self, captured: list[Captured], n: int) -> Routes | None:
        """Those of the first n rows, and of the prompt where the engine computed all of it."""
        routes = [Routes(each.routes[:n]) for each in captured if each.routes is not None]
        before = captured[0].before
        if len(routes) < len(captured) or before is None:
            return None
        known = joined(routes if not len(before) else [Routes(before), *routes])
        return None if known is None else known.of(n, len(self.request.prompt_token_ids))

    def _outcome(self, rows: RowStatistics | None) -> tuple[tuple[int, ...], Stop]:
        if self.request.forced_token_ids is not None:
            return self.request.forced_token_ids, "forced"
        tokens = self.parts[0].token_ids
        if rows is not None:
            # The engine goes on after a row without a finite logit.
            empty = np.flatnonzero(rows.top_ids[:, 0] < 0)
            if len(empty):
                return (*tokens[: empty[0]], NO_CHOICE), "nonfinite"
        return tokens, "eos" if tokens[-1] in self.request.stop_token_ids else "length"

    def _stamps(self, captured: Captured) -> tuple[float, ...]:
        """When each token was there: as its worker stamped it, or else as it came here."""
        return captured.stamps if self._same_clock else tuple(self.parts[0].arrived)

    def _timings(self, stamps: tuple[float, ...]) -> Timings:
        started = self.parts[0].started
        if self.request.replay == "forced-prefill":
            return Timings(self.ended - started, (), self.ended - started)
        gaps = tuple(later - earlier for earlier, later in pairwise(stamps))
        return Timings(stamps[0] - started, gaps, stamps[-1] - started)


def _statistics(logits: NDArray[np.float32], pool: Executor, detail: Detail) -> RowStatistics:
    """Of every row, spread over the pool's threads: NumPy lets them run side by side."""
    return concatenate(list(pool.map(partial(row_statistics, detail=detail), logits)))
