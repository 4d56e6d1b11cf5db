"""Positions that stand on the disk are those that were judged."""

from __future__ import annotations

from typing import Any

import pytest
from report_alignments import alignment, prompt

from harness.alignment import kept_positions
from harness.alignment.kept_positions import KeptPositions, kept_prompts
from harness.alignment.prompt_result import Positions
from harness.files.store import Store
from harness.report import to_html

NAMES = tuple(Positions.model_fields)


def positions(**changes: Any) -> Positions:
    return prompt(count=12, flip=4, bad=9).positions.model_copy(update=changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"error": [None] * 12, "bit_equal": [None, True, False] * 4},
        {"shift": [-0.0, 1e-300, -1.7e308] * 4, "class_": [None, "DIVERGENT", "TIE"] * 4},
        {"candidate_token": [-1, 2**31 - 1, 0] * 4},
        {"candidate_top": [[], [(5, 0.1)], [(1, 2.5), (7, 1 / 3)]] * 4},
    ],
)
def test_every_list_is_what_it_was(changes: dict[str, Any]) -> None:
    held = positions(**changes)
    kept = KeptPositions.of(held, Store())
    assert isinstance(kept, KeptPositions)
    for name in NAMES:
        assert repr(getattr(kept, name)) == repr(getattr(held, name)), name
    assert kept.model_dump_json(by_alias=True) == held.model_dump_json(by_alias=True)
    assert kept == held
    assert kept != positions(margin=[0.5] * 12)
    with pytest.raises(AttributeError):
        _ = kept.other  # type: ignore[attr-defined]


def test_what_a_table_cannot_hold_stays_in_memory() -> None:
    for held in (
        positions(reference_top=[[(n, 0.0) for n in range(6)]] * 12),
        prompt(count=0).positions,
    ):
        assert KeptPositions.of(held, Store()) is held


def test_a_report_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = tuple(prompt(f"p{n}", count=9, flip=n, bad=8) for n in range(5))
    plain = alignment("DRIFT", prompts=prompts)
    monkeypatch.setattr(kept_positions, "IN_MEMORY", 20)
    kept = kept_prompts(prompts)
    kinds = [isinstance(p.positions, KeptPositions) for p in kept]
    assert kinds == [False, False, True, True, True]
    again = alignment("DRIFT", prompts=kept)
    assert to_html([again]) == to_html([plain])
    assert again.to_frame().equals(plain.to_frame())
