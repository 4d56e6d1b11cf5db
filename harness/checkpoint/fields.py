"""The fields of config.json beside what the tensors say, one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.checkpoint.class_defaults import DEFAULTS
from harness.checkpoint.family import Family, Fields
from harness.checkpoint.findings import CheckpointIssue, Field
from harness.checkpoint.layout import Layout
from harness.checkpoint.llama import Facts, facts_of, head_choices
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
#: Names under which Transformers 5 writes a field; both are read.
_ALIASES = {
    "num_experts": ("num_local_experts",),
    "num_local_experts": ("num_experts",),
    "n_routed_experts": ("num_local_experts", "num_experts"),
    "moe_num_experts": ("num_local_experts", "num_experts"),
}
_HEADS = ("num_attention_heads", "num_key_value_heads", "head_dim")


@dataclass(frozen=True)
class Heads:
    """How the rows of the attention divide, and who says so."""

    head_dim: int
    source: str


@dataclass(frozen=True)
class Stated:
    """What a config.json says, and what its class takes where it is silent."""

    values: Mapping[str, Any]
    defaults: Mapping[str, Any]

    def said(self, name: str) -> Any:
        """The value in the file, also under a field's other name; None without."""
        names = (name, *_ALIASES.get(name, ()))
        return next((self.values[n] for n in names if self.values.get(n) is not None), None)

    def taken(self, name: str) -> Any:
        """The value that is computed with, as far as it is known.

        An absent field is the class's own, a null one follows from others.
        """
        if name in self.values or self.said(name) is not None:
            return _plain(self.said(name))
        return self.defaults.get(name)


def stated_by(fields: Fields, family: Family) -> Stated:
    """The fields of the language model, and the defaults of its class."""
    kind = fields.values.get("model_type")
    known = DEFAULTS.get(kind) if isinstance(kind, str) else None
    if known is None:
        known = DEFAULTS.get(family.types[0], {})
    return Stated(fields.values, known)


def _plain(value: Any) -> Any:
    """A list that gives every layer the same number, as that number."""
    if isinstance(value, list) and value and all(v == value[0] for v in value):
        return value[0]
    return value


def settle_heads(facts: Facts, stated: Stated, given: int | None = None) -> Heads | None:
    """The size of a head, which a plain Llama's weights alone do not tell.

    Asked in this order: the weights, the user, a config.json whose three
    fields fit the weights together, a known model of exactly these shapes,
    and a ``head_dim`` in config.json that fits.
    """
    sizes = [size for size, _, _ in head_choices(facts)]
    known = of_weights(facts)
    asked = [
        (facts.head_dim, facts.teller),
        (given, "--head-dim"),
        (_consistent(facts, stated), "config.json, whose fields fit together"),
        (known and known.head_dim, f"the shapes, which are {known.name}'s" if known else ""),
        (_count(stated.values.get("head_dim")), "head_dim of config.json"),
    ]
    sizes += [asked[2][0] or 0]  # what fits all three fields may be as small as it likes
    return next((Heads(size, source) for size, source in asked if size and size in sizes), None)


def _consistent(facts: Facts, stated: Stated) -> int | None:
    heads = _count(stated.taken("num_attention_heads"))
    size = _count(stated.taken("head_dim")) or _implied_head_dim(stated)
    kv = _count(stated.taken("num_key_value_heads")) or heads
    fits = heads * size == facts.query_rows and kv * size == facts.key_rows
    return size if fits else None


def compare_fields(
    family: Family, layout: Layout, stated: Stated, heads: Heads | None
) -> list[Field]:
    """Every field that the weights, or nothing but config.json, can tell."""
    fields = [
        _held("hidden_size", stated, layout.sizes.get("hidden")),
        _held("num_hidden_layers", stated, layout.count),
    ]
    facts = facts_of(layout)
    if family.by_heads and facts is not None:
        fields += _head_fields(facts, stated, heads)
    for letter, name in family.sizes.items():
        if letter in layout.sizes and _is_plain(name) and name not in (*_HEADS, "hidden_size"):
            fields.append(_held(name, stated, layout.sizes[letter]))
    for name, value in layout.flags.items():
        known = name in stated.values or name in stated.defaults
        if known and (name in stated.values or value != bool(stated.defaults.get(name))):
            # A null in place of a flag is false, as an absent one without a default.
            told = stated.values.get(name, stated.defaults.get(name))
            fields.append(_compared(name, stated.values.get(name), bool(told), value))
    if family.leading_dense and layout.leading and family.leading_dense in stated.values:
        fields.append(_held(family.leading_dense, stated, layout.leading))
    return [*fields, *_untellable(stated)]


def _untellable(stated: Stated) -> Iterator[Field]:
    for name, default in _UNTELLABLE.items():
        said = stated.values.get(name)
        if name == "rope_theta" and said is None:
            said = rope_parameters(stated.values).get(name)
        taken = stated.defaults.get(name, default)
        note = "" if said is not None else f"absent: Transformers takes {taken}"
        llama = "attention_bias" in stated.defaults and "mlp_bias" in stated.defaults
        if said is not None or llama:
            yield Field(name, said, None, "unknown", note)


def contradicted_products(
    family: Family, layout: Layout, stated: Stated
) -> Iterator[CheckpointIssue]:
    """Products of fields, as of the heads of a latent attention, that the rows contradict."""
    for letter, formula in family.sizes.items():
        if letter not in layout.sizes or _is_plain(formula):
            continue
        if family.by_heads and letter in ("q", "k"):
            continue  # told field by field
        value = evaluate(formula, stated)
        if value is not None and value != layout.sizes[letter]:
            names = sorted(set(re.findall(r"[a-z]\w+", formula)))
            shown = ", ".join(f"{name} {stated.taken(name)}" for name in names)
            yield CheckpointIssue(
                "error",
                f"{formula.replace('*', ' × ').replace('+', ' + ')} of config.json is {value} "
                f"({shown}), the tensors have {layout.sizes[letter]}",
                "take these fields from the model's own release",
                "heads",
            )


def evaluate(formula: str, stated: Stated) -> int | None:
    """A product of fields, whose factors may be sums; None where a field is not known."""
    product = 1
    for factor in formula.split("*"):
        terms = [stated.taken(name) for name in factor.strip("()").split("+")]
        if not all(type(term) is int and 0 <= term < 2**40 for term in terms):
            return None
        product *= sum(terms)
    return product


def _is_plain(formula: str) -> bool:
    return "*" not in formula and "+" not in formula


def _held(name: str, stated: Stated, true: Any, note: str = "") -> Field:
    said = stated.said(name)
    if said is None and name not in stated.values and stated.defaults.get(name) == true:
        return Field(name, None, true, "equal", "absent: the class takes it")
    if said is None:
        return Field(name, None, true, "missing", note)
    return _compared(name, said, _plain(said), true, note)


def _compared(name: str, said: Any, taken: Any, true: Any, note: str = "") -> Field:
    same = taken == true and type(taken) is type(true)
    return Field(name, said, true, "equal" if same else "wrong", note)


def _head_fields(facts: Facts, stated: Stated, heads: Heads | None) -> Iterator[Field]:
    config = stated.values
    if heads is None:
        products = (f"× head_dim = {facts.query_rows}", f"× head_dim = {facts.key_rows}", "")
        for name, product in zip(_HEADS, products, strict=True):
            yield Field(name, config.get(name), None, "unknown", product)
        return
    size = heads.head_dim
    true = (facts.query_rows // size, facts.key_rows // size, size)
    note = f"from {heads.source}"
    yield _held(_HEADS[0], stated, true[0], note)
    # Without the field there are as many as attention heads, or as the class has.
    silent = config.get(_HEADS[1]) is None
    taken = _count(stated.taken(_HEADS[1])) or _count(stated.taken(_HEADS[0]))
    if silent and taken == true[1]:
        yield Field(_HEADS[1], true[1], true[1], "equal", note)
    else:
        yield _held(_HEADS[1], stated, true[1], note)
    said, implied = config.get(_HEADS[2]), _implied_head_dim(stated)
    if said is None:
        implied = _count(stated.taken(_HEADS[2])) or implied
    if said is None and implied == size:
        yield Field(_HEADS[2], None, size, "equal", "implied by hidden_size and heads")
    elif said is None:
        yield Field(_HEADS[2], None, size, "wrong", f"not stated, and {implied} is implied; {note}")
    else:
        yield _held(_HEADS[2], stated, size, note)


def _implied_head_dim(stated: Stated) -> int:
    """What Transformers takes where head_dim is absent; 0 where that is nothing."""
    hidden, heads = (_count(stated.taken(n)) for n in ("hidden_size", "num_attention_heads"))
    return hidden // heads if heads else 0


def undetermined_heads(facts: Facts, config: Mapping[str, Any]) -> CheckpointIssue:
    """That the heads do not fit the weights, and what would."""
    choices = head_choices(facts)
    shown = ", ".join(f"{s} ({h} heads, {kv} KV)" for s, h, kv in choices[:_SHOWN_CHOICES])
    stated = ", ".join(f"{name} {config.get(name)}" for name in _HEADS)
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
