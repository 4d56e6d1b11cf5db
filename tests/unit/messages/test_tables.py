"""The two tables: the same keys, and in each text the same values with the same digits."""

from __future__ import annotations

import re
import string
from collections import Counter
from pathlib import Path

import harness
from harness.alignment.outcomes import VERDICTS, PointClass, Status
from harness.messages import tables
from harness.messages.tables import MESSAGES
from harness.report.html import WORDS

HARNESS = Path(harness.__file__).parent
TABLES = (
    *("page", "gates", "judgement", "bench", "plain", "scope", "diagnosis", "canary"),
    *("recording", "terminal"),
)


def fields(text: str) -> dict[str, set[str]]:
    """The values of a text and how its numbers are written; not its plurals."""
    found: dict[str, set[str]] = {}
    for _, name, spec, _ in string.Formatter().parse(text):
        if name:
            found.setdefault(name, set()).update([spec] if spec and "|" not in spec else [])
    return found


def test_every_key_has_both_languages_and_the_same_values() -> None:
    english, chinese = MESSAGES["en"], MESSAGES["zh"]
    assert list(english) == list(chinese)
    for key, text in english.items():
        assert fields(text) == fields(chinese[key]), key
        assert text.strip(), key
        assert chinese[key].strip(), key


def test_no_key_stands_in_two_tables() -> None:
    """The second would take the place of the first."""
    for language in ("en", "zh"):
        keys = Counter(
            key for name in TABLES for key in getattr(tables, f"{language}_{name}").MESSAGES
        )
        assert [key for key, count in keys.items() if count > 1] == []


def test_chinese_is_chinese_but_for_terms() -> None:
    """Texts alike in both languages are symbols and terms that Chinese uses as they are."""
    alike = {k for k, text in MESSAGES["en"].items() if text == MESSAGES["zh"][k]}
    terms = {"bench.prefill", "bench.decode", "bench.head.itl_p99", "bench.head.ttft_p90"}
    terms |= {"word.oracle", "word.logit"}
    assert alike == {"logit", "hero.fields.note", "oracle", "span.point", *terms}
    without = {k for k, t in MESSAGES["zh"].items() if not re.search("[\u4e00-\u9fff]", t)}
    values_only = {"magnifier.both", "verdict.found", "part.gate", "warning.device"}
    assert without <= {*alike, *values_only, "of"}


def test_every_key_is_used_somewhere() -> None:
    sources = [*HARNESS.rglob("*.py"), *HARNESS.rglob("*.j2")]
    text = "\n".join(
        p.read_text("utf-8") for p in sources if "messages" not in p.relative_to(HARNESS).parts
    )
    text = text.replace("'", '"')
    # Put together from a status, a class, a gate or the name of a figure.
    built = (
        "verdict.",
        "status.",
        "asks.",
        "class.",
        "figure.",
        "severity.",
        "theme.",
        "meaning.",
        "recording.total.",
        "bench.best.",
        "performance.speed.",
        "why.token.",
        "why.next.",
        "terminal.equal.",
        "word.",  # test_every_word_of_the_glossary_is_explained looks for each
    )
    built += (
        "stops.",
        "determinism.",
        "gate.",
        "part.error",
        "where.",
        "coverage.",
        "bench.is.",
        "bench.head.",
        "cause.",
    )
    built += ("canary.",)  # of a cause; test_canary_outcome looks for each
    built += ("candidate", "reference", "oracle", "control")  # roles of arms
    #: Parts of a load that some engines tell.
    told = ("profiling and KV cache", "not timed by the engine", "not compiled (enforce_eager)")
    known = {f"bench.{name}" for name in told}

    def used(key: str) -> bool:
        names = (key, key.removesuffix(".point"), key.removeprefix("bench."))
        return key.startswith(built) or key in known or any(f'"{n}"' in text for n in names)

    assert [key for key in MESSAGES["en"] if not used(key)] == []


def test_every_word_of_the_glossary_is_explained() -> None:
    keys = {key for key in MESSAGES["en"] if key.startswith("word.")}
    assert keys == {f"word.{word}{end}" for word in WORDS for end in ("", ".is")}


def test_every_word_of_a_judgement_has_its_texts() -> None:
    keys = {f"{kind}.{name}" for name in VERDICTS for kind in ("verdict", "meaning")}
    keys |= {f"status.{name}" for name in Status.__args__}  # type: ignore[attr-defined]
    keys |= {f"class.{name}" for name in PointClass.__args__}  # type: ignore[attr-defined]
    assert keys <= set(MESSAGES["en"])
