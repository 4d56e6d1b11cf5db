"""What a sketch of another width, and a longer or shorter list of logits, is worth.

    python -m benchmarks.detail --work build/detail --record      # about 15 minutes
    python -m benchmarks.detail --work build/detail --directions  # about 10 minutes
    python -m benchmarks.detail --work build/detail --out benchmarks/results/detail.json

The first command records the default model's arms anew, some faults of the catalogue and some
correct variations, on 32 prompts of ``mixed``, in the largest detail: 1,024 buckets, 64 logits.
The second measures what causes add to the oracle's rows, in as many buckets. The third folds
both into each narrower width and judges and scores them there, so that all widths see the same
rows. No recording is told of a fault, and no judgement of a width but by what the width holds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.catalogue import faults as f
from benchmarks.catalogue import heads
from benchmarks.catalogue import variations as v
from benchmarks.catalogue.entries import Entry, output_rows
from benchmarks.catalogue.faults import Injection, hooked, layers
from benchmarks.catalogue.passes import Chunked, LeftPadded, Stacked
from benchmarks.catalogue.run import ROOT, catalogue_baseline
from benchmarks.catalogue.workbench import Workbench
from harness.alignment.align import evidence_of
from harness.alignment.judge import judge
from harness.baseline.baseline import ORACLE, REFERENCE, Baseline
from harness.baseline.controls import control_of
from harness.baseline.detail import JUDGED_BUCKETS, reduced_baseline, reduced_recording
from harness.baseline.floor import NoiseFloor, noise_floor
from harness.baseline.make import LOWER_ISA
from harness.devices.causes import Cause
from harness.devices.oracle import SensitiveDevice
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.diagnosis.directions import direction_of, first_size
from harness.diagnosis.errors import Errors, errors_of
from harness.diagnosis.scores import ERROR, FAMILIES, Scores, family_of
from harness.process.progress import Silent
from harness.recording.context import Context
from harness.recording.format import Recording, load_recording, save_recording, schema_for
from harness.recording.recorder import Options, opened, record
from harness.statistics.rows import Detail
from harness.statistics.score import chance_limit
from harness.suite.read import load_suite

MODEL, PROMPTS = "smollm2", 32
#: What is recorded; everything else is folded from it.
WIDEST = Detail(64, 1024)
#: The layer that is broken where one is.
LAYER = 15
DIAGNOSED = 16
WIDTHS = (8, 16, 32, 64, 256, 1024)
#: Each width with 20 logits, and shorter lists.
MEASURED = (
    *(Detail(20, width) for width in WIDTHS),
    *(Detail(5, 8), Detail(5, 16), Detail(10, 16), Detail(5, 64), Detail(10, 64)),
)
SUBSETS, FEW = 20, 8
#: Where sketches are also rounded.
ENCODED = (Detail(20, 16), Detail(20, 64))
FAILING = ("DRIFT", "DIVERGENT")
RESULTS = ROOT / "benchmarks" / "results"
_Directions = dict[str, list[NDArray[np.float64]]]


def mlp_scaled(layer: int, factor: float) -> Injection:
    """What the MLP of one layer adds, times ``factor``."""

    @contextmanager
    def inject(_: Any, model: Any) -> Iterator[None]:
        mlp = layers(model)[layer].mlp
        with hooked([mlp.register_forward_hook(lambda _m, _i, output: output * factor)]):
            yield

    return inject


def arms() -> dict[str, Entry]:
    """Arms around the committed reference's tokens, as ``baseline make --context`` makes them:
    all by one pass over each prompt."""
    return {
        REFERENCE: Entry(REFERENCE, correct=True),
        ORACLE: Entry(ORACLE, correct=True, dtype="float32"),
        "control-eager": Entry("eager", correct=True, injection=v.attention("eager")),
        "control-split-2": Entry("split", correct=True, matmul="split-2"),
        "control-isa": Entry("isa", correct=True, environment=dict(_lower())),
    }


def _lower() -> dict[str, str]:
    import torch

    return dict(LOWER_ISA.get(torch.backends.cpu.get_cpu_capability(), {}))


def candidates(baseline: Baseline) -> dict[str, tuple[Entry, str]]:
    """Correct variations and faults with the kind of cause that is true of it."""
    layer, head = heads.chosen_heads(heads.result_of(MODEL))["median"]
    rows = output_rows(baseline)
    found: dict[str, tuple[Entry, str]] = {
        "ok-single-products": (Entry("", correct=True, injection=v.math_attention()), ""),
        "ok-row-parallel-2": (Entry("", correct=True, injection=v.row_parallel(2)), ""),
        "ok-batch-12": (Entry("", correct=True, passes=LeftPadded(12)), ""),
        "ok-chunks-16": (Entry("", correct=True, passes=Chunked(16)), ""),
        "ok-float32": (Entry("", correct=True, dtype="float32", matmul="split-2"), ""),
    }
    broken: tuple[tuple[str, Injection, str], ...] = (
        ("rope-base-3-off", f.rope_base(0.97), str(Cause("rope_base"))),
        ("softmax-2-off", f.softmax_scale(1.02), str(Cause("softmax_scale"))),
        (
            "head-weakened-25",
            f.head_zeroed(layer, head, 0.25),
            str(Cause("head", f"model.layers.{layer}.self_attn", head)),
        ),
        ("norm-epsilon-times-3", f.norm_epsilon(3e-5), str(Cause("norm_epsilon"))),
        (
            "mlp-times-1.02",
            mlp_scaled(LAYER, 1.02),
            str(Cause("mlp", f"model.layers.{LAYER}.mlp")),
        ),
        (
            "fp8-one-layer",
            f.rounded_weights("fp8", [LAYER]),
            str(Cause("fp8", f"model.layers.{LAYER}")),
        ),
        ("head-row-common-1.02", f.lm_head_row(rows["common"], 1.02), ""),
        ("head-row-rare-1.5", f.lm_head_row(rows["rare"], 1.5), ""),
        ("last-norm-0.5-off", f.last_norm(1.005), ""),
        ("rope-base-10-off", f.rope_base(0.9), str(Cause("rope_base"))),
    )
    for name, injection, cause in broken:
        found[name] = (Entry(name, injection=injection, passes=Stacked()), cause)
    return found


def chosen_ids(baseline: Baseline) -> frozenset[str]:
    """The prompts of ``benchmarks.diagnosis``."""
    prompts = baseline.reference.prompts
    order = np.random.default_rng(0).permutation(len(prompts))[:PROMPTS]
    return frozenset(prompts[i].id for i in order.tolist())


def record_all(work: Path, alone: str | None) -> None:
    """Record what is missing, on the committed reference's tokens."""
    work.mkdir(parents=True, exist_ok=True)
    baseline = catalogue_baseline(MODEL)
    entries = {**arms(), **{name: entry for name, (entry, _) in candidates(baseline).items()}}
    benches: dict[str | None, Workbench] = {}
    subject = open_target(DeviceSpec("hf-cpu", MODEL)).subject
    options = Options(
        context=Context.of(baseline.reference), prompt_ids=chosen_ids(baseline), detail=WIDEST
    )
    for name, entry in entries.items():
        file = work / f"{name}.json"
        if file.exists() or (alone is not None and name != alone):
            continue
        if entry.environment and alone is None:
            command = [sys.executable, "-m", "benchmarks.detail", "--work", str(work.resolve())]
            environment = {**os.environ, **entry.environment}
            command += ["--record", "--alone", name]
            subprocess.run(command, env=environment, cwd=ROOT, check=True)
            continue
        started = time.monotonic()
        bench = benches.setdefault(entry.dtype, Workbench(entry.dtype, MODEL))
        bench.set_matmul(entry.matmul)
        bench.injection, bench.passes = entry.injection, entry.passes
        made = record(
            bench,
            subject,
            load_suite("mixed"),
            replace(options, replay=entry.replay),
            progress=Silent(),
        )
        save_recording(made, file)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


def measured_causes() -> list[Cause]:
    """The true causes, and others of their kinds: settings, modules, roundings, heads."""
    layer, head = heads.chosen_heads(heads.result_of(MODEL))["median"]
    true = ("rope_base", "softmax_scale", "norm_epsilon")
    found = [*map(Cause, true), Cause("head", f"model.layers.{layer}.self_attn", head)]
    for each in (LAYER, 7, 22):
        name = f"model.layers.{each}"
        found += [Cause("mlp", f"{name}.mlp"), Cause("fp8", name)]
        found += [Cause("attention", f"{name}.self_attn")]
    found += [Cause("logit_scale"), Cause("kv_fp8"), Cause("rope_scale")]
    return [*found, *(Cause("head", f"model.layers.{layer}.self_attn", i) for i in range(9))]


def directions(work: Path) -> None:
    """Measure what each cause adds to the oracle's rows, in 1,024 buckets."""
    baseline = baseline_of(work)
    errors = shortest(errors_of(baseline.reference, baseline))
    target = open_target(DeviceSpec("hf-cpu", MODEL, "float32"), progress=Silent())
    with opened(target.device, Silent()):
        assert isinstance(target.device, SensitiveDevice)
        oracle = target.device.sensitivity(buckets=WIDEST.buckets)
        base = [oracle.sketches(p.token_ids, len(p)) for p in errors.prompts]
        for index, cause in enumerate(dict.fromkeys(measured_causes())):
            file = work / f"direction-{index:03}.npz"
            if file.exists():
                continue
            started = time.monotonic()
            found = direction_of(errors, oracle, base, cause, first_size(cause))
            name = np.frombuffer(str(cause).encode(), np.uint8)
            np.savez(file, name=name, rows=np.concatenate(found).astype(np.float32))
            print(f"{cause}: {time.monotonic() - started:.0f} s", flush=True)


def shortest(errors: Errors) -> Errors:
    """The prompts that take least time, which the causes are measured on."""
    order = np.argsort([len(p.token_ids) for p in errors.prompts], kind="stable")
    return errors.of_prompts(np.sort(order[:DIAGNOSED]).tolist())


def baseline_of(work: Path) -> Baseline:
    """The arms as they were recorded."""
    made = {name: load_recording(work / f"{name}.json") for name in arms()}
    return Baseline(made.pop(REFERENCE), made.pop(ORACLE), made)


def known_directions(work: Path, lengths: Sequence[int]) -> _Directions:
    """Per cause and prompt float64 (n, 1024)."""
    ends, found = np.cumsum(lengths)[:-1], {}
    for file in sorted(work.glob("direction-*.npz")):
        with np.load(file) as kept:
            name = bytes(kept["name"]).decode()
            found[name] = np.split(kept["rows"].astype(np.float64), ends)
    return found


def scores_at(errors: Errors, known: _Directions) -> Scores:
    """The scores of the measured causes, each a stand-in that is told by its text."""
    apart = len(errors) * len(errors.prompts[0].contrasts)
    width, shape = errors.buckets, (len(errors), 0)
    folded_there = {
        Cause(_kind(name), name): [fold(rows, width) for rows in found]
        for name, found in known.items()
    }
    none = Scores(
        (),
        np.zeros(shape),
        np.zeros(shape),
        np.zeros((apart, 0)),
        (),
        (),
        len(errors.prompts[0].arms),
        errors.shares,
    )
    return none.with_directions(errors, folded_there, errors.residual)


def _kind(name: str) -> str:
    return name.split("[", maxsplit=1)[0].split(maxsplit=1)[0]


def fold(rows: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    return np.asarray(rows.reshape(len(rows), -1, width).sum(axis=1))


def limits_of(units: int) -> dict[str, float]:
    """What chance stays below, with as many hypotheses as ``harness diagnose`` has of this
    model: found from the limits of ``diagnosis.jsonl``, which are of 64 units."""
    line = json.loads((RESULTS / "diagnosis.jsonl").read_text("utf-8").splitlines()[0])
    found = {}
    for name in ("settings", "causes"):
        limit, low, high = line["families"][name][1], 0.0, 25.0
        for _ in range(60):  # the logarithm of how many there are
            middle = (low + high) / 2
            below = chance_limit(round(np.exp(middle)), ERROR / len(FAMILIES), 64) < limit
            low, high = (middle, high) if below else (low, middle)
        found[name] = chance_limit(round(np.exp(high)), ERROR / len(FAMILIES), units)
    return found


def told(errors: Errors, known: _Directions, true: str) -> dict[str, Any]:
    """How surely the measured causes are told: t over its family's limit, above 1 is told."""
    scores = scores_at(errors, known)
    limits = limits_of(len(scores.contrasts))
    beyond = {
        cause.place: abs(float(t)) / limits[family_of(Cause(cause.kind))]
        for cause, t in zip(scores.causes, scores.t, strict=True)
    }
    order = sorted(beyond, key=lambda name: -beyond[name])
    found: dict[str, Any] = {"first": order[0], "first_over_limit": beyond[order[0]]}
    if true:
        found |= {"true_over_limit": beyond[true], "rank": order.index(true) + 1}
    return found


def diagnosis_of(errors: Errors, known: _Directions, true: str) -> dict[str, Any]:
    """One candidate in one width: on all prompts, and how often on few of them."""
    found = told(errors, known, true)
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(SUBSETS):
        chosen = np.sort(random.permutation(len(errors))[:FEW]).tolist()
        few = {name: [rows[i] for i in chosen] for name, rows in known.items()}
        part = told(errors.of_prompts(chosen), few, true)
        hits += part["true_over_limit" if true else "first_over_limit"] > 1.0
    return {**found, f"told_of_{FEW}": hits / SUBSETS}


def judged(mine: Recording, baseline: Baseline, floor: NoiseFloor) -> dict[str, Any]:
    """One candidate as the harness judges it, on all prompts and on subsets."""
    evidence = evidence_of(mine, baseline, floor)
    whole = judge(evidence)
    random = np.random.default_rng(1)
    subsets = [np.sort(random.permutation(len(evidence))[:FEW]) for _ in range(SUBSETS)]
    verdicts = [judge(evidence.take(subset)).verdict for subset in subsets]
    failed = [gate.name for gate in whole.gates if gate.status == "FAIL"]
    share = float(np.mean([verdict in FAILING for verdict in verdicts]))
    top = next(gate for gate in whole.gates if gate.name == "top_k_error_ratio")
    return {
        "verdict": whole.verdict,
        "failed": failed,
        "top": [top.value, top.low, top.high],
        f"failed_of_{FEW}": share,
    }


def ratio_of(mine: Recording, baseline: Baseline) -> list[float | None]:
    """The error over the reference's, with its 95 % interval, in any width."""
    assert baseline.oracle is not None
    found = control_of(mine, baseline.reference, baseline.oracle).ratio.interval()
    return [found.value, found.low, found.high]


def encoded(recording: Recording, kind: str) -> Recording:
    """A recording whose sketches are rounded to a narrower float."""
    prompts = []
    for prompt in recording.prompts:
        run = prompt.run
        assert run.rows.sketch is not None
        rows = replace(run.rows, sketch=_rounded(run.rows.sketch, kind))
        name = "free" if prompt.forced is None else "forced"
        prompts.append(prompt.model_copy(update={name: run.model_copy(update={"rows": rows})}))
    return recording.model_copy(update={"prompts": tuple(prompts)})


def _rounded(values: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    if kind == "float32":
        return values
    if kind == "float16":
        return values.astype(np.float16).astype(np.float32)
    bits = values.view(np.uint32)
    even = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return np.asarray((even & np.uint32(0xFFFF0000)).view(np.float32))


def encodings(mine: Recording, baseline: Baseline) -> dict[str, list[float | None]]:
    """The error ratio where every sketch is stored in a narrower float."""
    found = {}
    for kind in ("float32", "float16", "bfloat16"):
        assert baseline.oracle is not None
        coarse = Baseline(encoded(baseline.reference, kind), encoded(baseline.oracle, kind))
        found[kind] = ratio_of(encoded(mine, kind), coarse)
    return found


def size_of(recording: Recording) -> dict[str, float]:
    """Bytes a position: of the whole file, and of its columns."""
    rows = [run.model_dump(mode="json")["rows"] for run in recording.runs]
    found: dict[str, float] = {}
    for each in rows:
        for name, text in each.items():
            if isinstance(text, str):
                found[name] = found.get(name, 0.0) + len(text) / recording.positions
    with tempfile.TemporaryDirectory() as folder:
        made = recording.model_copy(update={"schema_": schema_for(recording.prompts)})
        plain, packed = Path(folder) / "a.json", Path(folder) / "a.json.gz"
        save_recording(made, plain)
        save_recording(made, packed)
        sizes = {"file": plain, "compressed": packed}
        found |= {k: f.stat().st_size / recording.positions for k, f in sizes.items()}
    return {name: round(value, 1) for name, value in found.items()}


def measure(work: Path, out: Path, details: Sequence[Detail]) -> None:
    """Fold, judge and score; writes the figures, beside those of other details."""
    baseline = baseline_of(work)
    few = shortest(errors_of(baseline.reference, baseline))
    known = known_directions(work, [len(p) for p in few.prompts])
    names = candidates(catalogue_baseline(MODEL))
    found: dict[str, Any] = {"causes": list(known), "sizes": {}, "recordings": {}}
    if out.exists():
        found = json.loads(out.read_text("utf-8"))
    for name, (_, true) in names.items():
        empty: dict[str, Any] = {"true": true, "judged": {}, "ratio": {}, "diagnosed": {}}
        found["recordings"].setdefault(name, empty)
    for detail in details:
        beside, key = reduced_baseline(baseline, detail), f"{detail.buckets}/{detail.listed}"
        floor = noise_floor(beside)
        every = noise_floor(beside, every_row=True)
        assert beside.oracle is not None
        assert floor is not None
        sizes = {REFERENCE: size_of(beside.reference), ORACLE: size_of(beside.oracle)}
        found["sizes"][key] = sizes
        for name, (_, true) in names.items():
            mine = reduced_recording(load_recording(work / f"{name}.json"), detail)
            line = found["recordings"][name]
            if detail.buckets <= JUDGED_BUCKETS:
                line["judged"][key] = judged(mine, beside, floor)
            if detail.listed == 20:
                line["ratio"][key] = ratio_of(mine, beside)
                errors = shortest(errors_of(mine, beside, every))
                line["diagnosed"][key] = diagnosis_of(errors, known, true)
            if detail in ENCODED:
                line.setdefault("encodings", {})[key] = encodings(mine, beside)
        print(key, flush=True)
        out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--record", action="store_true", help="make the recordings")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--directions", action="store_true", help="measure what causes do")
    parser.add_argument("--out", type=Path, help="judge and score; where to write the figures")
    parser.add_argument("--details", nargs="+", help="buckets/logits; all by default")
    options = parser.parse_args()
    if options.record:
        record_all(options.work, options.alone)
    if options.directions:
        directions(options.work)
    if options.out:
        chosen = {f"{detail.buckets}/{detail.listed}": detail for detail in MEASURED}
        measure(options.work, options.out, [chosen[key] for key in options.details or chosen])


if __name__ == "__main__":
    main()
