"""Run a suite on a device and make a recording of it.

Finished prompts go to a journal beside the output, so a killed run goes on
where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.devices.base import Completion, Device, Keep, LayeredDevice, Opened, Replay, Request
from harness.devices.server.http import without_key
from harness.errors import DeviceError, FormatError, UsageError
from harness.files.timestamp import utc_now
from harness.model.subject import Subject
from harness.process import signals
from harness.process.progress import Progress, Silent
from harness.process.watchdog import Watchdog, step_limit_s
from harness.recording.context import Context
from harness.recording.format import (
    SHOWN_TOP,
    PromptRecord,
    Recording,
    Repeat,
    Run,
    RunTimings,
    SuiteFacts,
    load_recording,
    margins_of,
    new_shelf,
    save_recording,
    schema_for,
    shelved_run,
)
from harness.recording.journal import Journal, key_digest
from harness.recording.repeats import repeat_of
from harness.statistics.detail import check_detail, detail_of
from harness.statistics.rows import NORMAL, Detail, concatenate
from harness.suite.encode import (
    EncodedPrompt,
    encode_suite,
    fitting,
    unsteady_line,
    unsteady_prompts,
)
from harness.suite.suite import Suite

_LAYERS = ".layers"


@dataclass(frozen=True)
class Options:
    """How to record.

    Attributes:
        replay: ``free``, or a forced replay of ``context``.
        context: the tokens that are forced. With ``free``, prompts
            that diverge from it are replayed on it too.
        full_logits: also keep every row, in a safetensors file beside ``out``.
        prompt_ids: only these prompts; None for all.
        repeats: how many prompts to run twice, to see whether bits repeat.
        detail: how much is kept of a whole row.
        shard: whether ``prompt_ids`` are one shard of a run: of it, those prompts are run twice
            that the whole run would run twice.
    """

    replay: Replay = "free"
    context: Context | None = None
    full_logits: bool = False
    prompt_ids: frozenset[str] | None = None
    repeats: int = 0
    shard: bool = False
    detail: Detail = NORMAL


@contextmanager
def opened(device: Device, progress: Progress) -> Iterator[Opened]:
    """A device between open and close, which no signal interrupts."""
    with signals.held():
        try:
            with signals.allowed():
                progress.note(f"{device.name}: loading the model")
                with Watchdog(step_limit_s(), f"{device.name}: loading the model"):
                    facts = device.open()
                yield facts
        finally:
            device.close()


def record(
    device: Device,
    subject: Subject,
    suite: Suite,
    options: Options = Options(),
    *,
    out: Path | None = None,
    progress: Progress | None = None,
    reuse: bool = False,
    before_saving: Callable[[Path, bytes], None] | None = None,
) -> Recording:
    """Run ``suite`` on ``device``.

    Args:
        out: where to write the recording; a journal stands beside it
            meanwhile. None keeps it in memory.
        before_saving: called with ``out`` and the bytes of the recording before it is there.
        reuse: take a recording that ``out`` already holds, if it is of the
            same model, suite, device and environment.

    Raises:
        UsageError: if a forced replay has no context, or one of other prompts, or for a detail
            that no reader takes.
        HarnessError: errors of the device, the suite or the disk.
    """
    if options.replay != "free" and options.context is None:
        raise UsageError(f"--replay {options.replay} needs the tokens to force: give --context")
    _check_detail(options.detail)
    progress = progress or Silent()
    with opened(device, progress) as facts:
        if facts.vocab_size != subject.facts.vocab_size:
            raise DeviceError(
                f"{device.name}: rows are {facts.vocab_size} wide, the checkpoint's vocabulary is "
                f"{subject.facts.vocab_size}; hand over the vocabulary without padding"
            )
        suite = fitting(suite, subject.tokenizer, subject.facts.name, progress.note)
        everything = encode_suite(suite, subject.tokenizer, facts.max_positions)
        chosen = options.prompt_ids
        prompts = [p for p in everything if chosen is None or p.id in chosen]
        if not prompts:
            gone = " that this model can be given" if suite.left_out else ""
            raise UsageError(
                f"none of the prompts of suite {suite.name}{gone} is selected; name one of them"
            )
        causes = unsteady_prompts(prompts)
        if causes:
            progress.once(unsteady_line(suite, causes, subject.facts.name))
        whole = everything if options.shard else prompts
        twice = _spread([p.id for p in whole], options.repeats)
        making = _Making(device, subject, suite, options, facts, prompts, twice, progress)
        return (reuse and making.finished(out)) or making.run(out, before_saving)


def _check_detail(detail: Detail) -> None:
    try:
        check_detail(detail)
    except ValueError as error:
        raise UsageError(f"detail: {error}") from error


def _spread(ids: Sequence[str], count: int) -> Sequence[str]:
    """So many of them, from the whole list."""
    return ids[:: max(1, len(ids) // count)][:count] if count else ()


class _Making:
    """One recording in the making."""

    def __init__(
        self,
        device: Device,
        subject: Subject,
        suite: Suite,
        options: Options,
        facts: Opened,
        prompts: Sequence[EncodedPrompt],
        twice: Sequence[str],
        progress: Progress,
    ) -> None:
        self.device, self.subject, self.suite, self.options = device, subject, suite, options
        self.facts, self.prompts, self.progress = facts, prompts, progress
        self.twice = twice
        generation = suite.generation
        self.settings = subject.settings(generation.max_new_tokens, generation.ignore_eos)
        # Of a long suite, rows stand on the disk until the recording is written.
        self.shelf = new_shelf()
        self.logits: dict[str, NDArray[np.float32]] = {}

    def run(
        self, out: Path | None, before_saving: Callable[[Path, bytes], None] | None = None
    ) -> Recording:
        if self.options.context is not None:
            for prompt in self.prompts:
                self._context_of(prompt)  # refuse a context of other prompts before the work starts
        kept = out is not None and not self.options.full_logits
        journal = Journal(out, self._key(), self.shelf) if kept else Journal()
        if out is not None and isinstance(self.device, LayeredDevice):
            self.device.resume_in(_layers_of(out), key_digest(self._key()))
        with journal:
            if journal.found:
                self.progress.note(f"{out}: going on after {journal.found} finished runs")
            kind = "free" if self.options.replay == "free" else "forced"
            first = self._finish(kind, self._requests(self.options.replay), journal)
            forced = first if kind == "forced" else self._follow(first, journal)
            repeats = self._repeat(first)
            recording = self._recording(first if kind == "free" else {}, forced, repeats)
            if out is not None:
                save_recording(
                    recording, out, None if before_saving is None else partial(before_saving, out)
                )
                self._save_logits(out)
                journal.discard()
        return recording

    def finished(self, out: Path | None) -> Recording | None:
        """The recording in ``out``, if this run would record the same."""
        if out is None or not out.exists():
            return None
        try:
            made = load_recording(out)
        except FormatError:
            return None
        mine = Recording(
            **self._recording_head(), schema_=schema_for(made.prompts), prompts=made.prompts
        )
        volatile = {"prompts", "repeats", "pieces", "created", "load", "schema_"}
        same = made.model_dump(exclude=volatile) == mine.model_dump(exclude=volatile)
        if not same or [p.id for p in made.prompts] != [p.id for p in self.prompts]:
            return None
        if not all(self._answers(m, p) for m, p in zip(made.prompts, self.prompts, strict=True)):
            return None
        self.progress.note(f"{out}: finished before")
        return made

    def _answers(self, made: PromptRecord, prompt: EncodedPrompt) -> bool:
        """Whether a prompt was run the way this recording would run it."""
        wanted = self.options.replay
        if made.run.replay != wanted or made.prompt_token_ids != prompt.token_ids:
            return False
        if detail_of(made.run.rows) not in (None, self.options.detail):
            return False
        if self.options.context is None:
            return True
        context = self._context_of(prompt)
        return made.on(context).token_ids == context

    def _key(self) -> dict[str, Any]:
        """What must be equal for a journal to be continued."""
        context = self.options.context
        tokens = [[i, *map(list, ids)] for i, ids in context.tokens.items()] if context else None
        head = self._recording_head()
        for volatile in ("created", "load"):
            head.pop(volatile)
        detail = self.options.detail
        # As before there were others, so that what was begun then is gone on with.
        kept = {} if detail == NORMAL else {"listed": detail.listed, "buckets": detail.buckets}
        return {**head, "replay": self.options.replay, "context": tokens, **kept}

    def _requests(self, replay: Replay, only: Iterable[str] | None = None) -> list[Request]:
        keep: Keep = "full" if self.options.full_logits else "statistics"
        wanted = None if only is None else set(only)
        return [
            Request(
                prompt_id=p.id,
                prompt_token_ids=p.token_ids,
                replay=replay,
                max_new_tokens=self.settings.max_new_tokens,
                stop_token_ids=self.settings.stop_token_ids,
                forced_token_ids=None if replay == "free" else self._context_of(p),
                keep=keep,
                detail=self.options.detail,
            )
            for p in self.prompts
            if wanted is None or p.id in wanted
        ]

    def _context_of(self, prompt: EncodedPrompt) -> tuple[int, ...]:
        context = self.options.context
        assert context is not None  # checked by record()
        asked, output = context.tokens.get(prompt.id, ((), ()))
        if asked != prompt.token_ids:
            line = unsteady_line(self.suite, unsteady_prompts([prompt]), self.subject.facts.name)
            raise UsageError(
                f"the context recording of {context.device} has no prompt {prompt.id} with these "
                f"token ids: it was made from another suite, tokenizer or template"
                f"{'; ' + line if prompt.unsteady else ''}"
            )
        return output

    def _finish(self, kind: str, requests: Sequence[Request], journal: Journal) -> dict[str, Run]:
        """Runs of all requests: those of the journal, and the rest made now."""
        runs = journal.runs(kind)
        todo = [r for r in requests if r.prompt_id not in runs]
        if todo:
            replay = todo[0].replay
            device = self.device
            steps = device.steps if isinstance(device, LayeredDevice) else _steps
            total = sum(steps(r) for r in todo)
            label = f"{self.device.name} {self.suite.name} {replay}"
            watched = Watchdog(step_limit_s(), label)
            with watched, self.progress.stage(label, total) as step:

                def on_token() -> None:
                    watched.beat()
                    step()

                for done in self.device.generate(todo, on_token):
                    watched.beat()
                    run = self._as_run(done, replay)
                    journal.add(kind, done.prompt_id, run)
                    runs[done.prompt_id] = shelved_run(run, self.shelf)
                    if done.logits is not None and kind != "repeat":
                        self.logits[f"{done.prompt_id}/{kind}"] = done.logits
        missing = [r.prompt_id for r in requests if r.prompt_id not in runs]
        if missing:
            raise DeviceError(f"{self.device.name}: no output came for prompt {missing[0]}")
        return {r.prompt_id: runs[r.prompt_id] for r in requests}

    def _follow(self, free: Mapping[str, Run], journal: Journal) -> dict[str, Run]:
        """Replay the prompts that diverged on the context's tokens, so that every
        position can be judged."""
        context = self.options.context
        if context is None:
            return {}
        diverged = [
            p.id
            for p in self.prompts
            if free[p.id].token_ids != self._context_of(p) and not free[p.id].text_only
        ]
        return self._finish("forced", self._requests(self.facts.follow, diverged), journal)

    def _repeat(self, first: Mapping[str, Run]) -> tuple[Repeat, ...]:
        if any(run.text_only for run in first.values()):
            return ()
        ids = [i for i in self.twice if i in first]
        if not ids:
            return ()
        again = self._finish("repeat", self._requests(self.options.replay, ids), Journal())
        return tuple(repeat_of(i, first[i], again[i]) for i in ids)

    def _as_run(self, done: Completion, replay: Replay) -> Run:
        rows = done.rows if done.text is None else concatenate([])
        assert rows is not None  # every request keeps statistics
        text = self.subject.tokenizer.decode(done.token_ids) if done.text is None else done.text
        text = without_key(text)  # a server may repeat the key that it was asked with
        return Run(
            replay=replay,
            token_ids=done.token_ids,
            text=text,
            stop=done.stop,
            finish=done.finish,
            margins=margins_of(rows),
            text_only=done.text is not None,
            timings=RunTimings(
                ttft_s=round(done.timings.ttft_s, 6),
                itl_s=tuple(round(gap, 6) for gap in done.timings.itl_s),
                e2e_s=round(done.timings.e2e_s, 6),
            ),
            rows=rows,
            routes=done.routes,
        )

    def _recording_head(self) -> dict[str, Any]:
        return {
            "device": self.device.name,
            "dtype": self.facts.declared_dtype,
            "created": utc_now(),
            "model": self.subject.facts,
            "suite": SuiteFacts.of(self.suite, unsteady_prompts(self.prompts)),
            "settings": self.settings,
            "overridden": dict(self.subject.overridden),
            "engine": self.facts.engine,
            "environment": dict(self.facts.environment),
            "load": self.facts.load,
        }

    def _recording(
        self, free: Mapping[str, Run], forced: Mapping[str, Run], repeats: tuple[Repeat, ...]
    ) -> Recording:
        prompts = tuple(
            PromptRecord(
                id=p.id,
                text=p.text,
                prompt_token_ids=p.token_ids,
                free=free.get(p.id),
                forced=forced.get(p.id),
            )
            for p in self.prompts
        )
        pieces = {str(i): self.subject.tokenizer.piece(i) for i in _named_ids(prompts)}
        return Recording(
            **self._recording_head(),
            schema_=schema_for(prompts),
            prompts=prompts,
            repeats=repeats,
            pieces=pieces,
        )

    def _save_logits(self, out: Path) -> None:
        if self.options.full_logits:
            from harness.recording.full_logits import save_logits

            save_logits(self.logits, out)


def _layers_of(out: Path) -> Path:
    """Where a device may keep what it has done of layers, beside the journal."""
    return out.with_name(out.name + _LAYERS)


def is_layers(path: Path) -> bool:
    """Whether it is such a folder."""
    return path.name.endswith(f".json{_LAYERS}") and path.is_dir() and not path.is_symlink()


def _steps(request: Request) -> int:
    if request.replay == "forced-prefill":
        return 1
    forced = request.forced_token_ids
    return request.max_new_tokens if forced is None else len(forced)


def _named_ids(prompts: Iterable[PromptRecord]) -> list[int]:
    """Tokens that a reader may be shown: all outputs and every row's top 5."""
    ids: set[int] = set()
    for prompt in prompts:
        for run in (prompt.free, prompt.forced):
            if run is not None:
                ids.update(run.token_ids)
                ids.update(int(i) for i in np.unique(run.rows.top_ids[:, :SHOWN_TOP]))
    return sorted(i for i in ids if i >= 0)
