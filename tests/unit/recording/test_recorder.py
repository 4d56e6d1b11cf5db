"""What is recorded, replayed, repeated, and taken up again after a kill."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import fake_record, fake_suite

from harness.devices.base import Completion, Opened, Request, ignore_token
from harness.devices.fake import VOCABULARY, FakeDevice, fake_subject
from harness.errors import DeviceError, HarnessError, UsageError
from harness.model.settings import GenerationSettings
from harness.model.subject import Subject
from harness.process.progress import Progress
from harness.recording import recorder
from harness.recording.context import Context
from harness.recording.format import Recording, load_recording
from harness.recording.recorder import Options, record
from harness.recording.shelf import Shelf
from harness.statistics.lazy_rows import LazyRows
from harness.suite.suite import Suite

SUITE = fake_suite(prompts=4, tokens=5)
VOLATILE = {"created", "load"}


class Spy(FakeDevice):
    """A FakeDevice that tells what it was asked, and fails on demand."""

    def __init__(self, fail_after: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.fail_after = fail_after
        self.asked: list[Request] = []
        self.closed = 0

    def generate(
        self, requests: Sequence[Request], on_token: Callable[[], None] = ignore_token
    ) -> Iterator[Completion]:
        for request in requests:
            if self.fail_after is not None and len(self.asked) >= self.fail_after:
                raise DeviceError("the power went")
            self.asked.append(request)
            yield from super().generate([request], on_token)

    def close(self) -> None:
        self.closed += 1
        super().close()


def without_clock(made: Recording) -> dict[str, Any]:
    document = made.model_dump(mode="json", exclude=VOLATILE)
    for prompt in document["prompts"]:
        for kind in ("free", "forced"):
            if prompt[kind]:
                del prompt[kind]["timings"]
    return document


FREE = Options()


def quiet(out: Path, device: FakeDevice, options: Options = FREE, **more: Any) -> Recording:
    return record(device, fake_subject(), SUITE, options, out=out, **more)


def test_a_free_run_takes_the_arg_max_of_every_row() -> None:
    made = fake_record(FakeDevice(), SUITE)
    assert [p.id for p in made.prompts] == ["p0", "p1", "p2", "p3"]
    for prompt in made.prompts:
        assert prompt.forced is None
        assert prompt.run.token_ids == tuple(prompt.run.rows.top_ids[:, 0])
        assert len(prompt.run.timings.itl_s) == 4
        assert prompt.run.stop == "length"
    assert made.suite.digest == SUITE.digest
    assert made.dtype == "bfloat16"


def test_pieces_name_every_token_and_the_top_five_of_every_row() -> None:
    made = fake_record(FakeDevice(), SUITE)
    for prompt in made.prompts:
        assert {str(i) for i in prompt.run.rows.top_ids[:, :5].ravel()} <= set(made.pieces)
        assert {str(i) for i in prompt.run.token_ids} <= set(made.pieces)


def test_an_equal_device_is_not_replayed_on_the_context() -> None:
    context = Context.of(fake_record(FakeDevice(), SUITE))
    spy = Spy()
    made = fake_record(spy, SUITE, Options(context=context))
    assert all(p.forced is None for p in made.prompts)
    assert {r.replay for r in spy.asked} == {"free"}


def test_what_diverges_is_replayed_on_the_context_and_nothing_else() -> None:
    suite = fake_suite(prompts=8, tokens=12)
    context = Context.of(fake_record(FakeDevice(), suite))
    spy = Spy(seed=5)
    made = fake_record(spy, suite, Options(context=context))
    tokens = {i: output for i, (_, output) in context.tokens.items()}
    diverged = [p.id for p in made.prompts if p.free and p.free.token_ids != tokens[p.id]]
    assert 0 < len(diverged) < 8
    assert [r.prompt_id for r in spy.asked if r.replay == "forced-decode"] == diverged
    for prompt in made.prompts:
        assert (prompt.forced is not None) == (prompt.id in diverged)
        if prompt.forced is not None:
            assert prompt.forced.token_ids == tokens[prompt.id]
            assert prompt.forced.replay == "forced-decode"
            assert prompt.forced.stop == "forced"


@pytest.mark.parametrize("replay", ["forced-decode", "forced-prefill"])
def test_a_forced_replay_has_the_rows_of_the_free_run(replay: Any) -> None:
    free = fake_record(FakeDevice(), SUITE)
    made = fake_record(FakeDevice(), SUITE, Options(replay, Context.of(free)))
    for mine, theirs in zip(made.prompts, free.prompts, strict=True):
        assert mine.free is None
        assert mine.run.replay == replay
        assert mine.run.rows.digest.tobytes() == theirs.run.rows.digest.tobytes()
        assert mine.run.choices() == theirs.run.token_ids


@pytest.mark.parametrize("replay", ["forced-decode", "forced-prefill"])
def test_a_forced_replay_without_context_is_wrong_usage(replay: Any) -> None:
    spy = Spy()
    with pytest.raises(UsageError, match=f"--replay {replay} .*--context"):
        fake_record(spy, SUITE, Options(replay))
    assert not spy.asked


@pytest.mark.parametrize("replay", ["free", "forced-decode"])
def test_a_context_of_other_prompts_is_refused_before_the_work(replay: Any) -> None:
    context = Context.of(fake_record(FakeDevice(), SUITE))
    other = replace(context, tokens={**context.tokens, "p2": ((1, 2, 3), (4,))})
    for wrong in (other, replace(context, tokens={})):
        spy = Spy()
        with pytest.raises(UsageError, match="has no prompt p"):
            fake_record(spy, SUITE, Options(replay, wrong))
        assert not spy.asked
        assert spy.closed == 1


def test_only_the_prompts_asked_for_are_run() -> None:
    made = fake_record(FakeDevice(), SUITE, Options(prompt_ids=frozenset({"p3", "p1"})))
    assert [p.id for p in made.prompts] == ["p1", "p3"]


def test_no_prompt_at_all_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="none of the prompts"):
        fake_record(FakeDevice(), SUITE, Options(prompt_ids=frozenset({"x"})))


@pytest.mark.parametrize("repeats", [1, 2, 3, 4, 9])
def test_repeats_of_a_steady_device_are_bit_equal(repeats: int) -> None:
    made = fake_record(FakeDevice(), SUITE, Options(repeats=repeats))
    assert len(made.repeats) == min(repeats, 4)
    assert all(r.rows_compared == r.rows_equal == 5 for r in made.repeats)
    assert all(not r.differences for r in made.repeats)


def test_repeats_of_an_unsteady_device_tell_every_difference() -> None:
    made = fake_record(FakeDevice(fault="unsteady"), SUITE, Options(repeats=4))
    for repeat in made.repeats:
        assert 1 <= repeat.rows_compared <= 5
        assert repeat.rows_equal == 0
        assert [d.position for d in repeat.differences] == list(range(repeat.rows_compared))
        assert all(abs(d.shift) < 1 for d in repeat.differences)
        assert any(d.shift for d in repeat.differences)


def test_an_eos_ends_a_prompt_and_is_kept() -> None:
    free = fake_record(FakeDevice(), SUITE)
    second = free.prompts[0].run.token_ids[1]
    subject = fake_subject()

    def settings(limit: int, ignore_eos: bool) -> GenerationSettings:
        return GenerationSettings(max_new_tokens=limit, ignore_eos=False, eos_token_ids=(second,))

    made = record(FakeDevice(), Subject(subject.facts, subject.tokenizer, settings, {}), SUITE)
    assert made.prompts[0].run.token_ids == free.prompts[0].run.token_ids[:2]
    assert made.prompts[0].run.stop == "eos"
    assert made.prompts[1].run.stop == "length"


def test_nonfinite_rows_are_recorded_and_saved(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    suite = fake_suite(prompts=2, tokens=8)
    device = FakeDevice(fault="nan")
    record(device, fake_subject(), suite, Options(repeats=2), out=out)
    read = load_recording(out)
    for prompt in read.prompts:
        # Every eighth context has a NaN, and a prompt has two tokens.
        assert prompt.run.rows.nonfinite.tolist() == [0, 0, 0, 0, 0, 0, 1, 0]
    assert all(r.rows_equal == 8 for r in read.repeats)


def test_a_finished_recording_leaves_no_journal(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    made = quiet(out, FakeDevice())
    assert list(tmp_path.iterdir()) == [out]
    assert without_clock(load_recording(out)) == without_clock(made)


@pytest.mark.parametrize("survived", [0, 1, 3, 4, 5])
def test_a_killed_run_goes_on_and_gives_the_same_file(tmp_path: Path, survived: int) -> None:
    context = Context.of(fake_record(FakeDevice(), SUITE))
    options = Options(context=context, repeats=1)
    whole = quiet(tmp_path / "whole.json", FakeDevice(seed=5, fault="scale"), options)
    out = tmp_path / "r.json"
    with pytest.raises(DeviceError, match="the power went"):
        quiet(out, Spy(survived, seed=5, fault="scale"), options)
    assert not out.exists()
    spy = Spy(seed=5, fault="scale")
    quiet(out, spy, options)
    done = {(r.replay, r.prompt_id) for r in spy.asked[:-1]}
    assert len(done) == 4 + sum(p.forced is not None for p in whole.prompts) - survived
    assert without_clock(load_recording(out)) == without_clock(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.json", "whole.json"]


@pytest.mark.parametrize("survived", [0, 3])
def test_rows_of_a_long_suite_stand_on_the_disk_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    """No row stays in memory, and the file is the same; after a kill too."""
    options = Options(repeats=2)
    expected = quiet(tmp_path / "in-memory.json", FakeDevice(), options)
    monkeypatch.setattr(recorder, "new_shelf", lambda: Shelf(0))
    out = tmp_path / "a.json"
    if survived:
        with pytest.raises(DeviceError):
            quiet(out, Spy(fail_after=survived), options)
    device = Spy()
    made = quiet(out, device, options)
    assert len(device.asked) == 4 - survived + 2
    assert all(isinstance(run.rows, LazyRows) for run in made.runs)
    assert without_clock(made) == without_clock(expected)
    assert without_clock(load_recording(out)) == without_clock(expected)


def test_a_journal_of_another_device_is_not_continued(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    with pytest.raises(DeviceError):
        quiet(out, Spy(2))
    spy = Spy(seed=5)
    quiet(out, spy)
    assert len(spy.asked) == 4


def test_a_journal_of_another_context_is_not_continued(tmp_path: Path) -> None:
    contexts = [Context.of(fake_record(FakeDevice(seed=s), SUITE)) for s in (0, 5)]
    contexts[1] = replace(
        contexts[1], tokens={i: (p, o[:3]) for i, (p, o) in contexts[1].tokens.items()}
    )
    out = tmp_path / "r.json"
    with pytest.raises(DeviceError):
        quiet(out, Spy(2), Options("forced-decode", contexts[0]))
    made = quiet(out, FakeDevice(), Options("forced-decode", contexts[1]))
    assert [len(p.run.token_ids) for p in made.prompts] == [3, 3, 3, 3]


def test_reuse_takes_an_equal_recording_and_no_other(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    quiet(out, FakeDevice())
    free = load_recording(out)
    spy = Spy()
    assert without_clock(quiet(out, spy, reuse=True)) == without_clock(free)
    assert not spy.asked
    context = Context.of(free)
    for device, options in (
        (Spy(seed=1), Options()),
        (Spy(), Options("forced-prefill", context)),
        (Spy(), Options(prompt_ids=frozenset({"p1"}))),
    ):
        quiet(out, FakeDevice())
        quiet(out, device, options, reuse=True)
        assert device.asked


def test_reuse_does_not_take_a_replay_of_other_tokens(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    context = Context.of(fake_record(FakeDevice(), SUITE))
    shorter = replace(context, tokens={i: (p, o[:2]) for i, (p, o) in context.tokens.items()})
    quiet(out, FakeDevice(), Options("forced-decode", context))
    made = quiet(out, FakeDevice(), Options("forced-decode", shorter), reuse=True)
    assert made.prompts[0].run.token_ids == context.tokens["p0"][1][:2]


def test_reuse_makes_a_damaged_recording_again(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    out.write_text("{}")
    quiet(out, FakeDevice(), reuse=True)
    assert load_recording(out).device == "fake"


def test_a_full_disk_ends_in_one_line_and_closes_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spy = Spy()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(HarnessError, match="No space left") as caught:
        quiet(tmp_path / "r.json", spy)
    assert "\n" not in str(caught.value)
    assert spy.closed == 1


def test_a_device_that_skips_a_prompt_is_found_out() -> None:
    class Lazy(FakeDevice):
        def generate(
            self, requests: Sequence[Request], on_token: Callable[[], None] = ignore_token
        ) -> Iterator[Completion]:
            return super().generate(requests[:-1], on_token)

    with pytest.raises(DeviceError, match="no output came for prompt p3"):
        fake_record(Lazy(), SUITE)


def test_a_device_that_cannot_open_is_closed() -> None:
    class Broken(Spy):
        def open(self) -> Opened:
            raise DeviceError("no driver")

    broken = Broken()
    with pytest.raises(DeviceError, match="no driver"):
        fake_record(broken, SUITE)
    assert broken.closed == 1


def test_full_logits_stand_beside_the_recording(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from harness.recording.full_logits import load_logits, logits_path

    out = tmp_path / "r.json"
    suite = fake_suite(prompts=2, tokens=3)
    options = Options(full_logits=True, repeats=1)
    made = record(FakeDevice(), fake_subject(), suite, options, out=out)
    logits = load_logits(out)
    assert sorted(logits) == ["p0/free", "p1/free"]
    rows = logits["p1/free"]
    assert rows.shape == (3, VOCABULARY)
    assert rows.dtype == np.float32
    assert tuple(rows.argmax(axis=1)) == made.prompts[1].run.token_ids
    data = logits_path(out).read_bytes()
    logits_path(out).write_bytes(data[:50])
    with pytest.raises(HarnessError, match="cannot be read"):
        load_logits(out)


def test_a_suite_of_another_limit_is_another_recording(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    quiet(out, FakeDevice())
    shorter: Suite = SUITE.with_max_new_tokens(3)
    made = record(FakeDevice(), fake_subject(), shorter, out=out, reuse=True)
    assert len(made.prompts[0].run.token_ids) == 3


def test_progress_counts_every_token(capsys: pytest.CaptureFixture[str]) -> None:
    record(FakeDevice(), fake_subject(), SUITE, progress=Progress(live=False))
    text = capsys.readouterr().err
    assert "fake unit free: 20 of 20 in " in text
