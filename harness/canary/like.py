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
    heads, hidden = (
        _number(name, config, "num_attention_heads"),
        _number(name, config, "hidden_size"),
    )
    found: dict[str, Any] = {
        "vocab_size": _number(name, config, "vocab_size"),
        "layers": _number(name, config, "num_hidden_layers"),
        "heads": heads,
        "kv_heads": _number(name, config, "num_key_value_heads", heads),
        "head_dim": _number(name, config, "head_dim", hidden // heads),
        "hidden": hidden,
        "intermediate": _number(name, config, "intermediate_size"),
        "rope_theta": _base(content),
    }
    longest = config.get("max_position_embeddings")
    known = longest if isinstance(longest, int) and longest > 0 else _CONTEXT
    found["context"] = min(_CONTEXT, known, MOST_CONTEXT)
    wanted = found | given
    return Sizes(**(wanted | {"layers": given.get("layers") or _layers(wanted)}))


def _layers(wanted: dict[str, Any]) -> int:
    room = Sizes(**(wanted | {"layers": 1})).most_layers
    return max(1, min(int(wanted["layers"]), room, _MOST_LAYERS))


def _number(name: str, config: dict[str, Any], key: str, default: int | None = None) -> int:
    """A size of config.json; null is as good as no entry."""
    value = config.get(key)
    if type(value) is int and value > 0:
        return value
    if value is None and default is not None:
        return default
    raise UsageError(
        f"--like {name}: {key} of its config.json must be a whole number above 0; give the sizes "
        "as options instead"
    )


def _base(content: dict[str, Any]) -> float:
    rope = normalized_config(content, has_head=True)["rope"]
    base = rope.get("rope_theta")
    return 10_000.0 if base is None else float(base)
