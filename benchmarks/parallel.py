"""Does the verdict hold where several ranks compute a model, and how long does it take?

    python benchmarks/parallel.py --out benchmarks/results/parallel.jsonl [NAME...]

Each case is `pytest --device=vllm-cpu --suite=port` with some engine arguments, against the
committed baseline, in the interpreter that runs this. A line of JSON for each says the verdict,
the error ratio and the seconds of the whole run, of which `load_s` is the engine's start. The
cases with `ray` need Ray in that interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TENSOR, PIPELINE = "tensor_parallel_size", "pipeline_parallel_size"
RAY = {"distributed_executor_backend": "ray"}
#: The model and the engine arguments of each case.
CASES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "alone": ("smollm2", {}),
    "tensor-3": ("smollm2", {TENSOR: "3"}),
    "pipeline-2": ("smollm2", {PIPELINE: "2"}),
    "tensor-3-ray": ("smollm2", {TENSOR: "3", **RAY}),
    "pipeline-2-ray": ("smollm2", {PIPELINE: "2", **RAY}),
    "gemma-tensor-2": ("gemma3-270m", {TENSOR: "2"}),
}


def run(name: str) -> dict[str, Any]:
    """Run a case; its line."""
    model, arguments = CASES[name]
    given = [f"--engine-arg={key}={value}" for key, value in arguments.items()]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["--device=vllm-cpu", "--suite=port", f"--model={model}", *given]
        done = subprocess.run(
            [*command, f"--report-dir={folder}"],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        )
        line = {"case": name, "model": model, "status": done.returncode, "engine_args": arguments}
        line["seconds"] = round(time.monotonic() - started)
        line["load_1min"] = round(os.getloadavg()[0], 1)
        files = list(Path(folder).rglob("*.json"))
        found = [json.loads(file.read_text("utf-8")) for file in files]
    for each in found:
        if "verdict" in each:
            line |= {"verdict": each["verdict"], "error_ratio": each["error_ratio"]}
        elif "load" in each:
            line["load_s"] = round(each["load"]["load_s"])
            line["weights_bytes"] = each["load"]["weights_bytes"]
            told = {k: v for k, v in each["environment"].items() if k.startswith("ranks.")}
            line["environment"] = told
    if "verdict" not in line:
        line["said"] = [text for text in done.stdout.splitlines() if text.strip()][-3:]
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for name in options.cases or CASES:
        line = json.dumps(run(name))
        print(line, flush=True)
        with options.out.open("a", encoding="utf-8") as out:
            out.write(line + "\n")


if __name__ == "__main__":
    main()
