"""What a suite gives to a chat template: read strictly, and part of the digest."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from harness.devices.fake import FakeDevice, FakeTokenizer, fake_subject
from harness.errors import SuiteError, UsageError
from harness.process.progress import Progress
from harness.recording.context import Context
from harness.recording.recorder import Options, record
from harness.suite.encode import encode_suite, unsteady_line, unsteady_prompts
from harness.suite.read import load_suite
from harness.suite.suite import Suite

CHAT = "generation:\n  max_new_tokens: 4\nprompts:\n  - {id: a, text: b}\n"
CHAT += '  - {id: c, messages: [{role: user, content: "It is {date}"}]}\n'


def load(tmp_path: Path, more: str = "", content: str = CHAT) -> Suite:
    path = tmp_path / "some.yaml"
    path.write_text(content + more)
    return load_suite(path)


@pytest.mark.parametrize(
    ("written", "date"),
    [
        ("2024-07-26", datetime(2024, 7, 26)),
        ('"2024-07-26"', datetime(2024, 7, 26)),
        ("2024-07-26 13:05:59", datetime(2024, 7, 26, 13, 5, 59)),
        ("2024-07-26T13:05:59", datetime(2024, 7, 26, 13, 5, 59)),
        ('"2024-07-26 13:05"', datetime(2024, 7, 26, 13, 5)),
    ],
)
def test_the_date_is_read_as_yaml_and_as_text(tmp_path: Path, written: str, date: datetime) -> None:
    assert load(tmp_path, f"date: {written}\n").chat.date == date


def test_values_of_every_kind_are_read(tmp_path: Path) -> None:
    values = "chat_template_kwargs:\n  a: true\n  b: 3\n  c: x\n  d: null\n  e: [1, {f: 0.5}]\n"
    given = load(tmp_path, values + '  g: ""\n').chat.kwargs
    assert given == {"a": True, "b": 3, "c": "x", "d": None, "e": [1, {"f": 0.5}], "g": ""}


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("date: today\n", "write it as 2026-01-31"),
        ("date: 2024-02-31\n", "write it as 2026-01-31"),
        ("date: 2024-07-26T13:05:59+02:00\n", "write it as 2026-01-31"),
        ("date: 7\n", "date is an integer; it must be a date"),
        ("date: {}\n", "it must be a date"),
        ("date:\n", "date is empty"),
        ("chat_template_kwargs: [a]\n", "it must be a mapping"),
        ("chat_template_kwargs: {a: 1, a: 2}\n", "has the key 'a' twice"),
        ("chat_template_kwargs: {1a: 2}\n", "not a template's name"),
        ("chat_template_kwargs: {messages: []}\n", "the harness sets itself; remove it"),
        ("chat_template_kwargs: {strftime_now: x}\n", "the harness sets itself; give date"),
        ("chat_template_kwargs: {a: 2024-07-26}\n", "a is a date; it must be a string"),
        ("chat_template_kwargs: {a: .inf}\n", "plain decimal number"),
        ("chat_template_kwarg: {a: 1}\n", "did you mean chat_template_kwargs"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, more: str, problem: str) -> None:
    with pytest.raises(SuiteError, match=problem) as caught:
        load(tmp_path, more)
    assert "some.yaml:6" in str(caught.value)


@pytest.mark.parametrize("more", ["date: 2024-07-26\n", "chat_template_kwargs: {a: 1}\n"])
def test_a_suite_without_chats_has_no_use_for_them(tmp_path: Path, more: str) -> None:
    with pytest.raises(SuiteError, match="no prompt has messages; remove it"):
        load(tmp_path, more, CHAT.partition("  - {id: c")[0])


def test_they_are_part_of_the_digest(tmp_path: Path) -> None:
    forms = ("", "date: 2024-07-26\n", "date: 2024-07-27\n", "chat_template_kwargs: {a: 1}\n")
    forms += ("chat_template_kwargs: {a: true}\n", "chat_template_kwargs: {a: '1'}\n")
    suites = [load(tmp_path, more) for more in forms]
    assert len({suite.digest for suite in suites}) == len(forms)
    same = load(tmp_path, 'date: "2024-07-26 00:00"\n')
    assert same.digest == suites[1].digest
    # What is derived from a suite keeps them.
    assert same.with_max_new_tokens(4).digest == same.digest
    assert same.with_max_new_tokens(5).chat == same.chat


def test_the_digest_of_a_suite_without_them_is_what_it_was(tmp_path: Path) -> None:
    """Baselines that are committed hold it."""
    digest = "cc401e23ca442ecf9a678343cefa9601c2ec9a324318a723675465868b53d09c"
    assert load(tmp_path).digest == digest


def test_the_template_is_told_the_suites_date(tmp_path: Path) -> None:
    _, chat = encode_suite(load(tmp_path, "date: 2024-07-26\n"), FakeTokenizer(), 100)
    assert b"It is 26 Jul 2024" in bytes(chat.token_ids)
    assert chat.unsteady is None
    today = encode_suite(load(tmp_path), FakeTokenizer(), 100)
    assert unsteady_prompts(today) == {"c": "date"}


class Lines(Progress):
    def __init__(self) -> None:
        super().__init__(live=False)
        self.lines: list[str] = []

    def _write(self, text: str) -> None:
        self.lines.append(text)


def test_a_recording_names_the_date_once_and_keeps_it(tmp_path: Path) -> None:
    suite, said = load(tmp_path), Lines()
    made = record(FakeDevice(), fake_subject(), suite, progress=said)
    again = Options("forced-decode", Context.of(made))
    record(FakeDevice(), fake_subject(), suite, again, progress=said)
    assert made.suite.unsteady == {"c": "date"}
    told = [line for line in said.lines if "the chat template" in line]
    assert told == [unsteady_line(suite, {"c": "date"}, "fake") + "\n"]
    assert "`date: " in told[0]
    assert "some.yaml" in told[0]


def test_a_context_of_another_day_is_refused_with_the_date(tmp_path: Path) -> None:
    yesterday = record(FakeDevice(), fake_subject(), load(tmp_path, "date: 2024-07-26\n"))
    options = Options("forced-decode", Context.of(yesterday))
    with pytest.raises(UsageError, match=r"another suite.*change with the date"):
        record(FakeDevice(), fake_subject(), load(tmp_path), options)


def test_a_recording_with_a_date_says_nothing(tmp_path: Path) -> None:
    said = Lines()
    made = record(FakeDevice(), fake_subject(), load(tmp_path, "date: 2024-07-26\n"), progress=said)
    assert made.suite.unsteady is None
    assert not any("date" in line for line in said.lines)
