"""One run of ``pytest --device``: baseline, recording, alignment, reports.

The plugin asks; this does. Everything happens once, at the first question.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from harness.alignment.align import compare
from harness.alignment.comparability import comparability
from harness.alignment.result import Alignment, save_alignment
from harness.baseline.baseline import Baseline
from harness.baseline.folder import baseline_folder, is_baseline, load_baseline
from harness.baseline.make import Plan, make_baseline
from harness.bench.result import Bench
from harness.bench.run import BenchPlan, accuracy_of, run_bench
from harness.devices.registry import (
    DEVICES,
    REFERENCE_DEVICES,
    Target,
    check_batch_size,
    is_fake,
    open_target,
    parse_engine_args,
)
from harness.doctor import Diagnosis, diagnose
from harness.errors import BaselineError, UsageError
from harness.files.outputs import refuse_inputs
from harness.process.progress import Progress
from harness.recording.context import Context, context_for
from harness.recording.format import Recording, SuiteFacts, load_recording
from harness.recording.recorder import Options, record
from harness.report.bench import render_bench
from harness.report.language import language_of
from harness.session.matrix import PROMPTS
from harness.session.options import RunOptions
from harness.session.smoke import Sampled, run_smoke
from harness.session.variations import Closer
from harness.suite.read import load_suite
from harness.suite.suite import Suite

REPORTS = Path("reports")
#: How many prompts are run twice to see whether bits repeat.
REPEATS = 2
#: Devices whose host the doctor examines in full before a run: their engines take
#: minutes to start, and fail with messages that name no cause. Elsewhere it
#: starts no process: what is missing there, the device says itself.
EXAMINED = ("npu", "hf-npu")


class Session:
    """Lazy: making one checks the options and reads the suite, no more.

    Raises:
        HarnessError: if the options make no sense, or the suite is wrong.
    """

    def __init__(self, options: RunOptions, progress: Progress) -> None:
        if options.device not in DEVICES:
            raise UsageError(
                f"no device {options.device!r} in this version; there are {', '.join(DEVICES)}"
            )
        if options.server_url is not None:
            if options.device != "server":
                raise UsageError(
                    f"--server-url goes with --device=server, not with {options.device}"
                )
            from harness.devices.server.http import base_url

            base_url(options.server_url)
        if options.update_baselines and options.device not in REFERENCE_DEVICES:
            raise UsageError(
                f"--update-baselines replaces the reference and {options.device} is none; "
                f"use it with --device={REFERENCE_DEVICES[0]}"
            )
        if options.update_baselines and is_baseline(options.baseline_dir):
            raise UsageError(
                f"--baseline-dir={options.baseline_dir} is one baseline; --update-baselines needs "
                "the folder of all baselines"
            )
        for report in options.reports:
            if report.suffix not in (".html", ".md", ".json"):
                raise UsageError(f"--report {report}: the suffix must be .html, .md or .json")
        check_batch_size(options.device, options.batch_size)
        self.language = language_of(options.lang)
        self.options = options
        self.progress = progress
        self.engine_args = parse_engine_args(list(options.engine_args))
        self.suite = load_suite(options.suite, options.max_new_tokens)
        self._only: frozenset[str] | None = None
        self._made_baseline = False
        self.diagnosis: Diagnosis | None = None

    def describe(self) -> str:
        """Device, model and suite in one line."""
        dtype = f", {self.options.dtype}" if self.options.dtype else ""
        return f"{self.options.device}, {self.options.model}, {self.suite.name}{dtype}"

    def select(self, prompt_ids: frozenset[str] | None) -> None:
        """Run only these prompts; None for all."""
        self._only = prompt_ids

    def examine(self) -> Diagnosis | None:
        """Ask the doctor about this host; None if there is nothing to ask."""
        device = self.options.device
        if is_fake(device) or self.options.no_doctor:
            return None
        full = device in EXAMINED
        if full:
            self.progress.note("doctor: examining this host")
        self.diagnosis = diagnose(device, quick=not full)
        return self.diagnosis

    @property
    def has_alignment(self) -> bool:
        """Whether the run got as far as a judgement."""
        return "alignment" in self.__dict__

    @cached_property
    def alignment(self) -> Alignment:
        """The candidate held against the baseline.

        Raises:
            BaselineError: without a baseline, on a device that makes none; the
                recording is kept, and the error names the command that judges it.
            HarnessError: whatever device, model or disk raise.
        """
        baseline = self._baseline()
        if baseline is None:
            raise self._no_baseline()
        self.__dict__["candidate"] = candidate = self._candidate(baseline)
        judged = compare(
            candidate,
            baseline,
            allow_weights=self.options.allow_weights,
            allow_dtype=self.options.allow_dtype,
            candidate_file=self.recording_path.as_posix(),
            reproduce=(self.command(),),
        )
        if self.options.context is not None:
            return judged  # a recording of --context was made who knows where
        judged = _closer_of(self).look(judged, candidate, baseline, self.progress)
        if self.diagnosis is None:
            return judged
        facts = {section: dict(rows) for section, rows in self.diagnosis.facts.items()}
        return judged.model_copy(update={"doctor": self.diagnosis.findings, "host": facts})

    @property
    def wants_matrix(self) -> bool:
        """Whether ``--matrix`` or the suite asks for the runs of the matrix."""
        return self.options.matrix or self.suite.matrix

    @cached_property
    def candidate(self) -> Recording:
        """What the device said, once ``alignment`` was asked for."""
        raise AttributeError("the alignment was not made yet")

    @cached_property
    def target(self) -> Target:
        """The device and its model, not yet opened."""
        return self.reopen(None, None, {})

    def reopen(
        self, dtype: str | None, batch_size: int | None, engine_args: Mapping[str, str]
    ) -> Target:
        """The device with some of its arguments changed; None leaves what was asked for."""
        return open_target(
            self.options.device,
            self.options.model,
            dtype=dtype or self.options.dtype,
            batch_size=self.options.batch_size if batch_size is None else batch_size,
            engine_args={**self.engine_args, **engine_args},
            trust_remote_code=self.options.trust_remote_code,
            server_url=self.options.server_url,
            subject=self.__dict__["target"].subject if "target" in self.__dict__ else None,
            progress=self.progress,
        )

    @cached_property
    def bench(self) -> Bench:
        """The device on a grid of prompt lengths, its figures under the
        verdict of this run; kept beside the recording as it goes.

        Raises:
            HarnessError: whatever the device raises before the first repeat.
        """
        found = self.alignment
        accuracy = accuracy_of(found, self.suite)
        plan = BenchPlan(batch_sizes=(self.options.batch_size,))
        out = self.recording_path.with_suffix(".bench.json")
        made = run_bench(self.target, self.suite, plan, accuracy, out, self.progress)
        render_bench([made], out.with_suffix(".html"), self.language)
        return made

    @cached_property
    def smoke_suite(self) -> Suite:
        """The prompts of the smoke test, whatever suite is judged."""
        return load_suite("smoke", self.options.max_new_tokens)

    def smoke(self) -> Mapping[str, Sampled]:
        """Sample on the device; see harness.session.smoke.

        Raises:
            HarnessError: whatever device or model raise.
        """
        return run_smoke(self.target, self.smoke_suite, self.progress)

    @property
    def folder(self) -> Path:
        """Where the baseline of this run stands.

        ``--baseline-dir`` may be one baseline itself: with ``--allow-weights``
        or ``--allow-dtype`` the candidate's own name or dtype does not lead to it.
        """
        if is_baseline(self.options.baseline_dir):
            return self.options.baseline_dir
        return baseline_folder(
            self.options.baseline_dir, self.target.slug, self.suite.name, self.target.dtype
        )

    @property
    def recording_path(self) -> Path:
        """Where the recording of this run goes."""
        if self.options.context is not None:
            return self.options.context
        parts = [self.target.slug, self.suite.name, self.target.dtype, self.options.device]
        if self._only is not None and len(self._only) < len(self.suite.prompts):
            parts.append("selected")  # a few prompts must not replace a whole run
        return REPORTS / f"{'-'.join(parts)}.json"

    def report_paths(self) -> list[Path]:
        """Every report of this run, the HTML in ``reports/`` first."""
        stem = REPORTS / f"{self.recording_path.stem}"
        return [stem.with_name(f"{stem.name}.html"), *self.options.reports]

    def write_reports(self) -> None:
        """Write the alignment and its reports, and the summary of a CI step."""
        from harness.report.render import render
        from harness.report.step_summary import append_step_summary

        alignment_path = REPORTS / f"{self.recording_path.stem}.alignment.json"
        save_alignment(self.alignment, alignment_path)
        for path in self.report_paths():
            render([self.alignment], path, self.language)
        append_step_summary([self.alignment], self.language)

    def closing_lines(self) -> list[str]:
        """What to look at, and how to approve."""
        lines = []
        if self._made_baseline:
            lines.append(f"baseline made: {self.folder.as_posix()}; approve it by committing it")
        elif self.alignment.verdict == "NOT_COMPARABLE" and self.options.context is None:
            lines.append(
                f"stale baseline: {self.folder.as_posix()}; if the change is meant, make it again "
                f"with pytest --device={REFERENCE_DEVICES[0]} --update-baselines"
            )
        paths = self.report_paths()
        if "bench" in self.__dict__:
            paths.append(self.recording_path.with_suffix(".bench.html"))
        return lines + [f"report: {path.as_posix()}" for path in paths]

    def command(self, prompt_id: str | None = None) -> str:
        """The command that repeats this run, or one prompt of it."""
        o = self.options
        parts = ["pytest", f"--device={o.device}", f"--model={o.model}", f"--suite={o.suite}"]
        parts += [f"--dtype={o.dtype}"] if o.dtype else []
        parts += [f"--max-new-tokens={o.max_new_tokens}"] if o.max_new_tokens else []
        parts += [f"--server-url={o.server_url}"] if o.server_url else []
        parts += [f"--batch-size={o.batch_size}"] if o.batch_size > 1 else []
        parts += [f"--engine-arg={pair}" for pair in o.engine_args]
        parts += [f"--context={o.context.as_posix()}"] if o.context else []
        if o.baseline_dir != Path("baselines"):
            parts.append(f"--baseline-dir={o.baseline_dir.as_posix()}")
        parts += ["--allow-weights"] * o.allow_weights + ["--allow-dtype"] * o.allow_dtype
        parts += ["--trust-remote-code"] * o.trust_remote_code
        if prompt_id is None:
            parts += ["--matrix"] * o.matrix + ["--magnify"] * o.magnify
        parts += ["--no-doctor"] * o.no_doctor
        parts += ["-k", f"test_prompt[{prompt_id}]"] if prompt_id else []
        return shlex.join(parts)

    def _baseline(self) -> Baseline | None:
        """The baseline of this run, made where this device may make it."""
        refuse_inputs(self.options.reports, [self.options.context, self.folder])
        present = is_baseline(self.folder)
        if present and not self.options.update_baselines:
            return load_baseline(self.folder)
        if self.options.device not in REFERENCE_DEVICES:
            return None
        why = "replacing it (--update-baselines)" if present else "there is none yet"
        self.progress.note(f"baseline {self.folder.as_posix()}: {why}")
        context = None
        if (path := self.options.context) is not None:
            context = context_for(self.suite, load_recording(path), path, self.progress)
        plan = Plan(
            device=self.options.device,
            model=self.options.model,
            suite=self.suite,
            dtype=self.options.dtype,
            root=self.options.baseline_dir,
            context=context,
            trust_remote_code=self.options.trust_remote_code,
            suite_source=self.options.suite,
        )
        self._made_baseline = True
        return make_baseline(plan, self.progress)

    def _candidate(self, baseline: Baseline) -> Recording:
        """The device's own run, or the recording that --context names."""
        if self.options.context is not None:
            return load_recording(self.options.context)
        stale = self._stand_in(baseline.reference)
        found = comparability(
            stale,
            baseline.reference,
            allow_weights=self.options.allow_weights,
            allow_dtype=self.options.allow_dtype,
        )
        if not found.comparable:
            self.progress.note("the baseline is stale: nothing is run")
            return stale
        return self._record(Context.of(baseline.reference))

    def _record(self, context: Context | None) -> Recording:
        repeats = PROMPTS if self.wants_matrix else REPEATS
        options = Options(context=context, prompt_ids=self._only, repeats=repeats)
        return record(
            self.target.device,
            self.target.subject,
            self.suite,
            options,
            out=self.recording_path,
            progress=self.progress,
        )

    def _stand_in(self, reference: Recording) -> Recording:
        """The reference's rows under this run's facts: to see before hours of
        work, not after, that the two were not asked the same thing."""
        generation = self.suite.generation
        subject = self.target.subject
        return reference.model_copy(
            update={
                "device": self.options.device,
                "dtype": self.target.dtype,
                "model": subject.facts,
                "suite": SuiteFacts(name=self.suite.name, digest=self.suite.digest),
                "settings": subject.settings(generation.max_new_tokens, generation.ignore_eos),
                "engine": {},
                "environment": {},
                "load": {},
            }
        )

    def _no_baseline(self) -> BaselineError:
        o = self.options
        if o.context is None:
            self._record(None)  # else there is one, which must stay as it is
        recording = self.recording_path.as_posix()
        reference = REFERENCE_DEVICES[is_fake(o.device)]
        make = ["harness", "baseline", "make", "--device", reference]
        make += ["--model", o.model, "--suite", o.suite, "--context", recording]
        make += ["--baseline-dir", o.baseline_dir.as_posix()]
        make += ["--dtype", o.dtype] if o.dtype else []
        make += ["--max-new-tokens", str(o.max_new_tokens)] if o.max_new_tokens else []
        make += ["--trust-remote-code"] * o.trust_remote_code
        judge = ["harness", "compare", recording, self.folder.as_posix()]
        judge += ["--allow-weights"] * o.allow_weights + ["--allow-dtype"] * o.allow_dtype
        return BaselineError(
            f"{self.folder.as_posix()}: no baseline, so nothing was judged; the recording is kept. "
            f"Judge it with: {shlex.join(make)} && {shlex.join(judge)}"
        )


def _closer_of(session: Session) -> Closer:
    """What the options and the suite of a session ask for."""
    o = session.options
    return Closer(
        matrix=session.wants_matrix,
        magnify=o.magnify,
        model=o.model,
        suite=session.suite,
        suite_source=o.suite,
        reopen=session.reopen,
        recordings=session.recording_path.parent,
        stem=session.recording_path.stem,
        allow_weights=o.allow_weights,
        allow_dtype=o.allow_dtype,
        trust_remote_code=o.trust_remote_code,
    )
