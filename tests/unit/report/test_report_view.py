"""What the templates show of an alignment."""

from __future__ import annotations

from report_alignments import alignment, arm, prompt

from harness.alignment.result import Gate
from harness.report.views.alignment import view
from harness.report.views.environment import compared_rows
from harness.statistics.intervals import Interval


def test_flips_and_error_ratio_are_computed_from_the_positions() -> None:
    shown = view(alignment(prompts=(prompt(flip=7), prompt("b"))))
    assert shown.flips == 1
    assert shown.diverged == "1 / 2"
    assert shown.prompts[1].error_ratio == "1.1"


def test_differing_fields_of_the_environment_stand_apart_from_equal_ones() -> None:
    shown = view(alignment(baseline=(arm("reference"), arm("control"))))
    assert [row.name for row in shown.differing] == ["engine.attention"]
    same = {row.name: row.values for row in shown.same}
    assert same["environment.driver"] == ("unknown",) * 3
    assert same["model.config.rope.theta"] == ("10000.0",) * 3
    assert same["load.load_s"] == ("1.25", "1.5", "1.5")


def test_a_setting_that_only_one_engine_has_is_no_difference() -> None:
    """A variable that only one side has set is one."""
    candidate = arm("candidate")
    engine = candidate.engine.model_copy(update={"block_size": 128})
    environment = {**candidate.environment, "VLLM_X": "1"}
    made = candidate.model_copy(update={"engine": engine, "environment": environment})
    shown = view(alignment(candidate=made))
    assert [row.name for row in shown.one_sided] == ["engine.block_size"]
    assert shown.one_sided[0].values[0] == "128"
    assert "environment.VLLM_X" in [row.name for row in shown.differing]
    assert "engine.block_size" not in [row.name for row in (*shown.differing, *shown.same)]


def test_an_arm_is_said_to_have_run_on_its_accelerator() -> None:
    """Its host's processor says nothing of the bits; without one it does."""
    environment = {**arm("candidate").environment, "accelerator": "Ascend910B2"}
    made = arm("candidate").model_copy(update={"environment": environment})
    device = next(r for r in compared_rows(alignment(candidate=made)) if r.name == "device")
    assert device.values == ("hf-cpu (Ascend910B2)", "hf-cpu (hf-cpu)")


def test_the_hero_figures_carry_the_verdict() -> None:
    ratio, beyond, flips = view(alignment()).hero
    assert (ratio.value, ratio.note.en) == ("1.02×", "95 % interval 0.98 to 1.07; limit 1.5")
    assert (beyond.value, beyond.note.en, beyond.tone) == ("1", "of 48 judged; limit 0", "bad")
    assert (flips.value, flips.note.zh) == ("1", "共 48 个位置：上文相同而词元不同（2.08 %）")


def test_a_refusal_shows_how_many_fields_differ_instead() -> None:
    (only,) = view(alignment("NOT_COMPARABLE", prompts=())).hero
    assert (only.label, only.value, only.note.en) == ("hero.fields", "1", "dtype hf-cpu")


def test_without_a_class_nothing_is_said_to_be_within_tolerance() -> None:
    one = prompt(count=4)
    nothing = one.positions.model_copy(update={"class_": [None] * 4})
    shown = view(alignment(prompts=(one.model_copy(update={"positions": nothing}),)))
    assert shown.hero[1].value == "—"
    assert shown.beyond is None


def test_performance_shows_units_ratio_and_samples() -> None:
    shown = view(alignment()).performance
    figures = {row.key: row for row in shown.rows}
    assert figures["ttft_s"].candidate == "31 ms"
    assert figures["total_tok_s"].candidate == "76.54"
    assert figures["load_s"].ratio == "—"
    assert figures["decode_tok_s"].better == "better.higher"
    assert "32 requests and 2,016 gaps" in shown.samples.en
    assert not shown.void
    assert view(alignment("DRIFT")).performance.void


def test_details_go_to_the_worst_prompts_as_far_as_the_budget_does() -> None:
    good = [prompt(f"good-{n}", count=4) for n in range(30)]
    bad, flip = prompt("bad", verdict="DRIFT", bad=3), prompt("flip", flip=3)
    found = alignment("DRIFT", prompts=(*good, flip, bad))
    shown = view(found, budget=60_000)
    assert {31, 30} <= set(shown.embedded)
    assert 2 < len(shown.embedded) < 32
    assert list(shown.embedded) == sorted(shown.embedded)
    assert [p.entry for p in shown.prompts if p.entry is not None] == list(
        range(len(shown.embedded))
    )
    assert view(found, budget=1).embedded == (31,)
    assert view(found).embedded == tuple(range(32))


def test_a_device_that_cannot_tell_bits_or_errors_is_shown_by_dashes() -> None:
    one = prompt(count=4, flip=1)
    gone = one.positions.model_copy(
        update={"error": [None] * 4, "bit_equal": [None] * 4, "candidate_top": [[]] * 4}
    )
    shown = view(alignment(prompts=(one.model_copy(update={"positions": gone}),))).prompts[0]
    assert shown.position is not None
    assert (shown.position.error, shown.position.bit_equal) == ("—", "—")
    assert shown.position.candidate_top == ()
    assert shown.error_ratio == "—"


def gates(**statuses: str) -> tuple[Gate, ...]:
    return tuple(
        Gate(name=name, status=status, value=None, limit=None, sentence=f"{name} says so")  # type: ignore[arg-type]
        for name, status in statuses.items()
    )


def test_gates_that_failed_come_first_where_the_other_figures_look_good() -> None:
    found = gates(error_ratio="PASS", bias="INCONCLUSIVE", slope="PASS", determinism="FAIL")
    shown = view(alignment("NON_DETERMINISTIC", gates=found))
    first, *rest = shown.hero
    assert (first.label, first.value, first.note.en, first.tone) == (
        "hero.failed", "1", "determinism", "bad",
    )  # fmt: skip
    assert len(rest) == 3
    assert [gate.name for gate in shown.gates] == ["determinism", "bias", "error_ratio", "slope"]


def test_gates_that_are_open_are_named_where_none_failed() -> None:
    found = gates(error_ratio="PASS", bias="INCONCLUSIVE", slope="INCONCLUSIVE")
    first = view(alignment("INCONCLUSIVE", gates=found)).hero[0]
    assert (first.label, first.value, first.note.zh) == ("hero.undecided", "2", "bias, slope")


def test_a_figure_that_is_missing_says_why_as_its_gate_does() -> None:
    nothing = Interval(value=None, low=None, high=None)
    found = gates(error_ratio="NOT_RUN", nonfinite="FAIL")
    shown = view(alignment("DIVERGENT", gates=found, error_ratio=nothing))
    assert shown.hero[1].note.en == "error_ratio says so"


def test_the_reasons_come_before_what_was_compared_but_for_a_refusal() -> None:
    parts = view(alignment()).parts
    assert parts.index("gates") < parts.index("prompts") < parts.index("compared")
    assert view(alignment("NOT_COMPARABLE", prompts=())).parts[0] == "compared"
