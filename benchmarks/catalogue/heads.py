"""How much each attention head's loss does to the logits.

All heads of a layer are zeroed side by side in one batch, from that layer on,
so that 270 heads take 30 half passes. The catalogue takes the heads that it
breaks from the model's file in results/, and measures them where the file is missing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.catalogue.faults import hooked, layers
from benchmarks.catalogue.passes import Stacked, States
from benchmarks.catalogue.workbench import Workbench
from harness.devices.base import Request

RESULTS = Path(__file__).parent.parent / "results"
#: Quantiles of all heads' effects that the catalogue breaks.
QUANTILES = {
    "strongest": 1.0,
    "median": 0.5,
    "first quartile": 0.25,
    "10th percentile": 0.1,
    "weakest": 0.0,
}


def head_effects(
    torch: Any, model: Any, states: States, requests: Sequence[Request]
) -> NDArray[np.float64]:
    """Root-mean-square change of the centred logits, float64 (layers, heads),
    when a head's output is zeroed, over the forced positions."""
    count = model.config.num_attention_heads
    squares = np.zeros((len(layers(model)), count))

    def drop(_: Any, inputs: Any) -> Any:
        x = inputs[0].clone()
        parts = x.view(*x.shape[:-1], count, -1)
        for head in range(count):  # the last of the batch stays whole
            parts[head, :, head] = 0
        return (x,)

    with torch.inference_mode():
        for index, layer in enumerate(layers(model)):
            with hooked([layer.self_attn.o_proj.register_forward_pre_hook(drop)]):
                alike = Stacked(1, index, states, copies=count + 1)
                for _, found in alike(torch, model, requests):
                    moved = (found[:-1] - found[-1:]).float()
                    moved -= moved.mean(dim=-1, keepdim=True)
                    squares[index] += moved.square().mean(dim=(1, 2)).numpy() / len(requests)
    return np.asarray(np.sqrt(squares))


def result_of(model: str) -> Path:
    """Where the effects of a model's heads stand."""
    return RESULTS / ("heads.json" if model == "smollm2" else f"heads-{model}.json")


def chosen_heads(file: Path) -> dict[str, tuple[int, int]]:
    """(layer, head) at QUANTILES of all heads' effects."""
    effects = np.array(json.loads(file.read_text(encoding="utf-8"))["effects"])
    order = np.argsort(effects, axis=None)
    found = {}
    for name, quantile in QUANTILES.items():
        layer, head = np.unravel_index(order[round(quantile * (order.size - 1))], effects.shape)
        found[name] = (int(layer), int(head))
    return found


def measure(model: str, requests: Sequence[Request], file: Path) -> None:
    """Measure all heads in float32 and write the file."""
    import torch

    torch.set_num_threads(1)  # threads that wait for each other starve on a busy machine
    bench = Workbench("float32", model)
    bench.open()
    states = bench.resume(0, requests, batch=1).states
    assert states is not None
    effects = head_effects(torch, bench.model, states, requests)
    bench.discard()
    file.parent.mkdir(parents=True, exist_ok=True)
    found = {"prompts": [r.prompt_id for r in requests], "effects": effects.round(5).tolist()}
    file.write_text(json.dumps(found) + "\n", encoding="utf-8")
