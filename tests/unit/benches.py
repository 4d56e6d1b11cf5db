"""A bench for tests of its reports, made by hand."""

from __future__ import annotations

from typing import Any

from report_alignments import facts

from harness.bench.result import Accuracy, Bench, Cell, CellTimes, Limits, RepeatTimes, RequestTimes
from harness.messages.message import message

MS = 1_000_000
CELL = Cell(prompt_tokens=8, output_tokens=3, batch_size=1)
REQUEST = RequestTimes(ttft_ns=20 * MS, itl_ns=(10 * MS, 12 * MS), e2e_ns=42 * MS)


def repeat(tokens: str) -> RepeatTimes:
    return RepeatTimes(wall_ns=50 * MS, requests=(REQUEST,), tokens=tokens)


def bench(created: str = "2026-01-02T03:04:05+00:00", **changes: Any) -> Bench:
    """A bench whose tokens are not right, with every warning there is."""
    fields: dict[str, Any] = {
        "created": created,
        "complete": False,
        "device": "fake",
        "dtype": "bfloat16",
        "machine": "m" * 8,
        "model": facts(),
        "engine": {},
        "environment": {"torch": "2.9.0"},
        "load": {"load_s": 1.5, "weights_bytes": 1024.0},
        "first_request_s": 0.25,
        "cells": (
            CellTimes(cell=CELL, stable=True, repeats=(repeat("a"), repeat("b"))),
            CellTimes(cell=CELL.model_copy(update={"batch_size": 4}), problem="it does not fit"),
            CellTimes(cell=CELL.model_copy(update={"batch_size": 8}), repeats=(repeat("a"),)),
        ),
        "limits": Limits(read_bytes_s=1e9, matmul_flop_s=1e9, weight_bytes=10**6,
                         kv_bytes_per_token=64, parameters=10**6),
        "accuracy": Accuracy(verdict="DIVERGENT", message=message("meaning.DIVERGENT")),
    }  # fmt: skip
    return Bench(**(fields | changes))
