"""What the judgement says, all of it: by real recordings of fakes, and every gate's outcomes."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from every_gate import EVERY_GATE
from factories import (
    again,
    arms,
    fake_baseline,
    fake_record,
    fake_suite,
    nearly,
    text_run,
    told_rows,
    with_routes,
)

from harness.alignment.align import compare
from harness.alignment.allow import Allow
from harness.alignment.given import given_tokens
from harness.alignment.outcomes import VERDICTS
from harness.alignment.plain import compare_plain
from harness.alignment.power import Power, power_rows
from harness.alignment.result import Alignment, Comparability, FieldDifference, Magnifier
from harness.alignment.scope import alike_warning, scope_of, scope_rows
from harness.alignment.tokens import compare_tokens
from harness.alignment.verdict import message_of
from harness.baseline.baseline import Baseline
from harness.devices.causes import DISTANCES, EXCHANGES, LAYER_CHANGES, PARTS, SETTINGS, Cause
from harness.devices.facts import EngineFacts
from harness.devices.fake import FakeDevice
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.diagnosis.words import name_of, size_in_words
from harness.messages.message import Message, message
from harness.messages.statement import Stated
from harness.process.progress import Silent
from harness.recording.context import Context
from harness.recording.format import (
    ROUTED_SCHEMA,
    PromptRecord,
    Recording,
    Run,
    SuiteFacts,
)
from harness.recording.plain import PlainEntry, PlainList
from harness.recording.recorder import Options
from harness.report.embed import embed
from harness.report.views.alignment import view
from harness.session.magnifier import MagnifierPlan, added, both, magnified, run_magnifier
from harness.session.matrix import MatrixPlan, Variation, judged_cell, repeat_cell, variations
from harness.session.matrix import _not_run as not_run
from harness.statistics.intervals import Interval
from harness.statistics.routes import Routes
from harness.statistics.score import Size
from harness.suite.suite import Message as Turn

SUITE = fake_suite(prompts=18, tokens=8)
BASELINE = fake_baseline(SUITE)
CONTEXT = Context.of(BASELINE.reference)
FEW = fake_suite(prompts=3, tokens=6)
FEW_BASELINE = fake_baseline(FEW)
NOTHING = Interval(value=None, low=None, high=None)
FAKE = DeviceSpec("fake")


@cache
def made(**options: object) -> Recording:
    return fake_record(FakeDevice(**options), SUITE, Options(context=CONTEXT, repeats=2))  # type: ignore[arg-type]


@cache
def few(**options: object) -> Recording:
    context = Context.of(FEW_BASELINE.reference)
    return fake_record(FakeDevice(**options), FEW, Options(context=context, repeats=2))  # type: ignore[arg-type]


def everything() -> list[Message]:
    """Every message that the judgement gives, each at least once."""
    judged = list(alignments())
    found = [message for alignment in judged for message in messages_of(alignment)]
    found += [_message(gate) for gate, _, _ in EVERY_GATE]
    found += [_message(f) for a in judged for p in a.prompts for f in p.findings]
    found += [
        *_verdicts(),
        *map(_message, _cells()),
        *map(_message, _magnifiers()),
        *_diagnoses(),
        _part_of_a_report(),
        *_scopes(),
        *_powers(),
        *_given(),
    ]
    return found


def messages_of(alignment: Alignment) -> Iterator[Message]:
    """Those of one alignment, its parts included."""
    closer = () if alignment.magnifier is None else (alignment.magnifier,)
    parts = (alignment, *alignment.gates, *alignment.remarks, *alignment.matrix, *closer)
    yield from map(_message, parts)


def _unsteady() -> Iterator[Alignment]:
    """Of a suite whose ids another run would not have: the same ids, and others."""
    causes = {"p0": "date", "p1": "chance"}
    suite = SuiteFacts(name=SUITE.name, digest=SUITE.digest, unsteady=causes)  # type: ignore[arg-type]
    dated = made().model_copy(update={"suite": suite})
    yield compare(dated, BASELINE)
    first = dated.prompts[0].model_copy(update={"prompt_token_ids": (7,)})
    yield compare(dated.model_copy(update={"prompts": (first, *dated.prompts[1:])}), BASELINE)


def _routed() -> Iterator[Alignment]:
    """Mixtures of experts: with no route flipped, and with some, where a position fails."""
    assert BASELINE.oracle is not None
    told = replace(
        BASELINE, reference=_with_routes(BASELINE.reference), oracle=_with_routes(BASELINE.oracle)
    )
    for fault, flip in (("none", False), ("scale", True)):
        yield compare(_with_routes(made(seed=9, fault=fault), flip=flip), told)
    yield from _departing()


def _departing() -> Iterator[Alignment]:
    """Gates of routes: nothing told, at narrow and wide margins, often, and without margins."""
    assert BASELINE.oracle is not None
    first, plain = BASELINE.reference.prompts[0].id, made(seed=9)
    every = {(p.id, 0): 1 for p in BASELINE.reference.prompts}
    for margin in (True, False):
        arms = replace(
            BASELINE,
            reference=with_routes(BASELINE.reference),
            oracle=with_routes(BASELINE.oracle, {}, margin),
            controls={n: with_routes(c) for n, c in BASELINE.controls.items()},
        )
        yield compare(plain, arms)
        for flips in ({}, {(first, 0): 1}, {(first, 1): 1}, every):
            yield compare(with_routes(plain, flips), arms)


def _with_routes(recording: Recording, *, flip: bool = False) -> Recording:
    def told(run: Run | None) -> Run | None:
        if run is None:
            return None
        chosen = np.full((len(run.rows), 2), 3, np.uint16)
        chosen[0, 0] += flip
        routes = Routes(chosen, np.ones(chosen.shape, np.float32))
        return run.model_copy(update={"routes": routes})

    prompts = [
        p.model_copy(update={"free": told(p.free), "forced": told(p.forced)})
        for p in recording.prompts
    ]
    return recording.model_copy(update={"prompts": tuple(prompts), "schema_": ROUTED_SCHEMA})


def _powers() -> Iterator[Message]:
    """Every figure of a power, and none."""
    names = list(Power.model_fields)
    for power in (
        Power.model_validate({name: 0.5 + k for k, name in enumerate(names)}),
        Power.model_validate(dict.fromkeys(names)),
    ):
        yield from (value for _, value in power_rows(power))


def within(message: Message) -> Iterator[Message]:
    """A message and all that stand in it."""
    yield message
    for value in message.values.values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Message):
                yield from within(item)


def alignments() -> Iterator[Alignment]:
    """Correct and broken candidates, with and without parts of a baseline."""
    for fault in ("none", "scale", "nan", "unsteady"):
        yield compare(made(seed=9, fault=fault), BASELINE)
        yield compare(few(seed=9, fault=fault), FEW_BASELINE)
    yield compare(made(), BASELINE)
    yield compare(nearly(BASELINE.reference, 1e-6), BASELINE)
    yield compare(made(seed=5), BASELINE.reference)
    for replay in ("forced-prefill", "forced-decode"):
        forced = fake_record(FakeDevice(), SUITE, Options(replay, CONTEXT))  # type: ignore[arg-type]
        yield compare(forced, BASELINE)
        mixed = (*made().prompts[:9], *forced.prompts[9:])
        yield compare(forced.model_copy(update={"prompts": mixed}), BASELINE)
    yield from (compare(again(wide), baseline) for wide, baseline in _without_noise())
    yield compare(_told(made(seed=5)), BASELINE)
    yield from _unsteady()
    yield from _routed()
    warned = made().model_copy(
        update={"engine": EngineFacts(warning="it samples"), "dtype": "float16"}
    )
    yield compare(warned, BASELINE, allow=Allow(dtype=True))
    yield compare(warned, BASELINE)
    left_out = BASELINE.reference.suite.model_copy(update={"left_out": ("chat",)})
    yield compare(made().model_copy(update={"suite": left_out}), BASELINE)
    texts = [p.run.text for p in BASELINE.reference.prompts]
    for parted in (0, 1, 5):
        other = [f"#{text}" if n < parted else text for n, text in enumerate(texts)]
        yield compare(_texts(BASELINE.reference, other), BASELINE)
    yield from _of_tokens()
    yield from _of_plain()


def _message(stated: Stated) -> Message:
    assert stated.message is not None
    return stated.message


def _without_noise() -> Iterator[tuple[Recording, Baseline]]:
    for replay in ("forced-prefill", "forced-decode"):
        options = Options("forced-prefill", CONTEXT) if replay == "forced-prefill" else Options()
        wide = fake_record(FakeDevice("float32"), SUITE, options)
        oracle = fake_record(FakeDevice("float32"), SUITE, Options(replay, Context.of(wide)))  # type: ignore[arg-type]
        yield wide, Baseline(wide, oracle)


def _told(recording: Recording) -> Recording:
    """As a server tells it: log-probabilities of the likeliest tokens only."""

    def rows(run: Run | None) -> Run | None:
        return None if run is None else run.model_copy(update={"rows": told_rows(run.rows)})

    prompts = tuple(
        p.model_copy(update={"free": rows(p.free), "forced": rows(p.forced)})
        for p in recording.prompts
    )
    model = recording.model.model_copy(update={"weights": None})
    return recording.model_copy(update={"prompts": prompts, "device": "server", "model": model})


def _texts(recording: Recording, texts: list[str]) -> Recording:
    prompts = tuple(
        PromptRecord(id=p.id, text=p.text, prompt_token_ids=p.prompt_token_ids, free=text_run(text))
        for p, text in zip(recording.prompts, texts, strict=True)
    )
    return recording.model_copy(update={"prompts": prompts})


def _of_tokens() -> Iterator[Alignment]:
    baseline = arms()
    tokens = {p.id: list(p.run.token_ids) for p in baseline.reference.prompts}
    yield compare_tokens(tokens, baseline, file="t.json")
    tokens["p1"][2] = int(baseline.reference.prompts[1].run.rows.top_ids[2, 19])
    yield compare_tokens(tokens, baseline, file="t.json")


def _of_plain() -> Iterator[Alignment]:
    """Plain lists: equal, other, repeated, incomplete, with prompts in front."""
    whole = [_entry(p) for p in FEW_BASELINE.reference.prompts]
    bare = [PlainEntry(where=e.where, token_ids=e.token_ids) for e in whole]
    named = [replace(e, id=None, prompt_token_ids=None, text=f"text {e.id}") for e in whole]
    other = [replace(named[0], token_ids=(1, *(named[0].token_ids or ())[1:])), *named[1:]]
    front = [
        replace(e, token_ids=(*(e.prompt_token_ids or ()), *(e.token_ids or ()))) for e in whole
    ]
    long = (1, 2, 3, 4, 5)
    some = [replace(e, prompt_token_ids=long) for e in whole]
    some_front = [replace(some[0], token_ids=(*long, 6)), *some[1:]]
    told = [replace(e, output=f"{e.text} and on") for e in named]
    for mine, theirs in (
        (named, named),
        (other, named),
        (bare, bare),
        ([*named[1:], *named[1:2]], named[:2]),
        ([*named, *other[:1]], named),
        (front, whole),
        (some_front, some),
        (told, told),
    ):
        yield compare_plain(_plain_list(mine), _plain_list(theirs), file="a.json")
    yield compare_plain(_plain_list([*other[:1], *whole[1:]]), FEW_BASELINE, file="a.json")


def _plain_list(entries: list[PlainEntry]) -> PlainList:
    return PlainList(Path("a.json"), tuple(entries))


def _entry(prompt: PromptRecord) -> PlainEntry:
    return PlainEntry(
        where=prompt.id,
        id=prompt.id,
        text=prompt.text,
        prompt_token_ids=prompt.prompt_token_ids,
        token_ids=prompt.run.token_ids,
    )


def _given() -> list[Message]:
    """Of a list whose prompts are texts, which the model's tokenizer encodes."""
    chat = (Turn("user", "Today is {date}."),)
    listed = _plain_list(
        [
            PlainEntry(where="[0]", text="Hello", token_ids=(1, 2)),
            PlainEntry(where="[1]", text="Today", messages=chat, token_ids=(1, 2)),
        ]
    )
    return given_tokens(listed, FAKE, Silent())[1]


def _scopes() -> Iterator[Message]:
    """Every row of the table of what could be seen."""
    forced = fake_record(FakeDevice(), SUITE, Options("forced-prefill", CONTEXT))
    mixed = made().prompts[:1] + forced.prompts[1:]
    shaped = EngineFacts(block_size=4, batch_size=2)
    alike = [p.model_copy(update={"text": "one and the same text here"}) for p in made().prompts]
    for candidate in (
        None,
        made().model_copy(update={"engine": shaped}),
        made().model_copy(update={"engine": EngineFacts()}),
        forced,
        forced.model_copy(update={"prompts": mixed}),
    ):
        yield from (value for _, value in scope_rows(scope_of(candidate, BASELINE)))
    apart = [p.model_copy(update={"text": f"text-{p.id}"}) for p in made().prompts]
    unlike = BASELINE.reference.model_copy(update={"prompts": tuple(apart)})
    yield from (value for _, value in scope_rows(scope_of(None, unlike)))
    same = BASELINE.reference.model_copy(update={"prompts": tuple(alike)})
    found = scope_of(None, same)
    yield from (value for _, value in scope_rows(found))
    warning = alike_warning(found)
    assert warning is not None
    yield warning


def _verdicts() -> Iterator[Message]:
    """Every verdict, with and without figures, whichever gate made it."""
    same = Comparability(comparable=True, differences=(), allowed=(), unknown=())
    ratios = (NOTHING, Interval(value=2.5, low=None, high=None),
              Interval(value=1.02, low=0.98, high=1.06))  # fmt: skip
    for verdict in VERDICTS:
        for gate, _, _ in EVERY_GATE:
            for ratio in ratios:
                for top_k in (False, True):
                    yield message_of(verdict, same, ratio, [gate], 1, 24, top_k=top_k)
    for count in (1, 2, 5, 6):
        fields = tuple(
            FieldDifference(field=f"f{i}", candidate="1", baseline="2") for i in range(count)
        )
        refused = Comparability(comparable=False, differences=fields, allowed=(), unknown=())
        yield message_of("NOT_COMPARABLE", refused, NOTHING, (), 0, 0)


def _cells() -> Iterator[Stated]:
    candidate = made(seed=3)
    plan = MatrixPlan(candidate, BASELINE, SUITE, FAKE, open_target)
    batch = Variation("batch", "batch 1 against 8", 8)
    yield judged_cell(batch, candidate, plan)
    yield judged_cell(batch, made(seed=4, fault="scale"), plan)
    without = replace(plan, baseline=Baseline(BASELINE.reference))
    yield judged_cell(batch, made(seed=4), without)
    judged = compare(candidate, BASELINE)
    yield repeat_cell(candidate, judged)
    yield repeat_cell(candidate, judged.model_copy(update={"gates": ()}))
    yield not_run(batch, "it does not start")
    for device in ("hf-cpu", "server", "vllm-cpu", "npu"):
        shaped = candidate.model_copy(
            update={"device": device, "engine": EngineFacts(block_size=128)}
        )
        for variation in variations(shaped, ["p0", "p1"]):
            if variation.why_not is not None:
                yield not_run(variation, variation.why_not)


def _magnifiers() -> Iterator[Magnifier]:
    half = _half(BASELINE)
    good = magnified(_in_half(made(seed=5)), half)
    yield good
    yield magnified(_in_half(made(seed=5, fault="scale")), half)
    yield magnified(_in_half(made()), half)
    yield magnified(_in_half(made(seed=5)), Baseline(half.reference))
    yield magnified(_in_half(made()), Baseline(half.reference))
    yield magnified(_in_half(made(fault="nan")), _half(Baseline(made(fault="nan"))))
    yield magnified(made(seed=5), half)  # of another dtype: not comparable
    plan = MagnifierPlan(FAKE, SUITE, "unit", half, _in_half(made()), open_target, Path(), "run")
    yield run_magnifier(plan, Silent())
    yield both(good, good)


def _diagnoses() -> Iterator[Message]:
    """Every cause with a size, and each outcome."""
    layer = "model.layers.3"
    places = {
        "softmax_scale": ("", f"{layer}.self_attn"),
        "attention": ("", f"{layer}.self_attn"),
        "mlp": ("", f"{layer}.mlp"),
        "layer": ("", layer),
        "norm": ("", f"{layer}.input_layernorm"),
    }
    causes = [Cause(kind) for kind in (*SETTINGS, *EXCHANGES) if not kind.startswith("window")]
    causes += [Cause("logit_scale"), Cause("embedding_scale")]
    causes += [Cause(kind, place) for kind, both in places.items() for place in both]
    causes += [Cause("int8", place) for place in ("", layer, f"{layer}.mlp.up_proj")]
    causes += [Cause("norm_next", p) for p in ("", layer, f"{layer}.input_layernorm")]
    causes += [Cause("norm_before", p) for p in ("", layer, f"{layer}.input_layernorm")]
    causes += [Cause(kind, layer, 4) for kind in LAYER_CHANGES]
    kinds = ("", "sliding_attention")
    causes += [Cause(k, p, 512) for k in ("window", "window_missing") for p in kinds]
    causes += [Cause("distance", p, i) for i in (0, 1, 5, len(DISTANCES) - 1) for p in kinds]
    causes.append(Cause("linear", f"{layer}.mlp.gate_proj"))
    causes += [Cause(k, f"{layer}.self_attn", 1) for k in ("head", "query_head", "value_head")]
    causes += [Cause(kind, f"{layer}.mlp.up_proj", 5) for kind in PARTS if kind != "weight"]
    causes.append(Cause("weight", f"{layer}.mlp.up_proj", 5, 6))
    size = Size(value=0.1, low=0.05, high=0.15, explained=1.0)
    for cause in causes:
        for now in (None, 10_000.0):
            said, _ = size_in_words(cause, size, now)
            best = message("explanation", cause=name_of(cause), size=said, share=40.0)
            yield best
    yield message("explanation.listed", cause=name_of(cause), size=said, share=40.0, listed=20)
    yield message("diagnosis.nothing")
    yield message("diagnosis.nothing.listed", listed=20)
    yield message("warning.itself")
    kept = {"candidate_buckets": 16, "candidate_listed": 10, "buckets": 16, "listed": 10}
    yield message("warning.detail", **kept, baseline_buckets=64, baseline_listed=20)
    yield message("warning.no_diagnosis", reason="3 prompts")
    yield message("diagnosis.slight", best=best, effect=3.0)


def _in_half(recording: Recording) -> Recording:
    return recording.model_copy(update={"dtype": "float16"})


def _half(baseline: Baseline) -> Baseline:
    controls = {name: _in_half(arm) for name, arm in baseline.controls.items()}
    return replace(baseline, reference=_in_half(baseline.reference), controls=controls)


def failing() -> Alignment:
    """A broken candidate, with failing and undecided gates, warnings, matrix and magnifier."""
    free = Options(repeats=2)  # not replayed, so not every position is judged
    candidate = fake_record(FakeDevice(seed=9, fault="scale"), FEW, free)
    candidate = candidate.model_copy(update={"engine": EngineFacts(warning="it samples")})
    found = compare(candidate, FEW_BASELINE)
    plan = MatrixPlan(candidate, FEW_BASELINE, FEW, FAKE, open_target)
    batch = Variation("batch", "batch 1 against 8", 8)
    reasons = [
        not_run(v, v.why_not) for v in variations(candidate, ["p0"]) if v.why_not is not None
    ]
    cells = (
        repeat_cell(candidate, found),
        judged_cell(batch, few(seed=4, fault="scale"), plan),
        *reasons,
    )
    closer = magnified(_in_half(candidate), _half(FEW_BASELINE))
    return added(found.model_copy(update={"matrix": cells}), closer)


def _part_of_a_report() -> Message:
    """The warning of an alignment that was taken from a page with fewer prompts."""
    data = embed(view(compare(few(seed=9), FEW_BASELINE), budget=1)).data
    document = json.loads(zlib.decompress(base64.b64decode(data), wbits=-15))
    return Message.model_validate(document["remarks"][-1]["message"])
