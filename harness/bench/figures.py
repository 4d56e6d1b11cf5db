"""Figures from raw samples, each by a published definition.

Tools disagree on what TPOT and ITL mean, so these definitions are printed beside
every table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.bench.result import CellTimes, Limits, RepeatTimes

#: In the order of a report; what each is, the messages say (``bench.is``).
FIGURES = (
    "ttft_s",
    "itl_s",
    "decode_tpot_s",
    "e2e_s",
    "prefill_tok_s",
    "decode_tok_s",
    "total_tok_s",
)
#: From this many samples on there is a 90th percentile.
P90_FROM = 10
#: From this many samples on a 99th percentile has an upper confidence bound
#: inside the sample (0.99 ** 299 < 0.05).
P99_FROM = 299


@dataclass(frozen=True)
class Summary:
    """Median, 90th and 99th percentile and number of samples; a percentile is
    None where there are too few."""

    median: float
    p90: float | None
    p99: float | None
    samples: int


def summary(values: Sequence[float]) -> Summary | None:
    """Statistics of samples; None if there are none. Percentiles by the nearest rank: p90
    from 10 samples on, p99 from 299."""
    if not values:
        return None
    n = len(values)
    return Summary(
        median=float(np.median(values)),
        p90=quantile(values, 0.90) if n >= P90_FROM else None,
        p99=quantile(values, 0.99) if n >= P99_FROM else None,
        samples=n,
    )


def quantile(values: Sequence[float], share: float) -> float:
    """A sample itself, never a mix of two: the smallest with at least ``share`` of
    the others below or equal to it."""
    return float(np.quantile(np.asarray(values, np.float64), share, method="higher"))


def figures(cell: CellTimes) -> dict[str, Summary]:
    """Every figure of ``FIGURES`` that the cell's repeats tell, in seconds
    or tokens a second."""
    requests = [r for repeat in cell.repeats for r in repeat.requests]
    samples: dict[str, list[float]] = {
        "ttft_s": [r.ttft_ns / 1e9 for r in requests],
        "itl_s": [gap / 1e9 for r in requests for gap in r.itl_ns],
        "decode_tpot_s": [sum(r.itl_ns) / len(r.itl_ns) / 1e9 for r in requests if r.itl_ns],
        "e2e_s": [r.e2e_ns / 1e9 for r in requests],
        "prefill_tok_s": [],
        "decode_tok_s": [],
        "total_tok_s": [],
    }
    for repeat in cell.repeats:
        for name, value in rates(repeat, cell.cell.prompt_tokens).items():
            samples[name].append(value)
    found = {name: summary(values) for name, values in samples.items()}
    return {name: value for name, value in found.items() if value is not None}


def rates(repeat: RepeatTimes, prompt_tokens: int) -> dict[str, float]:
    """Tokens a second of one run of a batch; a rate without time is left out."""
    last_first = max(r.ttft_ns for r in repeat.requests)
    first_first = min(r.ttft_ns for r in repeat.requests)
    end = max(r.e2e_ns for r in repeat.requests)
    later = sum(len(r.itl_ns) for r in repeat.requests)
    count = len(repeat.requests)
    found = {
        "prefill_tok_s": (prompt_tokens * count, last_first),
        "decode_tok_s": (later, end - first_first),
        "total_tok_s": (later + count, repeat.wall_ns),
    }
    return {name: n / ns * 1e9 for name, (n, ns) in found.items() if n and ns > 0}


@dataclass(frozen=True)
class Roofline:
    """How near the limits of the machine a cell runs, as shares of 1.

    ``decode_memory`` is of the memory limit: bytes of weights once a step and
    of the cache of every sequence, over the measured read bandwidth, against
    the measured step. ``prefill_compute`` is of the arithmetic limit: two
    operations a parameter and token, over the measured matrix rate.
    """

    decode_memory: float | None
    prefill_compute: float | None


def roofline(cell: CellTimes, limits: Limits) -> Roofline:
    """See ``Roofline``; None where the cell has no such figure."""
    found = figures(cell)
    length = cell.cell.prompt_tokens + cell.cell.output_tokens / 2
    cache = cell.cell.batch_size * length * limits.kv_bytes_per_token
    step = found.get("decode_tpot_s")
    rate = found.get("prefill_tok_s")
    return Roofline(
        decode_memory=(
            None
            if step is None or step.median <= 0
            else (limits.weight_bytes + cache) / limits.read_bytes_s / step.median
        ),
        prefill_compute=(
            None if rate is None else rate.median * 2 * limits.parameters / limits.matmul_flop_s
        ),
    )
