"""What a recording says of a checkpoint."""

from __future__ import annotations

from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from harness.files.strict_model import StrictModel


class ModelFacts(StrictModel):
    """What the checkpoint is. ``weights`` and ``tokenizer`` are SHA-256 of
    content, not of files; None is what a device cannot tell. ``config`` holds the
    fields that change numbers, ``config_defaults`` what the class takes for all
    others; without it, ``config`` is in the form of version 0.1."""

    name: str
    weights: str | None
    parameters: int | None
    weight_bytes: int | None
    config: dict[str, Any] | None
    tokenizer: str | None
    template: str | None
    vocab_size: int
    config_defaults: dict[str, Any] | None = None

    @model_serializer(mode="wrap")
    def _as_written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Files of version 0.1, which lack the defaults, are written as they were."""
        told: dict[str, Any] = write(self)
        if self.config_defaults is None:
            del told["config_defaults"]
        return told
