"""Arguments that the engine did not take as they were given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.devices.facts import EngineFacts
from harness.devices.vllm.asked import not_taken
from harness.devices.vllm.environment import WorkerFacts, engine_facts

FORCE = {
    "runner": "vllm.v1.worker.Runner",
    "device": "npu",
    "block_size": 128,
    "max_num_seqs": 4,
    "prefix_caching": True,
    "chunked_prefill": True,
    "enforce_eager": True,
    "quantization": None,
    "executor": "uni",
    "seed": 0,
}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"block_size": "16"}, "block_size=16 and 128 is in force"),
        ({"block_size": 16}, "block_size=16 and 128 is in force"),
        ({"max_num_seqs": 8}, "max_num_seqs=8 and 4 is in force"),
        ({"enforce_eager": False}, "enforce_eager=false and true is in force"),
        ({"enable_prefix_caching": "False"}, "enable_prefix_caching=false and true is in force"),
        (
            {"enable_chunked_prefill": False},
            "enable_chunked_prefill=false and true is in force",
        ),
        ({"kv_cache_memory_bytes": 1000}, "kv_cache_memory_bytes=1000 and 5000 bytes are in force"),
        ({"kv_cache_memory_bytes": "20000"}, "=20000 and 5000 bytes are in force"),
        (
            {"block_size": 16, "seed": 3},
            "block_size=16 and 128 is in force; seed=3 and 0 is in force",
        ),
    ],
)
def test_another_value_in_force_is_told(asked: dict[str, Any], said: str) -> None:
    told = not_taken(asked, FORCE, 5000)
    assert told is not None
    assert told.startswith("the engine did not take what was asked: ")
    assert told.endswith(said)
    assert "\n" not in told


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"block_size": "128"},
        {"block_size": 128.0},
        {"block_size": None},
        {"block_size": "none"},
        {"block_size": "auto"},
        {"enforce_eager": "true"},
        {"enable_prefix_caching": True},
        {"runner": "generate"},
        {"max_model_len": 2048},
        {"gpu_memory_utilization": 0.5},
        {"quantization": "ascend"},
        {"kv_cache_memory_bytes": 5000},
        {"kv_cache_memory_bytes": 5600},
        {"kv_cache_memory_bytes": None},
        {"kv_cache_memory_bytes": "8G"},
    ],
)
def test_what_is_in_force_or_not_known_is_not_told(asked: dict[str, Any]) -> None:
    assert not_taken(asked, FORCE, 5000) is None


def test_a_cache_of_unknown_size_says_nothing() -> None:
    assert not_taken({"kv_cache_memory_bytes": 1000}, FORCE, 0) is None


def facts(asked: dict[str, str], typed: dict[str, Any] | None = None) -> EngineFacts:
    config = SimpleNamespace(
        cache_config=SimpleNamespace(enable_prefix_caching=True, block_size=128),
        scheduler_config=SimpleNamespace(max_num_seqs=1, max_num_batched_tokens=2048),
        parallel_config=SimpleNamespace(tensor_parallel_size=1, distributed_executor_backend="uni"),
        model_config=SimpleNamespace(
            dtype="torch.bfloat16", enforce_eager=True, quantization=None, seed=0
        ),
        device_config=SimpleNamespace(device_type="npu"),
        speculative_config=None,
    )
    return engine_facts(config, WorkerFacts(kv_cache_bytes=5000), asked, 1, typed)


def test_the_recording_warns_of_it() -> None:
    made = facts({"block_size": "16"})
    assert made.block_size == 128
    assert made.facts["asked.block_size"] == "16"
    assert made.warning == (
        "the engine did not take what was asked: block_size=16 and 128 is in force"
    )
    typed = facts({"max_num_batched_tokens": "2k"}, {"max_num_batched_tokens": 2000})
    assert typed.warning is not None
    assert "=2000 and 2048 is in force" in typed.warning


def test_a_recording_without_a_difference_has_no_warning() -> None:
    assert facts({"block_size": "128"}).warning is None
    assert "warning" not in facts({}).told()
    assert facts({"max_num_batched_tokens": "2K"}, {"max_num_batched_tokens": 2048}).warning is None
