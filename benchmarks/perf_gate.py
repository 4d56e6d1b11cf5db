"""Does the gate of `harness bench --against` cry wolf, and does it see 5 %?

Compares a configuration with itself, and with itself slowed by 5 % of each
token's time, each comparison as `harness bench --against` makes it: two
processes, interleaved in blocks, until the gate decides.

    python benchmarks/perf_gate.py --same 20 --slower 10

Promise: no REGRESSED among the comparisons with itself; at least 9 of 10
slowdowns found.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

from harness.bench.against import Configuration, Paired, run_against
from harness.bench.result import Cell
from harness.devices.spec import DeviceSpec
from harness.process.progress import Silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="hf-cpu")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--same", type=int, default=20, help="comparisons with itself")
    parser.add_argument("--slower", type=int, default=10, help="comparisons with the slowdown")
    parser.add_argument("--slowdown", type=float, default=0.05, help="share of a token's time")
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--output-tokens", type=int, default=12)
    parser.add_argument("--budget", type=float, default=240.0, help="seconds a comparison")
    options = parser.parse_args()
    cell = Cell(
        prompt_tokens=options.prompt_tokens, output_tokens=options.output_tokens, batch_size=1
    )
    spec = DeviceSpec(options.device, options.model)
    plan = Paired((cell,), judge=False, budget_s=options.budget)
    for slowdown, count in ((0.0, options.same), (options.slowdown, options.slower)):
        outcomes: Counter[str] = Counter()
        for number in range(count):
            started = time.monotonic()
            first = Configuration(spec)
            second = Configuration(spec, slowdown=slowdown)
            found = run_against(first, second, plan, Silent()).cells[0]
            outcomes[found.outcome] += 1
            print(
                f"slowdown {slowdown:.0%} {number + 1:>2}: {found.outcome:<12} "
                f"{found.ratio:.4f} ({found.low:.4f} to {found.high:.4f}), "
                f"{len(found.blocks_ns)} blocks, {time.monotonic() - started:.0f} s",
                flush=True,
            )
        print(f"slowdown {slowdown:.0%}: {dict(outcomes)} of {count}", flush=True)


if __name__ == "__main__":
    main()
