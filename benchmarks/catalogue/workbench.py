"""hf-cpu with its model kept loaded, broken or run otherwise for a recording."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.catalogue.faults import Injection
from benchmarks.catalogue.passes import Pass, Stacked, States, clean_states, completion, given
from harness.devices.base import Completion, Opened, Replay, Request, ignore_token
from harness.devices.hf.device import HfDevice
from harness.devices.hf.matmul import Matmul, widened_linears
from harness.model.find import find_model
from harness.recording.format import PromptRecord, Recording, Run

#: What an engine makes of a prompt without saying so.
Edit = Callable[[tuple[int, ...]], tuple[int, ...]]


class Workbench(HfDevice):
    """hf-cpu; ``close`` keeps the model for the next recording.

    The attributes say how the next recording is run: with what fault, over
    which passes (None: as hf-cpu does), and, over passes, on what the prompts
    are ``edit``-ed to and with what repetition penalty over the choices.
    """

    def __init__(self, dtype: str | None = None, model: str = "smollm2") -> None:
        super().__init__("hf-cpu", find_model(model), dtype=dtype)
        self.facts: Opened | None = None
        self.injection: Injection | None = None
        self.passes: Pass | None = None
        self.edit: Edit | None = None
        self.penalty: float | None = None
        self.choices: dict[str, NDArray[np.int64]] = {}
        self._states: dict[int, States] = {}

    def open(self) -> Opened:
        if self.facts is None:
            self.facts = super().open()
        return self.facts

    def close(self) -> None:
        """Nothing: ``discard`` releases the model."""

    def discard(self) -> None:
        super().close()

    @property
    def model(self) -> Any:
        """The loaded model."""
        return self._model

    def set_matmul(self, matmul: Matmul) -> None:
        """As of the next request."""
        self._matmul = matmul
        self._widened_replays = self._choose_widened(self.open().declared_dtype)

    def resume(
        self, since: int, requests: Sequence[Request], batch: int = 6, file: Path | None = None
    ) -> Stacked:
        """A prefill from a layer on, over the unbroken states before it, which
        ``file`` keeps for other processes."""
        if batch not in self._states:
            self._states[batch] = self._kept(file, requests, batch)
        return Stacked(batch, since, self._states[batch])

    def _kept(self, file: Path | None, requests: Sequence[Request], batch: int) -> States:
        asked = [given(r) for r in requests]
        if file is not None and file.exists():
            kept = self._torch.load(file, weights_only=True)
            if kept["asked"] == asked:
                return list(kept["states"])
        with self._matmul_of("forced-prefill"):
            states = clean_states(self._torch, self._model, requests, batch)
        if file is not None:
            part = file.with_suffix(f".{os.getpid()}")
            self._torch.save({"asked": asked, "states": states}, part)
            part.replace(file)
        return states

    def generate(
        self, requests: Sequence[Request], on_token: Callable[[], None] = ignore_token
    ) -> Iterator[Completion]:
        self.choices = {}
        fault: Any = nullcontext()
        if self.injection is not None:
            fault = self.injection(self._torch, self._model)
        with fault:
            if self.passes is None:
                yield from super().generate(requests, on_token)
            else:
                edited = [self._edited(r) for r in requests]
                yield from self._otherwise(self.passes, edited, on_token)

    def _matmul_of(self, replay: Replay) -> Any:
        """As hf-cpu multiplies in this replay."""
        if replay in self._widened_replays:
            return widened_linears(self._torch, self._model)
        return nullcontext()

    def _edited(self, request: Request) -> Request:
        if self.edit is None:
            return request
        return replace(request, prompt_token_ids=self.edit(request.prompt_token_ids))

    def _otherwise(
        self, passes: Pass, requests: Sequence[Request], on_token: Callable[[], None]
    ) -> Iterator[Completion]:
        started = time.perf_counter()
        with self._torch.inference_mode(), self._matmul_of(requests[0].replay):
            for request, found in passes(self._torch, self._model, requests):
                on_token()
                logits = found[:, : self._vocab_size]
                if self.penalty is not None:
                    rows = self._on_host(logits)
                    self.choices[request.prompt_id] = penalized(rows, request, self.penalty)
                yield completion(request, self._statistics(logits, request.detail), started)
                started = time.perf_counter()


def penalized(logits: NDArray[np.float32], request: Request, penalty: float) -> NDArray[np.int64]:
    """The greedy choices, int64 (n,), under a repetition penalty (Keskar et al.
    2019, as in Transformers): logits of tokens that stand in prompt or output
    are divided by it where positive and multiplied where negative."""
    seen = set(request.prompt_token_ids)
    chosen = []
    for row, token in zip(logits, request.forced_token_ids or (), strict=True):
        ids = np.array(sorted(seen))
        changed = row.copy()
        changed[ids] = np.where(row[ids] > 0, row[ids] / penalty, row[ids] * penalty)
        chosen.append(int(np.argmax(changed)))
        seen.add(token)
    return np.array(chosen, dtype=np.int64)


def with_choices(recording: Recording, choices: dict[str, NDArray[np.int64]]) -> Recording:
    """The recording as an engine would have left it that chose ``choices`` and
    recorded raw logits: a free run to the first other token, and a replay."""
    prompts = tuple(_with_choice(p, choices[p.id]) for p in recording.prompts)
    return recording.model_copy(update={"prompts": prompts})


def _with_choice(prompt: PromptRecord, chosen: NDArray[np.int64]) -> PromptRecord:
    forced = prompt.forced
    assert forced is not None
    other = np.flatnonzero(chosen != np.array(forced.token_ids))
    n = int(other[0]) + 1 if other.size else len(forced.token_ids)
    tokens = tuple(int(t) for t in (*forced.token_ids[: n - 1], chosen[n - 1]))
    free = Run(
        replay="free",
        token_ids=tokens,
        text="",
        stop="length",
        margins=forced.margins[:n],
        timings=forced.timings,
        rows=forced.rows[:n],
    )
    return prompt.model_copy(update={"free": free, "forced": forced if other.size else None})
