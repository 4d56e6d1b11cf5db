"""``--engine-arg`` of the device ``server``: its own options, and those of ``vllm serve``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from harness.errors import UsageError
from harness.statistics.rows import TOP_K

TokenIds = Literal["auto", "field", "logprobs", "none"]
_TOKEN_IDS = ("auto", "field", "logprobs", "none")
_OWN = ("concurrency", "timeout", "start_timeout", "token_ids", "logprobs", "served_model")


@dataclass(frozen=True)
class ServerOptions:
    """How a server is asked.

    Attributes:
        concurrency: requests at a time.
        timeout: seconds to wait for an answer, and for each token.
        start_timeout: seconds that a server of our own may take to start.
        token_ids: where token ids come from: the ``field`` of
            return_token_ids, the names of the ``logprobs``
            (return_tokens_as_token_ids), ``none`` for text only; ``auto``
            takes the first that the server has.
        logprobs: the most log-probabilities to ask for, 2 to TOP_K: a margin
            takes two.
        served_model: the name that the server has for the model.
    """

    concurrency: int = 1
    timeout: float = 300.0
    start_timeout: float = 900.0
    token_ids: TokenIds = "auto"  # noqa: S105 - no password
    logprobs: int = TOP_K
    served_model: str | None = None


def server_options(
    args: Mapping[str, str], *, own_server: bool
) -> tuple[ServerOptions, dict[str, str]]:
    """The device's own options, and the rest, which are ``vllm serve``'s.

    Raises:
        UsageError: for a value that makes no sense, or an argument for a server that
            is not ours to start.
    """
    rest = {key: value for key, value in args.items() if key not in _OWN}
    if rest and not own_server:
        raise UsageError(
            f"server: --engine-arg {next(iter(rest))} is for a server that the harness starts; "
            f"with --server-url there are {', '.join(_OWN)}"
        )
    token_ids = args.get("token_ids", "auto")
    if token_ids not in _TOKEN_IDS:
        raise UsageError(
            f"server: --engine-arg token_ids={token_ids} is not one of {', '.join(_TOKEN_IDS)}"
        )
    return ServerOptions(
        concurrency=_whole(args, "concurrency", 1, 1, 1024),
        timeout=_seconds(args, "timeout", ServerOptions.timeout),
        start_timeout=_seconds(args, "start_timeout", ServerOptions.start_timeout),
        token_ids=cast("TokenIds", token_ids),
        logprobs=_whole(args, "logprobs", TOP_K, 2, TOP_K),
        served_model=args.get("served_model"),
    ), rest


def _whole(args: Mapping[str, str], key: str, default: int, least: int, most: int) -> int:
    text = args.get(key, str(default))
    if not text.isascii() or not text.isdecimal() or not least <= int(text[:6]) <= most:
        raise UsageError(
            f"server: --engine-arg {key}={text} must be a number from {least} to {most}"
        )
    return int(text)


def _seconds(args: Mapping[str, str], key: str, default: float) -> float:
    text = args.get(key, str(default))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e6:
        raise UsageError(f"server: --engine-arg {key}={text} must be a number of seconds")
    return value
