"""The page of a recording that was not judged, in English."""

from __future__ import annotations

MESSAGES: dict[str, str] = {
    "recording.title": "Recording: {name}",
    "recording.heading": "What the device said",
    "recording.unjudged": "NOT JUDGED",
    "recording.unjudged.why": "There is no baseline yet. Nothing here says whether the port is "
    "right.",
    "recording.totals": "All prompts",
    "recording.figure": "figure",
    "recording.value": "value",
    "recording.prompts": "Each prompt",
    "recording.input": "input",
    "recording.output": "output",
    "recording.line": "{tokens} tokens in {seconds}, {rate} tokens per second; ended by {stop}",
    "recording.total.prompts": "prompts",
    "recording.total.tokens": "output tokens",
    "recording.total.tok_s": "tokens per second, all requests",
    "recording.total.decode_tok_s": "decode tokens per second, after the first of each output",
    "recording.total.ttft_s": "time to the first token, median",
    "recording.total.e2e_s": "mean latency of a request",
    "recording.total.load_s": "time to load",
    "recording.total.weights_bytes": "weights",
    "recording.total.peak_device_bytes": "peak of the accelerator's memory",
    "recording.total.peak_rss_bytes": "peak of the host's memory",
    "recording.prefill": "forced, so without a time per token",
    "recording.left_out": "{n} {n:prompt is|prompts are} not shown; the recording holds all.",
    "recording.where": "Where it ran",
}
