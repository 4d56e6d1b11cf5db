"""What does capturing every full-vocabulary row cost under vLLM?

Each pair runs one prompt three times in one engine, in alternating order: as vLLM
generates by itself, with rows captured and their statistics computed, and with
capture's clock alone (to the last token; the statistics come after it). Once in
a while also with vLLM's own way to the same rows, ``logprobs=-1``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from common import open_model, print_pairs, requests

from harness.devices.base import Request
from harness.devices.vllm.device import VllmDevice


def by_itself(device: VllmDevice, request: Request, logprobs: int | None = None) -> float:
    """Seconds of vLLM's own loop, without a processor's order."""
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=0.0,
        max_tokens=request.max_new_tokens,
        ignore_eos=True,
        detokenize=False,
        logprobs=logprobs,
    )
    prompt: Any = {"prompt_token_ids": list(request.prompt_token_ids)}
    start = time.perf_counter()
    device._llm.generate([prompt], params, use_tqdm=False)
    return time.perf_counter() - start


def captured(device: VllmDevice, request: Request) -> tuple[float, float]:
    """Seconds to the last token, and with the row statistics."""
    start = time.perf_counter()
    [completion] = device.generate([request])
    return completion.timings.e2e_s, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--logprobs-pairs", type=int, default=2)
    options = parser.parse_args()
    model = open_model(options.model)
    args = {"max_logprobs": "-1", "logprobs_mode": "raw_logits"}
    device = VllmDevice("vllm-cpu", model, engine_args=args)
    device.open()
    todo = requests(model, options.tokens, 4)
    by_itself(device, todo[0])
    generating, whole, asking = [], [], []
    for index in range(options.pairs):
        request = todo[index % len(todo)]
        if index % 2:
            plain = by_itself(device, request)
            to_last, total = captured(device, request)
        else:
            to_last, total = captured(device, request)
            plain = by_itself(device, request)
        generating.append(to_last / plain)
        whole.append(total / plain)
        print(f"pair {index + 1}: {plain:.3f} s plain, {to_last:.3f} s captured, {total:.3f} s all")
        if index < options.logprobs_pairs:
            asking.append(by_itself(device, request, -1) / plain)
    print_pairs("captured / plain, to the last token", generating, "at most 1.05")
    print_pairs("with row statistics / plain", whole, "none")
    print_pairs("logprobs=-1 / plain", asking, "none")
    device.close()


if __name__ == "__main__":
    main()
