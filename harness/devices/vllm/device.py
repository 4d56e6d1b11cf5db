"""The vLLM engine as a device: ``npu`` (through vLLM-Ascend), ``vllm-cpu``, ``vllm-gpu``.

Greedy, and the raw logits of every step taken from the worker (see
``worker``): neither generation_config.json nor vLLM's own eos has an influence.
"""

from __future__ import annotations

import gc
import itertools
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.devices.base import (
    Completion,
    Opened,
    Request,
    check_length,
    check_request,
    ignore_token,
)
from harness.devices.ranks import Ranks
from harness.devices.trace import Trace
from harness.devices.vllm import ray
from harness.devices.vllm.bring import bring
from harness.devices.vllm.capture import Order
from harness.devices.vllm.cause import reason
from harness.devices.vllm.environment import (
    WorkerFacts,
    differing,
    engine_facts,
    environment,
    load_figures,
    of_all,
)
from harness.devices.vllm.jobs import Job, Part
from harness.devices.vllm.load import (
    PLATFORMS,
    check_platform,
    import_vllm,
    typed_arguments,
)
from harness.devices.vllm.log import LOAD_LOG
from harness.devices.vllm.process import EngineWatch, OwnProcess, Waker, without_main
from harness.devices.vllm.refused import check_alone, check_ranks, check_rows
from harness.devices.vllm.spool import Spool, own_folder
from harness.devices.vllm.trace import trace_engine
from harness.errors import DeviceError, HarnessError, UsageError
from harness.model.dtype import check_dtype, checkpoint_dtype
from harness.model.model import Model
from harness.model.reading import check_reading
from harness.process.progress import Progress, Silent

__all__ = ["PLATFORMS", "VllmDevice"]

# An import path, as vLLM takes it: its workers may be other processes.
_EXTENSION = "harness.devices.vllm.worker.HarnessWorker"
#: Arguments that change on purpose what the engine reads of config.json.
_OVERRIDES = ("hf_overrides", "hf_config_path", "rope_theta", "rope_scaling", "config_format")
#: Seconds for workers on other hosts to remove what they wrote.
_LEAVE_S = 5.0
_LONGER = ", or raise --engine-arg max_model_len"


class VllmDevice:
    """A causal language model in vLLM's offline engine.

    Args:
        name: ``npu``, ``vllm-cpu`` or ``vllm-gpu``.
        model: the checkpoint.
        dtype: one of DTYPES; None takes the checkpoint's.
        batch_size: how many requests run at a time.
        engine_args: arguments of vLLM's engine, as text; they win over the
            defaults that parity needs.
        progress: for an argument that the engine did not take.

    Raises:
        UsageError: if an argument makes no sense.
    """

    #: How many this process has started.
    _engines = 0

    def __init__(
        self,
        name: str,
        model: Model,
        *,
        dtype: str | None = None,
        batch_size: int = 1,
        engine_args: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        if name not in PLATFORMS:
            raise UsageError(f"no vLLM device {name!r}; there are {', '.join(PLATFORMS)}")
        check_dtype(dtype)
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {batch_size}")
        self.name = name
        self._source = model
        self._dtype = dtype
        self._batch_size = batch_size
        self._engine_args = dict(engine_args or {})
        self._ranks = Ranks.of(self._engine_args)
        check_ranks(name, self._ranks)
        self._progress = progress or Silent()
        self._vllm: Any = None
        self._llm: Any = None
        self._started = False
        self._spool: Spool | None = None
        self._numbers = itertools.count()
        self._routed = 0
        self._same_clock = True
        self._before: OwnProcess | None = None
        self._watch: EngineWatch | None = None
        self._waker: Waker | None = None
        self._ray: Any = None

    def open(self) -> Opened:
        """Start the engine and load the model.

        Raises:
            MissingDependency: without vLLM.
            DeviceError: if vLLM is on another platform, does not start, or reads
                another RoPE base than config.json says.
            UsageError: for an engine argument that vLLM does not know, or under
                which rows are not the model's raw logits.
        """
        started = time.perf_counter()
        self._before = OwnProcess()
        dtype = self._dtype or checkpoint_dtype(self._source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of vLLM's imports are vLLM's
            torch, self._vllm = import_vllm(self.name, self._engine_args)
            self._before.remember(torch)
            check_platform(self.name, self._vllm)
            asked = typed_arguments(self.name, self._engine_args)
            workers = self._ranks.several
            check_rows(self.name, asked, os.environ, workers=workers)
            check_alone(self.name, os.environ, VllmDevice._engines, workers=workers)
            self._spool = Spool()
            each = self._start_engine(dtype, asked)
            worker = of_all(each, LOAD_LOG.seconds)
            self._same_clock = not any(one.get("on_another_host") for one in each)
        config = self._llm.llm_engine.vllm_config
        if not any(asked.get(key) for key in _OVERRIDES):
            check_reading(self.name, self._source, config.model_config.hf_text_config)
        self._vocab_size = int(config.model_config.get_vocab_size())
        self._max_positions = int(config.model_config.max_model_len)
        watched = self._batch_size == 1 and bool(config.model_config.enforce_eager)
        watched = watched and self._ranks.pipeline == 1  # a stage knows its own layers only
        self._routed = worker.get("routed_layers", 0) if watched else 0
        engine = engine_facts(config, worker, self._engine_args, self._batch_size, asked)
        if engine.warning is not None:
            self._progress.note(f"{self.name}: warning: {engine.warning}")
        return Opened(
            vocab_size=self._vocab_size,
            max_positions=self._max_positions,
            declared_dtype=dtype,
            engine=engine,
            environment=environment(self.name, torch, self._vllm, worker) | differing(each),
            load=load_figures(time.perf_counter() - started, config, worker),
        )

    def generate(
        self, requests: Sequence[Request], on_token: Callable[[], None] = ignore_token
    ) -> Iterator[Completion]:
        """Run the requests, ``batch_size`` at a time; each is yielded when it is done.

        Raises:
            DeviceError: if the device is not open, a request does not fit the
                model, or the engine fails.
        """
        if self._llm is None:
            raise DeviceError(f"{self.name} is not open")
        for request in requests:
            check_request(self.name, request, self._vocab_size, self._max_positions, hint=_LONGER)
        jobs = (Job(each, self._order, same_clock=self._same_clock) for each in requests)
        waiting = (part for job in jobs for part in job.parts)
        running: dict[str, Part] = {}
        finished: deque[Future[Completion]] = deque()
        failure: DeviceError | None = None
        with self._threads(None) as pool, self._threads(1) as finisher:
            try:
                while True:
                    try:
                        if not self._hand_over(waiting, running):
                            break
                        done = self._advance(running, on_token)
                    except DeviceError as error:
                        failure = error  # what is finished is kept
                        break
                    finished.extend(finisher.submit(job.completion, pool) for job in done)
                    # At batch 1 the next request waits, so that its clock is undisturbed.
                    while finished and (self._batch_size == 1 or finished[0].done()):
                        yield finished.popleft().result()
                while finished:
                    yield finished.popleft().result()
            finally:
                self._abort(running)
        if failure is not None:
            raise failure

    def trace(self, sequences: Sequence[tuple[str, tuple[int, ...]]]) -> Iterator[Trace]:
        """One prefill of each prompt id's tokens, with every module's output.

        Raises:
            DeviceError: if the device is not open, runs graphs or caches
                prefixes, if a prompt does not fit, or the engine fails.
        """
        if self._llm is None or self._spool is None:
            raise DeviceError(f"{self.name} is not open")
        for prompt_id, ids in sequences:
            check_length(self.name, prompt_id, ids, self._vocab_size, self._max_positions)
        yield from trace_engine(self.name, self._vllm, self._llm, self._spool.folder, sequences)

    def counters(self) -> dict[str, int]:
        """Steps, scheduled tokens and preemptions since the first call.

        Raises:
            DeviceError: if the device is not open.
        """
        if self._llm is None:
            raise DeviceError(f"{self.name} is not open")
        found: dict[str, int] = self._llm.collective_rpc("harness_counters")[0]
        return found

    def close(self) -> None:
        """Stop the engine; does nothing on a device that was never opened."""
        if self._waker is not None:
            self._waker.close()
            self._waker = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._llm is not None:
            core = self._llm.llm_engine.engine_core
            if self._ray is not None and self._why_dead() is None:
                with suppress(Exception):
                    self._llm.collective_rpc("harness_leave", timeout=_LEAVE_S)
            self._llm = None
            with suppress(Exception):  # an engine that died on its own
                core.shutdown()
            del core
            gc.collect()
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None
        if self._started:
            from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

            cleanup_dist_env_and_memory()
            self._started = False
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        if self._before is not None:
            self._before.restore()
            self._before = None

    def _start_engine(self, dtype: str, asked: Mapping[str, Any]) -> list[WorkerFacts]:
        """Make the engine; the facts of each of its workers."""
        self._started = True
        VllmDevice._engines += 1
        try:
            LOAD_LOG.install(own_folder())
            assert self._before is not None
            if self._ranks.by_ray:
                self._ray = ray.start(self.name, self._ranks)
            self._watch = EngineWatch(self._before.new_children)
            with without_main():
                self._llm = self._vllm.LLM(**self._arguments(dtype, asked))
            self._watch.attach(self._llm.llm_engine.engine_core)
            self._waker = Waker(self._why_dead) if self._ranks.by_ray else None
            if self._ranks.pipeline > 1:
                self._llm.collective_rpc("harness_make_ready")
            each: list[WorkerFacts] = self._llm.collective_rpc("harness_facts")
        except HarnessError:
            raise
        except Exception as error:  # vLLM and its back ends may raise any error here
            raise DeviceError(
                f"{self.name}: vLLM {self._vllm.__version__} does not start with the model "
                f"{self._source.name!r} in {dtype}: {self._why(error)}"
            ) from error
        return each

    def _arguments(self, dtype: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults that parity needs, overridden by the user's arguments."""
        # A class and no path: so the engine's own process imports its module too, before it
        # starts, and says why it ends. It imports torch and vLLM.
        from harness.devices.vllm.worker import CaptureRows

        defaults: dict[str, Any] = {
            "model": self._source.path,
            "trust_remote_code": self._source.trust_remote_code,
            "dtype": dtype,
            "seed": 0,
            "max_num_seqs": self._batch_size,
            "enforce_eager": True,
            "enable_prefix_caching": False,
            "async_scheduling": False,
            "generation_config": "vllm",
            "skip_tokenizer_init": True,  # prompts come and go as token ids
            "use_tqdm_on_load": False,
            "worker_extension_cls": _EXTENSION,
        }
        merged = defaults | dict(asked)
        return merged | {
            "logits_processors": [CaptureRows, *(asked.get("logits_processors") or ())]
        }

    def _hand_over(self, waiting: Iterator[Part], running: dict[str, Part]) -> bool:
        """Fill the batch; whether there is anything to run."""
        for part in itertools.islice(waiting, self._batch_size - len(running)):
            self._start(part, running)
        return bool(running)

    def _advance(self, running: dict[str, Part], on_token: Callable[[], None]) -> list[Job]:
        """Take one step; the jobs that it finished."""
        jobs = []
        for output in self._step(running):
            part = running[output.request_id]
            part.follow(output, on_token)
            if output.finished:
                bring(self._llm, Path(part.order.file))
                if part.order.routed:
                    bring(self._llm, Path(part.order.prompt_file))
                del running[output.request_id]
                if part.job.finished:
                    jobs.append(part.job)
        return jobs

    def _order(self, rows: bool, forced: tuple[int, ...] | None) -> Order:
        assert self._spool is not None
        file = self._spool.file(str(next(self._numbers)))
        return Order(file, self._vocab_size, rows, forced, self._routed if rows else 0)

    def _start(self, part: Part, running: dict[str, Part]) -> None:
        number = Path(part.order.file).name
        sampling = part.job.request.sampling
        drawn = {"temperature": 0.0} if sampling is None else asdict(sampling)
        params = self._vllm.SamplingParams(
            **drawn,
            max_tokens=part.max_tokens,
            ignore_eos=True,
            stop_token_ids=list(part.stop_token_ids),
            detokenize=False,
            extra_args=part.order.extra_args(),
        )
        part.started = time.monotonic()
        try:
            self._llm.llm_engine.add_request(
                number, {"prompt_token_ids": list(part.prompt_token_ids)}, params
            )
        except Exception as error:
            prompt = part.job.request.prompt_id
            raise DeviceError(
                f"{self.name}: prompt {prompt!r} was refused: {self._why(error)}"
            ) from error
        running[number] = part

    def _step(self, running: Mapping[str, Part]) -> list[Any]:
        try:
            with nullcontext() if self._waker is None else self._waker.step():
                outputs: list[Any] = self._llm.llm_engine.step()
        except Exception as error:  # a kernel, a worker or its process may raise anything
            prompts = ", ".join(sorted({part.job.request.prompt_id for part in running.values()}))
            raise DeviceError(
                f"{self.name}: the engine failed on {prompts}: {self._why(error)}"
            ) from error
        return outputs

    def _why(self, error: Exception) -> str:
        """The cause of a failure in one line, from the best source.

        An engine in a process of its own dies there; here vLLM only says that it did.
        """
        return self._why_dead() or reason(error)

    def _why_dead(self) -> str | None:
        """Why a process of the engine died; None while all are alive."""
        left = self._spool.cause() if self._spool is not None else None
        seen = self._watch.cause() if self._watch is not None else None
        return left or seen

    def _abort(self, running: Mapping[str, Part]) -> None:
        """Drop requests that the caller abandoned or the engine failed on."""
        # A dead engine has nothing to abort, and raises many kinds of errors.
        with suppress(Exception):
            if running:
                self._llm.llm_engine.abort_request(list(running))

    def _threads(self, count: int | None) -> ThreadPoolExecutor:
        assert self._before is not None
        return ThreadPoolExecutor(count or os.cpu_count(), initializer=self._before.unpin)
