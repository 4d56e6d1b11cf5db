"""A canary with the shapes of another model, so that an engine takes the same kernels."""

from __future__ import annotations

from typing import Any

from harness.canary.sizes import MOST_CONTEXT, Sizes
from harness.errors import UsageError
from harness.model.config_form import normalized_config
from harness.model.find import find_model
from harness.model.model import read_json

#: Layers of one model are alike: more than these show no more.
_MOST_LAYERS = 4
#: Positions, unless they are asked for: a longer context takes longer.
_CONTEXT = 2048


def sizes_like(name: str, given: dict[str, Any]) -> Sizes:
    """The sizes of a model's config.json, with those that are given in their place.

    Layers are as many as the hidden size has room for, and no more than four.

    Raises:
        UsageError: if the config does not say what a canary needs, or no canary fits.
        ModelError: if there is no such model.
    """
    model = find_model(name, weights=False)
    content = read_json(model, "config.json") or {}
    nested = content.get("text_config")
    config = {**content, **nested} if isinstance(nested, dict) else content
    try:
        heads = int(config["num_attention_heads"])
        hidden = int(config["hidden_size"])
        found: dict[str, Any] = {
            "vocab_size": int(config["vocab_size"]),
            "layers": int(config["num_hidden_layers"]),
            "heads": heads,
            "kv_heads": int(config.get("num_key_value_heads") or heads),
            "head_dim": int(config.get("head_dim") or hidden // heads),
            "hidden": hidden,
            "intermediate": int(config["intermediate_size"]),
            "rope_theta": _base(content),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"--like {name}: its config.json does not say {error}; give the sizes instead"
        ) from error
    longest = config.get("max_position_embeddings")
    known = longest if isinstance(longest, int) and longest > 0 else _CONTEXT
    found["context"] = min(_CONTEXT, known, MOST_CONTEXT)
    wanted = found | given
    return Sizes(**(wanted | {"layers": given.get("layers") or _layers(wanted)}))


def _layers(wanted: dict[str, Any]) -> int:
    room = Sizes(**(wanted | {"layers": 1})).most_layers
    return max(1, min(int(wanted["layers"]), room, _MOST_LAYERS))


def _base(content: dict[str, Any]) -> float:
    rope = normalized_config(content, has_head=True)["rope"]
    base = rope.get("rope_theta")
    return 10_000.0 if base is None else float(base)
