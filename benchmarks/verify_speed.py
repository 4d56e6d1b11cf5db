"""How much faster is verifying tokens than generating them again?

Model load is left out on both sides. Each pair generates one prompt's tokens
and then judges them by forced-prefill, in the model's dtype and with the
float32 oracle; statistics are kept on both sides.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

from common import open_model, opened, print_pairs, requests

from harness.devices.base import Completion, Request
from harness.devices.hf.device import HfDevice


def timed(device: HfDevice, request: Request) -> tuple[float, Completion]:
    """Seconds of one request, and what it gave."""
    start = time.perf_counter()
    (done,) = device.generate([request])
    return time.perf_counter() - start, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2, help="passes over the four prompts")
    options = parser.parse_args()
    model = open_model(options.model)
    device, oracle = opened(model), opened(model, "float32")
    todo = requests(model, options.tokens, 4)
    warm = replace(todo[0], max_new_tokens=4)
    _, done = timed(device, warm)
    for each in (device, oracle):
        timed(each, _forced(warm, done))
    one_pass, with_oracle = [], []
    for _ in range(options.repeats):
        for request in todo:
            generate_s, done = timed(device, request)
            pass_s, _ = timed(device, _forced(request, done))
            oracle_s, _ = timed(oracle, _forced(request, done))
            one_pass.append(generate_s / pass_s)
            with_oracle.append(generate_s / (pass_s + oracle_s))
            print(
                f"{request.prompt_id}: generate {generate_s:.3f} s, pass {pass_s:.3f} s, "
                f"oracle {oracle_s:.3f} s"
            )
    print_pairs("generate / one pass in the model's dtype", one_pass, "at least 10")
    print_pairs("generate / (pass + oracle)", with_oracle, "at least 5")


def _forced(request: Request, done: Completion) -> Request:
    return replace(request, replay="forced-prefill", forced_token_ids=done.token_ids)


if __name__ == "__main__":
    main()
