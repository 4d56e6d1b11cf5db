"""Mixtures of experts, small and larger, over seeds: where routers leave the oracle's choice.

    python tests/zoo/zoo_mixtures.py --vllm-python PYTHON --out FILE --work FOLDER [--only TEXT]

A recording that is there already is judged and not made again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zoo_make
from zoo_run import ROOT, SIZES, Place, Worker, baseline, by_itself, by_vllm

sys.path.insert(0, str(ROOT))

from harness.alignment.align import compare
from harness.alignment.allow import Allow
from harness.baseline.baseline import Baseline
from harness.baseline.floor import noise_floor
from harness.baseline.folder import load_baseline
from harness.recording.format import Recording, Run, load_recording

#: By name: the type, what it has beside the zoo's sizes, and the tokens of prompts and outputs.
SMALL = ({}, (4, 24), 6)
LARGER = (
    {"num_hidden_layers": 6, "num_experts": 32, "num_local_experts": 32, "num_experts_per_tok": 4},
    (30, 60),
    12,
)
MODELS: dict[str, tuple[str, Any]] = {
    **{k: (k, SMALL) for k in ("mixtral", "olmoe", "qwen2_moe", "qwen3_moe", "granitemoe")},
    **{f"{k}-6": (k, LARGER) for k in ("mixtral", "olmoe", "qwen3_moe")},
}
PROMPTS, SEEDS = 24, (0, 1)


def suite(lengths: tuple[int, int], tokens: int) -> str:
    """Prompts of random ids, the same for all."""
    draw = random.Random(20)
    lines = ["generation:", f"  max_new_tokens: {tokens}", "  ignore_eos: true", "prompts:"]
    for n in range(PROMPTS):
        ids = [draw.randrange(3, SIZES["vocab_size"]) for _ in range(draw.randrange(*lengths))]
        lines.append(f"  - {{id: p{n}, token_ids: {ids}}}")
    return "\n".join(lines) + "\n"


def made(name: str, seed: int, place: Place) -> None:
    """Checkpoint, broken copy, baseline and the two recordings."""
    kind, (sizes, lengths, tokens) = MODELS[name]
    place.folder.mkdir(parents=True, exist_ok=True)
    (place.folder / "zoo.yaml").write_text(suite(lengths, tokens), "utf-8")
    plain = zoo_make.KINDS[kind]
    zoo_make.KINDS[kind] = plain | {k: v for k, v in sizes.items() if k in config(kind)}
    zoo_make.make(kind, place.folder / "good", seed)
    zoo_make.KINDS[kind] = plain
    zoo_make.break_it(place.folder / "good", place.folder / "broken")
    (place.folder / "eager").write_text(json.dumps(baseline(place)["eager"]), "utf-8")
    by_vllm(place)
    by_itself(place, "broken")


def config(kind: str) -> dict[str, Any]:
    """The fields that a type knows, under its own and other names."""
    found = zoo_make.config_of(kind)
    return {**found.to_dict(), **dict.fromkeys(found.attribute_map)}


def judged(recording: Recording, held: Baseline, allow: Allow) -> dict[str, Any]:
    """The verdict, and what routes and their gate say."""
    found = compare(recording, held, allow=allow)
    gate = next((g for g in found.gates if g.name == "routes"), None)
    return {
        "verdict": found.verdict,
        "ratio": found.error_ratio.value,
        "failed": [g.name for g in found.gates if g.status == "FAIL"],
        "routes": None if gate is None else gate.status,
        "widest": None if gate is None else gate.value,
        "judged": None if found.routes is None else [found.routes.judged, found.routes.rows],
    }


def without_routes(recording: Recording) -> Recording:
    """As a device records that does not tell them."""

    def bare(run: Run | None) -> Run | None:
        return None if run is None else run.model_copy(update={"routes": None})

    prompts = tuple(
        p.model_copy(update={"free": bare(p.free), "forced": bare(p.forced)})
        for p in recording.prompts
    )
    return recording.model_copy(update={"prompts": prompts})


def row(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """One line of the results."""
    held = load_baseline(folder / "b" / "good" / "zoo" / "bfloat16")
    floor = noise_floor(held)
    noise = None if floor is None else floor.routes
    arms = [d for found in (noise.arms.values() if noise else ()) for d in found]
    found: dict[str, Any] = {"model": name, "seed": seed}
    if noise is not None:
        found |= {"noise": noise.noise, "explained": noise.widest, "left_out": noise.left_out}
        found["arms"] = [sum(d.tokens > 0 for d in arms), len(arms)]
        found["arms_widest"] = max((d.margin for d in arms if d.tokens), default=None)
    vllm = load_recording(folder / "vllm.json")
    found["vllm"] = judged(vllm, held, Allow())
    found["vllm_untold"] = judged(without_routes(vllm), held, Allow())["verdict"]
    found["broken"] = judged(load_recording(folder / "broken.json"), held, Allow(weights=True))
    return found


def rows(work: Path, only: str, vllm: str) -> Iterator[dict[str, Any]]:
    reference, engine = Worker(sys.executable), Worker(vllm)
    for seed in SEEDS:
        for name in MODELS:
            folder = work / f"{name}-{seed}"
            if only not in folder.name:
                continue
            if not (folder / "broken.json").exists():
                made(name, seed, Place(folder, reference, engine))
            if (folder / "vllm.json").exists():
                yield row(name, seed, folder)
    reference.close()
    engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vllm-python", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    work = options.work.resolve()
    lines = [json.dumps(found) for found in rows(work, options.only, options.vllm_python)]
    options.out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
