"""A recording that contradicts itself is aligned with nothing, however right its rows are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from factories import again, fake_baseline, fake_record, fake_suite

from harness.alignment.align import compare
from harness.alignment.outcomes import ALIGNED, exit_status
from harness.alignment.result import Alignment, Gate, load_alignment, save_alignment
from harness.alignment.verify import verify_file
from harness.baseline.baseline import Baseline
from harness.devices.fake import FakeDevice
from harness.devices.spec import DeviceSpec
from harness.errors import UsageError
from harness.process.progress import Silent
from harness.recording.context import Context, context_for
from harness.recording.format import Recording, Run, load_recording, save_recording
from harness.recording.recorder import Options
from harness.report import to_html
from harness.report.summary import summary_lines

SUITE = fake_suite(prompts=20, tokens=8)
BASELINE = fake_baseline(SUITE)
CONTEXT = Context.of(BASELINE.reference)
PORT = fake_record(FakeDevice(seed=7), SUITE, Options(context=CONTEXT))


def edited(made: Recording, edit: Callable[[Run], Run], only: str | None = None) -> Recording:
    """With every free run changed, or that of one prompt."""
    prompts = tuple(
        p.model_copy(update={"free": edit(p.free)})
        if p.free is not None and only in (None, p.id)
        else p
        for p in made.prompts
    )
    return made.model_copy(update={"prompts": prompts})


def cut(run: Run, to: int = 2) -> Run:
    """As a device leaves it that returns the first tokens only, and says nothing of it."""
    update = {"token_ids": run.token_ids[:to], "rows": run.rows[:to], "margins": run.margins[:to]}
    return run.model_copy(update=update)


def stopped(word: str) -> Callable[[Run], Run]:
    return lambda run: run.model_copy(update={"stop": word})


def stops(found: Alignment) -> Gate:
    return next(gate for gate in found.gates if gate.name == "stops")


def around(recording: Recording) -> Baseline:
    """A baseline made around a recording's own tokens."""
    context = Context.of(recording)

    def arm(replay: str, dtype: str = "bfloat16", seed: int = 0) -> Recording:
        return fake_record(FakeDevice(dtype, seed), SUITE, Options(replay, context))  # type: ignore[arg-type]

    controls = {f"control-{s}": arm("forced-prefill", seed=s) for s in (1, 2)}
    return Baseline(arm("forced-prefill"), arm("forced-prefill", "float32"), controls)


def test_a_correct_port_passes() -> None:
    found = compare(PORT, BASELINE)
    assert found.verdict in ALIGNED
    assert stops(found).status == "PASS"
    assert all(p.verdict in ALIGNED and p.findings == () for p in found.prompts)


def test_two_of_eight_tokens_are_not_aligned_even_around_their_own_tokens() -> None:
    short = edited(PORT, cut).model_copy(
        update={
            "prompts": tuple(
                p.model_copy(update={"forced": None}) for p in edited(PORT, cut).prompts
            )
        }
    )
    whole = edited(PORT, lambda run: run)
    whole = whole.model_copy(
        update={"prompts": tuple(p.model_copy(update={"forced": None}) for p in whole.prompts)}
    )
    assert compare(whole, around(whole)).verdict in ALIGNED
    found = compare(short, around(short))
    assert found.verdict == "DRIFT"
    assert found.sentence.startswith("The recording contradicts itself: ")
    assert "20 runs stopped for length too early (prompt p0: 2 of 8 tokens)" in found.sentence
    assert {p.verdict for p in found.prompts} == {"DRIFT"}


def test_one_short_prompt_is_told_by_its_own_verdict() -> None:
    found = compare(edited(PORT, cut, only="p4"), BASELINE)
    assert exit_status(found.verdict) == 1
    [wrong] = [p for p in found.prompts if p.verdict not in ALIGNED]
    assert wrong.id == "p4"
    assert "2 of 8 tokens" in wrong.findings[0].sentence


@pytest.mark.parametrize("word", ["abort", "content_filter", "tool_calls", "none", "other"])
def test_an_end_that_is_not_one_leaves_the_verdict_open(word: str) -> None:
    found = compare(edited(PORT, stopped(word), only="p4"), BASELINE)
    assert found.verdict == "INCONCLUSIVE"
    assert f"1 run ended neither by an eos id nor for length (prompt p4: '{word}'" in found.sentence
    assert [p.id for p in found.prompts if p.verdict == "INCONCLUSIVE"] == ["p4"]


def test_equal_bits_are_not_bit_exact_where_the_ends_do_not_fit() -> None:
    same = again(BASELINE.reference)
    assert compare(same, BASELINE).verdict == "BIT_EXACT"
    assert compare(same, BASELINE.reference).verdict == "BIT_EXACT"
    for against in (BASELINE, BASELINE.reference):
        assert compare(edited(same, stopped("abort")), against).verdict == "INCONCLUSIVE"
    short = edited(same, cut)
    assert compare(short, again(short)).verdict == "INCONCLUSIVE"


def test_a_forced_recording_of_part_of_an_output_is_not_aligned(tmp_path: Path) -> None:
    """It chose nothing, so nothing proves a fault. But the tokens are too few."""
    short = Context("cut", {i: (p, t[:2]) for i, (p, t) in CONTEXT.tokens.items()})
    made = fake_record(FakeDevice(seed=7), SUITE, Options("forced-decode", short))
    found = compare(made, around(made))
    assert found.verdict == "INCONCLUSIVE"
    assert "20 runs followed tokens that are not a whole output" in found.sentence


def test_verify_does_not_call_it_aligned(tmp_path: Path) -> None:
    for name, recording, aligned in (
        ("whole", PORT, True),
        ("short", edited(PORT, cut), False),
        ("abort", edited(PORT, stopped("abort")), False),
    ):
        file = tmp_path / f"{name}.json"
        save_recording(recording, file)
        found = verify_file(file, DeviceSpec("fake-reference"), progress=Silent())
        assert (found.verdict in ALIGNED) is aligned, name


def test_no_baseline_is_made_around_it() -> None:
    path = Path("port.json")
    assert context_for(SUITE, PORT, path, Silent()).tokens
    with pytest.raises(UsageError) as caught:
        context_for(SUITE, edited(PORT, cut, only="p4"), path, Silent())
    assert str(caught.value).startswith("port.json: 1 run stopped for length too early (prompt p4")
    # What a server broke off is followed as far as it goes, and judged INCONCLUSIVE.
    assert context_for(SUITE, edited(PORT, stopped("abort")), path, Silent()).tokens


def test_such_a_recording_is_still_read(tmp_path: Path) -> None:
    for edit in (cut, stopped("abort"), stopped("none")):
        made = edited(PORT, edit)
        save_recording(made, tmp_path / "a.json")
        assert load_recording(tmp_path / "a.json").prompts[3].run.stop == made.prompts[3].run.stop


def test_findings_come_back_from_a_file(tmp_path: Path) -> None:
    made = compare(edited(PORT, cut, only="p4"), BASELINE)
    save_alignment(made, tmp_path / "a.json")
    assert load_alignment(tmp_path / "a.json") == made


def test_a_report_says_what_speaks_against_a_prompt() -> None:
    found = compare(edited(PORT, cut, only="p4"), BASELINE)
    said = "1 run stopped for length too early (prompt p4: 2 of 8 tokens)"
    assert f"  p4: DRIFT: {said}" in summary_lines(found)
    page = to_html([found])
    assert page.count(f'<p class="bad"><span lang="en">{said}</span>') == 1


def test_a_recording_that_chose_nothing_says_so() -> None:
    def said(replay: str) -> str:
        made = fake_record(FakeDevice(seed=7), SUITE, Options(replay, CONTEXT))  # type: ignore[arg-type]
        return " ".join(compare(made, BASELINE).warnings)

    assert "chose no token of its own" in said("forced-decode")
    assert "chose no token of its own" in said("forced-prefill")
    assert "decode steps were not judged" in said("forced-prefill")
    assert "decode steps were not judged" not in said("forced-decode")
    assert "chose no token" not in " ".join(compare(PORT, BASELINE).warnings)
    forced = fake_record(FakeDevice(seed=7), SUITE, Options("forced-decode", CONTEXT))
    mixed = forced.model_copy(update={"prompts": (*PORT.prompts[:17], *forced.prompts[17:])})
    assert "3 of 20 prompts ran forced only" in " ".join(compare(mixed, BASELINE).warnings)
