"""A Transformers model seen from inside."""

from __future__ import annotations

from typing import Any

from harness.devices.hooks import Capture, hooked, sketches_of
from harness.devices.trace import Trace, head_statistics


def trace_model(
    torch: Any, model: Any, prompt_id: str, token_ids: tuple[int, ...], vocab_size: int
) -> Trace:
    """One pass over ``token_ids`` with hooks on every module of the decoder.

    Raises:
        DeviceError: if the model is not a decoder of a known kind.
    """
    capture = Capture()
    ids = torch.tensor([list(token_ids)], device=model.device)
    with hooked(model, capture.keep):
        logits = model(ids, use_cache=False).logits[0, :, :vocab_size]
    sketches, digests = sketches_of(capture.take(len(token_ids)))
    head = head_statistics(logits.float().cpu().numpy())
    return Trace(prompt_id, token_ids, sketches, digests, head)
