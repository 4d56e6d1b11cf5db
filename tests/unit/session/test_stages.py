"""Each stage by itself: what it takes, what it makes, and that nobody changes it afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.devices.registry import open_target
from harness.doctor import Diagnosis
from harness.errors import BaselineError, UsageError
from harness.process.progress import Silent
from harness.session.bench import Benched
from harness.session.judge import Judged, judge
from harness.session.options import RunOptions
from harness.session.prepare import Prepared, prepare
from harness.session.record import Recorded, record
from harness.session.report import Reported, write_reports
from harness.session.run import Run, read_run

Options = Callable[..., RunOptions]
HOST = Diagnosis("fake", {"card": {"kind": "Atlas A2"}}, ())


def prepared_from(options: RunOptions) -> Prepared:
    return prepare(read_run(options), open_target(options.spec), Silent())


def judged_from(options: RunOptions, diagnosis: Diagnosis | None = None) -> Judged:
    recorded = record(prepared_from(options), Silent())
    return judge(recorded, diagnosis, open_target, Silent())


@pytest.mark.parametrize("stage", [Run, Prepared, Recorded, Judged, Benched, Reported])
def test_a_stage_is_frozen(stage: type[Any]) -> None:
    made = object.__new__(stage)
    first = dataclasses.fields(stage)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, first, None)


def test_preparing_loads_the_baseline_and_runs_nothing(
    project_folder: Path, options: Options
) -> None:
    prepared = prepared_from(options())
    assert prepared.folder == Path("baselines/fake/s/bfloat16")
    assert prepared.baseline is not None
    assert not prepared.made
    assert prepared.recording_file == Path("reports/fake-s-bfloat16-fake.json")
    assert not Path("reports").exists()


def test_preparing_makes_a_missing_baseline_on_a_reference_only(
    project_folder: Path, options: Options
) -> None:
    elsewhere = {"baseline_dir": Path("other")}
    assert prepared_from(options(**elsewhere)).baseline is None
    made = prepared_from(options(device="fake-reference", **elsewhere))
    assert made.made
    assert made.baseline is not None
    assert (made.folder / "reference.json").is_file()
    assert not prepared_from(options(device="fake-reference", **elsewhere)).made


def test_preparing_refuses_a_report_inside_the_baseline(
    project_folder: Path, options: Options
) -> None:
    inside = Path("baselines/fake/s/bfloat16/x.html")
    with pytest.raises(UsageError, match="lies inside the input"):
        prepared_from(options(reports=(inside,)))


def test_one_baseline_itself_can_be_named(project_folder: Path, options: Options) -> None:
    folder = Path("baselines/fake/s/bfloat16")
    prepared = prepared_from(options(baseline_dir=folder, dtype="float16", allow_dtype=True))
    assert prepared.folder == folder
    assert record(prepared, Silent()).candidate.dtype == "float16"


def test_recording_keeps_the_rows_and_the_baseline(project_folder: Path, options: Options) -> None:
    prepared = prepared_from(options())
    recorded = record(prepared, Silent())
    assert recorded.prepared is prepared
    assert recorded.baseline is prepared.baseline
    assert [p.id for p in recorded.candidate.prompts] == ["alpha", "beta", "gamma", "delta"]
    assert prepared.recording_file.is_file()


def test_recording_without_a_baseline_keeps_the_rows_and_says_so(
    project_folder: Path, options: Options
) -> None:
    prepared = prepared_from(options(baseline_dir=Path("other")))
    with pytest.raises(BaselineError, match="no baseline, so nothing was judged"):
        record(prepared, Silent())
    assert prepared.recording_file.is_file()


def test_a_stale_baseline_is_seen_before_the_device_runs(
    project_folder: Path, options: Options
) -> None:
    stale = options(max_new_tokens=3)
    judged = judged_from(stale)
    assert judged.alignment.verdict == "NOT_COMPARABLE"
    assert not judged.recorded.prepared.recording_file.exists()
    first, *_ = write_reports(judged, None).closing_lines()
    assert first.startswith("stale baseline: baselines/fake/s/bfloat16; nothing was run")
    assert first.endswith(
        "pytest --device=fake-reference --model=fake --suite=s.yaml --max-new-tokens=3 "
        "--update-baselines"
    )


def test_judging_holds_the_command_and_what_the_doctor_said(
    project_folder: Path, options: Options
) -> None:
    judged = judged_from(options(), HOST)
    assert judged.alignment.reproduce == ("pytest --device=fake --model=fake --suite=s.yaml",)
    assert judged.alignment.host == HOST.facts
    assert judged.alignment.candidate.file == "reports/fake-s-bfloat16-fake.json"
    assert judged_from(options()).alignment.host == {}


def test_a_recording_of_another_host_gets_nothing_of_this_one(
    project_folder: Path, options: Options
) -> None:
    record(prepared_from(options()), Silent())
    there = Path("reports/fake-s-bfloat16-fake.json").rename("there.json")
    judged = judged_from(options(context=there, matrix=True, magnify=True), HOST)
    assert judged.alignment.host == {}
    assert judged.alignment.matrix == ()
    assert judged.alignment.magnifier is None


def test_reports_are_written_last_with_the_bench_at_the_end(
    project_folder: Path, options: Options
) -> None:
    judged = judged_from(options(device="fake-reference", update_baselines=True))
    assert not list(Path("reports").glob("*.html"))
    page = Path("reports/b.html")
    reported = write_reports(judged, Benched(bench=None, report=page))  # type: ignore[arg-type]
    html = Path("reports/fake-s-bfloat16-fake-reference.html")
    assert reported.files == (html, page)
    assert html.is_file()
    assert reported.closing_lines() == [
        "baseline made: baselines/fake/s/bfloat16; approve it by committing it",
        f"report: {html}",
        f"report: {page}",
    ]
