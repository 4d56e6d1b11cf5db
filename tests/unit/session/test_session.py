from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import BaselineError, HarnessError, SuiteError, UsageError
from harness.session.session import Session

Make = Callable[..., Session]


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"device": "tpu"}, UsageError, "unknown device 'tpu'"),
        ({"suite": "nosuch"}, SuiteError, "no such suite"),
        ({"update_baselines": True}, UsageError, "--update-baselines"),
        ({"reports": (Path("x.docx"),)}, UsageError, "x.docx"),
        ({"lang": "fr"}, UsageError, "--lang fr"),
        ({"max_new_tokens": 0}, UsageError, "at least 1"),
    ],
)
def test_making_a_session_checks_the_options(
    session: Make, changes: dict[str, object], error: type[HarnessError], told: str
) -> None:
    with pytest.raises(error, match=told):
        session(**changes)


def test_making_a_session_runs_nothing(session: Make, project_folder: Path) -> None:
    made = session()
    assert (made.judged, made.benched, made.reported) == (None, None, None)
    assert not (project_folder / "reports").exists()


def test_without_a_judgement_nothing_is_reported(session: Make, project_folder: Path) -> None:
    made = session()
    assert made.report() is None
    assert made.reported is None
    assert not (project_folder / "reports").exists()


def test_everything_happens_once(session: Make) -> None:
    made = session()
    first = made.judge()
    file = first.recorded.prepared.recording_file
    stamp = file.stat().st_mtime_ns
    assert made.judge() is first
    assert made.target() is first.recorded.prepared.target
    assert file.stat().st_mtime_ns == stamp
    assert made.judged is first
    assert first.recorded.candidate.device == "fake"


def test_without_a_baseline_the_error_holds_every_option_of_the_makers(session: Make) -> None:
    made = session(
        baseline_dir=Path("other"),
        dtype="float16",
        max_new_tokens=3,
        allow_dtype=True,
        trust_remote_code=True,
    )
    with pytest.raises(BaselineError) as refused:
        made.judge()
    _, _, commands = str(refused.value).partition("Judge it with: ")
    assert commands == (
        "harness baseline make --device fake-reference --model fake --dtype float16 "
        "--trust-remote-code --suite s.yaml --context reports/fake-s-float16-fake.json "
        "--baseline-dir other --max-new-tokens 3 && "
        "harness compare reports/fake-s-float16-fake.json other/fake/s/float16 --allow-dtype"
    )
    assert Path("reports/fake-s-float16-fake.json").is_file()
    assert made.judged is None


def test_only_selected_prompts_run(session: Make) -> None:
    made = session()
    made.select(frozenset({"gamma"}), asks_verdict=False)
    judged = made.judge()
    assert [p.id for p in judged.alignment.prompts] == ["gamma"]
    # A few prompts must not replace the recording of a whole run.
    assert judged.recorded.prepared.recording_file.stem == "fake-s-bfloat16-fake-selected"


def test_the_closing_lines_tell_where_to_look(session: Make) -> None:
    made = session(reports=(Path("x.md"),))
    made.judge()
    reported = made.report()
    assert reported is not None
    assert reported is made.reported
    lines = ["report: reports/fake-s-bfloat16-fake.html", "report: x.md"]
    assert reported.closing_lines() == lines
    assert Path("x.md").is_file()
    assert Path("reports/fake-s-bfloat16-fake.alignment.json").is_file()
