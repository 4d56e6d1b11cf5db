"""The judgement of what a server tells: log-probabilities, or texts alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories import fake_baseline, fake_record, fake_suite, recording, text_run, told_rows
from factories import prompt as prompt_record

from harness.alignment.align import compare
from harness.alignment.outcomes import exit_status
from harness.alignment.result import Alignment, Gate, load_alignment, save_alignment
from harness.alignment.texts import first_difference
from harness.baseline.baseline import Baseline, check_arm
from harness.devices.facts import EngineFacts
from harness.devices.fake import FakeDevice
from harness.errors import BaselineError, UsageError
from harness.recording.context import Context
from harness.recording.format import PromptRecord, Recording, Run
from harness.recording.recorder import Options
from harness.recording.repeats import repeat_of
from harness.report.render import render

SUITE = fake_suite(prompts=6, tokens=8)
BASELINE = fake_baseline(SUITE)
CONTEXT = Context.of(BASELINE.reference)


def told(made: Recording, top: int = 20) -> Recording:
    """A recording as a server would have told it."""

    def run(of: Run | None) -> Run | None:
        return None if of is None else of.model_copy(update={"rows": told_rows(of.rows, top)})

    prompts = tuple(
        p.model_copy(update={"free": run(p.free), "forced": run(p.forced)}) for p in made.prompts
    )
    unknown = dict.fromkeys(("weights", "config", "tokenizer", "template"))
    model = made.model.model_copy(update=unknown)
    return made.model_copy(update={"prompts": prompts, "device": "server", "model": model})


def candidate(**options: object) -> Recording:
    return fake_record(FakeDevice(**options), SUITE, Options(context=CONTEXT, repeats=2))  # type: ignore[arg-type]


def gate(alignment: Alignment, name: str) -> Gate:
    return next(g for g in alignment.gates if g.name == name)


@pytest.mark.parametrize("seed", [3, 4])
def test_log_probabilities_of_a_correct_engine_are_aligned(seed: int) -> None:
    whole = compare(candidate(seed=seed), BASELINE)
    found = compare(told(candidate(seed=seed)), BASELINE)
    assert found.verdict == whole.verdict
    assert found.verdict in ("EQUIVALENT", "TOKEN_EXACT")
    assert found.error_ratio.value is None
    assert gate(found, "error_ratio").status == "NOT_RUN"
    assert "largest log-probabilities only" in gate(found, "error_ratio").sentence
    assert found.top_k_error_ratio.value == pytest.approx(whole.top_k_error_ratio.value, rel=1e-4)
    assert "error among the likeliest tokens" in found.sentence
    assert found.classes == whole.classes
    assert "One side does not know model.weights, so it was not checked." in found.warnings


def test_equal_log_probabilities_are_never_bit_exact() -> None:
    found = compare(told(candidate()), BASELINE)
    assert found.verdict == "TOKEN_EXACT"
    assert {e for p in found.prompts for e in p.positions.bit_equal} == {None}
    alone = compare(told(candidate()), BASELINE.reference)
    assert alone.verdict == "INCONCLUSIVE"
    assert compare(BASELINE.reference, told(candidate())).verdict == "INCONCLUSIVE"


def test_log_probabilities_of_a_broken_engine_are_not_aligned() -> None:
    found = compare(told(candidate(seed=5, fault="scale")), BASELINE)
    assert found.verdict in ("DIVERGENT", "DRIFT")
    assert exit_status(found.verdict) == 1
    assert gate(found, "top_k_error_ratio").status == "FAIL"


@pytest.mark.parametrize("top", [2, 5, 10])
def test_few_log_probabilities_raise_no_false_alarm(top: int) -> None:
    found = compare(told(candidate(seed=3), top), BASELINE)
    assert found.verdict not in ("DRIFT", "DIVERGENT")
    assert gate(found, "point_guard").status == "PASS"


def test_a_report_is_rendered_without_errors_over_the_vocabulary(tmp_path: Path) -> None:
    save_alignment(compare(told(candidate(seed=3)), BASELINE), tmp_path / "a.json")
    for suffix in ("html", "md"):
        render([load_alignment(tmp_path / "a.json")], tmp_path / f"a.{suffix}")
        assert "log-probabilities only" in (tmp_path / f"a.{suffix}").read_text("utf-8")


def test_a_repeat_is_told_from_the_largest_log_probabilities() -> None:
    first, other = (told(candidate(seed=s)).prompts[0].run for s in (3, 4))
    assert repeat_of("p", first, first).rows_equal == len(first.token_ids)
    again = repeat_of("p", first, other)
    assert again.rows_equal < again.rows_compared


def test_a_server_makes_no_arm_of_a_baseline() -> None:
    with pytest.raises(BaselineError, match="a baseline needs whole rows"):
        check_arm("reference", told(BASELINE.reference), BASELINE.reference)


def test_what_the_device_warned_of_stands_in_the_alignment() -> None:
    made = told(candidate())
    made = made.model_copy(update={"engine": EngineFacts(warning="the server samples")})
    assert "server: the server samples" in compare(made, BASELINE).warnings


# --- texts


def texts_of(made: Recording, changes: dict[str, str]) -> Recording:
    def only_text(p: PromptRecord) -> PromptRecord:
        text = changes.get(p.id, p.run.text)
        return PromptRecord(
            id=p.id, text=p.text, prompt_token_ids=p.prompt_token_ids, free=text_run(text)
        )

    prompts = tuple(map(only_text, made.prompts))
    return made.model_copy(update={"prompts": prompts, "device": "server"})


def test_equal_texts_are_inconclusive_and_counted() -> None:
    found = compare(texts_of(BASELINE.reference, {}), BASELINE)
    assert found.verdict == "INCONCLUSIVE"
    assert exit_status(found.verdict) == 3
    assert "6 of 6 are equal" in found.sentence
    assert "no token ids or logits" in found.sentence
    assert found.positions == 0
    statuses = {g.name: g.status for g in found.gates}
    assert statuses.pop("coverage") == "INCONCLUSIVE"
    assert set(statuses.values()) == {"NOT_RUN"}
    assert "determinism" in statuses


def test_another_text_shows_where() -> None:
    other = BASELINE.reference.prompts[1].run.text[:5] + "#and more"
    found = compare(texts_of(BASELINE.reference, {"p1": other}), BASELINE)
    assert found.verdict == "INCONCLUSIVE"
    assert "5 of 6 are equal; different: p1 from character 5 on ('#and more' against" in (
        found.sentence
    )


def test_texts_are_refused_like_everything_else_that_was_asked_differently() -> None:
    made = texts_of(BASELINE.reference, {})
    settings = made.settings.model_copy(update={"max_new_tokens": 9})
    found = compare(made.model_copy(update={"settings": settings}), BASELINE)
    assert found.verdict == "NOT_COMPARABLE"


def test_a_report_of_texts_is_rendered(tmp_path: Path) -> None:
    save_alignment(compare(texts_of(BASELINE.reference, {}), BASELINE), tmp_path / "a.json")
    for suffix in ("html", "md"):
        render([load_alignment(tmp_path / "a.json")], tmp_path / f"a.{suffix}")
        assert "6 of 6 are equal" in (tmp_path / f"a.{suffix}").read_text("utf-8")


def test_texts_cannot_be_followed() -> None:
    with pytest.raises(UsageError, match="holds text only"):
        Context.of(texts_of(BASELINE.reference, {}))


def test_against_a_recording_of_texts_only_texts_are_compared() -> None:
    found = compare(BASELINE.reference, Baseline(texts_of(BASELINE.reference, {})))
    assert "6 of 6 are equal" in found.sentence


@pytest.mark.parametrize(
    ("mine", "theirs", "place"),
    [
        ("abc", "abc", None),
        (" abc", "abc", None),
        ("abc\ufffd", "abc", None),
        ("abc", "abd", 2),
        ("ab", "abc", 2),
        ("", "x", 0),
        ("  abc", "abc", 0),
    ],
)
def test_texts_part_where_their_characters_do(mine: str, theirs: str, place: int | None) -> None:
    assert first_difference(mine, theirs) == place


def test_a_recording_may_hold_texts_of_a_few_prompts() -> None:
    made = recording([prompt_record("a", text_run("x"))])
    assert made.text_only
    assert not made.positions
