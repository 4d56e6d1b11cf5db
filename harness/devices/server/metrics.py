"""What a server counts of itself: the numbers of its metrics page."""

from __future__ import annotations

import math
import queue
import re
import threading
import time
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

#: The server's own counters, by our names.
_COUNTERS = {
    "requests": "vllm:request_success_total",
    "output_tokens": "vllm:generation_tokens_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "preemptions": "vllm:num_preemptions_total",
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Seconds for the whole page, and the most bytes of it.
_METRICS_S = 20.0
_MOST_METRICS = 16 << 20


def server_counters(url: str) -> dict[str, int]:
    """The counters of the server's metrics page; empty where it has none."""
    parts = urlsplit(url)
    direct = parts.hostname in _LOOPBACK
    proxies = [urllib.request.ProxyHandler({})] if direct else []
    opener = urllib.request.build_opener(_NoRedirect, *proxies)
    deadline = time.monotonic() + _METRICS_S
    told: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        text = b""
        try:
            address = f"{parts.scheme}://{parts.netloc}/metrics"
            with opener.open(address, timeout=_METRICS_S) as answer:
                while time.monotonic() < deadline and len(text) < _MOST_METRICS:
                    block = answer.read1(1 << 16)
                    text += block
                    if not block:
                        told.put(text.decode("utf-8", "replace"))
                        return
        except (OSError, HTTPException, ValueError):
            pass
        told.put("")

    # Its headers may drip for ever, and urllib's clock starts again with every byte.
    threading.Thread(target=read, daemon=True, name="harness-metrics").start()
    try:
        return parse_counters(told.get(timeout=_METRICS_S + 1))
    except queue.Empty:
        return {}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect may lead to any host: it is an answer without counters."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def parse_counters(text: str) -> dict[str, int]:
    """Sums over all labels of the counters that are known."""
    counters = {}
    for ours, theirs in _COUNTERS.items():
        values = re.findall(rf"^{re.escape(theirs)}(?:{{[^\n]*}})? (\S+)$", text, re.MULTILINE)
        total = _sum(values)
        if values and math.isfinite(total):
            counters[ours] = round(total)
    return counters


def _sum(texts: list[str]) -> float:
    try:
        return sum(map(float, texts))
    except ValueError:
        return math.nan
