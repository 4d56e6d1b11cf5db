"""What a recording says of a server and of how it was asked."""

from __future__ import annotations

import os
import platform

from harness.devices.facts import EngineFacts, EnvironmentValue
from harness.devices.server.options import ServerOptions
from harness.devices.server.probe import Probed
from harness.devices.server.process import ServerProcess, shown_arguments

#: Handed on to a server of ours, and recorded when set.
_VARIABLES = (
    "OMP_NUM_THREADS",
    "VLLM_CPU_OMP_THREADS_BIND",
    "VLLM_CPU_KVCACHE_SPACE",
    "VLLM_USE_V2_MODEL_RUNNER",
    "VLLM_ATTENTION_BACKEND",
    "VLLM_BATCH_INVARIANT",
    "VLLM_ASCEND_ENABLE_NZ",
)
_IDS = {"field": "return_token_ids", "logprobs": "ids of the log-probabilities"}


def engine_facts(
    options: ServerOptions, probed: Probed, url: str | None, process: ServerProcess | None
) -> EngineFacts:
    """What decides bits, as far as it is known, and how the server was asked.

    Args:
        url: of a running server, which holds no credentials.
        process: the server of our own, where it is.
    """
    dialect = probed.dialect
    forced = "prompt_logprobs" if dialect.prompt_logprobs else "one request for each token"
    facts: dict[str, EnvironmentValue] = {
        "url": url,
        "serve": None if process is None else shown_arguments(process),
        "served_model": dialect.model,
        "max_model_len": probed.max_model_len,
        "dtype_is": "taken on trust" if process is None else "as asked for",
        "token_ids": "none: text only" if dialect.ids is None else _IDS[dialect.ids],
        "logprobs": dialect.logprobs or 0,
        "rows": dialect.rows,
        "forced_rows": forced if dialect.rows else None,
        "neutral_fields": "all" if dialect.extras else "OpenAI's only",
        "concurrency": options.concurrency,
        "timeout_s": options.timeout,
    }
    return EngineFacts(warning=probed.warning).with_facts(facts)


def environment(probed: Probed, process: ServerProcess | None) -> dict[str, EnvironmentValue]:
    """The server's version; of a server of ours also the processor and the
    variables that choose its kernels and threads."""
    told: dict[str, EnvironmentValue] = {"python": platform.python_version()}
    if probed.version is not None:
        told["server_version"] = probed.version
    if process is not None:
        from harness.devices.environment import processor_name

        told["processor"] = processor_name()
        told.update({name: os.environ[name] for name in _VARIABLES if name in os.environ})
    return told
