"""What does a diagnosis take whose model does not fit into memory?

    python benchmarks/make_bitcpm.py /tmp/seven --seven --tokenizer smollm2
    python benchmarks/streamed_diagnosis.py /tmp/seven --work /tmp/work

A copy of the checkpoint gets an MLP that adds a tenth too much in its middle layer; its other
files are linked. Ten prompts of six tokens, which the embedded model generates, are recorded with
every arm and with the faulty copy, all layer by layer. Then the cause is looked for. Prints a line
of JSON for each step: seconds, peak memory, and of the last one what was named.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

WORDS = [
    *("river", "stone", "winter", "engine", "copper"),
    *("garden", "signal", "planet", "market", "bridge"),
]
FACTOR = 1.1


def suite(folder: Path) -> None:
    """Ten prompts of six tokens each."""
    prompts = "".join(
        f"  - {{id: p{i}, text: 'The {word} by the old {WORDS[-i - 1]} was'}}\n"
        for i, word in enumerate(WORDS)
    )
    head = "generation: {max_new_tokens: 6, ignore_eos: true}\nprompts:\n"
    (folder / "s.yaml").write_text(head + prompts, "utf-8")


def break_copy(good: Path, wrong: Path) -> str:
    """The checkpoint with ``down_proj`` of its middle layer times FACTOR; returns its name."""
    import torch

    layers = json.loads((good / "config.json").read_text("utf-8"))["num_hidden_layers"]
    name = f"model.layers.{layers // 2}.mlp.down_proj.weight"
    wrong.mkdir(exist_ok=True)
    for file in good.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, wrong)
            continue
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            found = json.loads(stream.read(length)).get(name)
        if found is None:
            (wrong / file.name).unlink(missing_ok=True)
            os.symlink(file.resolve(), wrong / file.name)
            continue
        assert found["dtype"] == "BF16", found
        shutil.copy(file, wrong)
        begin, end = found["data_offsets"]
        bits = np.memmap(wrong / file.name, np.int16, "r+", 8 + length + begin, (end - begin) // 2)
        weight = torch.from_numpy(np.array(bits)).view(torch.bfloat16)
        bits[:] = (weight.float() * FACTOR).bfloat16().view(torch.int16).numpy()
        bits.flush()
    return name


def run(what: str, work: Path, *arguments: object) -> None:
    """One command of the harness, in its folder, and the line that tells what it took."""
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    with (work / f"{what}.log").open("w") as log:
        start = time.monotonic()
        child = subprocess.Popen(command, cwd=work, stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    line = {
        "step": what,
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_gb": round(used.ru_maxrss / 1e6, 2),
        "status": child.returncode,
    }
    told = work / f"{what}.alignment.json"
    if told.exists():
        found = json.loads(told.read_text("utf-8"))["diagnosis"]
        line |= {"said": found["sentence"], "t": [e["t"] for e in found["explanations"]]}
        stages = re.findall(r"^(.*): \d+ of \d+ in (.*)$", (work / f"{what}.log").read_text(), re.M)
        line["stages"] = [f"{stage}: {took}" for stage, took in stages]
    print(json.dumps(line, ensure_ascii=False), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a checkpoint in bfloat16, in safetensors")
    parser.add_argument("--work", type=Path, required=True, help="a folder, which is made")
    parser.add_argument("--oracle", default="stream", help="stream, memory or auto")
    options = parser.parse_args()
    good, work = options.model.resolve(), options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    suite(work)
    print(json.dumps({"step": "break", "weight": break_copy(good, work / "wrong")}), flush=True)
    device, replay = ("--device", "hf-cpu", "--suite", "s.yaml"), ("--replay", "forced-prefill")
    context = ("--context", "context.json")
    run("context", work, "record", *device, "--model", "smollm2", "--out", "context.json")
    streams = ("--oracle", "stream", "--reference", "stream")
    run("baseline", work, "baseline", "make", *device, "--model", good, *context, *streams)
    own = ("--engine-arg", "weights=stream", "--engine-arg", "matmul=split-2")
    wrong = ("--model", work / "wrong", *replay, *context, *own, "--out", "wrong.json")
    run("candidate", work, "record", *device, *wrong)
    baseline = work / "baselines" / good.name / "s" / "bfloat16"
    asked = ("--model", good, "--allow-weights", "--oracle", options.oracle)
    run(
        "diagnosis", work, "diagnose", "wrong.json", baseline, *asked, "--json",
        "diagnosis.alignment.json",
    )  # fmt: skip


if __name__ == "__main__":
    main()
