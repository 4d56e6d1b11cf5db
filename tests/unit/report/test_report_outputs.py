"""Files that a judgement is written to: checked first, written last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from factories import fake_baseline, fake_record, fake_suite

from harness.alignment.align import compare
from harness.alignment.result import Alignment, load_alignment
from harness.devices.fake import FakeDevice
from harness.errors import HarnessError, UsageError
from harness.recording.context import Context
from harness.recording.recorder import Options
from harness.report.outputs import NOWHERE, Outputs


@pytest.fixture(scope="module")
def alignment() -> Alignment:
    suite = fake_suite(prompts=2, tokens=4)
    baseline = fake_baseline(suite)
    options = Options(context=Context.of(baseline.reference))
    return compare(fake_record(FakeDevice(seed=3), suite, options), baseline)


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    """Every kind of file."""
    names = ("r.html", "r.md", "r.json")
    reports = tuple(tmp_path / name for name in names)
    return Outputs(tmp_path / "a.json", reports, tmp_path / "t.csv", "zh")


def test_checking_writes_nothing(outputs: Outputs, tmp_path: Path) -> None:
    outputs.check()
    assert list(tmp_path.iterdir()) == []


def test_every_file_is_written_in_its_language(
    outputs: Outputs, alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    outputs.write(alignment)
    assert load_alignment(tmp_path / "a.json") == load_alignment(tmp_path / "r.json") == alignment
    assert '<html lang="zh">' in (tmp_path / "r.html").read_text("utf-8")
    assert "所有判据" in (tmp_path / "r.md").read_text("utf-8")
    assert "所有判据" in (tmp_path / "summary.md").read_text("utf-8")
    rows = (tmp_path / "t.csv").read_text("utf-8").splitlines()
    assert len(rows) == 1 + alignment.positions


def test_nowhere_writes_nothing(
    alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    NOWHERE.check()
    NOWHERE.write(alignment)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: Outputs(reports=(p / "r.pdf",)), "r.pdf: the suffix must be .html, .md or .js"),
        (lambda p: Outputs(table=p / "t.xlsx"), "t.xlsx: a table must be .csv or .parquet"),
        (lambda p: Outputs(lang="fr"), "--lang fr: a report is in en"),
        (lambda p: Outputs(json=p / "a.json", reports=(p / "a.json",)), "two outputs go to this"),
        (lambda p: Outputs(json=p / "in.json"), "is the input"),
        (lambda p: Outputs(table=p / "baseline/t.csv"), "lies inside the input"),
        (lambda p: Outputs(json=p / "in.json/a.json"), "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused_first(
    make: Callable[[Path], Outputs], told: str, tmp_path: Path
) -> None:
    (tmp_path / "in.json").write_text("{}", "utf-8")
    (tmp_path / "baseline").mkdir()
    with pytest.raises(UsageError, match=told):
        make(tmp_path).check([tmp_path / "in.json", tmp_path / "baseline", None])


def test_kinds_are_checked_without_looking_at_the_disk(tmp_path: Path) -> None:
    Outputs(json=tmp_path / "no/such/a.json", reports=(Path("/proc/x.html"),)).check_kinds()
    with pytest.raises(UsageError, match="the suffix must be"):
        Outputs(reports=(Path("x.docx"),)).check_kinds()


def test_inputs_can_be_refused_alone(tmp_path: Path) -> None:
    inside = Outputs(reports=(tmp_path / "x.html",))
    inside.refuse([None])
    with pytest.raises(UsageError, match="lies inside the input"):
        inside.refuse([tmp_path])


def test_a_file_that_fails_later_is_an_error_of_the_harness(
    alignment: Alignment, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HarnessError, match="cannot be written"):
        Outputs(json=tmp_path / "file/a.json").write(alignment)
