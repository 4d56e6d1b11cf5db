"""Any OpenAI-compatible server as a device: one that runs, or one of our own.

Prompts go as token ids to ``/v1/completions`` and tokens come back streamed,
with their largest log-probabilities. No server can be made to decode given
tokens, so both forced replays are prefills (docs/server.md).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import pairwise

import numpy as np

from harness.devices.base import (
    NO_CHOICE,
    Completion,
    Opened,
    Request,
    Stop,
    Timings,
    check_request,
    ignore_token,
)
from harness.devices.facts import LoadFigures
from harness.devices.server.dialect import COMPLETIONS, Answer, Dialect, complete
from harness.devices.server.facts import engine_facts, environment
from harness.devices.server.http import Http, base_url
from harness.devices.server.metrics import server_counters
from harness.devices.server.options import server_options
from harness.devices.server.probe import not_greedy, probe
from harness.devices.server.process import ServerProcess
from harness.devices.server.reply import (
    Entries,
    MalformedReply,
    prompt_entries,
    read_choice,
    told_rows,
)
from harness.errors import DeviceError, UsageError, printable
from harness.model.hub import require
from harness.model.model import Model
from harness.process.progress import Progress, Silent

#: Characters that are kept of a server's own word for an end.
_LONGEST_WORD = 60


class ServerDevice:
    """A model behind an OpenAI-compatible completions endpoint.

    Args:
        model: the checkpoint whose tokenizer and settings are used, and which
            a server of our own loads.
        dtype: that the server computes in; of a running one this is taken on
            trust, as it cannot be asked.
        trial: a few token ids of ordinary text, to find out what it can do.
        vocab_size, max_positions: of the model.
        url: of a running server; None starts one.
        engine_args: concurrency, timeout, start_timeout, token_ids, logprobs,
            served_model; the others are ``vllm serve``'s.

    Raises:
        UsageError: if an argument makes no sense.
    """

    name = "server"

    def __init__(
        self,
        model: Model,
        *,
        dtype: str,
        trial: tuple[int, ...],
        vocab_size: int,
        max_positions: int,
        url: str | None = None,
        engine_args: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._url = None if url is None else base_url(url)
        self._options, serve = server_options(engine_args or {}, own_server=url is None)
        self._model, self._dtype, self._trial = model, dtype, trial
        self._vocab_size, self._max_positions = vocab_size, max_positions
        self._progress = progress or Silent()
        self._process: ServerProcess | None = None
        if url is None:
            serve = {"max_num_seqs": str(self._options.concurrency), **serve}
            self._process = ServerProcess(
                model, dtype=dtype, args=serve, start_timeout=self._options.start_timeout
            )
        self._http: Http | None = None
        self._dialect: Dialect | None = None
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def open(self) -> Opened:
        """Start the server, if it is ours, and find out what it can do.

        Raises:
            MissingDependency: without httpx, or without vLLM to start.
            DeviceError: if the server is missing or cannot serve.
        """
        started = time.perf_counter()
        require_http()
        self._stopped.clear()
        if self._process is not None:
            self._process.start(self._progress)
        options = self._options
        url = self._url or (self._process.url if self._process else "")
        self._http = Http(self.name, url, options.timeout, options.concurrency)
        probed = probe(self._http, options, self._model.slug, self._trial)
        self._dialect = probed.dialect
        self._max_positions = min(self._max_positions, probed.max_model_len or self._max_positions)
        if probed.warning is not None:
            self._progress.note(f"{self.name}: warning: {probed.warning}")
        if not probed.dialect.rows:
            held = "text only" if probed.dialect.ids is None else "texts and token ids, no rows"
            self._progress.note(
                f"{self.name}: the server gives no token ids with two or more log-probabilities "
                f"each: the recording holds {held}"
            )
        return Opened(
            vocab_size=self._vocab_size,
            max_positions=self._max_positions,
            declared_dtype=self._dtype,
            engine=engine_facts(options, probed, self._url, self._process),
            environment=environment(probed, self._process),
            load=LoadFigures(load_s=time.perf_counter() - started if self._process else None),
            follow="forced-prefill",
        )

    def generate(
        self, requests: Sequence[Request], on_token: Callable[[], None] = ignore_token
    ) -> Iterator[Completion]:
        """Run the requests, ``concurrency`` at a time; each is yielded when it is done.

        Raises:
            DeviceError: if the device is not open, a request does not fit, or
                the server fails; what is finished is yielded first.
        """
        if self._http is None:
            raise DeviceError(f"{self.name} is not open")
        for request in requests:
            self._check(request)

        def counted() -> None:
            with self._lock:  # progress is not made for several threads
                on_token()

        if self._options.concurrency == 1:
            for request in requests:
                yield self._run(request, counted)
            return
        yield from self._side_by_side(requests, counted)

    def preemptions(self) -> int | None:
        """How many requests have lost their cache, by the server's metrics page; None where it
        has none, or does not count them."""
        url = self._url or (self._process.url if self._process else "")
        return server_counters(url).get("preemptions") if url else None

    def close(self) -> None:
        """Leave the server, and stop it if it is ours."""
        self._stopped.set()
        if self._http is not None:
            self._http.close()
            self._http = None
        if self._process is not None:
            self._process.stop()

    def _side_by_side(
        self, requests: Sequence[Request], on_token: Callable[[], None]
    ) -> Iterator[Completion]:
        failure: DeviceError | None = None
        pool = ThreadPoolExecutor(self._options.concurrency)
        try:
            running: set[Future[Completion]] = {
                pool.submit(self._run, request, on_token) for request in requests
            }
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    error = future.exception()
                    if error is None:
                        yield future.result()
                    elif isinstance(error, DeviceError):
                        failure = failure or error
                        # Requests that have not begun never will; running ones may still end well.
                        running = {future for future in running if not future.cancel()}
                    else:
                        raise error
        finally:
            self._stopped.set()  # those that run end at their next token
            pool.shutdown(wait=True, cancel_futures=True)
            self._stopped.clear()
        if failure is not None:
            raise failure

    def _check(self, request: Request) -> None:
        check_request(self.name, request, self._vocab_size, self._max_positions)
        assert self._dialect is not None  # set by open()
        if request.keep == "full":
            raise UsageError(f"{self.name}: a server gives no full logits; leave out --logits full")
        if request.replay == "forced-decode":
            raise UsageError(
                f"{self.name}: no server decodes tokens that it is given; use --replay "
                "forced-prefill, which is also how diverged prompts are followed"
            )
        if request.forced_token_ids is not None and not self._dialect.rows:
            raise DeviceError(
                f"{self.name}: the server gives no log-probabilities by token id, so no position "
                "of other tokens can be judged; use --replay free"
            )

    def _run(self, request: Request, on_token: Callable[[], None]) -> Completion:
        """One request, with errors that name its prompt and the end of a server of ours."""
        try:
            if request.forced_token_ids is not None:
                return self._forced(request, request.forced_token_ids, on_token)
            return self._free(request, on_token)
        except DeviceError as error:
            ended = self._process.failure() if self._process is not None else None
            why = "" if ended is None else f"; vllm serve has ended: {ended}"
            raise DeviceError(f"{error} (prompt {request.prompt_id!r}{why})") from error

    def _free(self, request: Request, on_token: Callable[[], None]) -> Completion:
        dialect, answer = self._ask(
            request.prompt_token_ids, request.max_new_tokens, request.stop_token_ids, on_token
        )
        tokens = answer.token_ids(dialect.ids)
        stop, finish = self._ended(request.prompt_id, answer)
        if tokens:
            self._known(tokens)
        if not dialect.rows:
            return Completion(
                request.prompt_id, tokens, stop, None, _timings(answer, len(answer.stamps)),
                text=answer.text, finish=finish,
            )  # fmt: skip
        entries = answer.entries or []
        if len(entries) != len(tokens) or not tokens:
            raise DeviceError(
                f"{self.name}: the server sent {len(entries)} rows of log-probabilities for "
                f"{len(tokens)} {'token' if len(tokens) == 1 else 'tokens'}, and ended by "
                f"{answer.finish!r}"
            )
        rows = told_rows(entries, dialect.logprobs or 0)
        empty = np.flatnonzero(rows.top_ids[:, 0] < 0)
        if len(empty):
            # On every device a row without a finite logit ends the run.
            tokens, stop, finish = (*tokens[: empty[0]], NO_CHOICE), "nonfinite", None
        strange = not_greedy(tokens, entries[: len(tokens)]) if stop != "nonfinite" else 0
        if strange:
            self._progress.note(
                f"{self.name}: warning: {strange} of {len(tokens)} tokens of prompt "
                f"{request.prompt_id} are not the likeliest of their own row"
            )
        n = len(tokens)
        return Completion(
            prompt_id=request.prompt_id,
            token_ids=tokens,
            stop=stop,
            rows=None if request.keep == "nothing" else rows[:n],
            timings=_timings(answer, n),
            finish=finish,
        )

    def _ended(self, prompt_id: str, answer: Answer) -> tuple[Stop, str | None]:
        """Why a completion ended, and the server's word where it is none of ``Stop``."""
        if answer.stop not in ("eos", "length"):
            self._progress.note(
                f"{self.name}: warning: the server ended prompt {prompt_id} by "
                f"{answer.finish!r} after {len(answer.stamps)} tokens, so it is not a whole output"
            )
        finish = answer.finish if answer.stop == "other" else None
        return answer.stop, None if finish is None else printable(finish)[:_LONGEST_WORD]

    def _forced(
        self, request: Request, forced: tuple[int, ...], on_token: Callable[[], None]
    ) -> Completion:
        """The rows after ``prompt + forced[:t]``, in one pass where the server
        tells the log-probabilities of a prompt, else in one request for each."""
        assert self._dialect is not None  # set by open()
        started = time.monotonic()
        if self._dialect.prompt_logprobs:
            entries = self._rows_of_prompt(request.prompt_token_ids, forced)
        else:
            entries = []
            for t in range(len(forced)):
                prompt = (*request.prompt_token_ids, *forced[:t])
                _, answer = self._ask(prompt, 1, (), ignore_token)
                entries += (answer.entries or [])[:1]
        if len(entries) != len(forced):
            raise DeviceError(f"{self.name}: {len(entries)} rows came for {len(forced)} tokens")
        seconds = time.monotonic() - started
        on_token()
        return Completion(
            prompt_id=request.prompt_id,
            token_ids=forced,
            stop="forced",
            rows=None
            if request.keep == "nothing"
            else told_rows(entries, self._dialect.logprobs or 0),
            timings=Timings(seconds, (), seconds),
        )

    def _rows_of_prompt(self, prompt: tuple[int, ...], forced: tuple[int, ...]) -> list[Entries]:
        """All but the last row are those of a prompt, the last that of a new token."""
        assert self._http is not None
        assert self._dialect is not None
        given = (*prompt, *forced[:-1])
        body = self._dialect.body(given, 1, stream=False)
        reply = self._http.post(COMPLETIONS, body | {"prompt_logprobs": self._dialect.logprobs})
        try:
            choice = reply["choices"][0]
            told = prompt_entries(choice, len(given))
            last = read_choice(choice).entries
        except (MalformedReply, KeyError, IndexError, TypeError) as error:
            raise DeviceError(
                f"{self.name}: unreadable log-probabilities of a prompt: {error}"
            ) from error
        return [*(told or [])[len(prompt) - 1 :], *(last or ())]

    def _ask(
        self,
        prompt: tuple[int, ...],
        max_tokens: int,
        stops: tuple[int, ...],
        on_token: Callable[[], None],
    ) -> tuple[Dialect, Answer]:
        assert self._http is not None
        assert self._dialect is not None
        body = self._dialect.body(prompt, max_tokens, stops)
        go_on = lambda: not self._stopped.is_set()  # noqa: E731
        answer = complete(self._http, body, on_token, go_on)
        if answer.prompt_ids is not None and answer.prompt_ids != prompt:
            raise DeviceError(f"{self.name}: the server changed the prompt's token ids")
        return self._dialect, answer

    def _known(self, tokens: tuple[int, ...]) -> None:
        if max(tokens) >= self._vocab_size:
            raise DeviceError(
                f"{self.name}: token {max(tokens)} is outside the vocabulary of "
                f"{self._vocab_size}: the server runs another model than {self._model.name!r}"
            )


def require_http() -> None:
    """See that httpx is there before a server is started for nothing."""
    from harness.model.hub import DISTRIBUTION

    require("httpx", "the device server", f"pip install '{DISTRIBUTION}[server]'")


def _timings(answer: Answer, count: int) -> Timings:
    """Of the first ``count`` tokens, by the arrival of their chunks."""
    stamps = answer.stamps[:count]
    if not stamps:
        return Timings(0.0, (), 0.0)
    gaps = tuple(later - earlier for earlier, later in pairwise(stamps))
    return Timings(stamps[0] - answer.started, gaps, stamps[-1] - answer.started)
