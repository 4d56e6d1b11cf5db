"""Figures of a bench against answers computed by hand."""

from __future__ import annotations

import pytest

from harness.bench.figures import FIGURES, figures, quantile, rates, roofline, summary
from harness.bench.limits import kv_bytes_per_token
from harness.bench.result import Cell, CellTimes, Limits, RepeatTimes, RequestTimes
from harness.model.facts import ModelFacts

MS = 1_000_000


def times(ttft: int, *gaps: int) -> RequestTimes:
    """Milliseconds."""
    return RequestTimes(
        ttft_ns=ttft * MS, itl_ns=tuple(g * MS for g in gaps), e2e_ns=(ttft + sum(gaps)) * MS
    )


def cell_times(*repeats: RepeatTimes, batch: int = 1) -> CellTimes:
    cell = Cell(prompt_tokens=100, output_tokens=3, batch_size=batch)
    return CellTimes(cell=cell, repeats=repeats)


def repeat(wall: int, *requests: RequestTimes) -> RepeatTimes:
    return RepeatTimes(wall_ns=wall * MS, requests=requests, tokens="")


def test_figures_of_one_request() -> None:
    found = figures(cell_times(repeat(500, times(200, 100, 140))))
    assert {name: one.median for name, one in found.items()} == pytest.approx(
        {
            "ttft_s": 0.2,
            "itl_s": 0.12,
            "decode_tpot_s": 0.12,
            "e2e_s": 0.44,
            "prefill_tok_s": 500.0,
            "decode_tok_s": 2 / 0.24,
            "total_tok_s": 3 / 0.5,
        }
    )
    assert set(found) == set(FIGURES)
    assert found["itl_s"].samples == 2
    assert found["ttft_s"].samples == 1


def test_rates_of_a_batch_count_every_request() -> None:
    found = rates(repeat(1000, times(200, 100, 100), times(300, 100, 500)), prompt_tokens=50)
    assert found == pytest.approx(
        {"prefill_tok_s": 100 / 0.3, "decode_tok_s": 4 / 0.7, "total_tok_s": 6.0}
    )


def test_one_output_token_has_no_decode_figures() -> None:
    found = figures(cell_times(repeat(300, times(200))))
    assert set(found) == {"ttft_s", "e2e_s", "prefill_tok_s", "total_tok_s"}


def test_percentiles_need_samples() -> None:
    assert summary([]) is None
    nine = summary([float(i) for i in range(9)])
    assert nine is not None
    assert (nine.median, nine.p90, nine.p99) == (4.0, None, None)
    ten = summary([float(i) for i in range(10)])
    assert ten is not None
    assert (ten.p90, ten.p99) == (9.0, None)
    many = summary([float(i) for i in range(298)])
    assert many is not None
    assert many.p99 is None
    enough = summary([float(i) for i in range(299)])
    assert enough is not None
    assert enough.p99 == 296.0


@pytest.mark.parametrize(("share", "of"), [(0.90, 10), (0.99, 100)])
def test_a_percentile_is_the_sample_that_leaves_the_rest_above(share: float, of: int) -> None:
    for count in range(10, 1000):
        rank = count - 1 - (count - 1) // of  # in whole numbers, without rounding
        assert quantile(range(count), share) == rank
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_the_roofline_of_known_limits() -> None:
    limits = Limits(
        read_bytes_s=1e9,
        matmul_flop_s=1e12,
        weight_bytes=50_000_000,
        kv_bytes_per_token=1000,
        parameters=25_000_000,
    )
    cell = Cell(prompt_tokens=99, output_tokens=2, batch_size=2)
    found = roofline(CellTimes(cell=cell, repeats=(repeat(300, times(100, 100)),)), limits)
    # (50 MB + 2 sequences x 100 tokens x 1000 B) / 1 GB/s = 50.2 ms of 100 ms
    assert found.decode_memory == pytest.approx(0.502)
    # 99 tokens in 0.1 s, 2 x 25e6 operations each
    assert found.prefill_compute == pytest.approx(990 * 5e7 / 1e12)


def test_the_cache_of_known_shapes() -> None:
    def facts(**config: int) -> ModelFacts:
        return ModelFacts(
            name="m", weights=None, parameters=1, weight_bytes=1, config=dict(config),
            tokenizer=None, template=None, vocab_size=9,
        )  # fmt: skip

    bitcpm = facts(
        num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=2,
        hidden_size=2048, head_dim=128,
    )  # fmt: skip
    assert kv_bytes_per_token(bitcpm, "bfloat16") == 28_672
    plain = facts(num_hidden_layers=2, num_attention_heads=4, hidden_size=64)
    assert kv_bytes_per_token(plain, "float32") == 2 * 2 * 4 * 16 * 4
    assert kv_bytes_per_token(facts(), "float32") is None
