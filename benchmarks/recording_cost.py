"""What do row statistics cost while generating?

Each pair runs one prompt twice through the same loop: keeping row statistics,
and keeping nothing. The order alternates, so a drift of the machine's speed
cancels out.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

from common import open_model, opened, print_pairs, requests

from harness.devices.base import Request
from harness.devices.hf.device import HfDevice


def seconds(device: HfDevice, request: Request) -> float:
    """Seconds of one request."""
    start = time.perf_counter()
    list(device.generate([request]))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=16)
    options = parser.parse_args()
    model = open_model(options.model)
    device = opened(model)
    todo = requests(model, options.tokens, 4)
    seconds(device, todo[0])
    ratios = []
    for index in range(options.pairs):
        keeping = todo[index % len(todo)]
        nothing = replace(keeping, keep="nothing")
        if index % 2:
            without, with_rows = seconds(device, nothing), seconds(device, keeping)
        else:
            with_rows, without = seconds(device, keeping), seconds(device, nothing)
        ratios.append(with_rows / without)
        print(f"pair {index + 1}: {with_rows:.3f} s keeping, {without:.3f} s without")
    print_pairs("keeping row statistics / keeping nothing", ratios, "at most 1.05")


if __name__ == "__main__":
    main()
