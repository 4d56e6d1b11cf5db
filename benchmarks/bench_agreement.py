"""Do the bench's figures agree with an independent measurement?

On Transformers, a plain greedy loop with a clock; on vLLM, `vllm bench latency`
in a process of its own. Both sides run in turn, and the median of the pairs'
ratios is the result.

    python benchmarks/bench_agreement.py                      # hf-cpu
    python benchmarks/bench_agreement.py --device vllm-cpu    # in the vLLM environment

Promise: within 5 %. Beside it the cost of the clock readings of one token.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from harness.bench.figures import figures
from harness.bench.measure import Text, measure_cell, requests_of, run_once
from harness.bench.result import Cell, CellTimes
from harness.devices.base import Device
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.process.progress import Silent
from harness.recording.recorder import opened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="hf-cpu", choices=["hf-cpu", "vllm-cpu"])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    cell = Cell(
        prompt_tokens=options.prompt_tokens, output_tokens=options.output_tokens, batch_size=1
    )
    target = open_target(DeviceSpec(options.device, options.model), progress=Silent())
    if options.device == "hf-cpu":
        with opened(target.device, Silent()):
            _plain_loop(target.device, cell, options.pairs)
    else:
        _vllm_latency(target.device, cell, options.pairs)
    _cost_of_clock()


def _plain_loop(device: Device, cell: Cell, pairs: int) -> None:
    """The same tokens by a loop that knows nothing of the harness."""
    import torch

    model = device._model  # type: ignore[attr-defined]
    text = Text(tuple(range(1000, 1000 + 4 * cell.prompt_tokens)))
    requests = requests_of(cell, text)
    ids = list(requests[0].prompt_token_ids)

    def plain() -> tuple[float, float, list[int]]:
        with torch.inference_mode():
            start = time.monotonic()
            out = model(torch.tensor([ids]), use_cache=True, logits_to_keep=1)
            tokens = [int(out.logits[0, -1].float().argmax())]
            first = time.monotonic()
            for _ in range(cell.output_tokens - 1):
                out = model(
                    torch.tensor([[tokens[-1]]]), past_key_values=out.past_key_values,
                    use_cache=True, logits_to_keep=1,
                )  # fmt: skip
                tokens.append(int(out.logits[0, -1].float().argmax()))
            last = time.monotonic()
        return first - start, (last - first) / (cell.output_tokens - 1), tokens

    run_once(device, requests)
    plain()
    ratios: dict[str, list[float]] = {"ttft_s": [], "decode_tpot_s": []}
    for pair in range(pairs):
        sides = [lambda: run_once(device, requests), plain]
        results = [side() for side in (sides if pair % 2 else sides[::-1])]
        ours, theirs = results if pair % 2 else results[::-1]
        found = figures(CellTimes(cell=cell, repeats=(ours,)))
        ratios["ttft_s"].append(found["ttft_s"].median / theirs[0])
        ratios["decode_tpot_s"].append(found["decode_tpot_s"].median / theirs[1])
    for name, values in ratios.items():
        print(f"{name}: bench / plain loop {median(values):.3f}, {min(values):.3f} to "
              f"{max(values):.3f}, {pairs} pairs")  # fmt: skip


#: What the device sets for itself, and as many threads on both sides: in a process
#: of its own the engine would leave a core to its front end.
_CORES = sorted(os.sched_getaffinity(0))
_VARIABLES = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, _CORES)),
}


def _vllm_latency(device: Device, cell: Cell, pairs: int) -> None:
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    text = Text(tuple(range(1000, 1000 + 4 * cell.prompt_tokens)))
    model = str(device._source.path)  # type: ignore[attr-defined]
    ratios = []
    for pair in range(pairs):
        order = ["ours", "theirs"] if pair % 2 else ["theirs", "ours"]
        seconds: dict[str, float] = {}
        for side in order:
            if side == "ours":
                with opened(device, Silent()):
                    times = measure_cell(device, cell, text, 10)
                seconds[side] = median(r.wall_ns for r in times.repeats) / 1e9
            else:
                seconds[side] = _their_latency(model, cell)
        ratios.append(seconds["ours"] / seconds["theirs"])
        print(
            f"bench {seconds['ours']:.3f} s, vllm bench latency {seconds['theirs']:.3f} s",
            flush=True,
        )
    print(f"e2e_s: bench / vllm bench latency {median(ratios):.3f}, {min(ratios):.3f} to "
          f"{max(ratios):.3f}, {pairs} pairs")  # fmt: skip


def _their_latency(model: str, cell: Cell) -> float:
    """Median latency by vLLM's own benchmark, with the device's settings."""
    code = (
        "import argparse, sys\n"
        "from vllm.benchmarks.latency import add_cli_args, main\n"
        "parser = argparse.ArgumentParser()\n"
        "try:\n"
        "    from vllm.utils.argparse_utils import FlexibleArgumentParser as P; parser = P()\n"
        "except ImportError: pass\n"
        "add_cli_args(parser); main(parser.parse_args())"
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "latency.json"
        done = subprocess.run(
            [
                *(sys.executable, "-c", code, "--model", model, "--dtype", "bfloat16"),
                *("--input-len", str(cell.prompt_tokens), "--output-len", str(cell.output_tokens)),
                *("--batch-size", str(cell.batch_size), "--num-iters", "10"),
                *("--num-iters-warmup", "3", "--enforce-eager", "--no-enable-prefix-caching"),
                *("--seed", "0", "--max-num-seqs", "1", "--output-json", str(out)),
            ],
            check=False,
            # The engine in this process has bound its main thread to one core.
            preexec_fn=lambda: os.sched_setaffinity(0, _CORES),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        if done.returncode:
            sys.exit(f"vllm bench latency ended with {done.returncode}:\n{done.stderr[-3000:]}")
        found = json.loads(out.read_text("utf-8"))
    return float(median(found["latencies"]))


def _cost_of_clock() -> None:
    """One token's share of the timing: a reading, a list entry, a callback."""
    stamps: list[float] = []

    def nothing() -> None:
        return

    started = time.perf_counter()
    for _ in range(100_000):
        stamps.append(time.perf_counter())
        nothing()
    cost = (time.perf_counter() - started) / 100_000
    print(f"timing costs {cost * 1e9:.0f} ns a token: {cost / 0.01:.4%} of a token of 10 ms")


if __name__ == "__main__":
    main()
