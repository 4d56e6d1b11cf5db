from __future__ import annotations

from harness.devices.vllm.environment import WorkerFacts, differing, of_all


def test_workers_of_one_model_hold_it_together() -> None:
    one: WorkerFacts = {
        "weights_bytes": 100,
        "kv_cache_bytes": 50,
        "peak_rss_bytes": 300,
        "peak_device_bytes": 160,
        "weights_s": 1.0,
        "threads": 1,
        "graph_mode": "piecewise",
    }
    other: WorkerFacts = {
        "weights_bytes": 90,
        "kv_cache_bytes": 50,
        "peak_rss_bytes": 200,
        "peak_device_bytes": 150,
        "weights_s": 2.5,
        "threads": 1,
        "graph_mode": "piecewise",
    }
    assert of_all([one, other], {"init_engine_s": 7.0, "weights_s": 2.0}) == {
        "weights_bytes": 190,
        "kv_cache_bytes": 100,
        "peak_rss_bytes": 500,
        "peak_device_bytes": 310,
        "weights_s": 2.5,
        "threads": 1,
        "graph_mode": "piecewise",
        "init_engine_s": 7.0,
        "workers": 2,
    }


def test_an_unknown_fact_is_left_out_and_not_zero() -> None:
    silent: WorkerFacts = {"threads": 2, "compile_s": None}  # type: ignore[typeddict-item]
    assert of_all([silent, silent], {}) == {"threads": 2, "workers": 2}


def test_facts_that_differ_between_ranks_are_told_of_each() -> None:
    ranks: list[WorkerFacts] = [
        {"threads": 2, "attention": "CPU_ATTN", "weights_bytes": 100, "weights_s": 1.0},
        {"threads": 1, "attention": "CPU_ATTN", "weights_bytes": 90, "weights_s": 2.0},
        {"attention": "CPU_ATTN", "weights_bytes": 90},
    ]
    assert differing(ranks) == {"ranks.threads": "2; 1; ?", "ranks.weights_bytes": "100; 90; 90"}
    assert differing(ranks[:1]) == {}
