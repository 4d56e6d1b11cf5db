"""A Transformers model seen from inside."""

from __future__ import annotations

from typing import Any

from harness.devices.hooks import Capture, hooked, sketches_of
from harness.devices.trace import Trace, head_statistics


class Tracing:
    """A pass over ``token_ids`` with hooks on every module of the decoder.

    Raises:
        DeviceError: if the model is not a decoder of a known kind.
    """

    def __init__(
        self,
        torch: Any,
        model: Any,
        backend: str,
        prompt_id: str,
        token_ids: tuple[int, ...],
        vocab_size: int,
    ) -> None:
        self.prompt_id = prompt_id
        self._model, self._token_ids, self._vocab_size = model, token_ids, vocab_size
        self._ids = torch.tensor([list(token_ids)], device=backend)
        self._capture = Capture()

    def run(self) -> Any:
        """The logits; a pass that was interrupted may be run again, and gives each module once."""
        before = self._capture.places()

        def keep(place: str, tensor: Any) -> None:
            if place not in before:
                self._capture.keep(place, tensor)

        with hooked(self._model, keep):
            return self._model(self._ids, use_cache=False).logits[0, :, : self._vocab_size]

    def trace(self, logits: Any) -> Trace:
        """What was seen, with the logits of the whole pass."""
        sketches, digests = sketches_of(self._capture.take(len(self._token_ids)))
        head = head_statistics(logits.float().cpu().numpy())
        return Trace(self.prompt_id, self._token_ids, sketches, digests, head)
