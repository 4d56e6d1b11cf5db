"""The ladder of verdicts, rung by rung, and the sentence of each."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from harness.alignment.gates import GATES
from harness.alignment.outcomes import (
    ALIGNED,
    NO_JUDGEMENT,
    VERDICTS,
    PointClass,
    Status,
    Verdict,
    exit_status,
)
from harness.alignment.result import Comparability, FieldDifference, Gate
from harness.alignment.verdict import message_of, prompt_verdict, verdict_of
from harness.messages.render import render
from harness.statistics.intervals import Interval

NAMES = (*GATES, "determinism")
NEAR_ONE = Interval(value=1.02, low=0.98, high=1.06)
SAME = Comparability(comparable=True, differences=(), allowed=(), unknown=())


def gates(**status: Status) -> list[Gate]:
    return [
        Gate(
            name=name,
            status=status.get(name, "PASS"),
            value=0.25,
            limit=1.5,
            sentence=f"The {name} measured 0.25.",
        )
        for name in NAMES
    ]


def judged(
    classes: list[PointClass | None] | None = None,
    *,
    bits: bool = False,
    tokens: bool = False,
    oracle: bool = True,
    whole_rows: bool = True,
    **status: Status,
) -> Verdict:
    return verdict_of(
        gates(**status),
        classes or ["EXACT"],
        bit_equal=bits,
        tokens_equal=tokens,
        has_oracle=oracle,
        whole_rows=whole_rows,
    )


LADDER: list[tuple[dict[str, Any], Verdict]] = [
    ({"bits": True, "tokens": True}, "BIT_EXACT"),
    ({"bits": True, "tokens": True, "determinism": "WARN"}, "TOKEN_EXACT"),
    ({"bits": True, "tokens": False}, "EQUIVALENT"),
    ({"tokens": True}, "TOKEN_EXACT"),
    ({}, "EQUIVALENT"),
    ({"classes": ["TIE", "NEAR_TIE"]}, "EQUIVALENT"),
    ({"determinism": "WARN"}, "EQUIVALENT"),
    ({"exceedance": "WARN", "flip_calibration": "WARN", "slope": "WARN"}, "EQUIVALENT"),
    ({"error_ratio_prefill": "NOT_RUN", "error_ratio_decode": "NOT_RUN"}, "EQUIVALENT"),
    ({"error_ratio_decode": "INCONCLUSIVE"}, "INCONCLUSIVE"),
    ({"tokens": True, "slope": "FAIL"}, "DRIFT"),
    ({"tokens": True, "exceedance": "FAIL"}, "DRIFT"),
    ({"determinism": "NOT_RUN"}, "EQUIVALENT"),
    ({"top_k_error_ratio": "NOT_RUN"}, "EQUIVALENT"),
    # A server that tells the likeliest tokens only has the second ratio alone.
    ({"error_ratio": "NOT_RUN", "whole_rows": False}, "EQUIVALENT"),
    ({"error_ratio": "NOT_RUN"}, "INCONCLUSIVE"),
    ({"error_ratio": "NOT_RUN", "top_k_error_ratio": "INCONCLUSIVE"}, "INCONCLUSIVE"),
    ({"error_ratio": "NOT_RUN", "top_k_error_ratio": "NOT_RUN"}, "INCONCLUSIVE"),
    ({"error_ratio": "INCONCLUSIVE"}, "INCONCLUSIVE"),
    ({"top_k_error_ratio": "INCONCLUSIVE"}, "INCONCLUSIVE"),
    ({"point_guard": "NOT_RUN", "tokens": True}, "INCONCLUSIVE"),
    ({"coverage": "INCONCLUSIVE", "tokens": True}, "INCONCLUSIVE"),
    ({"tokens": True, "error_ratio": "FAIL"}, "DRIFT"),
    ({"tokens": True, "top_k_error_ratio": "FAIL"}, "DRIFT"),
    ({"tokens": True, "point_guard": "FAIL", "classes": ["SILENT_DRIFT"]}, "DRIFT"),
    ({"point_guard": "FAIL", "classes": ["DIVERGENT", "EXACT"]}, "DIVERGENT"),
    ({"error_ratio": "FAIL", "coverage": "INCONCLUSIVE"}, "DRIFT"),
    ({"nonfinite": "FAIL", "point_guard": "FAIL", "classes": ["NONFINITE"]}, "DIVERGENT"),
    ({"bits": True, "tokens": True, "nonfinite": "FAIL", "classes": ["NONFINITE"]}, "DIVERGENT"),
    ({"determinism": "FAIL"}, "NON_DETERMINISTIC"),
    ({"determinism": "FAIL", "bits": True, "tokens": True}, "NON_DETERMINISTIC"),
    ({"determinism": "FAIL", "error_ratio": "FAIL"}, "NON_DETERMINISTIC"),
]


@pytest.mark.parametrize(("found", "verdict"), LADDER)
def test_the_ladder_with_an_oracle(found: dict[str, Any], verdict: Verdict) -> None:
    assert judged(**found) == verdict


@pytest.mark.parametrize("found", [f for f, _ in LADDER])
def test_a_single_recording_gives_bit_exact_or_inconclusive(found: dict[str, Any]) -> None:
    verdict = judged(**{**found, "oracle": False})
    sound = found.get("nonfinite") != "FAIL" and found.get("determinism") not in ("FAIL", "WARN")
    equal = bool(found.get("bits") and found.get("tokens") and sound)
    assert verdict == ("BIT_EXACT" if equal else "INCONCLUSIVE")


@pytest.mark.parametrize("gate", [n for n in NAMES if n != "determinism"])
@pytest.mark.parametrize("status", ["FAIL", "INCONCLUSIVE"])
def test_no_gate_that_does_not_hold_is_passed_over(gate: str, status: Status) -> None:
    found: dict[str, Any] = {"tokens": True, gate: status}
    assert judged(**found) not in ALIGNED


def test_every_verdict_has_a_place_and_an_exit_status() -> None:
    assert get_args(Verdict) == VERDICTS
    assert {v: exit_status(v) for v in VERDICTS} == {
        "BIT_EXACT": 0,
        "TOKEN_EXACT": 0,
        "EQUIVALENT": 0,
        "INCONCLUSIVE": 3,
        "DRIFT": 1,
        "DIVERGENT": 1,
        "NON_DETERMINISTIC": 1,
        "NOT_COMPARABLE": 3,
    }
    assert not ALIGNED & NO_JUDGEMENT


@pytest.mark.parametrize(
    ("classes", "bits", "complete", "verdict"),
    [
        (["EXACT", "EXACT"], True, True, "BIT_EXACT"),
        (["EXACT", "EXACT"], True, False, "INCONCLUSIVE"),
        (["EXACT", "EXACT"], False, True, "TOKEN_EXACT"),
        (["EXACT", "NEAR_TIE"], False, True, "EQUIVALENT"),
        (["EXACT", "TIE"], True, True, "EQUIVALENT"),
        (["EXACT", None], False, True, "INCONCLUSIVE"),
        (["EXACT", "SILENT_DRIFT"], False, True, "DRIFT"),
        (["SILENT_DRIFT", "DIVERGENT"], False, False, "DIVERGENT"),
        (["EXACT", "NONFINITE"], True, True, "DIVERGENT"),
    ],
)
def test_the_verdict_of_one_prompt(
    classes: list[PointClass | None], bits: bool, complete: bool, verdict: Verdict
) -> None:
    assert prompt_verdict(classes, bit_equal=bits, complete=complete) == verdict


def sentence(
    verdict: Verdict,
    found: list[Gate],
    ratio: Interval = NEAR_ONE,
) -> str:
    return render(message_of(verdict, SAME, ratio, found, 3, 96), "en")


def test_an_aligned_sentence_holds_ratio_interval_and_flips() -> None:
    text = sentence("EQUIVALENT", gates())
    assert "error 1.02 times the reference's (95 % interval 0.98 to 1.06)" in text
    assert text.endswith("3 of 96 tokens flip.")


def test_the_gate_that_made_the_verdict_is_told() -> None:
    text = sentence("INCONCLUSIVE", gates(coverage="INCONCLUSIVE"))
    assert text.endswith("coverage: The coverage measured 0.25.")
    text = sentence("DRIFT", gates(coverage="INCONCLUSIVE", top_k_error_ratio="FAIL"))
    assert text.endswith("top_k_error_ratio: The top_k_error_ratio measured 0.25.")
    text = sentence("NON_DETERMINISTIC", gates(error_ratio="FAIL", determinism="FAIL"))
    assert text.endswith("determinism: The determinism measured 0.25.")
    text = sentence("INCONCLUSIVE", gates(point_guard="NOT_RUN", determinism="NOT_RUN"))
    assert text.endswith("point_guard: The point_guard measured 0.25.")


def test_the_error_ratio_is_told_once() -> None:
    high = Interval(value=4.0, low=3.9, high=4.1)
    text = sentence("DRIFT", gates(error_ratio="FAIL"), high)
    assert text.count("4.0") == 1
    assert text.count("3.9") == 1
    assert "FAIL at the limit of 1.5" in text


def test_nonfinite_logits_are_told_before_all_else() -> None:
    text = sentence("DIVERGENT", gates(nonfinite="FAIL", error_ratio="FAIL", point_guard="FAIL"))
    assert "NaN or infinite" in text
    assert text.endswith("nonfinite: The nonfinite measured 0.25.")


def test_what_differs_is_named_up_to_a_few_fields() -> None:
    def refused(count: int) -> str:
        fields = tuple(
            FieldDifference(field=f"f{i}", candidate="1", baseline="2") for i in range(count)
        )
        found = Comparability(comparable=False, differences=fields, allowed=(), unknown=())
        return render(message_of("NOT_COMPARABLE", found, NOTHING, (), 0, 0), "en")

    assert refused(1).endswith(": f0 differs.")
    assert refused(2).endswith(": f0, f1 differ.")
    assert refused(40).endswith(": f0, f1, f2, f3 and 36 more fields differ.")


NOTHING = Interval(value=None, low=None, high=None)


@pytest.mark.parametrize("verdict", [v for v in VERDICTS if v != "NOT_COMPARABLE"])
@pytest.mark.parametrize("status", get_args(Status))
@pytest.mark.parametrize(
    "ratio", [NOTHING, Interval(value=1.0, low=None, high=None), Interval(value=0, low=0, high=1)]
)
def test_no_sentence_shows_a_missing_figure(
    verdict: Verdict, status: Status, ratio: Interval
) -> None:
    text = sentence(verdict, gates(error_ratio=status, coverage=status), ratio)
    assert "None" not in text
    assert "nan" not in text.lower().split()
    assert text.endswith(".")
    assert "96" in text


def test_equal_bits_that_do_not_repeat_are_not_bit_exact() -> None:
    """Against a single recording too, where no other word is left but this one."""
    assert judged(bits=True, tokens=True, oracle=False) == "BIT_EXACT"
    assert judged(bits=True, tokens=True, oracle=False, determinism="FAIL") == "INCONCLUSIVE"
    assert judged(bits=True, tokens=True, determinism="FAIL") == "NON_DETERMINISTIC"
