"""Gemma 1, 2 and 3 in plain numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy_engine import NumpyEngine


class GemmaEngine(NumpyEngine):
    """Scaled embeddings, norms of ``1 + w``, a head that is the embedding; and of the later ones
    norms after attention and MLP, soft-caps, and layers with a window and a base of their own."""

    head = "model.embed_tokens.weight"

    def __init__(self, folder: Path, dtype: str = "float32", **more) -> None:
        super().__init__(folder, dtype, **more)
        self.post_normed = "layer_types" in self.config
        if self.post_normed:
            self.before_mlp = "pre_feedforward_layernorm"

    def x_embedding(self, ids: np.ndarray) -> np.ndarray:
        return self.r(super().x_embedding(ids) * self.r(self.x_root()))

    def x_root(self) -> np.ndarray:
        return np.asarray(np.sqrt(self.config["hidden_size"]), np.float32)

    def x_norm(self, name: str) -> np.ndarray:
        return super().x_norm(name) + 1

    def x_kind(self, layer: int) -> str:
        return self.config["layer_types"][layer] if self.post_normed else "full_attention"

    def x_window(self, layer: int) -> int | None:
        sliding = self.x_kind(layer) == "sliding_attention"
        return self.config["sliding_window"] if sliding else None

    def x_base(self, layer: int) -> float:
        ropes = self.config["rope_parameters"]
        return ropes.get(self.x_kind(layer), ropes)["rope_theta"]

    def x_frequencies(self, layer: int) -> np.ndarray:
        half = self.size // 2
        return self.x_base(layer) ** (-np.arange(half) / half)

    def x_factors(self, end: int) -> float:
        return 1.0

    def x_after(self, layer: int, part: str, x: np.ndarray) -> np.ndarray:
        name = "post_attention_layernorm" if part == "attention" else "post_feedforward_layernorm"
        return self._norm(x, f"model.layers.{layer}.{name}") if self.post_normed else x

    def x_mlp(self, layer: int, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        inner = np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)
        return 0.5 * gate * (1 + np.tanh(inner)) * up

    def x_scores(self, scores: np.ndarray) -> np.ndarray:
        cap = self.config.get("attn_logit_softcapping")
        return scores if cap is None else cap * np.tanh(scores / cap)

    def x_logits(self, logits: np.ndarray) -> np.ndarray:
        cap = self.config.get("final_logit_softcapping")
        if cap is None:
            return logits
        return self.r(self.r(np.tanh(self.r(logits / cap).astype(np.float64))) * cap)
