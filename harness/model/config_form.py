"""A config.json in one spelling, so that two of them can be held against each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from harness.model.config_class import ClassDefaults, class_defaults
from harness.model.config_fields import ABSENT_MEANS, ROPE_BESIDE, counts, kept_at_first

Fields = Mapping[str, Any]

#: Stands for a field that one side has nowhere.
ABSENT = object()


def normalized_config(content: Fields, *, has_head: bool) -> dict[str, Any]:
    """The fields of a config.json that change numbers; see ``normal_form``."""
    return normal_form(content, has_head=has_head)[0]


def normal_form(content: Fields, *, has_head: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a config.json that change numbers, and the defaults of all others.

    A field that is written with its class's default means what an absent one means, so
    it is among the defaults. Both are kept, because releases of Transformers know other
    fields, and may have other defaults.

    Args:
        content: the file, as Transformers 4 or 5 wrote it.
        has_head: whether the checkpoint holds ``lm_head.weight``, which says
            whether the embeddings are tied where the file does not.
    """
    flat = _flat(content)
    taken = class_defaults(_of_the_class(content, flat))
    kept: dict[str, Any] = {}
    for key, value in flat.items():
        default = _plain(taken.instead.get(key, ABSENT_MEANS.get(key)))
        # A null that the class takes as it is switches something off.
        off = value is None and default is not None and taken.read.get(key, ABSENT) is None
        if counts(key) and (off or value is not None) and _plain(value) != default:
            kept[key] = _plain(value)
    _add_always(kept, flat, taken, has_head)
    defaults = {
        key: _plain(value)
        for key, value in taken.read.items()
        if counts(key) and value is not None and key not in kept
    }
    # A class may have another name of its own for what is written.
    for key, value in flat.items():
        if counts(key) and value is not None and key not in kept:
            defaults.setdefault(key, _plain(value))
    for fields in (kept, defaults):
        if _first(flat, taken, "use_sliding_window") is False:  # the width is not used
            fields.pop("sliding_window", None)
            fields.pop("max_window_layers", None)
        if set(fields.get("layer_types") or ()) == {"full_attention"}:
            del fields["layer_types"]  # what older releases leave out
    return dict(sorted(kept.items())), dict(sorted(defaults.items()))


def config_differences(
    mine: Fields, my_defaults: Fields | None, theirs: Fields, their_defaults: Fields | None
) -> Iterator[tuple[str, Any, Any]]:
    """Each field of two configs that counts, with both values; ABSENT where there is none.

    Without defaults a config is in the first form, which lacks what ``kept_at_first``
    does not keep; then the other one is compared as far as that form goes.
    """
    if my_defaults is None and their_defaults is None:  # both in the first form
        for key in sorted({*mine, *theirs}):
            yield key, mine.get(key, ABSENT), theirs.get(key, ABSENT)
        return
    first = my_defaults is None or their_defaults is None
    sides = [_all(mine, my_defaults), _all(theirs, their_defaults)]
    for key in sorted({*sides[0], *sides[1]}):
        if not (key in ("rope", "tie_word_embeddings") or counts(key)):
            continue
        (a, a_is_default), (b, b_is_default) = (side.get(key, (ABSENT, False)) for side in sides)
        if (a is ABSENT and b_is_default) or (b is ABSENT and a_is_default):
            continue  # the other's release does not know the field
        if a_is_default and b_is_default and first:
            continue
        if first and ABSENT in (a, b) and not kept_at_first(key, b if a is ABSENT else a):
            continue
        if first and _guessed(key, mine if my_defaults is None else theirs):
            continue
        yield (key, _full(a, b), _full(b, a)) if first and key == "rope" else (key, a, b)


def _all(config: Fields, defaults: Fields | None) -> dict[str, tuple[Any, bool]]:
    """Each field with its value and whether that is the class's default."""
    return {k: (v, True) for k, v in (defaults or {}).items()} | {
        k: (v, False) for k, v in config.items()
    }


def _full(rope: Any, other: Any) -> Any:
    """RoPE of the first form, which knows one kind of layers where Transformers 4 wrote two."""
    nested = "full_attention" in _table(rope) and "full_attention" not in _table(other)
    return rope["full_attention"] if nested else rope


def _guessed(key: str, config: Fields) -> bool:
    """Whether the first form may hold its own guess where the file said nothing.

    The shapes of the weights, which are compared as well, say it for certain.
    """
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    if not (isinstance(heads, int) and heads > 0 and isinstance(hidden, int)):
        return False
    guess = {"head_dim": hidden // heads, "num_key_value_heads": heads}.get(key)
    return guess is not None and config.get(key) == guess


def _flat(content: Fields) -> dict[str, Any]:
    """The fields of the language model; those of a multimodal one are nested."""
    nested = content.get("text_config")
    text = nested if isinstance(nested, Mapping) else {}
    flat = {**{k: v for k, v in content.items() if k != "text_config"}, **text}
    # The outer class is the one that is run.
    flat["architectures"] = content.get("architectures") or flat.get("architectures")
    return flat


def _of_the_class(content: Fields, flat: Fields) -> dict[str, Any]:
    """What the class of the language model is given; the outer one's own fields are not its."""
    nested = content.get("text_config")
    if isinstance(nested, Mapping) and nested.get("model_type"):
        return dict(nested)
    return {k: v for k, v in flat.items() if k == "model_type" or not k.startswith("_")}


def _first(flat: Fields, taken: ClassDefaults, key: str) -> Any:
    value = flat.get(key)
    return taken.read.get(key) if value is None else value


def _add_always(kept: dict[str, Any], flat: Fields, taken: ClassDefaults, has_head: bool) -> None:
    """Fields that are derived where the file does not say them."""
    kept["rope"] = _rope(flat, taken.read)
    heads, hidden = flat.get("num_attention_heads"), flat.get("hidden_size")
    if isinstance(heads, int) and heads > 0:
        guesses = {"num_key_value_heads": heads}
        if isinstance(hidden, int):
            guesses["head_dim"] = hidden // heads
        for key, guess in guesses.items():
            value = _first(flat, taken, key)
            kept[key] = guess if value is None else _plain(value)
    tied = flat.get("tie_word_embeddings")
    if tied is None:  # the class, or else the weights
        tied = taken.read.get("tie_word_embeddings") or not has_head
    kept["tie_word_embeddings"] = bool(tied)
    for key in ("architectures", "model_type", "vocab_size", "hidden_size"):
        if flat.get(key) is not None:
            kept[key] = _plain(flat[key])


def _rope(flat: Fields, read: Fields) -> dict[str, Any]:
    """RoPE in one spelling, from rope_theta with rope_scaling, or from rope_parameters.

    Args:
        read: what the class says where the file says nothing.
    """
    given = _table(flat.get("rope_parameters")) or _table(flat.get("rope_scaling"))
    taken = _table(read.get("rope_parameters"))
    if given and all(isinstance(v, Mapping) for v in given.values()):
        # One set of parameters per kind of layer.
        return {
            k: _rope({**_without(flat), "rope_parameters": v}, {"rope_parameters": taken.get(k)})
            for k, v in sorted(given.items())
        }
    local = flat.get("rope_local_base_freq")
    if local is not None:  # how Transformers 4 writes two kinds of layers
        full = _rope({k: v for k, v in flat.items() if k != "rope_local_base_freq"}, read)
        return {"full_attention": full, "sliding_attention": _rope({"rope_theta": local}, {})}
    beside = {key: flat[key] for key in ROPE_BESIDE if flat.get(key) is not None}
    merged = {**beside, **{k: v for k, v in given.items() if v is not None}}
    kind = merged.pop("rope_type", None) or merged.pop("type", None) or "default"
    merged.pop("type", None)  # older files carry both spellings
    merged["rope_type"] = "longrope" if kind == "su" else kind
    for key, last in (("rope_theta", 10000.0), ("partial_rotary_factor", 1.0)):
        value = read.get(key, taken.get(key))
        merged.setdefault(key, last if value is None else value)
    if merged["partial_rotary_factor"] == 1:
        del merged["partial_rotary_factor"]
    plain: dict[str, Any] = _plain(dict(sorted(merged.items())))
    return plain


def _table(value: Any) -> Fields:
    return value if isinstance(value, Mapping) else {}


def _without(flat: Fields) -> dict[str, Any]:
    return {k: v for k, v in flat.items() if k not in ("rope_scaling", "rope_local_base_freq")}


def _plain(value: Any) -> Any:
    """JSON with one spelling per value: whole floats as integers, sorted keys, no nulls.

    What strict JSON lacks becomes text: infinities, and objects of a class's own.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Mapping):
        if value.keys() == {"__float__"}:  # how Transformers 5 writes an infinity
            return str(float(value["__float__"]))
        told = {str(k): _plain(v) for k, v in value.items() if v is not None}
        return dict(sorted(told.items()))
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)
