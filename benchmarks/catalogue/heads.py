"""How much each attention head's loss does to the logits.

All heads of a layer are zeroed side by side in one batch, so 270 heads take 30
passes. ``python -m benchmarks.catalogue.heads`` writes results/heads.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.catalogue.faults import hooked, layers
from benchmarks.catalogue.passes import given
from harness.devices.base import Request

RESULT = Path(__file__).parent.parent / "results" / "heads.json"


def head_effects(torch: Any, model: Any, requests: Sequence[Request]) -> NDArray[np.float64]:
    """Root-mean-square change of the centred logits, float64 (layers, heads),
    when a head's output is zeroed, over the forced positions."""
    count = model.config.num_attention_heads
    squares = np.zeros((len(layers(model)), count))
    with torch.inference_mode():
        for request in requests:
            ids = torch.tensor([given(request)])
            keep = len(request.forced_token_ids or ())
            for index, layer in enumerate(layers(model)):

                def drop(_: Any, inputs: Any) -> Any:
                    x = inputs[0].clone()
                    parts = x.view(*x.shape[:-1], count, -1)
                    for head in range(count):  # the last of the batch stays whole
                        parts[head, :, head] = 0
                    return (x,)

                with hooked([layer.self_attn.o_proj.register_forward_pre_hook(drop)]):
                    batch = ids.expand(count + 1, -1)
                    logits = model(batch, use_cache=False, logits_to_keep=keep).logits.float()
                moved = logits[:-1] - logits[-1:]
                moved -= moved.mean(dim=-1, keepdim=True)
                squares[index] += moved.square().mean(dim=(1, 2)).numpy() / len(requests)
    return np.asarray(np.sqrt(squares))


def chosen_heads(file: Path = RESULT) -> dict[str, tuple[int, int]]:
    """(layer, head) at some quantiles of all heads' effects."""
    effects = np.array(json.loads(file.read_text(encoding="utf-8"))["effects"])
    order = np.argsort(effects, axis=None)
    names = {"strongest": 1.0, "median": 0.5, "first quartile": 0.25, "10th percentile": 0.1}
    names["weakest"] = 0.0
    found = {}
    for name, quantile in names.items():
        layer, head = np.unravel_index(order[round(quantile * (order.size - 1))], effects.shape)
        found[name] = (int(layer), int(head))
    return found


def main() -> None:
    import torch

    from benchmarks.catalogue.run import BASELINE, forced_requests, shortened
    from benchmarks.catalogue.workbench import Workbench
    from harness.baselines import load_baseline

    bench = Workbench("float32")
    bench.open()
    requests = forced_requests(shortened(load_baseline(BASELINE).reference, 16))[::12]
    effects = head_effects(torch, bench._model, requests)
    RESULT.parent.mkdir(exist_ok=True)
    found = {"prompts": [r.prompt_id for r in requests], "effects": effects.round(5).tolist()}
    RESULT.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
