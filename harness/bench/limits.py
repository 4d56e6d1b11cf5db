"""The limits of the machine: measured read bandwidth and matrix rate.

With the engine's own torch and its own number of threads, on the device that
the model runs on. Best of several, because a limit is the highest figure
reached.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from harness.bench.result import Limits
from harness.errors import HarnessError
from harness.model.facts import ModelFacts

#: Bytes that are read: far more than any cache holds.
_READ_BYTES = 512 << 20
_MATRIX = 2048
_TIMES = 5
_ELEMENT = {"bfloat16": 2, "float16": 2, "float32": 4}


def measure_limits(
    model: ModelFacts, dtype: str, backend: str, weight_bytes: float | None
) -> Limits | None:
    """Measure, and say what a decode step of this model must read.

    Args:
        backend: ``cpu``, ``cuda`` or ``npu``.
        weight_bytes: of the loaded model; None takes the checkpoint's.

    Returns:
        None where the device runs without torch in this process, or the
        config does not tell the shapes of the cache.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    cache = kv_bytes_per_token(model, dtype)
    weights = weight_bytes or model.weight_bytes
    if cache is None or not weights or not model.parameters:
        return None
    try:
        read = _read_rate(torch, backend)
        flops = _matmul_rate(torch, backend, getattr(torch, dtype))
    except RuntimeError as error:  # an accelerator may be out of memory
        raise HarnessError(
            f"the limits of {backend} could not be measured ({str(error).splitlines()[0]}); "
            "leave them out with --no-limits"
        ) from error
    return Limits(
        read_bytes_s=read,
        matmul_flop_s=flops,
        weight_bytes=int(weights) - _embedding_bytes(model, dtype),
        kv_bytes_per_token=cache,
        parameters=model.parameters,
    )


def kv_bytes_per_token(model: ModelFacts, dtype: str) -> int | None:
    """Bytes of keys and values that one token adds to the cache, all layers."""
    config = model.config or {}
    layers, heads = config.get("num_hidden_layers"), config.get("num_attention_heads")
    hidden = config.get("hidden_size")
    if not (layers and heads and hidden):
        return None
    size = config.get("head_dim") or hidden // heads
    return int(2 * layers * (config.get("num_key_value_heads") or heads) * size * _ELEMENT[dtype])


def _embedding_bytes(model: ModelFacts, dtype: str) -> int:
    """An untied input embedding is looked up, never read whole."""
    config = model.config or {}
    if config.get("tie_word_embeddings", True) or not config.get("hidden_size"):
        return 0
    return int(model.vocab_size * config["hidden_size"] * _ELEMENT[dtype])


def _read_rate(torch: Any, backend: str) -> float:
    """Bytes a second of summing a large array of 4-byte floats."""
    large = torch.ones(_READ_BYTES // 4, dtype=torch.float32, device=backend)
    return _READ_BYTES / _best(torch, backend, large.sum)


def _matmul_rate(torch: Any, backend: str, dtype: Any) -> float:
    """Operations a second of a square linear layer, 2 n^3 of them.

    The second factor is transposed, as every projection of a model has it: on a
    CPU without bfloat16 instructions the plain product takes a path that is ten
    times slower than what the model runs.
    """
    a = torch.ones((_MATRIX, _MATRIX), dtype=dtype, device=backend)
    linear = torch.nn.functional.linear
    return 2.0 * _MATRIX**3 / _best(torch, backend, lambda: linear(a, a))


def _best(torch: Any, backend: str, work: Callable[[], Any]) -> float:
    """Seconds of the fastest of several runs."""
    found = []
    with torch.inference_mode():
        for _ in range(_TIMES):
            started = time.perf_counter()
            work()
            if backend != "cpu":
                getattr(torch, backend).synchronize()
            found.append(time.perf_counter() - started)
    return min(found)
