"""Is this checkpoint what it says it is? Headers and JSON files only, in a second or two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.checkpoint import siblings
from harness.checkpoint.families import family_of
from harness.checkpoint.family import Family, Fields, language_fields
from harness.checkpoint.family_findings import article, beside, contradiction, foreign, misshapen
from harness.checkpoint.fields import (
    compare_fields,
    contradicted_products,
    settle_heads,
    stated_by,
    undetermined_heads,
)
from harness.checkpoint.findings import CheckpointIssue, Field, Inspection
from harness.checkpoint.generic import compare_plain, gaps, may_be_head, plain_parts
from harness.checkpoint.head import tied_field
from harness.checkpoint.headers import Stored, check_inside, read_headers, total_bytes
from harness.checkpoint.layout import Layout, lay_out, shown_names, spare_biases
from harness.checkpoint.llama import Facts, facts_of
from harness.checkpoint.multipliers import ignored_multipliers
from harness.checkpoint.names import plain_name, plain_names
from harness.checkpoint.quantized import Scheme, logical_shapes, scheme_of
from harness.checkpoint.quantized_checks import check_quantized, is_checked
from harness.checkpoint.rope import check_rope
from harness.checkpoint.rope_spelling import check_spelling
from harness.checkpoint.tokens import check_tokens
from harness.model.model import Model, read_json
from harness.model.safetensors_file import BITS

_TORCH = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_WIDTH = {"bfloat16": 16, "float16": 16, "float32": 32}


@dataclass
class _Seen:
    """What the checks have found so far."""

    fields: list[Field] = field(default_factory=list)
    findings: list[CheckpointIssue] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    facts: Facts | None = None
    head_dim: int | None = None
    rows: int | None = None
    cache: int | None = None  # numbers a token in the KV cache


def inspect(
    model: Model,
    *,
    head_dim: int | None = None,
    values: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Inspection:
    """Hold a checkpoint's files against each other.

    Args:
        model: where it lies.
        head_dim: of the user's own knowledge, where the weights cannot tell.
        values: also read every weight: those that are not finite, and dead tensors.
        progress: is given a line for each tensor that is read.

    Raises:
        ModelError: if a file is missing, damaged or hostile.
    """
    folder = Path(model.path)
    check_inside(folder, folder / "config.json")
    config = read_json(model, "config.json") or {}
    fields = language_fields(config)
    stored = read_headers(folder)
    seen = _Seen(checked=["the index and the headers of the weights"])
    scheme = scheme_of(model, fields.values, stored)
    tensors = stored
    family, by_class = family_of(fields)
    if scheme is not None:
        seen.findings += check_quantized(scheme, stored)
        which = seen.checked if is_checked(scheme) else seen.not_checked
        which.append(f"what {scheme.method} keeps beside each weight")
    elif family is not None or any(plain_name(t.name) is None for t in stored):
        tensors, training = plain_tensors(stored)
        seen.findings += training
    shapes = logical_shapes(tensors, scheme)
    if family is not None and scheme is not None:
        shapes = _without_spare(family, shapes, fields, tensors, seen)
    layout = None if family is None else lay_out(family, shapes)
    if family is not None and layout is not None and _is_another(family, layout, fields):
        layout = None
    if family is not None and layout is not None:
        _check_family(family, layout, fields, tensors, head_dim, scheme, seen)
    else:
        _check_plain(family, shapes, fields, tensors, seen)
    seen.findings += contradiction(family, by_class, fields)
    _check_rest(model, fields, stored, scheme, seen)
    if values:
        from harness.checkpoint.values import check_values

        one_plus = family is not None and family.norm_is_one_plus
        seen.findings += check_values(stored, progress, norm_is_one_plus=one_plus)
        seen.checked.append("each weight: finite, not all zeros")
    else:
        seen.not_checked.append("the values of the weights (--values)")
    return _result(folder, stored, scheme, fields, None if layout is None else family, seen)


def _check_rest(
    model: Model, fields: Fields, stored: Sequence[Stored], scheme: Scheme | None, seen: _Seen
) -> None:
    """What is checked of every checkpoint, whatever its tensors are."""
    seen.findings += check_rope(fields.values, seen.head_dim)
    seen.findings += check_spelling(fields.values)
    seen.findings += check_tokens(model, fields.values, seen.rows)
    seen.findings += _code_and_dtype(fields.outer, stored, scheme)
    seen.checked += ["the position encoding", "tokenizer and eos", "the declared type"]


def _without_spare(
    family: Family,
    shapes: dict[str, tuple[int, ...] | None],
    fields: Fields,
    tensors: Sequence[Stored],
    seen: _Seen,
) -> dict[str, tuple[int, ...] | None]:
    """The shapes without biases that a packing program wrote and that no class reads."""
    packed = {t.name.rpartition(".")[0] for t in tensors if t.name.endswith(".qweight")}
    stated = stated_by(fields, family)
    spare = spare_biases(family, shapes, packed, lambda name: bool(stated.taken(name)))
    if spare:
        seen.findings.append(
            CheckpointIssue(
                "note",
                f"{len(spare)} biases beside packed weights that {article(family.name)} has no "
                f"place for ({shown_names(tuple(sorted(spare)), 1)}): engines leave them out",
            )
        )
    return {name: shape for name, shape in shapes.items() if name not in spare}


def plain_tensors(stored: Sequence[Stored]) -> tuple[list[Stored], list[CheckpointIssue]]:
    """Tensors under plain names, and a note where they had others."""
    names = plain_names(t.name for t in stored)
    plain = [replace(t, name=names[t.name]) for t in stored if t.name in names]
    changed = sum(old != new for old, new in names.items())
    dropped = len(stored) - len(plain)
    if not changed and not dropped:
        return plain, []
    return plain, [
        CheckpointIssue(
            "error",
            f"a training form: {changed} keys are wrapped and {dropped} are parameters of a "
            "quantizer, so no plain Llama loads it",
            "make the inference form with harness checkpoint fuse",
        )
    ]


def _is_another(family: Family, layout: Layout, fields: Fields) -> bool:
    """Whether a wrapper has tensors of its own in place of those of its nested model."""
    own = len(layout.foreign) >= layout.count > 0
    bare = f"{layout.prefix}{family.embedding} is missing" in layout.problems
    return bool(fields.within) and (own or bare)


def _check_family(
    family: Family,
    layout: Layout,
    fields: Fields,
    tensors: Sequence[Stored],
    head_dim: int | None,
    scheme: Scheme | None,
    seen: _Seen,
) -> None:
    """The tensors against the family's row."""
    stated = stated_by(fields, family)
    facts = facts_of(layout)
    heads = None
    if facts is not None and family.by_heads:
        heads = settle_heads(facts, stated, head_dim)
        if heads is None:
            seen.findings.append(undetermined_heads(facts, fields.values))
    seen.facts = facts
    seen.head_dim = heads.head_dim if heads else layout.sizes.get("rope")
    seen.rows = layout.sizes.get("vocab")
    seen.fields = compare_fields(family, layout, stated, heads)
    embedding = layout.prefix + family.embedding
    seen.fields.append(tied_field(layout.head, embedding, fields, tensors, stated.defaults))
    seen.findings += misshapen(layout.problems)
    seen.findings += contradicted_products(family, layout, stated)
    seen.findings += foreign(family, layout, scheme)
    seen.findings += beside(family, layout, fields)
    if facts is not None:
        seen.findings += ignored_multipliers(
            family, fields.values, facts.hidden, facts.layers, seen.head_dim
        )
        seen.cache = 2 * facts.layers * facts.key_rows
    elif "rank" in layout.sizes and "rope" in layout.sizes:
        seen.cache = layout.count * (layout.sizes["rank"] + layout.sizes["rope"])
    seen.checked += [
        f"the tensors of each layer of {article(family.name)}",
        "the dimensions of config.json",
        "the head against tie_word_embeddings",
    ]
    if layout.predicting:
        seen.not_checked.append(f"{layout.predicting} layers that predict further tokens")


def _check_plain(
    family: Family | None,
    shapes: Mapping[str, tuple[int, ...] | None],
    fields: Fields,
    tensors: Sequence[Stored],
    seen: _Seen,
) -> None:
    """What needs no family."""
    parts = plain_parts(shapes)
    kind = fields.values.get("model_type") or fields.outer.get("model_type")
    if family is not None and not fields.within:
        seen.findings.append(
            CheckpointIssue(
                "error",
                f"config.json says {family.name} (model_type {kind!r}), and no layer has "
                f"its tensors ({shown_names(tuple(shapes))})",
                "take config.json from the release of these weights",
                "shapes",
            )
        )
    else:
        seen.findings.append(
            CheckpointIssue(
                "note",
                f"model_type {kind!r} is not among the families that are known: the tensors of a "
                "layer and most dimensions are not checked",
            )
        )
    seen.fields = list(compare_plain(parts, fields))
    seen.findings += gaps(parts)
    seen.rows = parts.rows
    stated = fields.tied
    gone = not parts.head and stated and not any(stated) and not may_be_head(parts, shapes)
    both = fields.values.get("is_encoder_decoder") is True  # a head of the decoder's own
    if parts.rows is not None and not both and (parts.head or gone):
        told = tied_field(parts.head, parts.embedding, fields, tensors, {})
        if told.bad and parts.head:  # what a class does with both is its own
            seen.findings.append(
                CheckpointIssue("warning", f"tie_word_embeddings is true, and {told.note}")
            )
        else:
            seen.fields.append(told)
        seen.checked.append("the head against tie_word_embeddings")
    counted = [f.name for f in seen.fields if f.name != "tie_word_embeddings"]
    seen.checked += [f"{name} against the tensors" for name in counted]
    seen.not_checked.append("the tensors of each layer, and the other dimensions")


def _code_and_dtype(
    config: Mapping[str, Any], stored: Sequence[Stored], scheme: Scheme | None
) -> Iterator[CheckpointIssue]:
    if config.get("auto_map"):
        yield CheckpointIssue(
            "warning",
            "config.json asks for code of the checkpoint (auto_map): it decides what is computed",
            "an architecture that engines know needs none",
        )
    declared = _declared(config)
    found = sorted({_TORCH.get(t.dtype, t.dtype) for t in stored})
    if declared is not None and scheme is None and found != [declared]:
        yield CheckpointIssue(
            "note", f"config.json declares {declared}, the weights are {', '.join(found)}"
        )


def _declared(config: Mapping[str, Any]) -> Any:
    return config.get("dtype") or config.get("torch_dtype")


def _result(
    folder: Path,
    stored: Sequence[Stored],
    scheme: Scheme | None,
    fields: Fields,
    family: Family | None,
    seen: _Seen,
) -> Inspection:
    dtypes: Counter[str] = Counter()
    for tensor in stored:
        dtypes[tensor.dtype] += tensor.nbytes
    copied = siblings.of_config(fields.values)
    same = seen.facts and siblings.of_weights(seen.facts)
    wrong = any(f.bad for f in seen.fields)
    kind = fields.values.get("model_type")
    plain_llama = family is not None and family.as_llama and kind is None
    return Inspection(
        folder=str(folder),
        family="llama" if plain_llama else str(kind or (family and family.types[0])),
        tensors=len(stored),
        parameters=sum(t.elements for t in stored),
        bytes=total_bytes(stored),
        kv_bytes_per_token=None if seen.cache is None else _cache(seen.cache, dtypes, fields),
        dtypes=dict(dtypes.most_common()),
        fields=tuple(seen.fields),
        findings=tuple(seen.findings),
        copied_from=copied.name if copied and wrong and copied != same else None,
        same_shapes_as=same.name if same else None,
        known_as=None if family is None else family.name,
        quantization=None if scheme is None else scheme.shown,
        checked=tuple(seen.checked),
        not_checked=tuple(seen.not_checked),
        within=fields.within,
    )


def _cache(numbers: int, dtypes: Counter[str], fields: Fields) -> int:
    """Bytes a token, in the type of activations: the floats', never a packed weight's."""
    floats = [name for name, _ in dtypes.most_common() if name in _TORCH]
    declared = _declared(fields.values)
    stored = BITS[floats[0]] if floats else 16
    if len(dtypes) > len(floats) and isinstance(declared, str):  # packed weights are there
        stored = _WIDTH.get(declared, stored)
    return numbers * stored // 8
