"""What the score test tells of the catalogue: the first stage of `harness diagnose`.

    python -m benchmarks.catalogue --no-judging          # makes the recordings, once
    python -m benchmarks.diagnosis --work build/catalogue --out build/diagnosis.jsonl

For each recording: the largest |t|, what chance stays below, the first causes, and in how many
of 40 random subsets of 8, 16 and 32 prompts a cause is told. Recordings share the passes of the
oracle; each takes about a minute on one core. A file that is there already is gone on with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.catalogue.run import POSITIONS, catalogue_baseline, shortened
from harness.devices.causes import Cause
from harness.devices.oracle import Oracle, SensitiveDevice
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.diagnosis.directions import direction_of, first_size
from harness.diagnosis.errors import Errors, errors_of
from harness.diagnosis.explain import likeliest
from harness.diagnosis.scores import PartTable, Scores, part_limit
from harness.errors import UsageError
from harness.process.progress import Silent
from harness.recording.format import load_recording
from harness.recording.recorder import opened

TOGETHER = 3
SUBSETS, SIZES = 40, (8, 16, 32)
_Directions = dict[Cause, list[NDArray[np.float64]]]


def scores_together(many: Sequence[Errors], oracle: Oracle, settings: _Directions) -> list[Scores]:
    """The scores of several candidates on the same prompts."""
    whole: list[list[Any]] = [[] for _ in many]
    parts = [PartTable(len(many[0])) for _ in many]
    common = PartTable(len(many[0]))
    rounding, base = [], []
    for index, prompt in enumerate(many[0].prompts):
        wanted = [e.prompts[index].candidate - e.prompts[index].rounding for e in many]
        metric = many[0].metric
        vectors = [metric.weighed(index, error) for error in (*wanted, prompt.rounding)]
        rows, found = oracle.gradients(prompt.token_ids, vectors)
        base.append(rows)
        rounding.append(found[-1].whole)
        common.add(index, found[-1].parts)
        for which, each in enumerate(found[:-1]):
            whole[which].append(each.whole)
            parts[which].add(index, each.parts)
    causes = tuple(sorted(rounding[0]))
    return [
        Scores(
            causes=causes,
            candidate=np.array([[each[c] for c in causes] for each in own]),
            rounding=np.array([[each[c] for c in causes] for each in rounding]),
            parts=mine.beside(common),
            base=tuple(base),
            shares=errors.shares,
        ).with_directions(errors, settings)
        for own, mine, errors in zip(whole, parts, many, strict=True)
    ]


def line_of(name: str, scores: Scores) -> dict[str, Any]:
    """One recording's figures."""
    likely, sure = scores.limits()
    prompts = len(scores.candidate)
    limit = part_limit(scores.parts, prompts)
    singles = max((float(np.abs(t).max(initial=0.0)) for t in scores.part_t), default=0.0)
    random = np.random.default_rng(1)
    told = dict.fromkeys(SIZES, 0)
    for size in SIZES:
        for _ in range(SUBSETS):
            chosen = np.sort(random.permutation(prompts)[:size])
            part = replace(
                scores,
                candidate=scores.candidate[chosen],
                rounding=scores.rounding[chosen],
                parts=(),
            )
            told[size] += float(np.abs(part.t).max()) > part.limits()[1]
    return {
        "recording": name,
        "t": float(np.abs(scores.t).max()),
        "likely": likely,
        "sure": sure,
        "parts_t": singles,
        "parts_limit": limit,
        "first": [[str(cause), t] for cause, t in likeliest(scores, prompts)[:8]],
        "told": {str(size): count / SUBSETS for size, count in told.items()},
    }


def main() -> None:
    """Diagnose what there is, a few recordings at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--work", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each")
    parser.add_argument("--names", type=Path, help="only these recordings, a name a line")
    options = parser.parse_args()
    baseline = catalogue_baseline(options.model)
    names = sorted(p.stem for p in options.work.glob("*.json"))
    if options.names:
        names = [n for n in options.names.read_text("utf-8").split() if n in names]
    done = options.out.read_text("utf-8").splitlines() if options.out.exists() else []
    names = [n for n in names if n not in {json.loads(line)["recording"] for line in done}]
    target = open_target(DeviceSpec("hf-cpu", options.model, "float32"), progress=Silent())
    settings: _Directions = {}
    lengths = [len(p.run.token_ids) for p in baseline.reference.prompts]
    with opened(target.device, Silent()):
        assert isinstance(target.device, SensitiveDevice)
        oracle = target.device.sensitivity()
        for begin in range(0, len(names), TOGETHER):
            known, many = [], []
            for name in names[begin : begin + TOGETHER]:
                try:
                    made = load_recording(options.work / f"{name}.json")
                    found = errors_of(shortened(made, POSITIONS), baseline)
                except UsageError as error:
                    print(f"{name}: {error}", flush=True)
                    continue
                if [len(p) for p in found.prompts] != lengths:
                    print(f"{name}: not all rows could be judged", flush=True)
                    continue
                known.append(name)
                many.append(found)
            if not many:
                continue
            if not settings:
                rows = [oracle.sketches(p.token_ids, len(p)) for p in many[0].prompts]
                for cause in oracle.settings:
                    settings[cause] = direction_of(many[0], oracle, rows, cause, first_size(cause))
            for name, scores in zip(known, scores_together(many, oracle, settings), strict=True):
                line = line_of(name, scores)
                with options.out.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(line) + "\n")
                print(json.dumps(line)[:300], flush=True)


if __name__ == "__main__":
    main()
