"""Performance figures of recordings, by their published definitions."""

from __future__ import annotations

import math
from statistics import median

from harness.alignment.result import Figures, Performance
from harness.recording.format import Recording, RunTimings


def performance(candidate: Recording, reference: Recording) -> Performance:
    """Figures of both, and candidate over reference."""
    mine, theirs = figures(candidate), figures(reference)
    ratio: dict[str, float | None] = {}
    for name in Figures.measured():
        a, b = getattr(mine, name), getattr(theirs, name)
        ratio[name] = _finite(a / b) if a is not None and b else None
    return Performance(candidate=mine, reference=theirs, ratio=ratio)


def unmeasured(found: Performance) -> Performance:
    """The same without the candidate's figures: nothing was run."""
    return Performance(
        candidate=no_figures(), reference=found.reference, ratio=dict.fromkeys(found.ratio)
    )


def no_figures() -> Figures:
    """The figures of what tells no times."""
    return Figures(**dict.fromkeys(Figures.measured()), samples=0, gaps=0)


def figures(recording: Recording) -> Figures:
    """Medians over the runs that decode token by token.

    A forced-prefill run has no time per token and is left out; without any other
    run the figures are None.
    """
    runs = [p.run.timings for p in recording.prompts if p.run.replay != "forced-prefill"]
    gaps = [gap for t in runs for gap in t.itl_s]
    tpots = [sum(t.itl_s) / len(t.itl_s) for t in runs if t.itl_s]
    time, tokens = sum(t.e2e_s for t in runs), sum(map(_tokens, runs))
    return Figures(
        load_s=recording.load.load_s,
        ttft_s=median(t.ttft_s for t in runs) if runs else None,
        itl_s=median(gaps) if gaps else None,
        decode_tpot_s=median(tpots) if tpots else None,
        decode_tok_s=_finite(len(gaps) / sum(gaps)) if sum(gaps) > 0 else None,
        total_tok_s=_finite(tokens / time) if time > 0 else None,
        samples=len(runs),
        gaps=len(gaps),
        mean_e2e_s=time / len(runs) if runs else None,
        output_tokens=tokens if runs else None,
    )


def _finite(value: float) -> float | None:
    """None where the file's figure is too small to divide by."""
    return value if math.isfinite(value) else None


def _tokens(timings: RunTimings) -> int:
    return len(timings.itl_s) + 1
