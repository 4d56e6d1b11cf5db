"""Both languages have every message, with the same values in it."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from harness.alignment.outcomes import VERDICTS
from harness.errors import UsageError
from harness.report import environment
from harness.report.language import (
    MESSAGES,
    Said,
    both,
    default_language,
    language_of,
    message,
    said,
)

REPORT = Path(environment.__file__).parent


def fields(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_key_has_both_languages_and_the_same_values() -> None:
    english, chinese = MESSAGES["en"], MESSAGES["zh"]
    assert list(english) == list(chinese)
    for key, text in english.items():
        assert fields(text) == fields(chinese[key]), key
        assert text.strip(), key
        assert chinese[key].strip(), key


def test_chinese_is_chinese_but_for_terms() -> None:
    """Messages alike in both languages are symbols and terms that Chinese uses as they are."""
    alike = {k for k, text in MESSAGES["en"].items() if text == MESSAGES["zh"][k]}
    assert alike == {"logit", "hero.fields.note"}
    without = {k for k, t in MESSAGES["zh"].items() if not re.search("[\u4e00-\u9fff]", t)}
    assert without <= {*alike, "of", "oracle"}


def test_every_key_that_templates_and_code_name_is_there() -> None:
    named = set()
    for path in [*REPORT.glob("templates/*.j2"), *REPORT.glob("*.py"), *REPORT.glob("charts/*.py")]:
        text = path.read_text("utf-8")
        named |= set(re.findall(r"""\b(?:t|said|both)\(\s*"([\w.]+)"\s*[,)]""", text))
    assert len(named) > 100
    assert named <= set(MESSAGES["en"])


def test_every_key_is_used_somewhere() -> None:
    sources = [*REPORT.rglob("*.py"), *REPORT.rglob("*.j2")]
    text = "\n".join(p.read_text("utf-8") for p in sources if p.parent.name != "messages")
    built = ("verdict.", "status.", "asks.", "class.", "perf.", "severity.", "theme.")
    built += ("candidate", "reference", "oracle", "control")  # roles of arms
    unused = [k for k in MESSAGES["en"] if not k.startswith(built) and f'"{k}"' not in text]
    assert not unused
    assert all(f"verdict.{name}" in MESSAGES["en"] for name in VERDICTS)


def test_values_are_escaped_and_come_in_the_language() -> None:
    assert message("zh", "of", n=1, all=2) == "1 / 2"
    assert said("of", n=Said("one", "一"), all=2) == Said("one of 2", "一 / 2")
    shown = both("compared.unknown", names="<b>")
    assert "&lt;b&gt;" in shown
    assert shown.count("<span lang=") == 2


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
