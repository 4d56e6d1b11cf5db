"""Reports of benches, in English. Labels of rows are keys by what they name."""

from __future__ import annotations

_SPAN = (
    "{ratio:.3f} times as long (interval {low:.3f} to {high:.3f}, {blocks} "
    "{blocks:block|blocks} of pairs)"
)

MESSAGES: dict[str, str] = {
    # The page
    "bench.title": "Bench: {name}",
    "bench.heading": "Throughput and latency",
    "bench.footer": "One file, complete in itself: no network, nothing to install.",
    "bench.tokens": "tokens: {verdict}",
    "bench.tokens_of_both": "Tokens: {first} and {second}.",
    "bench.tokens_of": "tokens of {options}: {verdict}",
    "bench.NOT JUDGED": "NOT JUDGED",
    "bench.crossed": "The figures are crossed out: the tokens were not shown to be right.",
    "bench.not_right": "the tokens were not shown to be right; do not rely on the "
    "figures of this device",
    "bench.interrupted": "This bench was interrupted; it holds the finished part.",
    "bench.warning": "warning: {text}",
    "bench.best.decode_tok_s": "Most decode tokens per second",
    "bench.best.total_tok_s": "Most output tokens per second",
    "bench.best.ttft_s": "Least time to first token",
    # Several
    "bench.trend": "Trend",
    "bench.trend.help": "Stored figures show a trend only; to judge, compare with {command}, "
    "which interleaves both on one host.",
    "bench.measured": "measured",
    "bench.decode_a_second": "decode, tokens a second",
    "bench.machine": "machine",
    "bench.this_machine": "this machine",
    "bench.another_machine": "not comparable: another machine",
    # Tables
    "bench.throughput": "Throughput: medians over the runs of a cell (prompt + output tokens x "
    "batch), tokens a second",
    "bench.cell": "cell",
    "bench.cell_of": "cell (prompt + output x batch)",
    "bench.prefill": "prefill",
    "bench.decode": "decode",
    "bench.total": "total",
    "bench.prefill_rate": "prefill tok/s",
    "bench.decode_rate": "decode tok/s",
    "bench.total_rate": "total tok/s",
    "bench.runs": "runs",
    "bench.warm": "warm",
    "bench.latency": "Latency",
    "bench.median": "median",
    "bench.samples": "samples",
    "bench.part": "part",
    "bench.time": "time",
    "bench.Cold start": "Cold start",
    "bench.cold_and_memory": "cold start and memory",
    "bench.memory": "Memory",
    "bench.what": "what",
    "bench.bytes": "bytes",
    "bench.line": "{cell} prefill {prefill} tok/s, decode {decode} tok/s, total {total} tok/s "
    "({runs} {runs:run|runs})",
    "bench.line.limit": "{line}, decode at {share} of the memory limit",
    "bench.engine": "Engine and environment",
    # Rows of a cold start and of memory
    "bench.load": "load",
    "bench.load, whole": "load, whole",
    "bench.weights": "weights",
    "bench.compilation": "compilation",
    "bench.warm-up": "warm-up",
    "bench.profiling and KV cache": "profiling and KV cache",
    "bench.graph capture": "graph capture",
    "bench.the rest of the load": "the rest of the load",
    "bench.first request": "first request",
    "bench.not timed by the engine": "not timed by the engine",
    "bench.not compiled (enforce_eager)": "not compiled (enforce_eager)",
    "bench.peak of the host process": "peak of the host process",
    "bench.peak of the accelerator": "peak of the accelerator",
    "bench.KV cache": "KV cache",
    "bench.KV cache, tokens": "KV cache, tokens",
    # The limits of the machine
    "bench.roofline": "How near the limit",
    "bench.of_memory": "decode: of the memory limit",
    "bench.of_arithmetic": "prefill: of the arithmetic limit",
    "bench.limits": "Memory limit: {bandwidth} GB/s read bandwidth; arithmetic limit: {rate} "
    "GFLOP/s, both measured on this device. A decode step must read {weights} MB of weights and "
    "{cache} bytes of cache a token.",
    # Charts
    "bench.Decode throughput, tokens a second": "Decode throughput, tokens a second",
    "bench.Time per decoded token": "Time per decoded token",
    "bench.Gaps between tokens, all cells": "Gaps between tokens, all cells",
    # What each figure is
    "bench.definitions": "Definitions (p90 from 10 samples on, p99 from 299)",
    "bench.is": "what it is",
    "bench.is.ttft_s": "request handed over to its first token",
    "bench.is.itl_s": "every gap between two tokens of a request",
    "bench.is.decode_tpot_s": "(last token - first token) / (tokens - 1) of a request",
    "bench.is.e2e_s": "request handed over to its last token",
    "bench.is.prefill_tok_s": "prompt tokens of the batch over the time to the last first token",
    "bench.is.decode_tok_s": "tokens after the first, of the batch, over the time from the first "
    "first token to the last token",
    "bench.is.total_tok_s": "output tokens of the batch over its wall clock",
    # Whether the tokens are right
    "bench.not_judged": "tokens not judged (--no-judge)",
    "bench.no_baseline": "tokens not judged: no baseline for this device in {folder}",
    "bench.not_measured": "{cell} was not measured: {problem}",
    "bench.not_settled": "{cell}: warm-up did not settle within {percent} %; a noisy host",
    "bench.other_tokens": "{cell}: repeats gave different tokens",
    # Two configurations
    "bench.comparison.title": "{outcome}: bench comparison",
    "bench.comparison": "Two configurations, interleaved on one host",
    "bench.against": "{second} against {first}",
    "bench.comparison.help": "Wall clock of the second over that of the first; more than 1 is "
    "slower",
    "bench.outcome": "outcome",
    "bench.time_ratio": "time ratio",
    "bench.interval": "interval",
    "bench.blocks": "blocks",
    "bench.detectable": "smallest detectable",
    "bench.words": "in words",
    "bench.range": "{low} to {high}",
    "bench.sides": "The two sides",
    "bench.first": "first",
    "bench.second": "second",
    "bench.judged_tokens": "tokens",
    "bench.REGRESSED": _SPAN + ": slower by more than {percent:.0f} %",
    "bench.IMPROVED": _SPAN + ": faster by more than {percent:.0f} %",
    "bench.EQUIVALENT": _SPAN + ": equal within {percent:.0f} %",
    "bench.INCONCLUSIVE": _SPAN + ": not decided; a slowdown of {percent:.1f} % would be "
    "detected in half of the cases",
    "bench.counters": "exact counters grew ({counters:list}); the clock: {clock}",
    "bench.counter": "{name} {first} to {second}",
    "bench.stopped": "{clock}; stopped by the budget of {seconds:.0f} s",
    # A server under load
    "bench.under_load": "A server under load",
    "bench.under_load.title": "Load: {url}",
    "bench.under_load.help": "{url}, {model}: {prompt} prompt tokens and {output} output tokens a "
    "request, by {tool}; {when}.",
    "bench.under_load.short": "{url}: {prompt} + {output} tokens a request",
    "bench.under_load.by": "{line}, by {tool}.",
    "bench.clock": "Times by this machine's clock, the network's included; p90 from 10 samples "
    "on, p99 from 299",
    "bench.lost_first": "{errors} {errors:request was|requests were} lost, the first with: {text}",
    "bench.first_error": "first error: {text}",
    "bench.head.load": "load",
    "bench.head.completed": "completed",
    "bench.head.lost": "lost",
    "bench.head.requests_s": "requests/s",
    "bench.head.output_tok_s": "output tok/s",
    "bench.head.ttft_median": "ttft_s median",
    "bench.head.ttft_p90": "ttft_s p90",
    "bench.head.itl_median": "itl_s median",
    "bench.head.itl_p99": "itl_s p99",
    "bench.head.counts_alike": "server counts alike",
    "bench.counts_nothing": "the server has no counts",
    "bench.all_at_once": "all at once, {concurrency} in flight",
    "bench.a_second": "{rate:g} a second, {concurrency} in flight",
}
