"""What the score test tells of the catalogue from a server's 20 log-probabilities.

    python -m benchmarks.catalogue --no-judging          # makes the recordings, once
    python -m benchmarks.diagnosis_served --work build/catalogue --out build/diagnosis_served.jsonl

Each recording is cut to what a server would have listed: the 20 largest log-probabilities of
each position. The figures are those of `benchmarks.diagnosis`. One pass forwards of each prompt
serves all recordings, so all are done together or none; with ``--recording NAME=FILE`` a real
server's recordings go with them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.catalogue.run import POSITIONS, catalogue_baseline, shortened
from benchmarks.diagnosis import PROMPTS, line_of
from harness.devices.causes import Cause
from harness.devices.oracle import Gradients, Oracle, SensitiveDevice
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.diagnosis.directions import direction_of, first_size
from harness.diagnosis.errors import Errors
from harness.diagnosis.explain import standing_out
from harness.diagnosis.listed import listed_errors
from harness.diagnosis.scores import scores_again, scores_of
from harness.process.progress import Silent
from harness.recording.format import Recording, Run, load_recording
from harness.recording.recorder import opened
from harness.statistics.rows import NO_TOKEN, RowStatistics, untold_masks

LISTED = 20
NAMES = (
    "ok-row-parallel-linears-8-ways",
    "ok-residual-sums-in-float32",
    "ok-float16",
    "engine-vllm8",
    "fault-rope-base-10-off",
    "fault-rope-base-3-off",
    "fault-longrope-attention-factor-1.005",
    "fault-softmax-scale-1-off",
    "fault-norm-epsilon-0.0001-for-1e-05",
    "fault-median-head-weakened-by-10",
    "fault-layer-skipped-1-of-layer-15",
    "fault-int8-weights-1-of-30-layers",
    "fault-quantized-kv-cache-int8",
    "fault-one-weight-overwritten-with-10",
    "fault-one-lm-head-row-common-token-1.02",
)


def as_served(recording: Recording, listed: int = LISTED) -> Recording:
    """What a server would have told of the same rows."""

    def cut(run: Run | None) -> Run | None:
        return None if run is None else run.model_copy(update={"rows": _listed(run.rows, listed)})

    prompts = tuple(
        p.model_copy(update={"free": cut(p.free), "forced": cut(p.forced)})
        for p in recording.prompts
    )
    return recording.model_copy(update={"prompts": prompts})


def _listed(rows: RowStatistics, listed: int) -> RowStatistics:
    ids = rows.top_ids.copy()
    ids[:, listed:] = NO_TOKEN
    logs = np.where(ids == NO_TOKEN, 0.0, rows.top_logits - rows.logsumexp[:, None])
    return RowStatistics(
        top_ids=ids,
        top_logits=logs.astype(np.float32),
        mean=None,
        logsumexp=np.zeros(len(rows)),
        nonfinite=rows.nonfinite,
        digest=None,
        sketch=None,
        **untold_masks(len(rows)),
    )


class Together:
    """An oracle that gives gradients which were taken before, many in one pass forwards."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._taken: dict[tuple[tuple[int, ...], bytes], Gradients] = {}
        self._rows: dict[tuple[int, ...], NDArray[np.float64]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._oracle, name)

    def take(self, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]) -> None:
        """The gradients of all of them."""
        rows, found = self._oracle.gradients(ids, vectors)
        self._rows[tuple(ids)] = rows
        for vector, gradients in zip(vectors, found, strict=True):
            self._taken[tuple(ids), vector.tobytes()] = gradients

    def gradients(
        self, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], list[Gradients]]:
        """As the oracle's, from what was taken."""
        return self._rows[tuple(ids)], [self._taken[tuple(ids), v.tobytes()] for v in vectors]


def vectors_of(index: int, all_errors: Sequence[Errors]) -> list[NDArray[np.float64]]:
    """What a prompt is asked for: of the arms, which are the same for all, and of each
    candidate."""
    first = all_errors[0]
    prompt = first.prompts[index]
    wanted = [prompt.rounding, *prompt.contrasts]
    wanted += [e.prompts[index].candidate - prompt.rounding for e in all_errors]
    return [first.metric.weighed(index, each) for each in wanted]


def read(options: argparse.Namespace) -> dict[str, Errors]:
    """The errors of each recording whose rows could all be judged, on the same prompts."""
    baseline = catalogue_baseline(options.model)
    files = {name: options.work / f"{name}.json" for name in NAMES}
    files |= {name: Path(file) for name, _, file in (r.partition("=") for r in options.recording)}
    prompts = len(baseline.reference.prompts)
    random = np.random.default_rng(0).permutation(prompts)
    chosen = sorted(random[: options.prompts].tolist())
    found: dict[str, Errors] = {}
    for name, file in files.items():
        made = shortened(load_recording(file), POSITIONS)
        errors = listed_errors(as_served(made) if made.whole else made, baseline)
        if len(errors) != prompts or errors.listed != LISTED:
            print(f"{name}: not all rows could be judged", flush=True)
            continue
        first = next(iter(found.values()), None)
        errors = errors.of_prompts(chosen)
        if first is not None and not _same_arms(first, errors):
            print(f"{name}: other ids are looked at", flush=True)
            continue
        found[name] = errors
    return found


def _same_arms(one: Errors, other: Errors) -> bool:
    pairs = zip(one.prompts, other.prompts, strict=True)
    return all(np.array_equal(a.arms, b.arms) for a, b in pairs)


def main() -> None:
    """Diagnose all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--work", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each")
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--recording", action="append", default=[], help="NAME=FILE of a server")
    options = parser.parse_args()
    found = read(options)
    target = open_target(DeviceSpec("hf-cpu", options.model, "float32"), progress=Silent())
    with opened(target.device, Silent()):
        assert isinstance(target.device, SensitiveDevice)
        first = next(iter(found.values()))
        oracle = Together(target.device.sensitivity(first.chosen))
        started = time.monotonic()
        for index, prompt in enumerate(first.prompts):
            oracle.take(prompt.token_ids, vectors_of(index, list(found.values())))
            print(f"{index + 1} prompts, {time.monotonic() - started:.0f} s", flush=True)
        for line in lines(oracle, found):
            with options.out.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            print(json.dumps(line)[:300], flush=True)


def lines(oracle: Any, found: Mapping[str, Errors]) -> Any:
    """Each recording's figures."""
    any_errors = next(iter(found.values()))
    first = scores_of(any_errors, oracle)
    settings: dict[Cause, list[NDArray[np.float64]]] = {
        cause: direction_of(any_errors, oracle, first.base, cause, first_size(cause))
        for cause in oracle.settings
    }
    for name, errors in found.items():
        residual = errors.residual
        again = replace(scores_again(errors, oracle, residual, first), shares=errors.shares)
        scores = again.with_directions(errors, settings, residual)
        known: dict[Cause, list[NDArray[np.float64]]] = {}
        for cause in standing_out(errors, oracle, scores, residual, Silent()):
            size = first_size(cause)
            known[cause] = direction_of(errors, oracle, scores.base, cause, size)
        line = line_of(name, scores.with_directions(errors, known, residual))
        yield line | {
            "log_probabilities": LISTED,
            "looked_at": errors.looked_at,
            "prompts": len(errors),
        }


if __name__ == "__main__":
    main()
