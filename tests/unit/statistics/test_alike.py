"""Prompts from one template count once: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from harness.recording.format import load_recording
from harness.statistics.alike import alike_groups, words_of

TEMPLATES = (
    "The capital of {} is",
    "Write a short poem about the {} in winter.",
    "Explain to a child how a {} works.",
    "Translate the word {} into French and use it in a sentence.",
    "请用三句话介绍{}的历史。",
    "def count_{}(items):\n    return sum(1 for item in items if item ==",
    "Dear Mr. {}, thank you for your letter of 3 March. We regret",
    "List five things to pack for a trip to {} in summer:",
    "Once upon a time there was a {} who lived by the sea and",
    "SELECT name FROM {} WHERE age > 30 ORDER BY",
    "Q: Who invented the {}?\nA:",
    "The recipe for {} soup begins with two onions and",
)
FILLERS = ("bicycle", "lighthouse", "Norway")


def groups(texts: list[str]) -> int:
    return len(alike_groups([words_of(text) for text in texts]))


def test_thirty_six_prompts_of_twelve_templates_are_twelve() -> None:
    texts = [template.format(word) for word in FILLERS for template in TEMPLATES]
    found = alike_groups([words_of(text) for text in texts])
    assert found == tuple((n, n + 12, n + 24) for n in range(12))


@pytest.mark.parametrize("template", TEMPLATES)
def test_prompts_of_one_template_are_one(template: str) -> None:
    assert groups([template.format(word) for word in (*FILLERS, "umbrella")]) == 1


def test_templates_themselves_are_not_alike() -> None:
    assert groups([t.format(w) for t, w in zip(TEMPLATES, FILLERS * 4, strict=True)]) == 12


def test_questions_that_only_begin_alike_are_not() -> None:
    asked = ["What is the capital of France?", "What is the meaning of life?"]
    assert groups(asked) == 2


def test_sums_of_other_numbers_are_one() -> None:
    assert groups(["12 + 7 = 19, so 35 +", "9 + 52 = 61, so 4 +"]) == 1


def test_one_paragraph_cut_at_other_lengths_is_one() -> None:
    text = " ".join(f"word{chr(97 + n)} goes home" for n in range(26))
    assert groups([text, text[:200], text + " " + text]) == 1


@pytest.mark.parametrize("suite", ["mixed"])
def test_the_shipped_suite_has_no_two_alike(suite: str) -> None:
    prompts = load_recording(f"baselines/smollm2/{suite}/bfloat16/reference.json").prompts
    assert groups([p.text for p in prompts]) == len(prompts)


def test_short_prompts_are_alike_only_where_they_are_equal() -> None:
    assert groups(["Hello there", "Hello you", "Hello there"]) == 2
    assert groups(["", "", "x"]) == 2
    assert alike_groups([]) == ()


def test_intervals_that_take_them_for_independent_are_too_narrow() -> None:
    """36 prompts of 12 templates: 95 % becomes less than 80 %."""
    random, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        values = np.repeat(random.normal(size=12), 3)
        inside += abs(values.mean()) <= 2.03 * values.std(ddof=1) / 6
    assert 0.6 < inside / 2000 < 0.8


def test_many_long_prompts_take_no_time() -> None:
    random = np.random.default_rng(1)
    prompts = [tuple(row) for row in random.integers(0, 5000, (300, 400)).tolist()]
    assert len(alike_groups(prompts)) == 300
