from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from harness.devices.spec import DeviceSpec
from harness.errors import BaselineError, HarnessError, SuiteError, UsageError
from harness.process.progress import Silent
from harness.session.options import RunOptions
from harness.session.session import Session


def _session(**changes: object) -> Session:
    named = {field.name for field in fields(DeviceSpec)}
    spec: dict[str, Any] = {"device": "fake", "model": "fake"}
    spec |= {name: changes.pop(name) for name in named & changes.keys()}
    options: dict[str, Any] = {"suite": "s.yaml", **changes}
    return Session(RunOptions(DeviceSpec(**spec), **options), Silent())


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"device": "tpu"}, UsageError, "no device 'tpu'"),
        ({"suite": "nosuch"}, SuiteError, "no such suite"),
        ({"update_baselines": True}, UsageError, "--update-baselines"),
        ({"reports": (Path("x.docx"),)}, UsageError, "x.docx"),
        ({"max_new_tokens": 0}, UsageError, "at least 1"),
    ],
)
def test_making_a_session_checks_the_options(
    project_folder: Path, changes: dict[str, object], error: type[HarnessError], told: str
) -> None:
    with pytest.raises(error, match=told):
        _session(**changes)


def test_making_a_session_runs_nothing(project_folder: Path) -> None:
    session = _session()
    assert not session.has_alignment
    with pytest.raises(AttributeError):
        _ = session.candidate
    assert not (project_folder / "reports").exists()


def test_everything_happens_once(project_folder: Path) -> None:
    session = _session()
    first = session.alignment
    stamp = session.recording_path.stat().st_mtime_ns
    assert session.alignment is first
    assert session.recording_path.stat().st_mtime_ns == stamp
    assert session.has_alignment
    assert session.candidate.device == "fake"


def test_the_command_repeats_every_option_that_matters(project_folder: Path) -> None:
    session = _session(
        dtype="float16",
        max_new_tokens=3,
        engine_args={"seed": "4", "fault": "none"},
        context=Path("a b.json"),
        baseline_dir=Path("other"),
        allow_weights=True,
        allow_dtype=True,
        trust_remote_code=True,
    )
    assert session.command("alpha") == (
        "pytest --device=fake --model=fake --dtype=float16 --engine-arg=seed=4 "
        "--engine-arg=fault=none --trust-remote-code --suite=s.yaml --max-new-tokens=3 "
        "'--context=a b.json' --baseline-dir=other --allow-weights --allow-dtype "
        "-k 'test_prompt[alpha]'"
    )


def test_without_a_baseline_the_error_holds_every_option_of_the_makers(
    project_folder: Path,
) -> None:
    session = _session(
        baseline_dir=Path("other"),
        dtype="float16",
        max_new_tokens=3,
        allow_dtype=True,
        trust_remote_code=True,
    )
    with pytest.raises(BaselineError) as refused:
        _ = session.alignment
    _, _, commands = str(refused.value).partition("Judge it with: ")
    assert commands == (
        "harness baseline make --device fake-reference --model fake --dtype float16 "
        "--trust-remote-code --suite s.yaml --context reports/fake-s-float16-fake.json "
        "--baseline-dir other --max-new-tokens 3 && "
        "harness compare reports/fake-s-float16-fake.json other/fake/s/float16 --allow-dtype"
    )
    assert session.recording_path.is_file()
    assert not session.has_alignment


def test_only_selected_prompts_run(project_folder: Path) -> None:
    session = _session()
    session.select(frozenset({"gamma"}))
    assert [p.id for p in session.alignment.prompts] == ["gamma"]


def test_the_closing_lines_tell_where_to_look(project_folder: Path) -> None:
    session = _session(reports=(Path("x.md"),))
    _ = session.alignment
    assert session.closing_lines() == ["report: reports/fake-s-bfloat16-fake.html", "report: x.md"]
    session.write_reports()
    assert Path("x.md").is_file()
    assert Path("reports/fake-s-bfloat16-fake.alignment.json").is_file()
