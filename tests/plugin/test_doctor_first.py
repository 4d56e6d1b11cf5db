"""``pytest --device`` asks the doctor first."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_project import PluginProject, usage_error

import harness.session.session
from harness.alignment.result import load_alignment
from harness.doctor.finding import Diagnosis
from harness.doctor.remedies import finding

no_card = pytest.mark.skipif(any(Path("/dev").glob("davinci*")), reason="there is a card")


@pytest.mark.process
@no_card
@pytest.mark.parametrize("device", ["npu", "hf-npu"])
def test_a_host_without_a_card_ends_the_run_with_the_findings(
    empty_project: PluginProject, device: str
) -> None:
    result = empty_project.run(device)
    assert result.ret == 2
    result.stdout.fnmatch_lines(
        [
            f"harness: doctor: {device}: not ready: *",
            "error: npu-missing",
            "  seen  no npu-smi, no /dev/davinci*",
            "  mend  *--device /dev/davinci0*",
            f"*harness: {device}: not ready: *--no-doctor to run anyway*",
        ]
    )
    result.assert_outcomes()  # nothing ran
    assert not (empty_project.path / "reports").exists()


@no_card
def test_collecting_asks_no_doctor(empty_project: PluginProject) -> None:
    result = empty_project.run("npu", "--collect-only", "-q")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*doctor*")


@no_card
def test_no_doctor_goes_on(empty_project: PluginProject) -> None:
    """Then the device itself says what is missing, here the model."""
    result = empty_project.run("npu", "--no-doctor", "--model=./none")
    assert result.ret == 2
    result.stdout.no_fnmatch_line("*doctor:*")
    result.stdout.fnmatch_lines(["*harness: *./none*"])


@no_card
def test_a_wrong_option_is_told_before_the_doctor_is_asked(empty_project: PluginProject) -> None:
    assert "--report x.pdf" in usage_error(empty_project.run("npu", "--report=x.pdf"))


def test_a_fake_device_has_no_doctor(project: PluginProject) -> None:
    result = project.run("fake")
    result.stdout.no_fnmatch_line("*doctor:*")
    assert project.alignment()["doctor"] == []
    assert project.alignment()["host"] == {}


def test_warnings_are_shown_and_go_into_the_alignment(
    project: PluginProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    warning = finding("determinism", "LCCL_DETERMINISTIC not set", exports="LCCL_DETERMINISTIC=1")
    made = Diagnosis("fake", {"card": {"kind": "Atlas A2"}}, (warning,))

    def examine(self: harness.session.session.Session) -> Diagnosis:
        self.diagnosis = made
        return made

    monkeypatch.setattr(harness.session.session.Session, "examine", examine)
    result = project.run("fake")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "harness: doctor: fake: ready, 1 other finding",
            "warning: determinism",
            "  mend  export LCCL_DETERMINISTIC=1",
        ]
    )
    read = load_alignment(project.path / "reports/fake-s-bfloat16-fake.alignment.json")
    assert read.doctor == (warning,)
    assert read.host == {"card": {"kind": "Atlas A2"}}
