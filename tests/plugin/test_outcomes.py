"""What a correct, a broken and an unsteady device end in, and what they print."""

from __future__ import annotations

import pytest
from plugin_project import HELD, TESTS, PluginProject


def test_another_correct_engine_passes(project: PluginProject) -> None:
    result = project.run("fake", "--engine-arg=seed=4")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(**HELD)
    result.stdout.fnmatch_lines(["EQUIVALENT: *2 of 24 tokens flip.", "  PASS * error_ratio: *"])
    assert project.alignment()["classes"] == {"EXACT": 22, "NEAR_TIE": 1, "TIE": 1}


def test_the_summary_names_verdict_gates_and_report_in_this_order(project: PluginProject) -> None:
    result = project.run("fake", "--engine-arg=seed=4")
    result.stdout.fnmatch_lines(
        [
            "=* harness: fake, smollm2, s =*",
            "EQUIVALENT: *",
            "  PASS * error_ratio: *",
            "  NOT_RUN * error_ratio_prefill: *shown, not gated: 4 prompts*",
            "  NOT_RUN * error_ratio_decode: *shown, not gated: 4 prompts*",
            "  PASS * top_k_error_ratio: *",
            "  PASS * prompt_guard: *",
            "  PASS * row_guard: *",
            "  PASS * place_guard: *",
            "  PASS * point_guard: *",
            "  PASS * exceedance: *",
            "  PASS * flip_calibration: *",
            "  PASS * greedy: Each of 24 tokens that the device chose is the largest of its row.",
            "  PASS * bias: *",
            "  PASS * bucket: *",
            "  PASS * direction: *",
            "  PASS * slope: *",
            "  PASS * row_slope: *",
            "  PASS * nonfinite: *",
            "  PASS * masks: *",
            "  PASS * coverage: *",
            "  PASS * determinism: *",
            "  PASS * stops: *",
            "  warning: The suite has 4 prompts: too few to judge prefill and decode separately*",
            "report: reports/fake-s-bfloat16-fake.html",
            "=* 27 passed, 2 skipped in *",
        ],
        consecutive=True,
    )


def test_too_large_an_error_fails(project: PluginProject) -> None:
    result = project.run("fake", "--engine-arg=fault=scale")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "error_ratio: FAIL: Error over the whole vocabulary: * times *, more than 1.5.",
            "DIVERGENT: *",
        ]
    )
    assert project.alignment()["verdict"] == "DIVERGENT"


def test_a_failing_prompt_says_all_that_is_needed(project: PluginProject) -> None:
    result = project.run("fake", "--engine-arg=fault=scale")
    result.stdout.fnmatch_lines(
        [
            "beta: DIVERGENT at position 1 of 6; the free run left the context at 1",
            "  margin 1.*, shift -1.*, tolerance * (logits)",
            "  context *|>><*><<|*",
            "  candidate *|>><*><<|*",
            "  top 5 of the reference  *",
            "  top 5 of the candidate  *",
            "  repeat it: pytest -p harness.plugin --device=fake *-k 'test_prompt[[]beta]'",
        ],
        consecutive=True,
    )
    lines = [line for line in result.stdout.lines if line.startswith("  top 5 of the ")]
    assert lines
    assert all(line.count("'<") == 5 for line in lines)


def test_the_printed_command_repeats_the_failure(project: PluginProject) -> None:
    first = project.run("fake", "--engine-arg=fault=scale")
    told = next(line for line in first.stdout.lines if "repeat it: " in line and "beta" in line)
    _, _, command = told.partition("repeat it: pytest -p harness.plugin ")
    before, _, selection = command.partition(" -k ")
    again = project.plain(*before.split(), "-k", selection.strip("'"))
    again.assert_outcomes(failed=1, deselected=TESTS - 1)
    again.stdout.fnmatch_lines(["beta: DIVERGENT at position 1 of 6; *"])


def test_nan_logits_fail(project: PluginProject) -> None:
    result = project.run("fake", "--engine-arg=fault=nan")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "nonfinite: FAIL: 4 of 24 rows hold NaN or infinite logits, "
            "first at position 5 of prompt alpha.",
            "alpha: NONFINITE at position 5 of 6",
        ]
    )


def test_an_unsteady_device_passes_with_a_warning(project: PluginProject) -> None:
    result = project.run("fake", "--engine-arg=fault=unsteady", "--engine-arg=seed=5")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(**HELD)
    result.stdout.fnmatch_lines(
        ["  WARN * determinism: 12 of 12 rows differ *", "  warning: 12 of 12 rows differ *"]
    )


def test_an_interrupted_run_ends_with_status_two(
    project: PluginProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.devices.fake.FakeDevice._row", interrupt)
    # In process, pytester would hand the interrupt on to the run that tests it.
    result = project.pytester.inline_run(
        "-p", "harness.plugin", "--device=fake", "--suite=s.yaml", no_reraise_ctrlc=True
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
