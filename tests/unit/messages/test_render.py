"""Numbers, plurals, lists and messages within messages."""

from __future__ import annotations

import pytest

from harness.messages.message import message
from harness.messages.render import Formatter, fill, render


def filled(text: str, **values: object) -> str:
    return fill(text, values, Formatter("en"))


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 tokens differ"), (1, "1 token differs"), (2, "2 tokens differ")]
)
def test_a_count_chooses_its_words(count: int, said: str) -> None:
    assert filled("{n} {n:token differs|tokens differ}", n=count) == said


def test_a_count_may_be_written_out_or_be_that_of_a_list() -> None:
    assert filled("{n:is|are}", n="1") == "is"
    assert filled("{n:is|are}", n="1,000") == "are"
    assert filled("{n:differs|differ}", n=("a",)) == "differs"
    assert filled("{n:differs|differ}", n=("a", "b")) == "differ"


def test_lists_are_joined_as_each_language_does() -> None:
    refused = message("verdict.refused", meaning=message("meaning.NOT_COMPARABLE"),
                      fields=("a", "b"))  # fmt: skip
    assert render(refused, "en") == "The two are not comparable: a, b differ."
    assert render(refused, "zh") == "两者不可比较：a、b 不同。"


def test_a_clause_drops_its_full_stop() -> None:
    gate = message("part.gate", gate="coverage", sentence=message("gate.no_logits"))
    assert render(gate, "en").endswith("to judge")
    assert render(gate, "zh").endswith("logit")


def test_a_message_around_another_says_how_many_digits() -> None:
    ratio = message("span", value=1.0, low=0.98, high=1.0625)
    against = message("gate.bucket.pass", share=1.5, value=0.1, largest=0.1, limit=0.2)
    bias = message("gate.bias.pass", against=against, value=ratio, limit=0.05)
    assert "1.0000 (95 % interval 0.9800 to 1.0625)" in render(bias, "en")
    error = message("part.error", ratio=message("times.point", value=29.349))
    assert render(error, "en") == "error 29.35 times the reference's"
    assert render(error, "zh") == "误差为参考的 29.35 倍"


def test_an_unknown_key_or_a_missing_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        render(message("new"), "en")
    with pytest.raises(KeyError):
        render(message("part.flips", flips=1), "en")
