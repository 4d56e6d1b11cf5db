"""``harness report`` and the language of ``harness compare``."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from report_alignments import HOSTILE, alignment, arm

from harness.alignment.result import save_alignment
from harness.cli.main import main

ROOT = Path(__file__).parents[3]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    """Alignments of two devices as files."""
    paths = [tmp_path / "cpu.json", tmp_path / "npu.json"]
    save_alignment(alignment(text=HOSTILE), paths[0])
    save_alignment(alignment("DRIFT", candidate=arm("candidate", "npu")), paths[1])
    return [str(path) for path in paths]


def test_several_alignments_go_into_one_report(two: list[str], tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    assert run("report", *two, "--out", str(out), "--lang", "zh") == 0
    page = out.read_text("utf-8")
    assert page.count("<article") == 2
    assert '<html lang="zh">' in page


def test_the_locale_decides_the_language(
    two: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    run("report", two[0], "--out", str(tmp_path / "r.md"))
    assert "所有判据" in (tmp_path / "r.md").read_text("utf-8")


def test_an_unknown_language_is_wrong_usage(
    two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("report", two[0], "--out", str(tmp_path / "r.md"), "--lang", "fr") == 2
    assert "--lang fr: a report is in en (English) or zh (Chinese)" in capsys.readouterr().err
    assert not (tmp_path / "r.md").exists()


def test_compare_writes_in_the_language_and_to_the_step_summary(
    project_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    baseline = "baselines/fake/s/bfloat16"
    assert run("record", "--device", "fake", "--suite", "s.yaml", "--out", "npu.json") == 0
    done = run("compare", "npu.json", baseline, "--report", "r.md", "--lang=zh")
    assert done == 0
    for name in ("r.md", "summary.md"):
        assert "所有判据" in Path(name).read_text("utf-8")


@pytest.mark.process
def test_hash_seed_locale_and_time_zone_change_no_byte(two: list[str], tmp_path: Path) -> None:
    digests = set()
    for seed, locale, zone in (("1", "C", "UTC"), ("2", "zh_CN.UTF-8", "Asia/Shanghai")):
        out = tmp_path / f"{seed}.html"
        command = [sys.executable, "-m", "harness", "report", *two, "--lang", "en"]
        there = {"PYTHONHASHSEED": seed, "LC_ALL": locale, "TZ": zone, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [*command, "--out", str(out)], check=True, cwd=tmp_path, env=os.environ | there
        )
        digests.add(hashlib.sha256(out.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_figures_and_alignments_do_not_mix(
    two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = tmp_path / "bench.json"
    bench.write_text('{\n "schema": "harness.bench/1"\n}')
    out = ("--out", str(tmp_path / "r.html"))
    assert run("report", two[0], str(bench), *out) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a report can show one kind of file only: " in error
    assert f"{bench} is harness.bench/1; render each kind alone" in error
    assert run("report", str(tmp_path / "no.json"), str(bench), *out) == 2
    assert "no.json: cannot be read" in capsys.readouterr().err
