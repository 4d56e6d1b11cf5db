"""The command, also where nothing is installed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from doctor_host import FakeAscend

from harness.doctor import diagnose
from harness.doctor.command import run
from harness.doctor.finding import SCHEMA, Diagnosis
from harness.doctor.remedies import ENTRIES, finding
from harness.doctor.text import outcome, render

ROOT = Path(__file__).parents[3]


def bare(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """``python -S -m harness.doctor`` in an empty environment: no package at all."""
    return subprocess.run(
        [sys.executable, "-S", "-W", "error", "-m", "harness.doctor", *arguments],
        cwd=ROOT,
        env={},
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(any(Path("/dev").glob("davinci*")), reason="there is a card")
def test_a_bare_checkout_without_a_card_is_not_ready_for_the_npu() -> None:
    ended = bare("--device", "npu", "--json")
    assert ended.returncode == 1
    found = json.loads(ended.stdout)
    assert found["schema"] == SCHEMA
    assert found["ready"] is False
    assert [f["code"] for f in found["findings"]] == ["npu-missing", "package-missing"]
    assert set(found["findings"][0]) == {"code", "severity", "seen", "why", "remedy", "sources"}
    assert ended.stderr == ""


def test_a_bare_checkout_without_a_device_only_tells() -> None:
    ended = bare()
    assert ended.returncode == 0
    assert "Python" in ended.stdout
    assert ended.stdout.rstrip().endswith("this host: ready")


@pytest.mark.parametrize("limit", ["nan", "inf", "0", "-1", "1e300", "x"])
def test_a_limit_that_no_process_can_be_waited_for_is_wrong_usage(limit: str) -> None:
    ended = bare("--device", "fake", f"--limit-s={limit}")
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].endswith(f"'{limit}': give seconds from 1 to 86400")


def test_a_missing_package_of_the_cpu_device_is_named_with_its_command() -> None:
    ended = bare("--device", "hf-cpu")
    assert ended.returncode == 1
    assert "seen  not installed: torch, transformers" in ended.stdout
    assert "mend  pip install 'accelerator-parity-harness[hf]'" in ended.stdout


def test_an_unknown_device_is_wrong_usage() -> None:
    ended = bare("--device", "tpu")
    assert ended.returncode == 2
    assert "tpu" in ended.stderr
    with pytest.raises(ValueError, match="tpu"):
        diagnose("tpu")


def test_a_log_is_explained_from_a_file_and_from_stdin(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes(b"\xff\xfe noise\nEI0006: late\n")
    ended = bare("--log", str(log))
    assert ended.returncode == 1
    assert "error: hccl-timeout" in ended.stdout
    assert "mend  export HCCL_CONNECT_TIMEOUT=600" in ended.stdout
    again = bare("--log", "-", stdin="Permission mismatch: The owner of /x does not match.")
    assert again.returncode == 0
    assert "harmless: owner-mismatch" in again.stdout
    assert "mend  nothing to do" in again.stdout
    assert bare("--log", "-").stdout == "the doctor recognises no message here\n"


def test_a_log_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    ended = bare("--log", str(tmp_path / "none"))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "No such file" in ended.stderr


@pytest.mark.parametrize("more", [[], ["--bundle", "b.zip"]])
def test_only_the_standard_library_is_loaded(more: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom harness.doctor.command import main\n"
        f"main(['--device', 'server', *{more}])\n"
        "mine = {n for n in sys.modules if n.startswith('harness') and '.doctor' not in n}\n"
        "rooms = {n.split('.')[1] for n in mine - {'harness'}}\n"
        "assert rooms == {'process', 'version', 'errors'}, mine\n"
        "roots = {n.partition('.')[0] for n in sys.modules} - {'harness', '__main__'}\n"
        "strange = {n for n in roots - set(sys.stdlib_module_names) if not n.startswith('_')}\n"
        "assert not strange, strange\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


def test_a_quick_examination_starts_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    host = FakeAscend(tmp_path)
    host.no_command("lspci")
    monkeypatch.setattr(subprocess, "Popen", refuse)
    found = diagnose("hf-cpu", host.host(), quick=True)
    assert found.findings == ()
    assert found.facts["machine"]["processor"] == "Kunpeng-920"


def test_every_entry_can_be_shown() -> None:
    findings = tuple(finding(code, "seen here") for code in ENTRIES)
    text = render(Diagnosis("npu", {"card": {"kind": "Atlas A2"}}, findings), colour=True)
    for code, entry in ENTRIES.items():
        assert f"{entry.severity}: {code}\x1b[0m" in text
    assert "card:\n  kind  Atlas A2" in text


def test_the_outcome_counts() -> None:
    error, warning = finding("nnal", "x"), finding("npu-hot", "x")
    assert outcome(Diagnosis("npu")) == "npu: ready"
    assert outcome(Diagnosis(None, {}, (warning,))) == "this host: ready, 1 other finding"
    both = Diagnosis("npu", {}, (error, warning))
    assert outcome(both) == "npu: not ready: 1 error, 1 other finding"


def test_json_is_strict_and_remedies_are_never_wrapped() -> None:
    out = io.StringIO()
    run("server", as_json=True, out=out)
    assert json.loads(out.getvalue())["ready"] is True
    long = finding("npu-missing", "x")
    assert f"  mend  {long.remedy}\n" in render(Diagnosis("npu", {}, (long,)))


def test_colour_only_on_a_terminal() -> None:
    out = io.StringIO()
    run("server", out=out)
    assert "\x1b" not in out.getvalue()
