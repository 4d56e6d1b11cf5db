"""Properties for JUnit XML."""

from __future__ import annotations

from report_alignments import alignment, prompt

from harness.report.properties import alignment_properties, gate_properties, prompt_properties


def test_a_gate_has_its_status_value_and_interval() -> None:
    found = alignment()
    assert dict(gate_properties(found.gates[0])) == {
        "harness.error_ratio.status": "PASS",
        "harness.error_ratio": 1.0213456,
        "harness.error_ratio.low": 0.98,
        "harness.error_ratio.high": 1.07,
        "harness.error_ratio.threshold": 1.5,
    }
    assert dict(gate_properties(found.gates[2])) == {"harness.bias.status": "NOT_RUN"}


def test_a_prompt_has_its_verdict_and_the_position_to_look_at() -> None:
    found = dict(prompt_properties(prompt(flip=7)))
    assert found["harness.prompt.verdict"] == "EQUIVALENT"
    assert found["harness.prompt.first_divergence"] == 7
    assert found["harness.prompt.flips"] == 1
    assert "harness.prompt.first_divergence" not in dict(prompt_properties(prompt()))


def test_an_alignment_has_its_verdict_and_what_it_is_about() -> None:
    found = dict(alignment_properties(alignment("DRIFT")))
    assert found["harness.verdict"] == "DRIFT"
    assert found["harness.error_ratio.high"] == 1.07
    assert found["harness.suite"] == "mixed"
