"""Throughput and latency on a grid: opt in with ``-m perf``. It judges the tokens first."""

from __future__ import annotations

import pytest

from harness.alignment.result import Alignment
from harness.bench.figures import figures
from harness.bench.result import Bench


@pytest.mark.perf
def test_bench(bench: Bench, alignment: Alignment, request: pytest.FixtureRequest) -> None:
    """Every cell of the grid was measured. The report and ``harness bench
    --against`` judge the speed."""
    for times in bench.cells:
        for name, found in figures(times).items():
            place = f"harness.bench.{times.cell.name}.{name}"
            request.node.user_properties.append((place, found.median))
    failed = [f"{times.cell.name}: {times.problem}" for times in bench.cells if times.problem]
    if failed:
        pytest.fail("; ".join(failed), pytrace=False)
    if not bench.aligned:
        pytest.fail(
            f"{alignment.verdict}: the figures are of tokens that were not shown to be right, "
            "and are crossed out in the report",
            pytrace=False,
        )
