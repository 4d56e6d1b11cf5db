"""What the score test tells of the catalogue from a server's 20 log-probabilities.

    python -m benchmarks.catalogue --no-judging          # makes the recordings, once
    python -m benchmarks.diagnosis_served --work build/catalogue --out build/diagnosis_served.jsonl

Each recording is cut to what a server would have listed: the 20 largest log-probabilities of
each position. The figures are those of `benchmarks.diagnosis`. What each pass gave is kept in a
folder beside the output, so that several processes share the work, and a broken-off one is gone
on with. ``--recording NAME=FILE`` adds a real server's recording.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.catalogue.run import POSITIONS, catalogue_baseline, shortened
from benchmarks.diagnosis import PROMPTS, Measurements, line_of
from harness.alignment.prompts import followed
from harness.baseline.baseline import Baseline
from harness.devices.causes import Cause
from harness.devices.oracle import Answer, Gradients, Oracle, SensitiveDevice
from harness.devices.registry import open_target
from harness.devices.server.reply import told_rows
from harness.devices.spec import DeviceSpec
from harness.diagnosis.directions import direction_of, first_size
from harness.diagnosis.errors import Errors, floor_of
from harness.diagnosis.explain import standing_out
from harness.diagnosis.listed import listed_errors
from harness.diagnosis.scores import scores_again, scores_of
from harness.files import atomic
from harness.process.memory import keep_large_blocks_apart
from harness.process.progress import Silent
from harness.recording.format import Recording, Run, load_recording
from harness.recording.recorder import opened
from harness.statistics.listed import listed_count, missing_at
from harness.statistics.rows import RowStatistics

LISTED = 20
#: What is kept of the arms.
ARMS = "arms"
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
    logs = (rows.top_logits - rows.logsumexp[:, None]).tolist()
    pairs = zip(rows.top_ids.tolist(), logs, strict=True)
    return told_rows([dict(zip(*each, strict=True)) for each in pairs], listed)


class Together:
    """An oracle whose gradients are taken of many errors, and kept in a folder, so that several
    processes can share the work.

    Args:
        oracle: what is asked.
        folder: of it, one for each prompt, with a file for each recording.
    """

    def __init__(self, oracle: Oracle, folder: Path) -> None:
        self._oracle, self._folder = oracle, folder
        self._rows: dict[tuple[int, ...], NDArray[np.float64]] = {}
        self._found: dict[tuple[tuple[int, ...], bytes], Gradients] = {}
        self.moved: list[NDArray[np.float64]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._oracle, name)

    def take(
        self,
        prompt: str,
        ids: Sequence[int],
        wanted: Mapping[str, Sequence[NDArray[np.float64]]],
    ) -> None:
        """One prompt's passes that are not kept, unless another process is at them.

        Args:
            wanted: vectors by what they are of: ``ARMS``, or a recording.
        """
        folder = self._folder / prompt
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "claim").open("w") as claim:
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            missing = {n: v for n, v in wanted.items() if not (folder / f"{n}.npz").exists()}
            if not missing:
                return
            for name, vectors in missing.items():
                rows, found = self._oracle.gradients(ids, vectors)
                moved = self._moved(ids, len(rows)) if name == ARMS else np.zeros(0)
                _save(folder / f"{name}.npz", rows, moved, found)

    def _moved(self, ids: Sequence[int], rows: int) -> NDArray[np.float64]:
        """The rows with each setting changed, float64 (S, n, k)."""
        moved = []
        for cause in self._oracle.settings:
            with self._oracle.changed(cause, first_size(cause)):
                moved.append(self._oracle.sketches(ids, rows))
        return np.stack(moved)

    def load(
        self,
        prompt: str,
        ids: Sequence[int],
        wanted: Mapping[str, Sequence[NDArray[np.float64]]],
    ) -> bool:
        """Read what was kept of a prompt; whether all of it is there."""
        for name, vectors in wanted.items():
            file = self._folder / prompt / f"{name}.npz"
            if not file.exists():
                return False
            rows, moved, found = _load(file)
            if name == ARMS:
                self._rows[tuple(ids)] = rows
                self.moved.append(moved)
            for vector, each in zip(vectors, found, strict=True):
                self._found[tuple(ids), vector.tobytes()] = each
        return True

    def gradients(
        self, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], list[Gradients]]:
        """As the oracle's, from what was taken."""
        return self._rows[tuple(ids)], [self._found[tuple(ids), v.tobytes()] for v in vectors]


def _save(
    file: Path,
    rows: NDArray[np.float64],
    moved: NDArray[np.float64],
    found: Sequence[Gradients],
) -> None:
    causes, places = sorted(found[0].whole), list(found[0].parts)
    about = {
        "causes": [[c.kind, c.place, c.index, c.column] for c in causes],
        "parts": [[*key, len(found[0].parts[key])] for key in places],
    }
    data = io.BytesIO()
    np.savez(
        data,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        rows=rows,
        moved=moved,
        whole=np.array([[each.whole[c] for c in causes] for each in found]),
        parts=np.stack([np.concatenate([each.parts[p] for p in places]) for each in found]),
    )
    atomic.write_bytes(file, data.getvalue())


def _load(file: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], list[Answer]]:
    with np.load(file, allow_pickle=False) as kept:
        about = json.loads(bytes(kept["about"]))
        rows, moved, whole, parts = (kept[n] for n in ("rows", "moved", "whole", "parts"))
    causes = [Cause(*row) for row in about["causes"]]
    ends = np.cumsum([count for _, _, count in about["parts"]])[:-1]
    found = []
    for values, each in zip(whole, parts, strict=True):
        by_place = zip(about["parts"], np.split(each, ends), strict=True)
        found.append(
            Answer(
                dict(zip(causes, values.tolist(), strict=True)),
                {(kind, place): array for (kind, place, _), array in by_place},
            )
        )
    return rows, moved, found


def vectors_of(
    index: int, all_errors: Mapping[str, Errors]
) -> dict[str, list[NDArray[np.float64]]]:
    """What a prompt is asked for: of the arms, which are the same for all, and of each
    candidate."""
    first = next(iter(all_errors.values()))
    prompt = first.prompts[index]
    wanted = {ARMS: [prompt.rounding, *prompt.contrasts]}
    wanted |= {n: [e.prompts[index].candidate - prompt.rounding] for n, e in all_errors.items()}
    return {n: [first.metric.weighed(index, e) for e in each] for n, each in wanted.items()}


def read(options: argparse.Namespace) -> tuple[dict[str, Errors], dict[str, dict[str, Any]]]:
    """The errors of each recording whose rows could all be judged, on the same prompts; and how
    many of the ids that are looked at it does not list."""
    baseline = catalogue_baseline(options.model)
    floor = floor_of(baseline)
    files = {name: options.work / f"{name}.json" for name in NAMES}
    files |= {name: Path(file) for name, _, file in (r.partition("=") for r in options.recording)}
    prompts = len(baseline.reference.prompts)
    random = np.random.default_rng(0).permutation(prompts)
    chosen = random[: options.prompts].tolist()
    found: dict[str, Errors] = {}
    about: dict[str, dict[str, Any]] = {}
    for name, file in files.items():
        made = shortened(load_recording(file), POSITIONS)
        served = as_served(made) if made.whole else made
        errors = listed_errors(served, baseline, floor)
        if len(errors) != prompts or errors.listed != LISTED:
            print(f"{name}: not all rows could be judged", flush=True)
            continue
        first = next(iter(found.values()), None)
        errors = errors.of_prompts(chosen)
        if first is not None and not _same_arms(first, errors):
            print(f"{name}: other ids are looked at", flush=True)
            continue
        found[name] = errors
        about[name] = {"missing": unlisted(served, errors, baseline), "rows": errors.rows}
        if first is None:
            short = {k: listed_errors(as_served(made, k), baseline, floor) for k in (10, 5)}
            about[name]["looked_at_of"] = {str(k): each.looked_at for k, each in short.items()}
    return found, about


def unlisted(recording: Recording, errors: Errors, baseline: Baseline) -> int:
    """How many of the ids that are looked at a recording does not list."""
    missing = 0
    for prompt in errors.prompts:
        mine, theirs = recording.prompt(prompt.id), baseline.reference.prompt(prompt.id)
        assert mine is not None
        assert theirs is not None
        assert errors.chosen is not None
        rows = followed(mine, theirs.run.token_ids)[0]
        missing += int(missing_at(rows, errors.chosen[prompt.token_ids], listed_count(rows)).sum())
    return missing


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
    parser.add_argument("--no-weights", action="store_true", help="look for no single weight")
    options = parser.parse_args()
    keep_large_blocks_apart()
    found, about = read(options)
    target = open_target(DeviceSpec("hf-cpu", options.model, "float32"), progress=Silent())
    with opened(target.device, Silent()):
        assert isinstance(target.device, SensitiveDevice)
        first = next(iter(found.values()))
        oracle = Together(target.device.sensitivity(first.chosen), options.out.with_suffix(""))
        wanted = [vectors_of(i, found) for i in range(len(first))]
        started = time.monotonic()
        for index, prompt in enumerate(first.prompts):
            oracle.take(prompt.id, prompt.token_ids, wanted[index])
            print(f"{index + 1} prompts, {time.monotonic() - started:.0f} s", flush=True)
        whole = [oracle.load(p.id, p.token_ids, wanted[i]) for i, p in enumerate(first.prompts)]
        if not all(whole):
            print("another process is at what is missing; run it again", flush=True)
            return
        for figures in lines(oracle, found, weights=not options.no_weights):
            line = figures | about[figures["recording"]]
            with options.out.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            print(json.dumps(line)[:300], flush=True)


def lines(oracle: Any, found: Mapping[str, Errors], *, weights: bool) -> Any:
    """Each recording's figures."""
    any_errors = next(iter(found.values()))
    first = scores_of(any_errors, oracle)
    settings: dict[Cause, list[NDArray[np.float64]]] = {
        cause: [
            (moved[i] - rows) / first_size(cause)
            for moved, rows in zip(oracle.moved, first.base, strict=True)
        ]
        for i, cause in enumerate(oracle.settings)
    }
    for name, errors in found.items():
        residual = errors.residual
        again = replace(scores_again(errors, oracle, residual, first), shares=errors.shares)
        scores = again.with_directions(errors, settings, residual)
        known: dict[Cause, list[NDArray[np.float64]]] = {}
        out = standing_out(errors, oracle, scores, residual, Silent()) if weights else []
        for cause in out:
            size = first_size(cause)
            known[cause] = direction_of(errors, oracle, scores.base, cause, size)
        scores = scores.with_directions(errors, known, residual)
        measured = Measurements(errors, oracle, scores.base, {**settings, **known})
        line = line_of(name, scores, measured.tell)
        told = {size: share for size, share in line["told"].items() if int(size) <= len(errors)}
        yield line | {
            "told": told,
            "log_probabilities": LISTED,
            "looked_at": errors.looked_at,
            "prompts": len(errors),
        }


if __name__ == "__main__":
    main()
