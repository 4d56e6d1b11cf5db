"""Both languages have every message, with the same values in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markupsafe import Markup

from harness.errors import UsageError
from harness.report import environment
from harness.report.language import (
    MESSAGES,
    Said,
    both,
    default_language,
    language_of,
    said,
    say,
)

REPORT = Path(environment.__file__).parent


def test_every_key_that_templates_and_code_name_is_there() -> None:
    named = set()
    for path in [*REPORT.glob("templates/*.j2"), *REPORT.glob("*.py"), *REPORT.glob("charts/*.py")]:
        text = path.read_text("utf-8")
        named |= set(re.findall(r"""\b(?:t|said|both)\(\s*"([\w.]+)"\s*[,)]""", text))
    assert len(named) > 100
    assert named <= set(MESSAGES["en"])


def test_values_are_escaped_and_come_in_the_language() -> None:
    assert say("zh", "of", n=1, all=2) == "1 / 2"
    assert said("of", n=Said("one", "一"), all=2) == Said("one of 2", "一 / 2")
    shown = both("compared.unknown", names="<b>")
    assert "&lt;b&gt;" in shown
    assert shown.count("<span lang=") == 2
    assert "1 more prompt is" in both("prompts.brief", n=1)
    assert "<b>7</b> more prompts are" in both("prompts.brief", n=Markup("<b>7</b>"))


@pytest.mark.parametrize(
    ("environment_", "language"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_TW"}, "zh"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LC_ALL": "", "LANG": "zh"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
    ],
)
def test_the_locale_chooses_where_nobody_else_does(
    environment_: dict[str, str], language: str
) -> None:
    assert default_language(environment_) == language


def test_an_unknown_language_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--lang fr: a report is in en"):
        language_of("fr")
    assert language_of("zh") == "zh"
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert language_of(None) == "zh"
