"""The page of a recording that was not judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from factories import fake_record, fake_suite

from harness.devices.fake import FakeDevice
from harness.errors import UsageError
from harness.messages.tables import MESSAGES
from harness.recording.format import Recording, save_recording
from harness.recording.recorder import Options
from harness.report.recording import render_recording
from harness.report.views import recording as views
from harness.report.views.recording import recording_view

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e 四"


@pytest.fixture(scope="module")
def made() -> Recording:
    return fake_record(FakeDevice(), fake_suite(prompts=3, tokens=4))


def test_it_shows_each_prompt_and_the_sums(made: Recording) -> None:
    view = recording_view(made, "en")
    assert [line.id for line in view.prompts] == [prompt.id for prompt in made.prompts]
    assert [line.output for line in view.prompts] == [prompt.run.text for prompt in made.prompts]
    totals = dict(view.totals)
    assert totals["prompts"] == "3"
    assert totals["output tokens"] == "12"
    times = [prompt.run.timings.e2e_s for prompt in made.prompts]
    assert float(view.prompts[0].rate.replace(",", "")) == pytest.approx(4 / times[0], rel=1e-3)
    assert "mean latency of a request" in totals
    assert "weights" not in totals  # the fake has none


def test_a_forced_pass_has_no_time_of_its_own(made: Recording) -> None:
    from harness.recording.context import Context

    options = Options(replay="forced-prefill", context=Context.of(made))
    view = recording_view(fake_record(FakeDevice(), fake_suite(3, 4), options), "zh")
    assert {line.seconds for line in view.prompts} == {MESSAGES["zh"]["recording.prefill"]}
    assert not {"每秒输出词元数（全部请求）"}.intersection(dict(view.totals))


def test_many_prompts_are_cut_and_counted(made: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MOST_PROMPTS", 2)
    view = recording_view(made, "en")
    assert (len(view.prompts), view.left_out) == (2, 1)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_texts_of_a_model_are_harmless(made: Recording, tmp_path: Path, language: Any) -> None:
    first = made.prompts[0]
    assert first.free is not None
    run = first.free.model_copy(update={"text": HOSTILE})
    prompt = first.model_copy(update={"text": HOSTILE, "free": run})
    render_recording(
        made.model_copy(update={"prompts": (prompt,)}), tmp_path / "a.html", language, [HOSTILE]
    )
    text = (tmp_path / "a.html").read_text("utf-8")
    assert "<script>alert" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "四" in text
    assert MESSAGES[language]["recording.unjudged"] in text


def test_another_format_is_refused(made: Recording, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the page of a recording is \.html"):
        render_recording(made, tmp_path / "a.md")


def test_the_command_renders_one(
    made: Recording, tmp_path: Path, command: Callable[..., Any]
) -> None:
    save_recording(made, tmp_path / "r.json")
    ended = command("report", tmp_path / "r.json", "--out", tmp_path / "r.html", "--lang", "zh")
    assert ended.status == 0
    assert "尚无基线" in (tmp_path / "r.html").read_text("utf-8")
