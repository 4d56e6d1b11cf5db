"""A device without a model, for tests of the harness and of users' own tools.

``FakeDevice`` computes logits from a hash of the context: a "true" row that
all fakes share, plus rounding to a dtype, plus noise that depends on the seed.
Two fakes with different seeds are two correct engines; the faults make a
broken one. It proves nothing about any hardware.
"""

from __future__ import annotations

import ctypes
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from harness.devices.base import Completion, Opened, Replay, Request, Stop, Timings, ignore_token
from harness.devices.facts import EngineFacts, LoadFigures
from harness.devices.kinds import kind_of
from harness.errors import DeviceError, UsageError
from harness.model.facts import ModelFacts
from harness.model.settings import GenerationSettings
from harness.model.subject import Subject
from harness.statistics.rows import row_statistics
from harness.suite.chat import PLAIN, ChatTemplate, Unsteady

#: Wide enough for the token ids of the shipped suites.
VOCABULARY = 40_960
MAX_POSITIONS = 4096
DTYPES = ("bfloat16", "float16", "float32")
_SCALE = 3.0
FAULTS = ("none", "scale", "nan", "inf", "unsteady", "hang", "stuck")
#: Noise of one rounding-error-like perturbation, in logits: of a narrow dtype, of float32.
_NOISE, _WIDE_NOISE = 0.05, 1e-6


class FakeDevice:
    """See the module.

    Args:
        dtype: ``bfloat16`` and ``float16`` add noise; ``float32`` adds a trace
            where it decodes, and none to a prefill.
        seed: which of the correct engines it is.
        fault: ``none``; ``scale`` multiplies the noise by 8; ``nan`` puts NaN
            into every eighth row; ``inf`` infinities;
            ``unsteady`` changes its bits on each run; ``hang`` waits for ever
            after the fourth token, ``stuck`` too, in native code that ignores
            signals.
        delay: seconds per token, so that a test can kill it in between.
    """

    def __init__(
        self,
        dtype: str = "bfloat16",
        seed: int = 0,
        fault: str = "none",
        delay: float = 0.0,
        name: str = "fake",
    ) -> None:
        if fault not in FAULTS:
            raise UsageError(f"fake has no fault {fault!r}: {', '.join(FAULTS)}")
        if dtype not in DTYPES:
            raise UsageError(f"fake has no dtype {dtype!r}: {', '.join(DTYPES)}")
        if not 0.0 <= delay < 60.0:
            raise UsageError(f"fake: a delay of {delay} seconds must be a number from 0 to 60")
        self.name, self.delay = name, delay
        self.dtype, self.seed, self.fault = dtype, seed, fault
        self._open = False
        self._runs = 0

    @classmethod
    def from_args(cls, name: str, dtype: str, args: Mapping[str, str]) -> FakeDevice:
        """From ``--engine-arg`` pairs: seed, fault, delay."""
        kind_of(name).check_engine_args(args)
        try:
            seed, delay = int(args.get("seed", "0")), float(args.get("delay", "0"))
        except ValueError as error:
            raise UsageError(f"fake: {error}") from error
        return cls(dtype, seed, args.get("fault", "none"), delay, name)

    def open(self) -> Opened:
        self._open = True
        return Opened(
            vocab_size=VOCABULARY,
            max_positions=MAX_POSITIONS,
            declared_dtype=self.dtype,
            engine=EngineFacts().with_facts({"seed": self.seed, "fault": self.fault}),
            environment={"numpy": np.__version__},
            load=LoadFigures(load_s=0.0),
        )

    def generate(
        self, requests: Sequence[Request], on_token: Callable[[], None] = ignore_token
    ) -> Iterator[Completion]:
        if not self._open:
            raise DeviceError("fake: generate before open")
        for request in requests:
            self._runs += 1
            yield self._complete(request, on_token)

    def close(self) -> None:
        self._open = False

    def _complete(self, request: Request, on_token: Callable[[], None]) -> Completion:
        start = time.monotonic()
        stamps: list[float] = []
        tokens: list[int] = []
        rows: list[NDArray[np.float32]] = []
        stop: Stop = "length" if request.forced_token_ids is None else "forced"
        forced = request.forced_token_ids
        random = None if request.sampling is None else self._random(request.sampling.seed)
        for t in range(request.max_new_tokens if forced is None else len(forced)):
            time.sleep(self.delay)
            if t == 4:
                self._wait_for_ever()
            rows.append(self._row((*request.prompt_token_ids, *tokens), request.replay))
            chosen = _greedy(rows[-1]) if random is None else _drawn(rows[-1], random, request)
            tokens.append(chosen if forced is None else forced[t])
            stamps.append(time.monotonic())
            if request.replay != "forced-prefill":
                on_token()
            if forced is None and tokens[-1] in request.stop_token_ids:
                stop = "eos"
                break
        if request.replay == "forced-prefill":
            on_token()
            stamps = stamps[-1:]
        block = np.stack(rows)
        return Completion(
            prompt_id=request.prompt_id,
            token_ids=tuple(tokens),
            stop=stop,
            rows=None if request.keep == "nothing" else row_statistics(block, request.detail),
            timings=Timings(
                stamps[0] - start,
                tuple(b - a for a, b in pairwise(stamps)),
                stamps[-1] - start,
            ),
            logits=block if request.keep == "full" else None,
        )

    def _wait_for_ever(self) -> None:
        if self.fault == "hang":
            time.sleep(3600)
        if self.fault == "stuck":
            library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
            library.pthread_mutex_lock(mutex)
            library.pthread_mutex_lock(mutex)

    def _random(self, seed: int) -> np.random.Generator:
        again = self._runs if self.fault == "unsteady" else 0
        return np.random.Generator(np.random.PCG64([seed, again]))

    def _row(self, context: tuple[int, ...], replay: Replay) -> NDArray[np.float32]:
        row = _SCALE * _normal(b"true", context)
        wide = self.dtype == "float32"
        if wide and replay == "forced-prefill":
            return row.astype(np.float32)
        size = (_WIDE_NOISE if wide else _NOISE) * (8.0 if self.fault == "scale" else 1.0)
        salt = f"{self.seed}/{self._runs if self.fault == 'unsteady' else 0}".encode()
        noisy = (row + size * _normal(salt, context)).astype(np.float32)
        if not wide:
            noisy = _rounded(noisy)
        if self.fault == "nan" and len(context) % 8 == 0:
            noisy[7] = np.nan
        if self.fault == "inf" and len(context) % 8 == 0:
            noisy[::2] = np.inf
        return noisy


#: What the fake's chat template writes the date for.
_DATE = "{date}"


class FakeTokenizer:
    """One token per byte, after 256 unused ones; chat messages are joined, and what the
    suite gives to the template stands before them. ``{date}`` in a message is today."""

    vocab_size = VOCABULARY
    template: str | None = "role: content"

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode("utf-8", "replace"))

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], chat: ChatTemplate = PLAIN
    ) -> tuple[int, ...]:
        day = f"{chat.date or datetime.now():%d %b %Y}"
        turns = [f"{m['role']}: {m['content'].replace(_DATE, day)}" for m in messages]
        return self.encode("\n".join([*(f"{k}: {v}" for k, v in chat.kwargs.items()), *turns]))

    def unsteady(
        self, messages: Sequence[Mapping[str, str]], chat: ChatTemplate = PLAIN
    ) -> Unsteady | None:
        dated = any(_DATE in m["content"] for m in messages)
        return "date" if dated and chat.date is None else None

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.piece(i) for i in ids)

    def piece(self, token_id: int) -> str:
        return chr(token_id) if 32 <= token_id < 127 else f"<{token_id}>"


def fake_subject() -> Subject:
    """The facts and the tokenizer that go with a FakeDevice."""
    facts = ModelFacts(
        name="fake",
        weights="0" * 64,
        parameters=0,
        weight_bytes=0,
        config={"vocab_size": VOCABULARY},
        tokenizer="1" * 64,
        template=None,
        vocab_size=VOCABULARY,
    )

    def settings(max_new_tokens: int, ignore_eos: bool) -> GenerationSettings:
        return GenerationSettings(
            max_new_tokens=max_new_tokens, ignore_eos=ignore_eos, eos_token_ids=(0,)
        )

    return Subject(facts, FakeTokenizer(), settings, {})


@lru_cache(maxsize=160)
def _normal(salt: bytes, context: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal numbers fixed by salt and context; not to be written to."""
    text = salt + b"|" + ",".join(map(str, context)).encode()
    seed = int.from_bytes(hashlib.sha256(text).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(VOCABULARY)


def _rounded(row: NDArray[np.float32]) -> NDArray[np.float32]:
    """To bfloat16 and back, ties to even, as hardware does."""
    bits = row.view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    kept = (bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)
    return np.asarray(kept.view(np.float32).copy())


def _drawn(row: NDArray[np.float32], random: np.random.Generator, request: Request) -> int:
    """By temperature; the fake has no use for top_p."""
    assert request.sampling is not None
    finite = np.where(np.isfinite(row), row, -np.inf).astype(np.float64)
    noise = random.gumbel(size=len(row))
    return int(np.argmax(finite / request.sampling.temperature + noise))


def _greedy(row: NDArray[np.float32]) -> int:
    return int(np.argmax(np.where(np.isfinite(row), row, -np.inf)))
