"""Recordings, arms and suites for unit tests, made in milliseconds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.alignment.diagnosis import Diagnosis, Explanation, Family, Finding, LayerScore
from harness.alignment.evidence import Evidence, no_masks
from harness.baseline.baseline import Baseline
from harness.baseline.controls import RatioLimit
from harness.baseline.scales import ArmRows, Scales, Tail
from harness.devices.base import Replay
from harness.devices.fake import FakeDevice, fake_subject
from harness.messages.message import Message, message
from harness.messages.statement import Remark
from harness.model.facts import ModelFacts
from harness.recording.context import Context
from harness.recording.format import (
    ROUTED_SCHEMA,
    PromptRecord,
    Recording,
    Repeat,
    Run,
    RunTimings,
    SuiteFacts,
    margins_of,
)
from harness.recording.recorder import Options, record
from harness.statistics.intervals import Interval
from harness.statistics.routes import Routes
from harness.statistics.rows import (
    NO_TOKEN,
    SKETCH_WIDTH,
    RowStatistics,
    concatenate,
    row_statistics,
    untold_masks,
)
from harness.suite.suite import Generation, Prompt, Suite

Logits = NDArray[np.float32]
VOCABULARY = 64
RNG = np.random.default_rng
FREE = Options()
_CLOCK = itertools.count(1)


def facts(**changes: Any) -> ModelFacts:
    """A model that everything is known of."""
    fields: dict[str, Any] = {
        "name": "m",
        "weights": "ab" * 32,
        "parameters": 10,
        "weight_bytes": 20,
        "config": {"hidden_size": 8, "rope": {"theta": 1.0}},
        "tokenizer": "cd" * 32,
        "template": "ef" * 32,
        "vocab_size": VOCABULARY,
    }
    return ModelFacts(**(fields | changes))


def run(logits: Logits, tokens: Sequence[int] | None = None, replay: Replay = "free") -> Run:
    """A run whose rows are ``logits`` and whose tokens are their arg-maxes,
    or the given ones."""
    rows = row_statistics(logits)
    chosen = [int(i) for i in rows.top_ids[:, 0]] if tokens is None else list(tokens)
    n = len(chosen)
    return Run(
        replay=replay,
        token_ids=tuple(chosen),
        text=" ".join(map(str, chosen)),
        stop="length" if replay == "free" else "forced",
        margins=margins_of(rows),
        timings=RunTimings(ttft_s=0.5, itl_s=(0.25,) * max(n - 1, 0), e2e_s=0.5 + 0.25 * n),
        rows=rows,
    )


def told(logits: Logits, top: int = 20) -> RowStatistics:
    """The same rows as a server tells them."""
    return told_rows(row_statistics(logits), top)


def told_rows(whole: RowStatistics, top: int = 20) -> RowStatistics:
    """Rows as a server tells them: their ``top`` log-probabilities."""
    ids, best = whole.top_ids.copy(), whole.top_logits - whole.logsumexp[:, None]
    ids[:, top:], best[:, top:] = NO_TOKEN, 0.0
    nothing = np.zeros(len(whole))
    return RowStatistics(
        *(ids, best.astype(np.float32), None, nothing, whole.nonfinite, None, None),
        **untold_masks(len(whole)),
    )


def told_run(logits: Logits, tokens: Sequence[int] | None = None, replay: Replay = "free") -> Run:
    """A run as a server tells it."""
    made, rows = run(logits, tokens, replay), told(logits)
    return made.model_copy(update={"rows": rows, "margins": margins_of(rows)})


def text_run(text: str) -> Run:
    """A run of which there is only its text."""
    timings = RunTimings(ttft_s=0.5, itl_s=(0.25,), e2e_s=0.75)
    nothing = concatenate([])
    return Run(
        replay="free",
        token_ids=(),
        text=text,
        stop="length",
        margins=(),
        timings=timings,
        rows=nothing,
        text_only=True,
    )


def prompt(
    name: str, free: Run | None = None, forced: Run | None = None, ids: Sequence[int] = (1, 2)
) -> PromptRecord:
    return PromptRecord(
        id=name, text=f"text of {name}", prompt_token_ids=tuple(ids), free=free, forced=forced
    )


def recording(prompts: Sequence[PromptRecord], **changes: Any) -> Recording:
    """A recording whose longest run is as long as was asked for."""
    longest = max(len(p.run.token_ids) for p in prompts) or 4
    fields: dict[str, Any] = {
        "device": "fake",
        "dtype": "bfloat16",
        "created": "2025-01-02T03:04:05+00:00",
        "model": facts(),
        "suite": SuiteFacts(name="s", digest="12" * 32),
        "settings": {"max_new_tokens": longest, "ignore_eos": True, "eos_token_ids": [0]},
        "overridden": {"temperature": 0.7},
        "engine": {"attention": "sdpa", "threads": 2},
        "environment": {"numpy": "2"},
        "load": {"load_s": 1.5},
        "prompts": tuple(prompts),
        "repeats": (),
        "pieces": {"1": "a", "2": "b"},
    }
    return Recording(**(fields | changes))


def free_recording(logits: Mapping[str, Logits], **changes: Any) -> Recording:
    """One free run per prompt, which takes a time of its own."""
    prompts = [prompt(name, later(run(rows))) for name, rows in logits.items()]
    return recording(prompts, **changes)


def forced_recording(
    logits: Mapping[str, Logits], reference: Recording, **changes: Any
) -> Recording:
    """The given rows on the tokens of ``reference``."""
    forced = [
        prompt(p.id, forced=later(run(logits[p.id], p.run.token_ids, "forced-decode")))
        for p in reference.prompts
    ]
    return recording(forced, **changes)


def bfloat16(logits: NDArray[np.float64]) -> Logits:
    """To bfloat16 and back, ties to even."""
    bits = logits.astype(np.float32).view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    kept = (bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)
    return np.asarray(kept.view(np.float32).copy())


def arms(prompts: int = 6, positions: int = 4, noise: float = 0.05) -> Baseline:
    """A baseline on random rows: the oracle, and three arms around it."""
    random = RNG(7)
    truth = {f"p{i}": 3 * random.standard_normal((positions, VOCABULARY)) for i in range(prompts)}

    def arm() -> dict[str, Logits]:
        return {
            i: bfloat16(rows + noise * random.standard_normal(rows.shape))
            for i, rows in truth.items()
        }

    reference = free_recording(arm())
    exact = {i: rows.astype(np.float32) for i, rows in truth.items()}
    return Baseline(
        reference,
        forced_recording(exact, reference, dtype="float32"),
        {f"control-{i}": forced_recording(arm(), reference) for i in range(2)},
    )


def evidence(prompts: int = 20, **changes: Any) -> Evidence:
    """A correct candidate with the reference's own errors, ten positions a
    prompt, two controls; every field may be another."""
    ones, none = np.ones(prompts), np.zeros(prompts)
    whole = np.zeros(prompts, np.int64)
    fields: dict[str, Any] = {
        "ids": tuple(f"p{i}" for i in range(prompts)),
        "controls": 2,
        "limit": RatioLimit(),
        "positions": np.full(prompts, 10),
        "expected": np.full(prompts, 10),
        "rows": np.tile([1, 9], (prompts, 1)),
        "error": np.tile([1.0, 9.0], (prompts, 1)),
        "reference_error": np.tile([1.0, 9.0], (prompts, 1)),
        "top_error": ones,
        "top_reference": ones,
        **dict.fromkeys(("along", "reference_along"), by_part(none)),
        "power": by_part(1000.0 * ones),
        "arm_along": np.zeros((prompts, 3)),
        "tilt": ones,
        "arm_tilt": np.ones((prompts, 3)),
        "mean_error": np.zeros((prompts, SKETCH_WIDTH)),
        "arm_error": arm_error(prompts),
        "large": np.tile([2.0, 1.0], (prompts, 1)),
        "control_large": 2.0 * ones,
        "flips": ones,
        "control_flips": ones,
        "predicted": np.tile([1.0, 1.5], (prompts, 1)),
        **dict.fromkeys(
            ("nonfinite", "unjudged_nonfinite", "reference_nonfinite", "unchosen", "left_out"),
            whole,
        ),
        **dict.fromkeys(("first_nonfinite", "first_unchosen"), whole - 1),
        "chosen": whole + 10,
        **no_masks(prompts),
        **dict.fromkeys(("bit_equal", "ended", "same_tokens"), np.zeros(prompts, np.bool_)),
        "whole": np.ones(prompts, np.bool_),
        "push": tuple(np.ones(10) for _ in range(prompts)),
        "flipped": tuple(np.arange(10) == 3 for _ in range(prompts)),
        "standing": tuple(np.ones(10) for _ in range(prompts)),
        "at": tuple(np.arange(10) for _ in range(prompts)),
        "bounded": tuple(arm_rows(error=0.125).error.mean(axis=0) for _ in range(prompts)),
        "arms": tuple(arm_rows() for _ in range(prompts)),
    }
    return Evidence(**(fields | changes))


def later(run_: Run) -> Run:
    """The same run by another clock: no two take the same time."""
    end = round(0.5 + 0.25 * len(run_.token_ids) + 1.3e-5 * next(_CLOCK), 6)
    return run_.model_copy(update={"timings": run_.timings.model_copy(update={"e2e_s": end})})


def again(recording_: Recording) -> Recording:
    """A second run of the same device: the same tokens and rows, other times."""

    def second(run_: Run | None) -> Run | None:
        return None if run_ is None else later(run_)

    prompts = tuple(
        p.model_copy(update={"free": second(p.free), "forced": second(p.forced)})
        for p in recording_.prompts
    )
    return recording_.model_copy(
        update={"prompts": prompts, "created": "2025-01-02T04:04:05+00:00"}
    )


def nearly(arm: Recording, noise: float) -> Recording:
    """An arm's rows with a little noise, and other times."""
    random = RNG(3)

    def edit(run: Run) -> Run:
        rows = run.rows
        assert rows.sketch is not None
        assert rows.digest is not None
        moved = rows.sketch + noise * random.standard_normal(rows.sketch.shape)
        made = replace(rows, sketch=moved.astype(np.float32), digest=rows.digest ^ np.uint8(1))
        return run.model_copy(update={"rows": made})

    prompts = tuple(p.model_copy(update={"free": edit(p.run)}) for p in arm.prompts)
    return again(arm.model_copy(update={"prompts": prompts}))


def by_part(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over ten rows of a prompt, by the parts whose scale is judged apart: all,
    the halves, one row of prefill and nine of decode. Shape (n, 5)."""
    return np.outer(values, [1.0, 0.5, 0.5, 0.1, 0.9])


def arm_error(prompts: int) -> NDArray[np.float64]:
    """Summed errors of three arms, (prompts, 3, 64): each control is off by 0.1
    logits on average in a bucket of its own, and the reference is not off."""
    found = np.zeros((prompts, 3, SKETCH_WIDTH))
    found[:, 1, 1], found[:, 2, 2] = 1.0, -1.0
    return found


def arm_rows(rows: int = 10, arms: int = 3, error: float = 1.0) -> ArmRows:
    """Arms of equal errors, each in a bucket of its own."""
    found = np.zeros((arms, rows, SKETCH_WIDTH))
    for k in range(arms):
        found[k, :, k] = error
    return ArmRows(found, np.arange(rows), np.ones((arms - 1, rows)))


def scales(**changes: Any) -> Scales:
    """Scales as of the embedded model's arms; every field may be another."""
    fields: dict[str, Any] = {
        "kappa": 8.0,
        "tail": Tail(values=400, share=0.05, start=2.0, power=7.0),
        "row_largest": 1.5,
        "row_limit": 3.0,
        "row_common": 1.2,
        "prompt_largest": 1.1,
        "prompt_limit": 1.8,
        "place_largest": 1.05,
        "place_limit": 1.8,
        "white": np.eye(SKETCH_WIDTH) * 8.0,
        "direction_largest": 1.25,
        "direction_limit": 1.75,
        "arms": 3,
    }
    return Scales(**(fields | changes))


def assert_scales_equal(mine: Scales, theirs: Scales) -> None:
    for field in fields(Scales):
        np.testing.assert_equal(getattr(mine, field.name), getattr(theirs, field.name))


def with_repeat(recording_: Recording, *repeats: Repeat) -> Recording:
    return recording_.model_copy(update={"repeats": repeats})


def fake_suite(prompts: int = 6, tokens: int = 8) -> Suite:
    """Prompts for a FakeDevice."""
    return Suite(
        "unit",
        Path("unit.yaml"),
        tuple(Prompt(id=f"p{i}", line=i + 1, token_ids=(5, 6 + i)) for i in range(prompts)),
        Generation(tokens, ignore_eos=True),
        "34" * 32,
    )


def fake_record(device: FakeDevice, suite: Suite, options: Options = FREE) -> Recording:
    return record(device, fake_subject(), suite, options)


def fake_baseline(suite: Suite) -> Baseline:
    """Reference, oracle and two controls, by FakeDevice, in memory."""
    reference = fake_record(FakeDevice(), suite)
    context = Context.of(reference)
    oracle = fake_record(FakeDevice("float32"), suite, Options("forced-prefill", context))
    controls = {
        f"control-{seed}": fake_record(
            FakeDevice(seed=seed), suite, Options("forced-decode", context)
        )
        for seed in (1, 2)
    }
    return Baseline(reference, oracle, controls)


def with_routes(
    recording: Recording, flips: Mapping[tuple[str, int], int] = {}, margin: bool = True
) -> Recording:
    """The recording with routes of three layers: 7 everywhere, and 8 from the layer that
    ``flips`` names, by prompt and row. Margins are 0.5, but 0.01 in row 0."""

    def told(run: Run | None, name: str) -> Run | None:
        if run is None:
            return None
        n = len(run.rows)
        chosen = np.full((n, 3), 7, np.uint16)
        for (prompt, row), layer in flips.items():
            if prompt == name and row < n:
                chosen[row, layer:] = 8
        margins = np.full((n, 3), 0.5, np.float32)
        margins[0] = 0.01
        return run.model_copy(update={"routes": Routes(chosen, margins if margin else None)})

    prompts = tuple(
        p.model_copy(update={"free": told(p.free, p.id), "forced": told(p.forced, p.id)})
        for p in recording.prompts
    )
    return recording.model_copy(update={"prompts": prompts, "schema_": ROUTED_SCHEMA})


def diagnosed(finding: Finding, text: str | None = None) -> Diagnosis:
    """A diagnosis, with one cause unless it found nothing; ``text`` in place of messages."""
    head = message("cause.head", module="model.layers.2.self_attn", index=3)
    size = message("size.times", value=0.8, low=0.7, high=0.9)
    best = message("explanation", cause=head, size=size, share=90.0)
    said: Message | None = {
        "SYSTEMATIC": best,
        "SLIGHT": message("diagnosis.slight", best=best, effect=3.0),
        "NOTHING": message("diagnosis.nothing"),
    }[finding]
    told = {"message": said} if text is None else {"sentence": f"{text} is weaker."}
    values = Interval(value=0.8, low=0.7, high=0.9)
    cause = Explanation(
        kind="head",
        place="model.layers.2.self_attn",
        index=3,
        column=-1,
        t=12.3,
        size=values,
        share=0.9,
        alike=(Remark(message=head) if text is None else Remark(sentence=f"{text}, its values"),),
        **({"message": best} if text is None else {"sentence": f"{text} is weaker."}),
    )
    return Diagnosis(
        finding=finding,
        prompts=36,
        rows=2304,
        families=(
            Family(name="settings", hypotheses=5, t=2.5, limit=4.3),
            Family(
                name="causes", hypotheses=2053, t=3.1 if finding == "NOTHING" else 12.3, limit=5.7
            ),
            Family(name="parts", hypotheses=438_720, t=4.9, limit=7.0),
            Family(name="weights", hypotheses=106_168_320, t=0.0, limit=8.2),
        ),
        effect=0.2,
        margin=0.05,
        explanations=() if finding == "NOTHING" else (cause,),
        left=0.6,
        layers=(
            LayerScore(layer=2, t=12.3, heads=(1.0, 4.4, 5.8, 12.3)),
            LayerScore(layer=3, t=1.0),
        ),
        **told,
    )
