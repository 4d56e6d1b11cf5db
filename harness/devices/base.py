"""What a device is: open, generate rows, close."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.devices.facts import EngineFacts, EnvironmentValue, LoadFigures
from harness.devices.trace import Trace
from harness.errors import DeviceError
from harness.statistics.routes import Routes
from harness.statistics.rows import NORMAL, Detail, RowStatistics

Replay = Literal["free", "forced-decode", "forced-prefill"]
#: Why a run ended. ``eos`` and ``length`` are a normal end of a free run. The
#: words behind ``nonfinite`` are a server's own; ``none`` is its null, and
#: ``other`` any word that is not listed (``Completion.finish`` has it).
Stop = Literal[
    "eos",
    "length",
    "forced",
    "nonfinite",
    "abort",
    "content_filter",
    "tool_calls",
    "function_call",
    "error",
    "none",
    "other",
]
Keep = Literal["statistics", "full", "nothing"]

#: The token that is recorded for a row without any finite logit; a free run
#: stops there as ``nonfinite``. The row is kept and fails its gate.
NO_CHOICE = 0


@dataclass(frozen=True)
class Sampling:
    """How ``free`` draws tokens when it is not greedy: for smoke tests only.

    ``top_p`` keeps the likeliest tokens that together reach it. The same
    ``seed`` repeats on the same device, and says nothing across devices.
    """

    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True)
class Request:
    """One prompt to run.

    Attributes:
        prompt_id: the id of the prompt in its suite.
        prompt_token_ids: what the model is given, special tokens included.
        replay: how the tokens are chosen. ``free`` is greedy without ``sampling``.
        max_new_tokens: the most tokens that ``free`` generates.
        stop_token_ids: ids after which ``free`` stops; empty to ignore eos.
            The stopping token is part of the output.
        forced_token_ids: for the forced replays, the tokens that the rows are
            conditioned on: row t follows ``prompt + forced[:t]``, so there are
            as many rows as forced tokens. None for ``free``.
        keep: ``statistics`` keeps row statistics, ``full`` the rows as well,
            ``nothing`` neither (timing runs).
        sampling: how ``free`` draws tokens instead of taking the largest logit.
        detail: how much the statistics keep of a whole row.
    """

    prompt_id: str
    prompt_token_ids: tuple[int, ...]
    replay: Replay
    max_new_tokens: int
    stop_token_ids: tuple[int, ...] = ()
    forced_token_ids: tuple[int, ...] | None = None
    keep: Keep = "statistics"
    sampling: Sampling | None = None
    detail: Detail = NORMAL


@dataclass(frozen=True)
class Timings:
    """Clock readings of one request, in seconds, from a monotonic clock.

    ``ttft_s`` runs from the request's hand-over to its first token, ``itl_s``
    holds every gap between two tokens, ``e2e_s`` runs to the last token. A
    ``forced-prefill`` run has one pass only: ``ttft_s`` equals ``e2e_s`` and
    ``itl_s`` is empty.
    """

    ttft_s: float
    itl_s: tuple[float, ...]
    e2e_s: float


@dataclass(frozen=True)
class Completion:
    """The outcome of one request.

    Attributes:
        token_ids: generated tokens, or the forced ones.
        rows: statistics of one row per token, or None with ``keep="nothing"``.
        logits: float32, shape (tokens, vocabulary), with ``keep="full"`` only.
        text: the output of a device that names no tokens; ``token_ids`` is
            then empty and ``rows`` None.
        finish: with the stop ``other``, what the server called it.
        routes: of a mixture of experts, one for each row, and before them those of the prompt's
            earlier tokens, all or none; None where the device does not tell.
    """

    prompt_id: str
    token_ids: tuple[int, ...]
    stop: Stop
    rows: RowStatistics | None
    timings: Timings
    logits: NDArray[np.float32] | None = None
    text: str | None = None
    finish: str | None = None
    routes: Routes | None = None


@dataclass(frozen=True)
class Opened:
    """The facts that a device reports once its model is loaded.

    Attributes:
        vocab_size: width of a row.
        max_positions: longest prompt + output that the model takes.
        declared_dtype: the dtype that the model computes in, as ``bfloat16``.
        engine: what decides bits and is worth a column in a report: attention,
            threads, instruction set, matmul path. Of these only
            the quantizer is compared.
        environment: versions of libraries, processor, accelerator, driver.
        load: seconds and, where known, their parts and peak bytes.
        follow: the forced replay by which the device follows given tokens
            after its free run left them.
    """

    vocab_size: int
    max_positions: int
    declared_dtype: str
    engine: EngineFacts = field(default_factory=EngineFacts)
    environment: Mapping[str, EnvironmentValue] = field(default_factory=dict)
    load: LoadFigures = field(default_factory=LoadFigures)
    follow: Replay = "forced-decode"


def ignore_token() -> None:
    """An ``on_token`` that does nothing."""


def check_request(
    name: str, request: Request, vocab_size: int, max_positions: int, *, hint: str = ""
) -> None:
    """Check that a request fits the model, before anything is run.

    Args:
        name: of the device, for the message.
        hint: another remedy, beside a shorter prompt or output.

    Raises:
        DeviceError: naming the prompt and what does not fit.
    """
    where = f"{name}: prompt {request.prompt_id!r}"
    forced = request.forced_token_ids
    if (forced is None) != (request.replay == "free"):
        raise DeviceError(
            f"{where}: forced replays need forced tokens, and only they may have them"
        )
    if not request.prompt_token_ids or (forced is not None and not forced):
        raise DeviceError(
            f"{where}: at least one prompt token and one token to generate or force are needed"
        )
    ids = (*request.prompt_token_ids, *(forced or ()))
    if min(ids) < 0 or max(ids) >= vocab_size:
        raise DeviceError(
            f"{where}: token ids {min(ids)} to {max(ids)} do not fit a vocabulary of {vocab_size}"
        )
    length = len(ids) + (request.max_new_tokens if forced is None else 0)
    if length > max_positions:
        raise DeviceError(
            f"{where}: {length} tokens with the output, but {name} takes {max_positions}; "
            f"shorten the prompt or max_new_tokens{hint}"
        )


def check_length(
    name: str, prompt_id: str, ids: Sequence[int], vocab_size: int, max_positions: int
) -> None:
    """Check that tokens to be traced fit the model.

    Raises:
        DeviceError: naming the prompt and what does not fit.
    """
    if not ids or min(ids) < 0 or max(ids) >= vocab_size or len(ids) >= max_positions:
        raise DeviceError(
            f"{name}: prompt {prompt_id!r}: {len(ids)} token ids do not fit a vocabulary of "
            f"{vocab_size} and {max_positions} positions"
        )


@runtime_checkable
class TraceableDevice(Protocol):
    """A device whose model can be looked into (see ``harness.devices.trace``)."""

    def trace(self, sequences: Sequence[tuple[str, tuple[int, ...]]]) -> Iterator[Trace]: ...


@runtime_checkable
class LayeredDevice(Protocol):
    """A device that can take all requests through one layer after another.

    ``steps`` says how often ``generate`` calls ``on_token`` for a request. ``resume_in`` names a
    folder in which it may keep what it has done, and a digest of what must be equal for that to be
    gone on with; it makes the folder when it needs it, and removes it when it is done.
    """

    def steps(self, request: Request) -> int: ...

    def resume_in(self, folder: Path, job: str) -> None: ...


@runtime_checkable
class PreemptingDevice(Protocol):
    """A device whose engine tells how many requests have lost their cache so far."""

    def preemptions(self) -> int | None: ...


@runtime_checkable
class CountingDevice(Protocol):
    """A device whose engine counts its work: ``engine_steps``, ``scheduled_tokens`` and
    ``preemptions`` since the first call."""

    def counters(self) -> dict[str, int]: ...


@runtime_checkable
class Device(Protocol):
    """A named place where a model runs.

    ``open`` loads the model and is called once; ``generate`` yields each
    completion as soon as it is done, in any order, and calls ``on_token`` for
    every token (or, for ``forced-prefill``, every pass); ``close`` releases
    the model and may be called on a device that never opened.
    """

    name: str

    def open(self) -> Opened: ...

    def generate(
        self, requests: Sequence[Request], on_token: Callable[[], None] = ignore_token
    ) -> Iterator[Completion]: ...

    def close(self) -> None: ...
