"""Both languages say the same: every message that the judgement gives, in English and Chinese."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from every_message import BASELINE, everything, failing, messages_of, within

from harness.alignment.power import Power, power_rows
from harness.alignment.result import Alignment
from harness.alignment.scope import scope_of, scope_rows
from harness.messages.en import gates, judgement, plain, scope
from harness.messages.message import Message
from harness.messages.render import render
from harness.report import to_html, to_markdown

NUMBER = re.compile(r"\d+(?:\.\d+)?")
HAN = re.compile("[\u4e00-\u9fff]")
#: English that stands in a Chinese sentence as it came: from a device, or an error.
FOREIGN = ("it does not start", "it samples")


@pytest.fixture(scope="module")
def said() -> list[Message]:
    return everything()


@pytest.fixture(scope="module")
def failed() -> Alignment:
    return failing()


def numbers(text: str) -> Counter[str]:
    return Counter(NUMBER.findall(text))


def test_every_text_of_the_tables_is_given_by_the_judgement(said: list[Message]) -> None:
    """A text that nothing gives is dead, and one that no test reaches may say anything."""
    given = {part.key for message in said for part in within(message)}
    labels = {key for key, _ in scope_rows(scope_of(None, BASELINE))}
    labels |= {
        key for key, _ in power_rows(Power.model_validate(dict.fromkeys(Power.model_fields)))
    }
    labels |= {"scope", "scope.help", "scope.what", "scope.how_much"}  # of the page
    tables = {**gates.MESSAGES, **judgement.MESSAGES, **plain.MESSAGES, **scope.MESSAGES}
    assert set(tables) - labels - given == set()


def test_both_languages_hold_the_same_numbers(said: list[Message]) -> None:
    for message in said:
        english, chinese = render(message, "en"), render(message, "zh")
        assert numbers(english) == numbers(chinese), (english, chinese)


def test_chinese_is_chinese(said: list[Message]) -> None:
    """No three English words in a row, but what came from elsewhere."""
    for message in said:
        chinese = render(message, "zh")
        assert HAN.search(chinese) or message.key in ("warning.device",), chinese
        for text in FOREIGN:
            chinese = chinese.replace(text, "")
        assert not re.search(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", chinese), chinese


def test_no_sentence_shows_a_missing_figure_or_a_wrong_plural(said: list[Message]) -> None:
    for message in said:
        for language in ("en", "zh"):
            text = render(message, language)  # type: ignore[arg-type]
            assert not {"None", "nan", "inf"}.intersection(re.findall(r"\w+", text)), text
            assert "{" not in text
            assert "|" not in text
        english = render(message, "en")
        assert not re.search(r"(?<![\d.,])1 (?:rows|tokens|positions|prompts|fields)\b", english)
        assert not re.search(
            r"(?<![\d.])(?:[02-9]|\d{2,}) (?:row|token|position|prompt)\b", english
        )


def test_a_failing_alignment_reports_the_same_facts_in_both_languages(failed: Alignment) -> None:
    statuses = {gate.status for gate in failed.gates}
    assert {"FAIL", "INCONCLUSIVE", "WARN"} <= statuses
    assert failed.matrix
    assert failed.magnifier is not None
    english, chinese = (to_markdown([failed], language=name) for name in ("en", "zh"))
    for message in messages_of(failed):
        assert shown(render(message, "en")) in shown(english)
        assert shown(render(message, "zh")) in shown(chinese)
    assert len(english.splitlines()) == len(chinese.splitlines())
    for mine, theirs in zip(english.splitlines(), chinese.splitlines(), strict=True):
        assert numbers(mine) == numbers(theirs), (mine, theirs)


def test_a_page_of_it_has_both(failed: Alignment) -> None:
    page = to_html([failed])
    for message in messages_of(failed):
        for language in ("en", "zh"):
            (number, *_) = [*NUMBER.findall(render(message, language)), ""]  # type: ignore[arg-type]
            assert number in page


def shown(text: str) -> str:
    """A text without what Markdown puts around words."""
    return re.sub(r"[`\\\s]", "", text)
