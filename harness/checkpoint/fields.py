"""config.json beside the weights of a Llama, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.checkpoint.findings import CheckpointIssue, Field
from harness.checkpoint.llama import Facts, head_choices
from harness.checkpoint.rope import rope_parameters
from harness.checkpoint.siblings import of_weights

_SHOWN_CHOICES = 5
#: Fields that no tensor depends on, with what Transformers takes where they are absent.
_UNTELLABLE = {
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
}


@dataclass(frozen=True)
class Heads:
    """How the rows of the attention divide, and who says so."""

    head_dim: int
    source: str


def settle_heads(facts: Facts, config: Mapping[str, Any], given: int | None = None) -> Heads | None:
    """The size of a head, which a plain Llama's weights alone do not tell.

    Asked in this order: the weights, the user, a config.json whose three
    fields fit the weights together, a known model of exactly these shapes,
    and a ``head_dim`` in config.json that fits.
    """
    sizes = [size for size, _, _ in head_choices(facts)]
    known = of_weights(facts)
    stated = _count(config.get("head_dim"))
    asked = [
        (facts.head_dim, "rotary_emb.inv_freq"),
        (given, "--head-dim"),
        (_consistent(facts, config), "config.json, whose fields fit together"),
        (known and known.head_dim, f"the shapes, which are {known.name}'s" if known else ""),
        (stated, "head_dim of config.json"),
    ]
    return next((Heads(size, source) for size, source in asked if size in sizes), None)


def _consistent(facts: Facts, config: Mapping[str, Any]) -> int | None:
    heads = _count(config.get("num_attention_heads"))
    size = _count(config.get("head_dim")) or _implied_head_dim(config)
    kv = _count(config.get("num_key_value_heads")) or heads
    fits = heads * size == facts.query_rows and kv * size == facts.key_rows
    return size if fits else None


def compare_fields(facts: Facts, config: Mapping[str, Any], heads: Heads | None) -> list[Field]:
    """Every field that the weights, or nothing but config.json, can tell."""
    sizes = {
        "hidden_size": facts.hidden,
        "num_hidden_layers": facts.layers,
        "intermediate_size": facts.intermediate,
        "vocab_size": facts.vocabulary,
    }
    fields = [_held(name, config.get(name), value) for name, value in sizes.items()]
    fields[2:2] = _head_fields(facts, config, heads)
    for name, value in (("attention_bias", facts.attention_bias), ("mlp_bias", facts.mlp_bias)):
        if name in config or value:
            fields.append(_held(name, bool(config.get(name)), value))
    for name, default in _UNTELLABLE.items():
        stated = config.get(name)
        if name == "rope_theta" and stated is None:
            stated = rope_parameters(config).get(name)
        note = "" if stated is not None else f"absent: Transformers takes {default}"
        fields.append(Field(name, stated, None, "unknown", note))
    return fields


def _held(name: str, stated: Any, true: Any, note: str = "") -> Field:
    if stated is None:
        return Field(name, None, true, "missing", note)
    same = stated == true and type(stated) is type(true)
    return Field(name, stated, true, "equal" if same else "wrong", note)


def _head_fields(facts: Facts, config: Mapping[str, Any], heads: Heads | None) -> Iterator[Field]:
    names = ("num_attention_heads", "num_key_value_heads", "head_dim")
    if heads is None:
        products = (f"× head_dim = {facts.query_rows}", f"× head_dim = {facts.key_rows}", "")
        for name, product in zip(names, products, strict=True):
            yield Field(name, config.get(name), None, "unknown", product)
        return
    size = heads.head_dim
    true = (facts.query_rows // size, facts.key_rows // size, size)
    note = f"from {heads.source}"
    yield _held(names[0], config.get(names[0]), true[0], note)
    # Without the field there are as many as attention heads.
    silent_kv = config.get(names[1]) is None and config.get(names[0]) == true[1]
    yield _held(names[1], true[1] if silent_kv else config.get(names[1]), true[1], note)
    stated, implied = config.get(names[2]), _implied_head_dim(config)
    if stated is None and implied == size:
        yield Field(names[2], None, size, "equal", "implied by hidden_size and heads")
    elif stated is None:
        yield Field(names[2], None, size, "wrong", f"not stated, and {implied} is implied; {note}")
    else:
        yield _held(names[2], stated, size, note)


def _implied_head_dim(config: Mapping[str, Any]) -> int:
    """What Transformers takes where head_dim is absent; 0 where that is nothing."""
    hidden, heads = _count(config.get("hidden_size")), _count(config.get("num_attention_heads"))
    return hidden // heads if heads else 0


def undetermined_heads(facts: Facts, config: Mapping[str, Any]) -> CheckpointIssue:
    """That the heads do not fit the weights, and what would."""
    choices = head_choices(facts)
    shown = ", ".join(f"{s} ({h} heads, {kv} KV)" for s, h, kv in choices[:_SHOWN_CHOICES])
    stated = ", ".join(
        f"{name} {config.get(name)}"
        for name in ("num_attention_heads", "num_key_value_heads", "head_dim")
    )
    return CheckpointIssue(
        "error",
        f"{stated} do not fit {facts.query_rows} query and {facts.key_rows} key rows, which hold "
        f"only products; head_dim may be {shown or 'nothing usual'}",
        "take head_dim from the model's own release and give it as --head-dim",
        "heads",
    )


def _count(value: Any) -> int:
    """A positive whole number; 0 for anything else."""
    return value if type(value) is int and value > 0 else 0
