"""The smoke test: does a device generate sensibly when it samples? It claims no parity.

A port can pass every gate on greedy tokens and still never end, run into NaN after
two hundred tokens, or repeat one token for ever. Sampled text differs between any two
devices, so nothing is compared with a baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from harness.devices.base import Completion, Request, Sampling
from harness.devices.registry import Target
from harness.process.progress import Progress
from harness.recording.recorder import opened
from harness.suite.encode import encode_suite
from harness.suite.suite import Suite

SAMPLING = Sampling(temperature=0.7, top_p=0.9, seed=0)
#: A device that repeats a token this often in a row is stuck.
STUCK = 32


@dataclass(frozen=True)
class Sampled:
    """One prompt, run twice with the same seed."""

    prompt_id: str
    first: Completion
    again: Completion
    limit: int
    text: str


def run_smoke(target: Target, suite: Suite, progress: Progress) -> Mapping[str, Sampled]:
    """Every prompt of the suite twice, in one session of the device.

    Raises:
        HarnessError: errors of the device or the suite.
    """
    subject = target.subject
    generation = suite.generation
    settings = subject.settings(generation.max_new_tokens, generation.ignore_eos)
    stops = settings.stop_token_ids
    with opened(target.device, progress) as facts:
        requests = [
            Request(
                prompt_id=prompt.id,
                prompt_token_ids=prompt.token_ids,
                replay="free",
                max_new_tokens=generation.max_new_tokens,
                stop_token_ids=stops,
                sampling=SAMPLING,
            )
            for prompt in encode_suite(suite, subject.tokenizer, facts.max_positions)
        ]
        runs: list[dict[str, Completion]] = []
        for label in ("smoke", "smoke again"):
            total = generation.max_new_tokens * len(requests)
            with progress.stage(f"{target.device.name} {label}", total) as step:
                runs.append({c.prompt_id: c for c in target.device.generate(requests, step)})
    return {
        r.prompt_id: Sampled(
            r.prompt_id,
            runs[0][r.prompt_id],
            runs[1][r.prompt_id],
            r.max_new_tokens,
            subject.tokenizer.decode(runs[0][r.prompt_id].token_ids),
        )
        for r in requests
    }


def problem_of(sampled: Sampled) -> str | None:
    """The fault of a prompt's runs in one line, or None."""
    tokens = sampled.first.token_ids
    rows = sampled.first.rows
    if sampled.first.stop == "nonfinite" or (rows is not None and rows.nonfinite.any()):
        return f"a row with logits that are not finite within {len(tokens)} tokens"
    if not tokens or len(tokens) > sampled.limit or sampled.first.stop not in ("eos", "length"):
        return f"did not end as asked: {len(tokens)} tokens of at most {sampled.limit}"
    run = longest_run(tokens)
    if run >= STUCK or (len(tokens) > 1 and run == len(tokens)):
        return f"one token {run} times in a row: {sampled.text[-60:]!r}"
    if sampled.again.token_ids != tokens:
        pairs = zip(tokens, sampled.again.token_ids, strict=False)
        shorter = min(len(tokens), len(sampled.again.token_ids))
        at = next((t for t, (a, b) in enumerate(pairs) if a != b), shorter)
        return f"the same seed gave other tokens from position {at} on"
    return None


def longest_run(tokens: tuple[int, ...]) -> int:
    """How often a token comes in a row at most."""
    return max((len(list(same)) for _, same in groupby(tokens)), default=0)
