"""Makes the recordings of the catalogue; each is kept and made once."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.catalogue.entries import Entry
from benchmarks.catalogue.passes import Stacked
from benchmarks.catalogue.workbench import Workbench, with_choices
from harness.baseline.baseline import Baseline
from harness.baseline.folder import load_baseline
from harness.devices.base import Request
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.model.subject import Subject
from harness.process.progress import Silent
from harness.recording.context import Context
from harness.recording.format import Recording, Run, save_recording
from harness.recording.recorder import Options, record
from harness.suite.read import load_suite

ROOT = Path(__file__).parent.parent.parent
BASELINES = ROOT / "baselines"
BASELINE = BASELINES / "smollm2" / "mixed" / "bfloat16"
#: Positions of each prompt that are recorded and judged.
POSITIONS = 48


def catalogue_baseline(model: str) -> Baseline:
    """What everything is held against: the model's committed baseline, shortened."""
    return first_positions(load_baseline(BASELINES / model / "mixed" / "bfloat16"), POSITIONS)


def recording_file(work: Path, entry: Entry) -> Path:
    """Where an entry's recording is kept."""
    return work / f"{entry.key}.json"


def make_all(entries: Sequence[Entry], work: Path, jobs: int, options: Sequence[str]) -> bool:
    """Record what is missing, in ``jobs`` processes of one thread each: on a
    busy machine threads that wait for each other lose most of their time.

    Args:
        options: of the command, for the processes.

    Returns:
        Whether everything is there.
    """
    work.mkdir(parents=True, exist_ok=True)
    if any(not recording_file(work, e).exists() for e in entries):
        command = [sys.executable, "-m", "benchmarks.catalogue", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        running = [
            subprocess.Popen([*command, "--worker"], env=environment, cwd=ROOT) for _ in range(jobs)
        ]
        statuses = [child.wait() for child in running]
        if any(statuses):
            raise SystemExit("a recording failed: see above")
    return all(recording_file(work, e).exists() for e in entries)


def work_off(
    model: str, entries: Sequence[Entry], baseline: Baseline, work: Path, seconds: float | None
) -> None:
    """One process's work: whatever is missing and no other process is at;
    nothing is begun after ``seconds``."""
    missing = [e for e in sorted(entries, key=_order) if not recording_file(work, e).exists()]
    started = time.monotonic()
    subject = open_target(DeviceSpec("hf-cpu", model)).subject
    benches: dict[str | None, Workbench] = {}
    for count, entry in enumerate(missing):
        if seconds is not None and time.monotonic() - started > seconds:
            print(f"{len(missing) - count} entries are left; run it again", flush=True)
            return
        with _claimed(recording_file(work, entry)) as mine:
            if not mine:
                continue
            at, cpu = time.monotonic(), time.process_time()
            if entry.environment:
                _in_child(model, entry, work)
            else:
                if entry.dtype not in benches:
                    benches[entry.dtype] = Workbench(entry.dtype, model)
                made = make(benches[entry.dtype], entry, subject, baseline, work)
                save_recording(made, recording_file(work, entry))
            spent = f"{time.monotonic() - at:.1f} s, {time.process_time() - cpu:.1f} s of CPU"
            print(f"{entry.key}: {spent}", flush=True)


@contextmanager
def _claimed(file: Path) -> Iterator[bool]:
    """Whether this process is to make ``file``; the claim ends with the process."""
    claim = file.with_suffix(".claim")
    with claim.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield not file.exists()
        claim.unlink(missing_ok=True)


def _order(entry: Entry) -> tuple[bool, int, int]:
    """What was asked for by name first, what takes long last."""
    slow = entry.replay == "forced-decode" or entry.matmul == "native"
    return slow, 0 if entry.must else 1 if entry.correct else 2, -entry.since


def make(
    bench: Workbench, entry: Entry, subject: Subject, baseline: Baseline, work: Path
) -> Recording:
    """One entry's recording, on the reference's tokens."""
    bench.set_matmul(entry.matmul)
    bench.injection, bench.passes = entry.injection, entry.passes
    bench.edit, bench.penalty = entry.edit, entry.penalty
    if entry.since:
        requests = forced_requests(baseline.reference)
        bench.passes = bench.resume(entry.since, requests, file=work / "states.pt")
    elif not entry.correct and entry.passes is None:
        bench.passes = Stacked()
    options = Options(replay=entry.replay, context=Context.of(baseline.reference))
    made = record(bench, subject, load_suite("mixed"), options, progress=Silent())
    return made if entry.penalty is None else with_choices(made, bench.choices)


def _in_child(model: str, entry: Entry, work: Path) -> None:
    """torch reads these variables at its start."""
    command = [sys.executable, "-m", "benchmarks.catalogue", "--work", str(work.resolve())]
    command += ["--model", model, "--alone", entry.key]
    subprocess.run(command, env={**os.environ, **entry.environment}, cwd=ROOT, check=True)


def make_alone(model: str, entry: Entry, baseline: Baseline, work: Path) -> None:
    """An entry whose environment this process has."""
    subject = open_target(DeviceSpec("hf-cpu", model)).subject
    made = make(Workbench(entry.dtype, model), entry, subject, baseline, work)
    save_recording(made, recording_file(work, entry))


def forced_requests(reference: Recording) -> list[Request]:
    """A forced-prefill of every prompt of a recording."""
    return [
        Request(
            p.id,
            p.prompt_token_ids,
            "forced-prefill",
            len(p.run.token_ids),
            forced_token_ids=p.run.token_ids,
        )
        for p in reference.prompts
    ]


def first_positions(baseline: Baseline, count: int) -> Baseline:
    """The baseline as if its outputs ended after ``count`` tokens."""
    return Baseline(
        shortened(baseline.reference, count),
        None if baseline.oracle is None else shortened(baseline.oracle, count),
        {name: shortened(arm, count) for name, arm in baseline.controls.items()},
        baseline.folder,
    )


def shortened(recording: Recording, count: int) -> Recording:
    """A recording's first ``count`` positions."""
    prompts = tuple(
        p.model_copy(update={"free": _run(p.free, count), "forced": _run(p.forced, count)})
        for p in recording.prompts
    )
    # So many tokens were asked for, then: else the recording contradicts itself.
    settings = recording.settings.model_copy(update={"max_new_tokens": count})
    return recording.model_copy(update={"prompts": prompts, "settings": settings})


def _run(run: Run | None, count: int) -> Run | None:
    if run is None:
        return None
    cut = {"token_ids": run.token_ids[:count], "margins": run.margins[:count]}
    return run.model_copy(update={**cut, "rows": run.rows[:count]})
