"""Does the verdict tell correct variations from broken models?

Holds variations of the embedded model against its shipped ``mixed`` baseline
by forced-prefill, and prints what the harness says beside what a comparison of
tokens would have said. Correct ones take kernel paths that are no arm of the
baseline; faults are put into the loaded weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.alignment.align import compare
from harness.baselines import load_baseline
from harness.devices.base import Opened
from harness.devices.hf import HfDevice
from harness.devices.registry import open_target
from harness.models import find_model
from harness.recorder import Context, Options, record
from harness.suites import load_suite

BASELINE = Path(__file__).parent.parent / "baselines" / "smollm2" / "mixed" / "bfloat16"

Fault = Callable[[Any, Any], None]


class FaultyDevice(HfDevice):
    """hf-cpu with a fault put into its weights after loading."""

    def __init__(self, fault: Fault | None, **options: Any) -> None:
        super().__init__("hf-cpu", find_model("smollm2"), **options)
        self.fault = fault

    def open(self) -> Opened:
        opened = super().open()
        if self.fault is not None:
            with self._torch.no_grad():
                self.fault(self._torch, self._model)
        return opened


def linears(model: Any) -> Any:
    """Weights of all projections, not of embedding and head."""
    return [p for n, p in model.named_parameters() if n.endswith("_proj.weight")]


def zero_one_head(_: Any, model: Any) -> None:
    model.model.layers[15].self_attn.o_proj.weight[:, 4 * 64 : 5 * 64] = 0


def fp8_weights(torch: Any, model: Any) -> None:
    for weight in linears(model):
        scale = weight.abs().amax(dim=1, keepdim=True).float() / 448.0
        weight.copy_((weight.float() / scale).to(torch.float8_e4m3fn).float() * scale)


def int8_weights(_: Any, model: Any) -> None:
    for weight in linears(model):
        scale = weight.abs().amax(dim=1, keepdim=True).float() / 127.0
        weight.copy_((weight.float() / scale).round() * scale)


def swap_kv_heads(_: Any, model: Any) -> None:
    for layer in model.model.layers:
        for projection in (layer.self_attn.k_proj, layer.self_attn.v_proj):
            weight = projection.weight
            weight[:128] = weight[:128].view(2, 64, -1).flip(0).reshape(128, -1).clone()


def last_norm_one_percent(_: Any, model: Any) -> None:
    model.model.norm.weight.mul_(1.01)


CASES: list[tuple[str, bool, Fault | None, dict[str, str]]] = [
    ("eager attention, prefill", True, None, {"attention": "eager"}),
    ("native bfloat16 GEMM, prefill", True, None, {"matmul": "native"}),
    ("one attention head of 270 zeroed", False, zero_one_head, {}),
    ("weights rounded to int8, per row", False, int8_weights, {}),
    ("weights rounded to fp8, per row", False, fp8_weights, {}),
    ("two KV heads of three swapped", False, swap_kv_heads, {}),
    ("last norm 1 % off", False, last_norm_one_percent, {}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    baseline = load_baseline(BASELINE)
    subject = open_target("hf-cpu", "smollm2").subject
    options = Options(replay="forced-prefill", context=Context.of(baseline.reference))
    print("| variation | correct | error ratio | top-k | tokens changed | verdict |")
    print("|---|---|---|---|---|---|")
    for name, correct, fault, arguments in CASES:
        made = record(FaultyDevice(fault, **arguments), subject, load_suite("mixed"), options)
        found = compare(made, baseline)
        flips = sum(
            a != b
            for p in found.prompts
            for a, b in zip(p.positions.reference_token, p.positions.candidate_token, strict=True)
        )
        ratio, top = found.error_ratio, found.top_k_error_ratio
        print(
            f"| {name} | {'yes' if correct else 'no'} | "
            f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) | "
            f"{top.value:.2f} | {flips} of {found.positions} | `{found.verdict}` |",
            flush=True,
        )


if __name__ == "__main__":
    main()
