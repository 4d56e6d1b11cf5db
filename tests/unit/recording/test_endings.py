"""Stop, length, eos ids and limits of a recording against its tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from factories import RNG, VOCABULARY, prompt, recording, run, text_run, told_run

from harness.devices.base import Replay
from harness.messages.render import render
from harness.recording.endings import FAULTS, Ending, ending_message, endings_of
from harness.recording.format import Recording, Run

LIMIT, EOS = 6, 63
ROWS = RNG(3).standard_normal((LIMIT + 2, VOCABULARY)).astype(np.float32)
IGNORED = {"max_new_tokens": LIMIT, "ignore_eos": True, "eos_token_ids": [EOS]}
HEEDED = {**IGNORED, "ignore_eos": False}
NAMELESS = {**HEEDED, "eos_token_ids": []}


def ended(tokens: int, stop: str, last: int = 5, replay: Replay = "free", **changes: Any) -> Run:
    """A run of so many tokens, none of them an eos id but perhaps the last."""
    chosen = [*range(10, 10 + tokens - 1), last] if tokens else []
    made = run(ROWS[:tokens], chosen, replay)
    return made.model_copy(update={"stop": stop, **changes})


def found(settings: dict[str, Any], *runs: Run) -> list[Ending]:
    return list(endings_of(recording_of(settings, *runs)))


def recording_of(settings: dict[str, Any], *runs: Run) -> Recording:
    free = next((r for r in runs if r.replay == "free"), None)
    forced = next((r for r in runs if r.replay != "free"), None)
    return recording([prompt("p0", free, forced)], settings=settings)


WHOLE: list[tuple[dict[str, Any], Run]] = [
    (IGNORED, ended(LIMIT, "length")),
    (IGNORED, ended(LIMIT, "length", EOS)),
    (HEEDED, ended(LIMIT, "length")),
    (HEEDED, ended(LIMIT, "length", EOS)),  # engines differ in which of the two they name
    (HEEDED, ended(LIMIT, "eos", EOS)),
    (HEEDED, ended(3, "eos", EOS)),
    (HEEDED, ended(1, "eos", EOS)),
    (NAMELESS, ended(LIMIT, "length")),
    (IGNORED, ended(LIMIT, "forced", replay="forced-decode")),
    (HEEDED, ended(3, "forced", EOS, replay="forced-prefill")),
]


@pytest.mark.parametrize(("settings", "mine"), WHOLE)
def test_a_run_that_ended_as_it_says_is_whole(settings: dict[str, Any], mine: Run) -> None:
    assert found(settings, mine) == []


def without_finite(tokens: int) -> Run:
    rows = ROWS[:tokens].copy()
    rows[-1] = np.nan
    return run(rows, [*range(10, 10 + tokens - 1), 0]).model_copy(update={"stop": "nonfinite"})


def test_a_row_without_a_finite_logit_ends_a_run_anywhere() -> None:
    assert found(IGNORED, without_finite(3)) == []
    assert found(HEEDED, without_finite(3)) == []


WRONG: list[tuple[str, dict[str, Any], Run, bool]] = [
    ("short", IGNORED, ended(2, "length"), True),
    ("short", HEEDED, ended(5, "length"), True),
    ("short", HEEDED, ended(5, "length", EOS), True),
    ("short", IGNORED, ended(0, "length"), True),
    ("long", IGNORED, ended(7, "length"), True),
    ("long", HEEDED, ended(7, "eos", EOS), True),
    ("ignored", IGNORED, ended(2, "eos", EOS), True),
    ("ignored", IGNORED, ended(LIMIT, "eos", EOS), True),
    ("unfinished", HEEDED, ended(2, "eos"), True),
    ("unfinished", HEEDED, ended(LIMIT, "eos"), True),
    ("unfinished", NAMELESS, ended(0, "eos"), True),
    ("unnamed", NAMELESS, ended(2, "eos"), False),
    ("passed", HEEDED, ended(LIMIT, "length", token_ids=(1, EOS, 3, 4, 5, 6)), True),
    ("passed", HEEDED, ended(3, "eos", token_ids=(EOS, 2, EOS)), True),
    ("finite", IGNORED, ended(3, "nonfinite"), True),
    ("misplaced", IGNORED, ended(LIMIT, "forced"), True),
    ("misplaced", IGNORED, ended(LIMIT, "length", replay="forced-decode"), True),
    ("cut", IGNORED, ended(2, "forced", replay="forced-decode"), False),
    ("cut", HEEDED, ended(2, "forced", replay="forced-prefill"), False),
    ("cut", HEEDED, ended(LIMIT, "forced", replay="forced-decode",
                          token_ids=(1, EOS, 3, 4, 5, 6)), False),
    ("cut", IGNORED, ended(7, "forced", replay="forced-decode"), False),
    *(("broken_off", settings, ended(tokens, stop), False)
      for settings in (IGNORED, HEEDED, NAMELESS)
      for tokens in (2, LIMIT)
      for stop in ("abort", "content_filter", "tool_calls", "function_call", "error", "none")),
    ("broken_off", IGNORED, ended(2, "other", finish="timeout"), False),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "settings", "mine", "proven"), WRONG)
def test_what_does_not_hold_together_is_found(
    fault: str, settings: dict[str, Any], mine: Run, proven: bool
) -> None:
    [ending] = found(settings, mine)
    assert (ending.prompt, ending.fault, ending.proven) == ("p0", fault, proven)
    assert (ending.tokens, ending.limit) == (len(mine.token_ids), LIMIT)
    for language in ("en", "zh"):
        assert "p0" in render(ending_message([ending]), language)  # type: ignore[arg-type]


def test_every_fault_is_shown_above() -> None:
    assert {fault for fault, *_ in WRONG} == set(FAULTS)


def test_what_nothing_explains_comes_before_what_something_may() -> None:
    mine = ended(LIMIT, "abort", token_ids=(1, EOS, 3, 4, 5, 6))
    [ending] = found(HEEDED, mine)
    assert (ending.fault, ending.proven) == ("passed", True)


def test_a_server_may_have_a_context_and_eos_ids_of_its_own() -> None:
    """It tells log-probabilities, not whole rows; what it was started with is not known."""
    made = told_run(ROWS[:2]).model_copy(update={"stop": "length"})
    [ending] = found(IGNORED, made)
    assert (ending.fault, ending.proven) == ("short", False)
    [ending] = found(HEEDED, told_run(ROWS[:2], [1, 2]).model_copy(update={"stop": "eos"}))
    assert (ending.fault, ending.proven) == ("unfinished", False)


def test_of_a_text_its_end_alone_is_known() -> None:
    assert found(HEEDED, text_run("a")) == []
    assert found(HEEDED, text_run("a").model_copy(update={"stop": "eos"})) == []
    [ending] = found(HEEDED, text_run("a").model_copy(update={"stop": "abort"}))
    assert (ending.fault, ending.proven) == ("broken_off", False)


def test_a_replay_beside_a_free_run_follows_tokens_of_another_recording() -> None:
    """The baseline's, which are compared with it elsewhere."""
    free, forced = ended(LIMIT, "length"), ended(3, "forced", replay="forced-decode")
    assert found(IGNORED, free, forced) == []
    [ending] = found(IGNORED, free, forced.model_copy(update={"stop": "length"}))
    assert ending.fault == "misplaced"


def test_a_servers_own_word_is_told() -> None:
    [ending] = found(IGNORED, ended(2, "other", finish="out_of_credit"))
    assert "'out_of_credit' after 2 of 6 tokens" in render(ending_message([ending]), "en")


def test_a_null_is_read_as_no_reason() -> None:
    document = recording_of(IGNORED, ended(LIMIT, "length")).model_dump(mode="json", by_alias=True)
    document["prompts"][0]["free"]["stop"] = None
    assert Recording.model_validate(document).prompts[0].run.stop == "none"
