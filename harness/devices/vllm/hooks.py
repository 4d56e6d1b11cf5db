"""Traces of the model inside vLLM's worker.

Mixed into the worker (see ``worker``), which may be another process: a trace
leaves it through a file. Nothing here imports vLLM or torch.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.devices.hooks import Capture, hooked, sketches_of
from harness.devices.trace import NORM, head_statistics, write_trace
from harness.errors import DeviceError

#: Positions whose logits are computed at a time.
_CHUNK = 128


class TracedModel:
    """Methods for ``collective_rpc``: start recording, take the trace, stop."""

    def harness_trace_begin(self, shards: int) -> str | None:
        """Install the hooks; returns the problem with the model, or None."""
        self._harness_hooks = ExitStack()
        self._harness_seen = Capture()
        self._harness_norm: list[Any] = []
        try:
            self._harness_hooks.enter_context(
                hooked(self._harness_model(), self._harness_keep, shards=shards)
            )
        except DeviceError as error:
            return str(error)
        return None

    def harness_trace_take(self, file: str, positions: int, width: int) -> str | None:
        """Write the trace of one prompt; returns the problem, or None.

        Every worker takes part in the head. The first one of each stage writes what it saw, into
        a file with the number of the stage; the last stage has the head.

        Args:
            positions: how many tokens the prompt has.
            width: of the vocabulary without padding.
        """
        normed, self._harness_norm = self._harness_norm, []
        try:
            blocks = self._harness_seen.take(positions)
            rows = self._harness_logits(normed, positions, width)
        except DeviceError as error:
            return str(error)
        stage = self.harness_stage()
        if stage is not None:
            head = None if rows is None else head_statistics(rows)
            write_trace(*sketches_of(blocks), head, Path(f"{file}.{stage}"))
        return None

    def harness_stage(self) -> int | None:
        """The number of its stage for the first rank of each; the others return None."""
        raise NotImplementedError

    def harness_trace_end(self) -> None:
        """Take the hooks away."""
        self._harness_hooks.close()

    def _harness_model(self) -> Any:
        return self.model_runner.get_model()  # type: ignore[attr-defined]

    def _harness_keep(self, place: str, tensor: Any) -> None:
        self._harness_seen.keep(place, tensor)
        if place == NORM:
            self._harness_norm.append(tensor.detach().clone())

    def _harness_logits(
        self, normed: list[Any], positions: int, width: int
    ) -> NDArray[np.float32] | None:
        """The head's logits of every position: the engine itself asks for the last only."""
        left, parts = positions, []
        for piece in normed:
            hidden = piece[:left]
            left -= len(hidden)
            for i in range(0, len(hidden), _CHUNK):
                logits = self._harness_model().compute_logits(hidden[i : i + _CHUNK])
                if logits is not None:  # workers that hold no logits in the end
                    parts.append(logits[:, :width].detach().float().cpu().numpy())
        return np.concatenate(parts) if parts else None
