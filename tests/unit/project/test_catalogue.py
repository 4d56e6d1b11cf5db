from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from benchmarks.catalogue.entries import Entry, correct_variations, faults, output_rows
from benchmarks.catalogue.judging import SIZES, Judged, Judges
from benchmarks.catalogue.run import BASELINE, first_positions
from benchmarks.catalogue.table import Diagnosed, tables, write
from benchmarks.catalogue.workbench import penalized, with_choices
from harness.baseline.baseline import Baseline
from harness.baseline.folder import load_baseline
from harness.devices.base import Request
from harness.recording.format import Recording
from tests.unit.factories import RNG, VOCABULARY, arms, forced_recording

HEADS = {name: (index, index) for index, name in enumerate(("strongest", "median", "weakest"))}


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return load_baseline(BASELINE)


@pytest.fixture(scope="module")
def entries(baseline: Baseline) -> list[Entry]:
    return [*correct_variations(), *faults(baseline, HEADS)]


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges(arms(prompts=36), draws=5)


def candidate(judges: Judges, noise: float) -> Recording:
    """The oracle's rows with noise, on the reference's tokens."""
    random, reference = RNG(3), judges.baseline.reference
    exact = np.random.default_rng(7)  # the generator of factories.arms
    rows = {
        p.id: (
            3 * exact.standard_normal((4, VOCABULARY))
            + noise * random.standard_normal((4, VOCABULARY))
        ).astype(np.float32)
        for p in reference.prompts
    }
    return forced_recording(rows, reference)


def test_every_entry_has_a_file_of_its_own(entries: list[Entry]) -> None:
    assert len({entry.key for entry in entries}) == len(entries)


def test_severities_of_a_family_stand_together(entries: list[Entry]) -> None:
    families = [name for name, _ in groupby(e.family for e in entries)]
    assert len(set(families)) == len(families)


def test_correct_variations_do_nothing_to_weights_prompts_or_choices(
    entries: list[Entry],
) -> None:
    for entry in entries:
        if entry.correct:
            assert entry.edit is None
            assert entry.penalty is None
            assert not entry.must


def test_a_rare_output_row_is_never_among_the_likeliest(baseline: Baseline) -> None:
    rows = [p.run.rows.top_ids for p in baseline.reference.prompts]
    seen = np.bincount(np.concatenate(rows).ravel(), minlength=49152)
    tokens = output_rows(baseline)
    assert seen[tokens["rare"]] == 0 < seen[tokens["uncommon"]] < seen[tokens["common"]]


def test_a_shortened_baseline_keeps_the_first_positions_of_every_arm(baseline: Baseline) -> None:
    for (_, short), (_, whole) in zip(
        first_positions(baseline, 5).arms(), baseline.arms(), strict=True
    ):
        for a, b in zip(short.prompts, whole.prompts, strict=True):
            assert a.run.token_ids == b.run.token_ids[:5]
            assert a.run.rows.digest.tobytes() == b.run.rows.digest[:5].tobytes()


def test_a_repetition_penalty_divides_positive_logits_and_multiplies_negative_ones() -> None:
    request = Request("p", (0,), "forced-prefill", 2, forced_token_ids=(1, 2))
    logits = np.array([[3.0, 2.0, 1.0], [-1.0, -1.0, -1.5]], np.float32)
    # Row 0 knows token 0, row 1 tokens 0 and 1: 1.5 < 2, and -2 < -1.5.
    assert penalized(logits, request, 2.0).tolist() == [1, 2]
    assert penalized(logits, request, 1.0).tolist() == [0, 0]


def test_other_choices_become_a_free_run_that_ends_with_the_first_of_them(judges: Judges) -> None:
    made = candidate(judges, 0.0)
    chosen = {p.id: np.array(p.run.token_ids) for p in made.prompts}
    first = made.prompts[0].id
    other = (chosen[first][2] + 1) % VOCABULARY
    chosen[first] = np.array([*chosen[first][:2], other, 0])
    changed = with_choices(made, chosen).prompts[0]
    assert changed.free is not None
    assert changed.free.token_ids == (*made.prompts[0].run.token_ids[:2], other)
    assert changed.forced == made.prompts[0].forced


def test_noise_like_the_references_is_no_failure_and_ten_times_it_always_is(
    judges: Judges,
) -> None:
    good = judges.judge(Entry("good", correct=True), candidate(judges, 0.05))
    bad = judges.judge(Entry("bad"), candidate(judges, 0.5))
    assert all(good.failed[size] == 0.0 for size in SIZES)
    assert all(bad.failed[size] == 1.0 for size in SIZES)
    assert bad.by_gate["error_ratio"] == 1.0


def test_the_two_other_rules_look_at_the_first_other_token(judges: Judges) -> None:
    made = candidate(judges, 0.0)
    chosen = {p.id: np.array(p.run.token_ids) for p in made.prompts}
    rows = made.prompts[0].run.rows.top_ids[1]
    likely, unlikely = int(rows[1]), int(rows[-1])
    first = made.prompts[0].id
    for token, close in ((likely, True), (unlikely, False)):
        chosen[first] = np.array([chosen[first][0], token, *chosen[first][2:]])
        found = judges.judge(Entry("choice"), with_choices(made, chosen))
        assert not found.equal_tokens
        assert found.close is close


def line(severity: str, failed: float, close: float = 0.0) -> Judged:
    by_size = dict.fromkeys(SIZES, failed)
    return Judged(
        *("fault", severity, False, False, "DRIFT", 1, 10, False, True),
        figures={"error_ratio": 2.0, "slope": None},
        gates={},
        failed=by_size,
        undecided=dict.fromkeys(SIZES, 0.0),
        unequal=dict.fromkeys(SIZES, 1.0),
        not_close=dict.fromkeys(SIZES, close),
        by_gate={"slope": failed},
    )


def test_the_smallest_severity_is_the_last_before_the_first_that_is_missed() -> None:
    judged = [line("much", 1.0), line("some", 0.95), line("little", 0.9), line("least", 1.0)]
    assert "| fault | some | none | least |" in list(tables(judged))


def test_writing_the_tables_again_keeps_the_words_around_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- tables: begin -->\noutdated\n<!-- tables: end -->\nafter\n")
    for severity in ("much", "more"):
        write([line(severity, 1.0)], [], {}, page, tmp_path / "results" / "found.json")
    text = page.read_text()
    assert text.startswith("before\n<!-- tables: begin -->\n")
    assert text.endswith("<!-- tables: end -->\nafter\n")
    assert "outdated" not in text
    assert "much" not in text
    assert "more" in text


def test_a_fault_that_was_diagnosed_shows_whether_and_what_was_named() -> None:
    judged = [line(severity, 0.0) for severity in ("named", "another", "hidden", "unknown", "new")]
    known = {
        "fault-fault-named": Diagnosed(told=True, rank=1),
        "fault-fault-another": Diagnosed(told=True, rank=1234),
        "fault-fault-hidden": Diagnosed(told=False, rank=7),
        "fault-fault-unknown": Diagnosed(told=True, rank=None),
    }
    text = "\n".join(tables(judged, known))
    assert (
        "3 of the 4 faults that it was run on are told, 1 with a cause of the true kind first"
        in text
    )
    ends = [row.split(" | ")[-2:] for row in text.splitlines() if row.startswith("| fault | ")]
    assert ends[-5:] == [
        ["told", "1 |"],
        ["told", "1,234 |"],
        ["not told", "7 |"],
        ["told", "– |"],
        ["–", "– |"],
    ]


def test_an_entry_that_must_be_told_is_counted(judges: Judges) -> None:
    told, missed = replace(line("a", 1.0), must=True), replace(line("b", 0.5), must=True)
    assert any("2 faults" in row and "1 always" in row for row in tables([told, missed]))
