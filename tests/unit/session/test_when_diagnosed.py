"""When a run is diagnosed without being asked to, and that a failure is one line."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_alignments import alignment

from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.process.progress import Progress, Silent
from harness.recording.format import PromptRecord
from harness.session import diagnose
from harness.session.diagnose import diagnosed, not_at_hand, wanted
from harness.session.prepare import prepare
from harness.session.record import Recorded, record
from harness.session.session import Session

Make = Callable[..., Session]
HERE = ("json",)
PLENTY = 1 << 40


@pytest.fixture
def recorded(session: Make) -> Recorded:
    """A run of the device without a model, as if it were one of a checkpoint in ``port``."""
    folder = Path("port")
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}", "utf-8")
    run = session().run
    made = record(prepare(run, open_target(run.options.spec), Silent()), Silent())
    model = made.baseline.reference.model.model_copy(update={"parameters": 1000})
    reference = made.baseline.reference.model_copy(update={"model": model})
    return with_options(
        replace(made, baseline=replace(made.baseline, reference=reference)),
        spec=DeviceSpec("npu", "port"),
    )


def with_options(recorded: Recorded, **changes: Any) -> Recorded:
    run = recorded.prepared.run
    run = replace(run, options=replace(run.options, **changes))
    return replace(recorded, prepared=replace(recorded.prepared, run=run))


def with_facts(recorded: Recorded, **changes: Any) -> Recorded:
    target = recorded.prepared.target
    facts = target.subject.facts.model_copy(update=changes)
    target = replace(target, subject=replace(target.subject, facts=facts))
    return replace(recorded, prepared=replace(recorded.prepared, target=target))


def test_a_checkpoint_in_a_folder_is_at_hand(recorded: Recorded) -> None:
    assert not_at_hand(recorded, PLENTY, HERE) is None
    # A server does not tell its weights; they are compared once the model is read.
    assert not_at_hand(with_facts(recorded, weights=None), PLENTY, HERE) is None


def test_a_missing_package_a_missing_model_and_little_memory_are_told(
    recorded: Recorded,
) -> None:
    assert not_at_hand(recorded, PLENTY, ("json", "no_such_package")) == (
        "no_such_package is not installed here"
    )
    config = {**(recorded.baseline.reference.model.config or {}), "rope": {"rope_theta": 1.0}}
    for changes in ({"weights": "ab" * 32}, {"config": config}):
        other = with_facts(recorded, **changes)
        assert "another one than port" in str(not_at_hand(other, PLENTY, HERE))
    for name in ("absent", "org/absent", "../../x y", "smollm9"):
        gone = with_options(recorded, spec=DeviceSpec("npu", name))
        assert f"{name} are not on this machine" in str(not_at_hand(gone, PLENTY, HERE))
    assert "are available" in str(not_at_hand(recorded, 1 << 29, HERE))


def test_a_diagnosis_that_would_take_long_waits_to_be_asked_for(recorded: Recorded) -> None:
    """By the tokens that its passes read, prompts among them, and by the number of prompts."""
    reference = recorded.baseline.reference
    read = sum(len(p.prompt_token_ids) + len(p.run.token_ids) for p in reference.prompts)
    most = 5 * 10**12 // (read + 300 * len(reference.prompts))

    def missing(parameters: int, prompts: tuple[PromptRecord, ...]) -> str | None:
        model = reference.model.model_copy(update={"parameters": parameters})
        other = reference.model_copy(update={"model": model, "prompts": prompts})
        baseline = replace(recorded.baseline, reference=other)
        return not_at_hand(replace(recorded, baseline=baseline), PLENTY, HERE)

    own, first = reference.prompts, reference.prompts[0]
    long = first.model_copy(update={"prompt_token_ids": (1,) * 10_000})
    assert missing(most, own) is None
    for parameters, prompts in ((2 * most, own), (most, own * 2), (most, (long, *own[1:]))):
        assert "take longer than a run should wait" in str(missing(parameters, prompts))


def test_weights_that_are_still_missing_are_not_at_hand(recorded: Recorded) -> None:
    Path("port/model.safetensors").unlink()
    assert "are not on this machine" in str(not_at_hand(recorded, PLENTY, HERE))


def test_by_default_a_bad_verdict_is_diagnosed_and_no_other(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnose, "not_at_hand", lambda _: None)
    said = io.StringIO()
    assert wanted(recorded, alignment("DRIFT"), Progress(said))
    assert "the verdict is DRIFT" in said.getvalue()
    assert "--no-diagnose" in said.getvalue()
    for verdict in ("BIT_EXACT", "EQUIVALENT", "INCONCLUSIVE", "NOT_COMPARABLE"):
        assert not wanted(recorded, alignment(verdict), Silent())


def test_an_aligned_run_does_not_even_look_for_the_model(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(_: Recorded) -> str:
        raise AssertionError("looked for the model")

    monkeypatch.setattr(diagnose, "not_at_hand", looked)
    assert not wanted(recorded, alignment("EQUIVALENT"), Silent())
    part = recorded.prepared.run
    part = replace(part, prompt_ids=frozenset({part.suite.prompts[0].id}))
    some = replace(recorded, prepared=replace(recorded.prepared, run=part))
    assert not wanted(some, alignment("DRIFT"), Silent())
    others = replace(recorded.prepared.run, asks_verdict=False)
    unasked = replace(recorded, prepared=replace(recorded.prepared, run=others))
    assert not wanted(unasked, alignment("DRIFT"), Silent())
    fake = with_options(recorded, spec=DeviceSpec("fake", "fake"))
    assert not wanted(fake, alignment("DIVERGENT"), Silent())


def test_the_options_decide_before_the_verdict(recorded: Recorded) -> None:
    always, never = (with_options(recorded, diagnose=asked) for asked in (True, False))
    assert wanted(always, alignment("EQUIVALENT"), Silent())
    assert not wanted(always, alignment("NOT_COMPARABLE"), Silent())
    assert not wanted(never, alignment("DRIFT"), Silent())


def test_where_the_model_is_missing_one_line_names_the_command(recorded: Recorded) -> None:
    said = io.StringIO()
    gone = with_options(recorded, spec=DeviceSpec("npu", "absent"))
    assert not wanted(gone, alignment("DRIFT"), Progress(said))
    (line,) = said.getvalue().splitlines()
    assert line.startswith("no diagnosis: ")
    assert line.endswith("--model absent")


@pytest.mark.parametrize("error", [RuntimeError("torch\nsays so"), MemoryError()])
def test_whatever_a_model_raises_is_one_line(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(diagnose, "diagnosis_of", fails)
    found = diagnosed(recorded, Silent())
    assert isinstance(found, str)
    assert found.startswith(type(error).__name__)
    assert "\n" not in found
