"""A position encoding that releases of Transformers read differently.

4.57 takes ``rope_theta``, ``partial_rotary_factor`` and ``rope_scaling`` (Gemma 3 also
``rope_local_base_freq``), and never looks into ``rope_parameters``. 5 takes
``rope_scaling`` where it is there, else ``rope_parameters``, and of each field the value
inside before the one outside (``modeling_rope_utils.py``, ``convert_rope_params_to_dict``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.checkpoint.class_defaults import OTHER_THETAS, THETAS
from harness.checkpoint.findings import CheckpointIssue

_THETA, _SHARE = "rope_theta", "partial_rotary_factor"
#: What both releases know of one encoding; anything else would be a field of one alone.
_SCALING = (
    *("rope_type", "factor", "attention_factor", "beta_fast", "beta_slow", "low_freq_factor"),
    *("high_freq_factor", "short_factor", "long_factor", "mscale", "mscale_all_dim", "truncate"),
    *("original_max_position_embeddings", "mrope_section"),
)
#: What classes of 4.57 take where the file says nothing.
_HALF = ("glm", "glm4", "glm4_moe", "glm4v_moe_text", "phi", "bamba", "fuyu", "nemotron")
_SHARES = {
    **dict.fromkeys((*_HALF, "persimmon", "recurrent_gemma"), 0.5),
    **dict.fromkeys(("gpt_neox", "stablelm", "qwen3_next"), 0.25),
}
_SCALED = {
    "gpt_oss": {
        **{"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0},
        **{"truncate": False, "original_max_position_embeddings": 4096},
    }
}
_KINDS = ("full_attention", "sliding_attention", "chunked_attention", "linear_attention")


def check_spelling(config: Mapping[str, Any]) -> Iterator[CheckpointIssue]:
    """A finding for each kind of layer whose encoding is not the same in both releases.

    Args:
        config: the fields of the language model.
    """
    if not isinstance(config.get("rope_parameters"), Mapping):
        return  # one spelling, which both read
    if _only_five(config):
        return
    four, five = _by_four(config), _by_five(config)
    for kind, newer in five.items():
        older = four.get(kind) or four.get("") or {}
        differ = [key for key in (_THETA, _SHARE, *_SCALING) if older.get(key) != newer.get(key)]
        if not differ:
            continue
        where = f" of {kind}" if kind else ""
        said = "; ".join(
            f"{key} {_shown(older.get(key))} in 4.57, {_shown(newer.get(key))} in 5"
            for key in differ[:3]
        )
        yield CheckpointIssue(
            "warning",
            f"the position encoding{where} is read differently by releases of Transformers: {said} "
            "(4.57 does not look into rope_parameters)",
            "write rope_theta at the top level and what scales it as rope_scaling too, as 4.57 "
            "reads them",
        )


def _by_four(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    name = str(config.get("model_type"))
    outside = {
        _THETA: config.get(_THETA, _default(config, 0)),
        _SHARE: config.get(_SHARE, _SHARES.get(name)),
    }
    scaling = config.get("rope_scaling", _SCALED.get(name))
    full = _plain({**outside, **_table(scaling)})
    found = {"": full, "full_attention": full}
    local = config.get("rope_local_base_freq")
    if _is_gemma3(config):
        found["sliding_attention"] = _plain({_THETA: 10000.0 if local is None else local})
    return found


def _by_five(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    inside = _table(config.get("rope_scaling")) or _table(config.get("rope_parameters"))
    outside = {_THETA: config.get(_THETA, _default(config, 1)), _SHARE: config.get(_SHARE)}
    kinds = {k: inside[k] for k in _KINDS if isinstance(inside.get(k), Mapping)}
    if not kinds:
        return {"": _plain({**outside, **_without_nulls(inside)})}
    if _is_gemma3(config):
        local = config.get("rope_local_base_freq")
        given = {"sliding_attention": 10000.0 if local is None else local}
    else:
        given = {}
    return {
        kind: _plain({**outside, _THETA: given.get(kind, outside[_THETA]), **_without_nulls(own)})
        for kind, own in kinds.items()
    }


def _only_five(config: Mapping[str, Any]) -> bool:
    """Whether 4.57 lacks the type, so that it computes nothing with this file."""
    kind = config.get("model_type")
    four, five = THETAS.get(kind, (None, None)) if isinstance(kind, str) else (None, None)
    return four is None and five is not None


def _default(config: Mapping[str, Any], release: int) -> Any:
    """rope_theta of a class that finds none: of 4.57 (0) or of 5 (1)."""
    kind = config.get("model_type")
    thetas = THETAS.get(kind) if isinstance(kind, str) else None
    if thetas is not None and thetas[release] is not None:
        return thetas[release]
    other = OTHER_THETAS.get(kind) if isinstance(kind, str) else None
    return 10000 if other is None else other


def _is_gemma3(config: Mapping[str, Any]) -> bool:
    return str(config.get("model_type")).startswith("gemma3")


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _without_nulls(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """In one spelling: the type under its newer name, the default one left out."""
    told = _without_nulls(table)
    kind = told.pop("rope_type", None) or told.get("type") or "default"
    told.pop("type", None)
    kind = {"su": "longrope", "mrope": "default"}.get(str(kind), kind)
    if kind != "default":
        told["rope_type"] = kind
    if told.get(_SHARE) == 1:
        del told[_SHARE]
    return told


def _shown(value: Any) -> str:
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:,.12g}" if abs(value) < 1e15 else "a huge number"
    return "absent" if value is None else str(value)[:40]
