from __future__ import annotations

from pathlib import Path

import pytest

from harness.alignment.align import compare
from harness.alignment.prompt_result import PromptAlignment
from harness.alignment.result import Alignment
from harness.baseline.folder import load_baseline
from harness.devices.fake import FakeDevice, fake_subject
from harness.recording.context import Context
from harness.recording.recorder import Options, record
from harness.report.failure import AROUND, prompt_failure
from harness.suite.read import load_suite


@pytest.fixture
def broken(project_folder: Path) -> Alignment:
    baseline = load_baseline(Path("baselines/fake/s/bfloat16"))
    options = Options(context=Context.of(baseline.reference))
    suite = load_suite("s.yaml")
    return compare(record(FakeDevice(fault="scale"), fake_subject(), suite, options), baseline)


def _prompt(alignment: Alignment) -> PromptAlignment:
    return next(p for p in alignment.prompts if p.class_ == "DIVERGENT")


def test_it_says_what_where_and_how_to_repeat_it(broken: Alignment) -> None:
    prompt = _prompt(broken)
    at = prompt.shown
    assert at is not None
    head, figures, context, candidate, reference_top, candidate_top, repeat = prompt_failure(
        broken, prompt, "pytest -k x"
    ).splitlines()
    assert head.startswith(f"{prompt.id}: {prompt.positions.class_[at]} at position {at} of 6")
    assert all(word in figures for word in ("margin ", "shift ", "tolerance ", "(logits)"))
    mine = broken.piece(prompt.candidate_token_ids[at])
    theirs = broken.piece(prompt.context_token_ids[at])
    assert f">>{theirs}<<" in context
    assert f">>{mine}<<" in candidate
    assert mine != theirs
    for line, top in (
        (reference_top, prompt.positions.reference_top[at]),
        (candidate_top, prompt.positions.candidate_top[at]),
    ):
        assert len(top) == 5
        assert all(repr(broken.piece(i)) in line for i, _ in top)
    assert repeat == "  repeat it: pytest -k x"


def test_the_window_holds_eight_tokens_on_either_side(broken: Alignment) -> None:
    prompt = _prompt(broken)
    ids = list(range(100, 130))
    positions = prompt.positions
    long = positions.model_copy(
        update={
            name: [getattr(positions, name)[-1]] * 30
            for name in ("class_", "margin", "shift", "tolerance", "reference_top", "candidate_top")
        }
    )
    changes = {"positions": long, "shown": 15, "context_token_ids": ids}
    text = prompt_failure(broken, prompt.model_copy(update=changes), "x")
    window = next(line for line in text.splitlines() if line.startswith("  context"))
    shown = [part.strip("… ") for part in window.removeprefix("  context    ").split("|")]
    assert shown == [
        f">><{i}><<" if i == 115 else f"<{i}>" for i in range(115 - AROUND, 115 + AROUND + 1)
    ]
    assert "…" in window


def test_hostile_pieces_are_escaped(broken: Alignment) -> None:
    prompt = _prompt(broken)
    pieces = {str(i): "\x1b[31m\n" for i in prompt.context_token_ids}
    text = prompt_failure(broken.model_copy(update={"pieces": pieces}), prompt, "x")
    assert "\x1b" not in text
    assert len(text.splitlines()) == 7
    assert "\\x1b[31m\\n" in text


def test_a_prompt_without_a_judged_position_says_so(broken: Alignment) -> None:
    prompt = _prompt(broken).model_copy(update={"shown": None})
    assert prompt_failure(broken, prompt, "x") == f"{prompt.id}: no position was judged"


def test_a_token_that_its_logits_do_not_explain_is_said_to_be_one(project_folder: Path) -> None:
    baseline = load_baseline(Path("baselines/fake/s/bfloat16"))
    suite, same = load_suite("s.yaml"), Options(context=Context.of(baseline.reference))
    made = record(FakeDevice(), fake_subject(), suite, same)
    first = made.prompts[0]
    tenth = int(first.run.rows.top_ids[-1, 9])
    free = first.run.model_copy(update={"token_ids": (*first.run.token_ids[:-1], tenth)})
    prompts = (first.model_copy(update={"free": free}), *made.prompts[1:])
    found = compare(made.model_copy(update={"prompts": prompts}), baseline)
    assert found.verdict == "DIVERGENT"
    text = prompt_failure(found, _prompt(found), "pytest -k x")
    assert "its own logits do not lead to this token" in text
