"""What the score test tells of the catalogue: the first stage of `harness diagnose`.

    python -m benchmarks.catalogue --no-judging          # makes the recordings, once
    python -m benchmarks.diagnosis --work build/catalogue --out build/diagnosis.jsonl

For each recording, on 32 prompts of the suite: the largest |t| of each family and what chance
stays below, whether it is told, the first causes, the rank of the true one, and in how many of 40
random subsets of 8, 16 and 32 prompts a setting, module, head or rounding is told, which takes a
cause whose size leaves out 0. Each takes one to three minutes on one core. A file that is there
already is gone on with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from harness.diagnosis.explain import DOUBTS, is_there, likeliest, sized, standing_out
from harness.diagnosis.scores import Scores, scores_again, scores_of
from harness.errors import UsageError
from harness.process.progress import Silent
from harness.recording.format import load_recording
from harness.recording.recorder import opened

PROMPTS = 32
SUBSETS, SIZES = 40, (8, 16, 32)
_Directions = dict[Cause, list[NDArray[np.float64]]]
#: What a fault's name begins with, and the kinds of cause that say the same.
TRUE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("fault-rope-base", ("rope_base",)),
    ("fault-longrope-factors", ("rope_base", "rope_scale")),
    ("fault-longrope-attention", ("softmax_scale",)),
    ("fault-softmax-scale", ("softmax_scale",)),
    ("fault-norm-epsilon", ("norm_epsilon",)),
    ("fault-median-head", ("head",)),
    ("fault-one-head", ("head",)),
    ("fault-layer-skipped", ("layer",)),
    ("fault-int8", ("int8",)),
    ("fault-fp8", ("fp8",)),
    ("fault-quantized-kv-cache-int8", ("kv_int8",)),
    ("fault-quantized-kv-cache-fp8", ("kv_fp8",)),
    ("fault-last-norm", ("norm", "logit_scale")),
    ("fault-one-lm-head-row", ("head_row",)),
    ("fault-one-weight", ("weight", "row", "column")),
)


def ranked(scores: Scores) -> list[tuple[Cause, float]]:
    """All causes, and of each place its largest part, by t over the family's limit."""
    whole = zip(scores.causes, scores.t, scores.beyond, strict=True)
    found = [(cause, float(t), float(beyond)) for cause, t, beyond in whole]
    limit = scores.limits["parts"]
    for part, t in zip(scores.parts, scores.part_t, strict=True):
        worst = int(np.argmax(np.abs(t)))
        found.append(
            (Cause(part.kind, part.place, worst), float(t[worst]), abs(float(t[worst])) / limit)
        )
    found.sort(key=lambda each: -each[2])
    return [(cause, t) for cause, t, _ in found]


def subset(scores: Scores, chosen: NDArray[np.intp]) -> Scores:
    """The scores of some prompts, without parts."""
    each = len(scores.contrasts) // scores.prompts
    apart = (chosen[:, None] * each + np.arange(each)).reshape(-1)
    return replace(
        scores,
        candidate=scores.candidate[chosen],
        rounding=scores.rounding[chosen],
        contrasts=scores.contrasts[apart],
        parts=(),
    )


@dataclass
class Measurements:
    """Directions of causes, which cost a pass for each prompt, and what they tell.

    Attributes:
        base: per prompt float64 (n, 64), the oracle's rows as they are.
        known: those that were measured.
    """

    errors: Errors
    oracle: Oracle
    base: Sequence[NDArray[np.float64]]
    known: _Directions

    def tell(self, scores: Scores, chosen: NDArray[np.intp]) -> bool:
        """Whether a cause is beyond its limit with a size that leaves out 0.

        Args:
            scores: of the chosen prompts.
        """
        some = self.errors.of_prompts(chosen.tolist())
        for _ in range(DOUBTS):
            if scores.farthest <= 1.0:
                return False
            doubted = []
            for cause, t in likeliest(scores):
                along = [self._direction(cause)[i] for i in chosen]
                item = sized(some, cause, t, along, some.residual)
                if item is None or not item.sure:
                    doubted.append(cause)
                elif is_there(item, scores):
                    return True
            scores = scores.doubting(doubted)
        return False

    def _direction(self, cause: Cause) -> list[NDArray[np.float64]]:
        if cause not in self.known:
            size = first_size(cause)
            self.known[cause] = direction_of(self.errors, self.oracle, self.base, cause, size)
        return self.known[cause]


def line_of(
    name: str, scores: Scores, told_of: Callable[[Scores, NDArray[np.intp]], bool]
) -> dict[str, Any]:
    """One recording's figures."""
    random = np.random.default_rng(1)
    told = dict.fromkeys(SIZES, 0)
    for size in SIZES:
        for _ in range(SUBSETS):
            chosen = np.sort(random.permutation(scores.prompts)[:size])
            told[size] += told_of(subset(scores, chosen), chosen)
    order = ranked(scores)
    kinds = next((k for begin, k in TRUE if name.startswith(begin)), ())
    rank = next((i + 1 for i, (c, _) in enumerate(order) if c.kind in kinds), None)
    return {
        "recording": name,
        "families": {f.name: [f.t, f.limit] for f in scores.families},
        "told_now": told_of(scores, np.arange(scores.prompts)),
        "shares": scores.shares,
        "inflated": scores.inflated,
        "rank": rank,
        "first": [[str(cause), t] for cause, t in order[:6]],
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
    prompts = len(baseline.reference.prompts)
    chosen = sorted(np.random.default_rng(0).permutation(prompts)[:PROMPTS].tolist())
    lengths = [len(p.run.token_ids) for p in baseline.reference.prompts]
    settings: _Directions = {}
    first: Scores | None = None
    with opened(target.device, Silent()):
        assert isinstance(target.device, SensitiveDevice)
        oracle = target.device.sensitivity()
        for name in names:
            try:
                made = load_recording(options.work / f"{name}.json")
                errors = errors_of(shortened(made, POSITIONS), baseline)
            except UsageError as error:
                print(f"{name}: {error}", flush=True)
                continue
            if [len(p) for p in errors.prompts] != lengths:
                print(f"{name}: not all rows could be judged", flush=True)
                continue
            errors = errors.of_prompts(chosen)
            if first is None:
                first = scores = scores_of(errors, oracle)
                for cause in oracle.settings:
                    settings[cause] = direction_of(
                        errors, oracle, scores.base, cause, first_size(cause)
                    )
            else:
                again = scores_again(errors, oracle, errors.residual, first)
                scores = replace(again, shares=errors.shares)
            scores = scores.with_directions(errors, settings, errors.residual)
            known: _Directions = {}
            for cause in standing_out(errors, oracle, scores, errors.residual, Silent()):
                known[cause] = direction_of(errors, oracle, scores.base, cause, first_size(cause))
            scores = scores.with_directions(errors, known, errors.residual)
            measured = Measurements(errors, oracle, scores.base, {**settings, **known})
            line = line_of(name, scores, measured.tell)
            with options.out.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            print(json.dumps(line)[:300], flush=True)


if __name__ == "__main__":
    main()
