"""Hugging Face Transformers as a device: ``hf-cpu``, ``hf-gpu``, ``hf-npu``.

Batch 1, greedy, with the logits of the forward pass itself: neither
``generate`` nor a logits processor nor generation_config.json has an influence.
"""

from __future__ import annotations

import gc
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from harness.devices.base import (
    NO_CHOICE,
    Completion,
    Opened,
    Replay,
    Request,
    Stop,
    Timings,
    check_length,
    check_request,
    ignore_token,
)
from harness.devices.causes import ROUNDINGS
from harness.devices.environment import environment, instruction_set, peak_rss_bytes
from harness.devices.facts import EngineFacts, LoadFigures
from harness.devices.hf.choice import chooser
from harness.devices.hf.hooks import Tracing
from harness.devices.hf.kept_states import InMemory, State, stages_done, states_in
from harness.devices.hf.load import AS_IT_IS, Taken, import_torch, load_model
from harness.devices.hf.matmul import (
    SPLIT,
    Matmul,
    has_half_gemm,
    split_linears,
    widened_linears,
)
from harness.devices.hf.on_disk import OnDisk
from harness.devices.hf.routers import Routers
from harness.devices.hf.seen import Chosen, Sketches
from harness.devices.hf.sensitivity import Sensitivity
from harness.devices.hf.stages import Pass, Stages
from harness.devices.hf.stored_head import stored_head
from harness.devices.hf.streamed_sensitivity import StreamedSensitivity, Streaming
from harness.devices.kinds import backends_of
from harness.devices.oracle import ChosenIds
from harness.devices.trace import Trace
from harness.errors import DeviceError, UsageError
from harness.model.dtype import DTYPES, check_dtype, checkpoint_dtype
from harness.model.hub import first_line
from harness.model.model import Model
from harness.model.reading import check_reading
from harness.process.memory import available_bytes
from harness.process.progress import Progress, Silent
from harness.statistics.routes import Routes, joined
from harness.statistics.rows import SKETCH_WIDTH, Detail, RowStatistics, concatenate, row_statistics

__all__ = ["BACKENDS", "DTYPES", "HfDevice", "checkpoint_dtype"]

#: Device name to torch's name of the backend.
BACKENDS = backends_of("transformers")

_CHUNK = 32  # rows widened to float32 at a time
_UNLIMITED = 2**31 - 1
#: What rounding does to each weight is kept in memory where it takes no more than this share
#: of what is available: computed again at each pass it takes most of the time.
_KEPT_SHARE = 0.75


class HfDevice:
    """A causal language model in Transformers.

    Args:
        name: ``hf-cpu``, ``hf-gpu`` or ``hf-npu``.
        model: the checkpoint.
        dtype: one of DTYPES; None takes the checkpoint's.
        attention: ``sdpa``, ``eager``, or another that Transformers knows; None
            takes SDPA where it computes this model, else eager.
        threads: of torch on the CPU; None leaves torch's choice.
        matmul: ``native``; ``widened``: matrix products in float32, rounded
            once to the dtype (see ``matmul``); ``auto``: widened in
            ``forced-prefill`` on a CPU unless it has a GEMM of the model's
            half-precision dtype, native otherwise; ``split-2``, ``split-3``: linear
            layers in so many parts that are rounded and added.
        taken: how it takes the checkpoint's weights.

    Raises:
        UsageError: if an argument makes no sense.
    """

    def __init__(
        self,
        name: str,
        model: Model,
        *,
        dtype: str | None = None,
        attention: str | None = None,
        threads: int | None = None,
        matmul: str = "auto",
        taken: Taken = AS_IT_IS,
    ) -> None:
        if name not in BACKENDS:
            raise UsageError(f"no Transformers device {name!r}; there are {', '.join(BACKENDS)}")
        check_dtype(dtype)
        if matmul not in get_args(Matmul):
            raise UsageError(f"matmul {matmul!r} is not one of {', '.join(get_args(Matmul))}")
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be at least 1, not {threads}")
        self.name = name
        self._source = model
        self._backend = BACKENDS[name]
        self._dtype = dtype
        self._attention = attention
        self._threads = threads
        self._matmul = matmul
        self._taken = taken
        self._stages: Stages | None = None
        self._on_disk: OnDisk | None = None
        self._resume: tuple[Path, str] | None = None
        self._warning: str | None = None
        self._threads_before: int | None = None
        self._torch: Any = None
        self._model: Any = None

    def open(self) -> Opened:
        """Load the model onto the device.

        Raises:
            MissingDependency: without torch, transformers, CUDA or torch_npu.
            DeviceError: if the model does not load, or with another RoPE base than
                config.json says.
            ModelError: if its config.json cannot be read.
            UnloadedWeights: if the model is not all of the checkpoint, or more.
        """
        started = time.perf_counter()
        self._torch = import_torch(self.name, self._backend)
        dtype = self._dtype or checkpoint_dtype(self._source)
        if self._threads is not None:
            self._threads_before = self._torch.get_num_threads()
            self._torch.set_num_threads(self._threads)
        loaded = load_model(
            self._torch,
            self._source,
            name=self.name,
            backend=self._backend,
            dtype=dtype,
            attention=self._attention,
            taken=self._taken,
        )
        self._model, self._warning = loaded.model, loaded.warning
        if self._taken.streamed:
            self._on_disk = OnDisk(self._torch, self._source, self._model, self._backend)
            self._stages = Stages(self._torch, self._model, self._on_disk)
        self._routers = Routers(self._model)
        self._widened_replays = self._choose_widened(dtype)
        config = self._model.config.get_text_config()
        check_reading(self.name, self._source, config)
        self._vocab_size = int(config.vocab_size)
        self._max_positions = int(getattr(config, "max_position_embeddings", None) or _UNLIMITED)
        # Code that comes with a checkpoint may be too old to know the argument.
        parameters = inspect.signature(self._model.forward).parameters
        self._keeps = "logits_to_keep" in parameters
        # The states of Mamba and its kin have a name of their own.
        own = "cache_params" in parameters and "past_key_values" not in parameters
        self._cache_name = "cache_params" if own else "past_key_values"
        self._synchronize()
        load = self._load_figures(time.perf_counter() - started)
        return Opened(
            vocab_size=self._vocab_size,
            max_positions=self._max_positions,
            declared_dtype=dtype,
            engine=self._engine(dtype),
            environment=environment(self._torch, self._backend),
            load=load,
        )

    def generate(
        self, requests: Sequence[Request], on_token: Callable[[], None] = ignore_token
    ) -> Iterator[Completion]:
        """Run the requests one after another, in their order.

        Raises:
            DeviceError: if the device is not open, a request does not fit the
                model, or the model fails.
        """
        if self._model is None:
            raise DeviceError(f"{self.name} is not open")
        if self._stages is not None:
            yield from self._by_layers(self._stages, requests, on_token)
            return
        for request in requests:
            check_request(self.name, request, self._vocab_size, self._max_positions)
            matmul = self._linears(request.replay)
            # Both contexts are left before the yield: the caller's own torch
            # code must not run inside them.
            try:
                with self._torch.inference_mode(), matmul:
                    if request.replay == "forced-prefill":
                        completion = self._one_pass(request, on_token)
                    else:
                        completion = self._step_by_step(request, on_token)
            except (RuntimeError, ValueError, TypeError) as error:
                raise self._failed(request, error) from error
            yield completion

    def steps(self, request: Request) -> int:
        """How often ``generate`` calls ``on_token`` for a request."""
        if request.replay == "forced-prefill":
            if self._stages is None:
                return 1
            return self._stages.count - stages_done(self._resume, request.prompt_id)
        forced = request.forced_token_ids
        return request.max_new_tokens if forced is None else len(forced)

    def resume_in(self, folder: Path, job: str) -> None:
        """Keep what streaming has done in a folder, and go on from what it holds of this job.

        Args:
            folder: made when it is needed.
            job: a digest of all that must be equal.
        """
        self._resume = (folder, job)

    def trace(self, sequences: Sequence[tuple[str, tuple[int, ...]]]) -> Iterator[Trace]:
        """One pass over each prompt id's tokens, recording every module's output.

        Raises:
            DeviceError: as ``generate``, and for a model of an unknown kind.
        """
        if self._model is None:
            raise DeviceError(f"{self.name} is not open")
        tracings = []
        for prompt_id, ids in sequences:
            check_length(self.name, prompt_id, ids, self._vocab_size, self._max_positions)
            tracing = Tracing(
                self._torch, self._model, self._backend, prompt_id, ids, self._vocab_size
            )
            tracings.append(tracing)
        if self._stages is None:
            for tracing in tracings:
                yield tracing.trace(self._traced(tracing))
            return
        passes = [Pass(t.prompt_id, partial(self._traced, t), {}) for t in tracings]
        widened = "forced-prefill" in self._widened_replays
        results = self._stages.run(passes, InMemory(), widened, ignore_token)
        for tracing, logits in zip(tracings, results, strict=True):
            yield tracing.trace(logits)

    def sensitivity(
        self,
        chosen: ChosenIds | None = None,
        buckets: int = SKETCH_WIDTH,
        progress: Progress | None = None,
    ) -> Sensitivity:
        """The open model, seen from its logits. It is this device's no more: its parameters
        ask for gradients.

        Args:
            chosen: the ids that are looked at in each row; sketches of whole rows without.
            buckets: of these sketches.
            progress: where streaming tells how far it is.

        Raises:
            DeviceError: if the device is not open, or not in float32 on the CPU.
        """
        if self._model is None:
            raise DeviceError(f"{self.name} is not open")
        if self._backend != "cpu" or self._model.dtype != self._torch.float32:
            raise DeviceError("gradients are taken in float32 on hf-cpu")
        sketches = Sketches(self._torch, self._vocab_size, buckets)
        seen = sketches if chosen is None else Chosen(self._torch, chosen)
        head = stored_head(self._model, Path(self._source.path))
        if self._stages is not None and self._on_disk is not None:
            return StreamedSensitivity(
                self._torch,
                self._model,
                self._vocab_size,
                Streaming(self._stages, self._on_disk, progress or Silent(), self._resume),
                stored_head=head,
                seen=seen,
            )
        return Sensitivity(
            self._torch,
            self._model,
            self._vocab_size,
            keep_rounded=self._has_room_for_rounded(),
            seen=seen,
            stored_head=head,
        )

    def _has_room_for_rounded(self) -> bool:
        """Whether what rounding does to each weight fits into memory, a byte each."""
        available = available_bytes()
        ends = (self._model.get_input_embeddings(), self._model.get_output_embeddings())
        own = {id(end.weight) for end in ends}
        takes = len(ROUNDINGS) * sum(
            p.numel() for p in self._model.parameters() if id(p) not in own
        )
        return available is None or takes <= _KEPT_SHARE * available

    def close(self) -> None:
        """Release the model; does nothing on a device that was never opened."""
        self._model = self._stages = self._on_disk = None
        if self._torch is None:
            return
        gc.collect()
        if self._backend != "cpu":
            getattr(self._torch, self._backend).empty_cache()
        if self._threads_before is not None:
            self._torch.set_num_threads(self._threads_before)
            self._threads_before = None
        self._torch = None

    def _step_by_step(self, request: Request, on_token: Callable[[], None]) -> Completion:
        """A prefill of the prompt, then one decode step per token."""
        record = _Record(request)
        choose = chooser(self._torch, request.sampling)
        forced = request.forced_token_ids
        count = request.max_new_tokens if forced is None else len(forced)
        stop: Stop = "length" if forced is None else "forced"
        cache: Any = None
        given: Sequence[int] = request.prompt_token_ids
        while len(record.token_ids) < count:
            logits, cache = self._forward(given, 1, cache)
            row = self._on_host(logits)[0]
            best = choose(row)
            if forced is not None:
                token = forced[len(record.token_ids)]
            else:
                token = NO_CHOICE if best is None else best
            record.add(token, row, self._routers.take())
            on_token()
            if forced is None and best is None:
                stop = "nonfinite"
                break
            if forced is None and token in request.stop_token_ids:
                stop = "eos"
                break
            given = (token,)
        return record.completion(stop)

    def _by_layers(
        self, stages: Stages, requests: Sequence[Request], on_token: Callable[[], None]
    ) -> Iterator[Completion]:
        """All requests through one layer after another.

        Raises:
            DeviceError: as ``generate``, and for another replay than ``forced-prefill``.
        """
        for request in requests:
            check_request(self.name, request, self._vocab_size, self._max_positions)
            if request.replay != "forced-prefill":
                raise DeviceError(
                    f"{self.name}: with weights=stream a token would cost a reading of all "
                    f"weights, so {request.replay} cannot be run; use --replay forced-prefill, "
                    "or for a baseline --context RECORDING"
                )
        spent = dict.fromkeys((r.prompt_id for r in requests), 0.0)
        passes = [self._pass(request, spent) for request in requests]
        with states_in(self._resume, self._backend) as states:
            widened = "forced-prefill" in self._widened_replays
            results = stages.run(passes, states, widened, on_token)
            for request, (logits, routes) in zip(requests, results, strict=True):
                yield self._completion(request, logits, routes, spent[request.prompt_id])

    def _pass(self, request: Request, spent: dict[str, float]) -> Pass:
        """A request's pass; each run of it adds to the seconds spent on it."""
        side: State = {}

        def run() -> Any:
            started = time.perf_counter()
            self._routers.recall(side)
            try:
                with self._torch.inference_mode(), self._linears("forced-prefill"):
                    logits = self._rows_of(request)
                return logits, self._routers.take()
            except (RuntimeError, ValueError, TypeError) as error:
                raise self._failed(request, error) from error
            finally:
                side.update(self._routers.told())
                spent[request.prompt_id] += time.perf_counter() - started

        return Pass(request.prompt_id, run, side)

    def _traced(self, tracing: Tracing) -> Any:
        """The logits of one pass with hooks."""
        try:
            with self._torch.inference_mode(), self._linears("forced-prefill"):
                return tracing.run()
        except (RuntimeError, ValueError, TypeError) as error:
            raise DeviceError(
                f"{self.name} failed on prompt {tracing.prompt_id!r} (trace): {first_line(error)}"
            ) from error

    def _rows_of(self, request: Request) -> Any:
        """The logits of one pass over the prompt and all but the last forced token."""
        forced = request.forced_token_ids or ()
        given = (*request.prompt_token_ids, *forced[:-1])
        logits, _ = self._forward(given, len(forced), None, use_cache=False)
        self._synchronize()
        return logits

    def _one_pass(self, request: Request, on_token: Callable[[], None]) -> Completion:
        """All rows from one pass."""
        started = time.perf_counter()
        logits = self._rows_of(request)
        seconds = time.perf_counter() - started
        routes = self._routers.take()
        on_token()
        return self._completion(request, logits, routes, seconds)

    def _completion(
        self, request: Request, logits: Any, routes: Routes | None, seconds: float
    ) -> Completion:
        """The outcome of one pass."""
        forced = request.forced_token_ids or ()
        return Completion(
            prompt_id=request.prompt_id,
            token_ids=tuple(forced),
            stop="forced",
            rows=None if request.keep == "nothing" else self._statistics(logits, request.detail),
            timings=Timings(ttft_s=seconds, itl_s=(), e2e_s=seconds),
            logits=self._on_host(logits) if request.keep == "full" else None,
            routes=None
            if request.keep == "nothing" or routes is None
            else routes.of(len(forced), len(request.prompt_token_ids)),
        )

    def _failed(self, request: Request, error: Exception) -> DeviceError:
        return DeviceError(
            f"{self.name} failed on prompt {request.prompt_id!r} "
            f"({request.replay}): {first_line(error)}"
        )

    def _statistics(self, logits: Any, detail: Detail) -> RowStatistics:
        """Statistics of many rows, a chunk at a time, spread over torch's threads."""
        workers = min(self._torch.get_num_threads(), _CHUNK)
        parts: list[RowStatistics] = []
        of = partial(row_statistics, detail=detail)
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(logits), _CHUNK):
                chunk = self._on_host(logits[start : start + _CHUNK])
                parts += pool.map(of, np.array_split(chunk, min(workers, len(chunk))))
        return concatenate(parts)

    def _forward(
        self, given: Sequence[int], keep: int, cache: Any, *, use_cache: bool = True
    ) -> tuple[Any, Any]:
        """Logits of the last ``keep`` positions, shape (keep, vocabulary), and the cache."""
        ids = self._torch.tensor([list(given)], device=self._backend)
        options: dict[str, Any] = {"logits_to_keep": keep} if self._keeps else {}
        # No attention mask: one sequence without padding needs none, and
        # without one the kernels may take their causal path.
        options[self._cache_name] = cache
        output = self._model(ids, use_cache=use_cache, **options)
        cache = getattr(output, self._cache_name)
        return output.logits[0, -keep:, : self._vocab_size], cache

    def _on_host(self, logits: Any) -> NDArray[np.float32]:
        """Raw logits widened to float32, which changes no value."""
        rows: NDArray[np.float32] = logits.float().cpu().numpy()
        return rows

    def _linears(self, replay: Replay) -> AbstractContextManager[None]:
        """How linear layers are computed in a replay, for as long as it is entered."""
        if self._matmul in SPLIT:
            return split_linears(self._torch, self._model, SPLIT[self._matmul])
        if replay in self._widened_replays:
            return widened_linears(self._torch, self._model)
        return nullcontext()

    def _choose_widened(self, dtype: str) -> frozenset[Replay]:
        """The replays whose matrix products are widened."""
        if self._matmul == "widened":
            return frozenset(get_args(Replay))
        on_cpu = self._backend == "cpu"
        if self._matmul == "auto" and on_cpu and not has_half_gemm(self._torch, dtype):
            return frozenset({"forced-prefill"})
        return frozenset()

    def _engine(self, dtype: str) -> EngineFacts:
        partial = len(self._widened_replays) == 1
        matmul = "widened" if self._widened_replays else "native"
        matmul = self._matmul if self._matmul in SPLIT else matmul
        return EngineFacts(
            device=self._backend,
            dtype=dtype,
            attention=str(getattr(self._model.config, "_attn_implementation", self._attention)),
            threads=int(self._torch.get_num_threads()),
            matmul=f"{matmul} in forced-prefill" if partial else matmul,
            float32_matmul_precision=str(self._torch.get_float32_matmul_precision()),
            instruction_set=instruction_set(self._torch, self._backend),
            qat_group_size=self._taken.qat_group_size,
            warning=self._warning,
        )

    def _load_figures(self, seconds: float) -> LoadFigures:
        weights = sum(p.numel() * p.element_size() for p in self._model.parameters())
        peak = None
        if self._backend != "cpu":
            peak = float(getattr(self._torch, self._backend).max_memory_allocated())
        return LoadFigures(
            load_s=seconds,
            weights_bytes=float(weights),
            peak_rss_bytes=peak_rss_bytes(),
            peak_device_bytes=peak,
        )

    def _synchronize(self) -> None:
        if self._backend != "cpu":
            getattr(self._torch, self._backend).synchronize()


class _Record:
    """The tokens, rows and clock readings of a run, as they come."""

    def __init__(self, request: Request) -> None:
        self.token_ids: list[int] = []
        self._request = request
        self._rows: list[RowStatistics] = []
        self._logits: list[NDArray[np.float32]] = []
        self._routes: list[Routes] = []
        self._stamps = [time.perf_counter()]

    def add(self, token: int, row: NDArray[np.float32], routes: Routes | None) -> None:
        # Stamped first: the statistics of a row delay the next token, not this one.
        self._stamps.append(time.perf_counter())
        self.token_ids.append(token)
        if self._request.keep != "nothing":
            self._rows.append(row_statistics(row, self._request.detail))
            self._routes += [] if routes is None else [routes]
        if self._request.keep == "full":
            self._logits.append(row)

    def completion(self, stop: Stop) -> Completion:
        gaps = np.diff(self._stamps).tolist() or [time.perf_counter() - self._stamps[0]]
        full = self._request.keep == "full" and self._logits
        routes = joined(self._routes) if len(self._routes) == len(self._rows) else None
        prompt = len(self._request.prompt_token_ids)
        return Completion(
            prompt_id=self._request.prompt_id,
            token_ids=tuple(self.token_ids),
            stop=stop,
            rows=None if self._request.keep == "nothing" else concatenate(self._rows),
            timings=Timings(gaps[0], tuple(gaps[1:]), sum(gaps)),
            logits=np.stack(self._logits) if full else None,
            routes=None if routes is None else routes.of(len(self._rows), prompt),
        )
