"""How long `harness compare` takes for a large suite, how much memory, how large the report is.

    python benchmarks/report_scale.py [--prompts 1000] [--positions 64] [--keep FOLDER]

The recordings are synthetic: random rows of a vocabulary of 4,096, an oracle,
and arms that are rounded to bfloat16 with noise of their own. What is measured
is one process: reading five recordings, judging, writing JSON, HTML and Markdown.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

VOCABULARY = 4_096
NOISE = 0.05


def make(folder: Path, prompts: int, positions: int) -> None:
    """Write candidate.json and a baseline folder; ``factories`` is the unit tests'."""
    from factories import bfloat16, facts, prompt, recording, run

    from harness.devices.base import Replay
    from harness.recording.format import save_recording

    random = np.random.default_rng(1)
    pieces = {str(n): f" w{n}" for n in range(VOCABULARY)}
    names = ("candidate", "reference", "control-1", "control-2", "oracle")
    found: dict[str, list] = {name: [] for name in names}
    for n in range(prompts):
        truth = 3 * random.standard_normal((positions, VOCABULARY))
        rows = {
            name: bfloat16(truth + NOISE * random.standard_normal(truth.shape))
            for name in names[:-1]
        }
        rows["oracle"] = truth.astype(np.float32)
        tokens = [int(t) for t in rows["reference"].argmax(axis=1)]
        for name in names:
            free = run(rows[name]) if name in ("candidate", "reference") else None
            replay: Replay = "forced-prefill" if name == "oracle" else "forced-decode"
            forced = None if name == "reference" else run(rows[name], tokens, replay)
            found[name].append(prompt(f"prompt-{n:04}", free, forced, ids=(1, 2 + n)))
    model = facts(vocab_size=VOCABULARY)
    for name in names:
        made = recording(
            found[name],
            model=model,
            pieces=pieces,
            dtype="float32" if name == "oracle" else "bfloat16",
        )
        place = folder if name == "candidate" else folder / "baseline"
        save_recording(made, place / f"{name}.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=1_000)
    parser.add_argument("--positions", type=int, default=64)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if not (folder / "candidate.json").exists():
            make(folder, options.prompts, options.positions)
        command = [sys.executable, "-m", "harness", "compare", str(folder / "candidate.json")]
        command += [str(folder / "baseline"), "--json", str(folder / "a.json")]
        command += ["--report", str(folder / "a.html"), "--report", str(folder / "a.md")]
        start = time.monotonic()
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        took = time.monotonic() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(done.stdout.splitlines()[0])
        print(f"{options.prompts} prompts x {options.positions} positions, exit {done.returncode}")
        print(f"{took:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of CPU time)")
        print(f"{used.ru_maxrss / 2**20:.2f} GiB of memory at most")
        for name in ("a.json", "a.html", "a.md"):
            print(f"{name}: {(folder / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
