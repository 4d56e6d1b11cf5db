"""What does streaming an oracle's weights take, beside the limits of arithmetic and of the disk?

    python benchmarks/make_bitcpm.py /tmp/seven --seven --tokenizer smollm2
    python -m benchmarks.streamed --model /tmp/seven

The prompts and tokens are the recording's, in float32. Before each figure the system is asked to
drop the checkpoint's files from its cache. Arithmetic's limit is the time of all products with the
weights in memory; the disk's is one reading of the files.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from pathlib import Path
from statistics import median
from typing import Any

from harness.devices.base import Request
from harness.devices.hf.device import HfDevice
from harness.devices.hf.load import Taken
from harness.devices.hf.matmul import widened_linears
from harness.model.find import find_model
from harness.model.model import Model
from harness.model.weights import weight_files
from harness.recording.context import Context
from harness.recording.format import load_recording

CONTEXT = Path("baselines/smollm2/port/bfloat16/reference.json")
_BLOCK = 1 << 24


def forget(files: list[Path]) -> None:
    """Ask the system to drop files from its cache."""
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def reading_s(files: list[Path]) -> float:
    """Seconds of reading all files once."""
    started = time.perf_counter()
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.read(_BLOCK):
                pass
    return time.perf_counter() - started


def arithmetic_s(model: Model, asked: list[Request]) -> float:
    """Seconds of the products of all linear layers, with the weights in memory in float32.

    Those of one layer for each prompt, times the number of layers, and those of the head.
    """
    import torch

    device = HfDevice("hf-cpu", model, dtype="float32", taken=Taken(streamed=True))
    device.open()
    stages: Any = device._stages
    name, layer = stages._layers[0]
    stages._weights.load([*stages._weights.below(name), *stages._ends], lambda _: False)
    linears = [m for m in layer.modules() if type(m) is torch.nn.Linear]
    of_layers, of_head = 0.0, 0.0
    with torch.inference_mode(), widened_linears(torch, device._model):
        _median_s(stages._head, torch.randn(1, 64, stages._head.in_features))  # for warmth
        for request in asked:
            rows = len(request.forced_token_ids or ())
            tokens = len(request.prompt_token_ids) + rows - 1
            layer_s = sum(_median_s(m, torch.randn(1, tokens, m.in_features)) for m in linears)
            head_s = _median_s(stages._head, torch.randn(1, rows, stages._head.in_features))
            of_layers, of_head = of_layers + layer_s, of_head + head_s
    device.close()
    return of_layers * (stages.count - 1) + of_head


def _median_s(module: Any, x: Any) -> float:
    """The median of five."""
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        module(x)
        taken.append(time.perf_counter() - started)
    return median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--context", type=Path, default=CONTEXT, help="a recording")
    options = parser.parse_args()
    model = find_model(options.model)
    files, _ = weight_files(Path(model.path))
    tokens = Context.of(load_recording(options.context)).tokens
    asked = [
        Request(name, prompt, "forced-prefill", len(output), forced_token_ids=output)
        for name, (prompt, output) in tokens.items()
    ]
    rows = sum(len(r.prompt_token_ids) + len(r.forced_token_ids or ()) - 1 for r in asked)
    size = sum(file.stat().st_size for file in files) / 1e9
    print(f"{model.name}: {size:.1f} GB, {len(asked)} passes over {rows} tokens", flush=True)
    device = HfDevice("hf-cpu", model, dtype="float32", taken=Taken(streamed=True))
    device.open()  # imports torch and the model's class, which is not timed
    device.close()
    forget(files)
    started = time.perf_counter()
    device.open()
    list(device.generate(asked))
    streamed = time.perf_counter() - started
    device.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"streamed: {streamed:.1f} s, peak {peak:.2f} GB", flush=True)
    forget(files)
    disk = reading_s(files)
    print(f"the files read once: {disk:.1f} s, {size / disk:.2f} GB/s", flush=True)
    arithmetic = arithmetic_s(model, asked)
    print(f"all products, weights in memory: {arithmetic:.1f} s", flush=True)
    print(f"streamed / the larger of both: {streamed / max(disk, arithmetic):.2f}")


if __name__ == "__main__":
    main()
