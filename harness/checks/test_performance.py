"""Load, throughput and latency: recorded for the report, not judged."""

from __future__ import annotations

import math

import pytest

from harness.alignment.result import Alignment

_FIGURES = {
    "load": ("load_s",),
    "throughput": ("decode_tok_s", "total_tok_s"),
    "latency": ("ttft_s", "itl_s", "decode_tpot_s"),
}


@pytest.mark.parametrize("kind", _FIGURES)
def test_performance(kind: str, alignment: Alignment, request: pytest.FixtureRequest) -> None:
    """The figures are written to JUnit's properties; the test fails only if they are missing."""
    if not alignment.comparability.comparable:
        pytest.skip("nothing was run")
    figures = alignment.performance.candidate
    if not figures.samples:
        pytest.skip("every run of the recording is a prefill, so it has no time per token")
    for name in _FIGURES[kind]:
        value = getattr(figures, name)
        assert value is None or (math.isfinite(value) and value >= 0), name
        if value is None:
            continue
        # Not record_property, which warns under xunit2.
        request.node.user_properties.append((f"harness.{name}", value))
        request.node.user_properties.append((f"harness.{name}.samples", figures.samples))
