"""Is this checkpoint what it says it is? Headers and JSON files only, in a second or two."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.checkpoint import siblings
from harness.checkpoint.fields import Heads, compare_fields, settle_heads, undetermined_heads
from harness.checkpoint.findings import CheckpointIssue, Field, Inspection
from harness.checkpoint.headers import Stored, check_inside, read_headers, total_bytes
from harness.checkpoint.llama import EMBEDDING, HEAD, Facts, derive, foreign_names
from harness.checkpoint.names import plain_names
from harness.checkpoint.rope import check_rope
from harness.checkpoint.vocabulary import tokenizer_size
from harness.model.model import Model, read_json
from harness.model.weights import BITS

_SHOWN = 3
_LARGE = 1e15  # beyond any factor of muP; larger integers do not fit a float
_TORCH = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


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
        values: also read every weight and count those that are not finite.
        progress: is given a line for each tensor that is read.

    Raises:
        ModelError: if a file is missing, damaged or hostile.
    """
    folder = Path(model.path)
    check_inside(folder, folder / "config.json")
    config = read_json(model, "config.json") or {}
    stored = read_headers(folder)
    tensors, findings = plain_tensors(stored)
    facts = derive(tensors)
    foreign = foreign_names(tensors)
    fields: list[Field] = []
    heads: Heads | None = None
    if facts is not None and not foreign:
        heads = settle_heads(facts, config, head_dim)
        fields = compare_fields(facts, config, heads)
        fields.append(_tied(facts, config, tensors))
        findings += [_shape(problem) for problem in facts.problems[:_SHOWN]]
        findings += _more(facts.problems)
        if heads is None:
            findings.append(undetermined_heads(facts, config))
    else:
        findings.append(_another_family(config, foreign))
    findings += check_rope(config, heads.head_dim if heads else None)
    findings += _mup(config, facts)
    findings += _tokens(model, config, facts)
    findings += _code_and_dtype(config, stored)
    if values:
        findings += _values(stored, progress)
    return _result(folder, stored, facts if fields else None, fields, findings, config)


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


def _result(
    folder: Path,
    stored: Sequence[Stored],
    facts: Facts | None,
    fields: Sequence[Field],
    findings: list[CheckpointIssue],
    config: Mapping[str, Any],
) -> Inspection:
    dtypes: Counter[str] = Counter()
    for tensor in stored:
        dtypes[tensor.dtype] += tensor.nbytes
    copied, same = siblings.of_config(config), facts and siblings.of_weights(facts)
    wrong = any(f.bad for f in fields)
    cache = None
    if facts is not None:
        width = BITS[dtypes.most_common(1)[0][0]]
        cache = 2 * facts.layers * facts.key_rows * width // 8
    return Inspection(
        folder=str(folder),
        family="llama" if facts else str(config.get("model_type")),
        tensors=len(stored),
        parameters=sum(t.elements for t in stored),
        bytes=total_bytes(stored),
        kv_bytes_per_token=cache,
        dtypes=dict(dtypes.most_common()),
        fields=tuple(fields),
        findings=tuple(findings),
        copied_from=copied.name if copied and wrong and copied != same else None,
        same_shapes_as=same.name if same else None,
    )


def _more(problems: Sequence[str]) -> list[CheckpointIssue]:
    rest = len(problems) - _SHOWN
    return [_shape(f"{rest} more tensors are missing or misshapen")] if rest > 0 else []


def _shape(problem: str) -> CheckpointIssue:
    return CheckpointIssue("error", problem, "download the checkpoint again", "shapes")


def _another_family(config: Mapping[str, Any], foreign: Sequence[str]) -> CheckpointIssue:
    known = ", ".join(map(repr, foreign[:_SHOWN])) or "too few of them"
    return CheckpointIssue(
        "warning",
        f"not the tensors of a Llama (model_type {config.get('model_type')!r}; {known}): "
        "its dimensions are not checked",
    )


def _tied(facts: Facts, config: Mapping[str, Any], tensors: Sequence[Stored]) -> Field:
    name, stated = "tie_word_embeddings", config.get("tie_word_embeddings")
    tied = bool(stated)
    if facts.has_head and tied:
        from harness.checkpoint.blocks import same_bytes

        by_name = {t.name: t for t in tensors}
        if same_bytes(by_name[EMBEDDING], by_name[HEAD]):
            return Field(name, stated, True, "equal", "lm_head.weight repeats the embeddings")
        note = "lm_head.weight is there and differs: vLLM would skip it without a word"
        return Field(name, stated, False, "wrong", note)
    if facts.has_head:
        return Field(name, stated, False, "equal", "" if stated is not None else "absent: false")
    note = "" if tied else "there is no lm_head.weight: it would be filled with random numbers"
    return Field(name, stated, True, "equal" if tied else "wrong", note)


#: Keys of MiniCPM's muP, and how a checkpoint that needs them becomes a Llama.
_FOLDING = (
    "fold them: embed_tokens × scale_emb, lm_head ÷ (hidden_size / dim_model_base), "
    "o_proj and down_proj × scale_depth / √num_hidden_layers"
)


def active_mup(config: Mapping[str, Any], facts: Facts | None) -> dict[str, float]:
    """The muP factors of a config.json that are not 1."""
    hidden = facts.hidden if facts else 0
    layers = facts.layers if facts else 0
    neutral = {
        "scale_emb": 1.0,
        "dim_model_base": hidden,
        "scale_depth": math.sqrt(layers),
    }
    stated = {key: config.get(key) for key in neutral}
    return {
        key: value
        for key, value in stated.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and value != neutral[key]
        and not (abs(value) < _LARGE and math.isclose(value, neutral[key] or 0, rel_tol=1e-6))
    }


def _mup(config: Mapping[str, Any], facts: Facts | None) -> Iterator[CheckpointIssue]:
    active = active_mup(config, facts)
    llama = "LlamaForCausalLM" in str(config.get("architectures"))
    if active and (config.get("model_type") == "llama" or llama):
        stated = ", ".join(f"{key} {value}" for key, value in active.items())
        yield CheckpointIssue(
            "error",
            f"muP factors under a Llama architecture, which ignores them: {stated}",
            _FOLDING,
        )


def _tokens(
    model: Model, config: Mapping[str, Any], facts: Facts | None
) -> Iterator[CheckpointIssue]:
    rows = facts.vocabulary if facts else config.get("vocab_size")
    found = tokenizer_size(Path(model.path))
    if found is None:
        yield CheckpointIssue("warning", "no tokenizer.json and no tokenizer.model")
    elif isinstance(rows, int) and found[0] > rows:
        yield CheckpointIssue(
            "error",
            f"{found[1]} has ids up to {found[0] - 1}, the embeddings only {rows} rows: "
            "it is another model's",
            "take the tokenizer from the model's own release",
        )
    elif isinstance(rows, int) and found[0] < rows:
        what = f"{found[1]} has {found[0]} tokens, the embeddings {rows} rows"
        yield CheckpointIssue(
            "note", f"{what}: the rest is padding, or the tokenizer another model's"
        )
    generation = read_json(model, "generation_config.json") or {}
    stops = {"config.json": _ids(config), "generation_config.json": _ids(generation)}
    for file, ids in stops.items():
        outside = [i for i in ids if isinstance(rows, int) and not 0 <= i < rows]
        if outside:
            yield CheckpointIssue("error", f"eos id {outside[0]} of {file} is outside {rows} rows")
    mine, theirs = stops.values()
    if mine and theirs and mine != theirs:
        yield CheckpointIssue(
            "note",
            f"eos ids differ: config.json {mine}, generation_config.json {theirs}; "
            "the latter are used",
        )
    if not mine and not theirs:
        yield CheckpointIssue("warning", "no eos id in config.json or generation_config.json")


def _ids(content: Mapping[str, Any]) -> list[int]:
    value = content.get("eos_token_id")
    ids = value if isinstance(value, list) else [value]
    return [i for i in ids if isinstance(i, int) and not isinstance(i, bool)]


def _code_and_dtype(
    config: Mapping[str, Any], stored: Sequence[Stored]
) -> Iterator[CheckpointIssue]:
    if config.get("auto_map"):
        yield CheckpointIssue(
            "warning",
            "config.json asks for code of the checkpoint (auto_map): it decides what is computed",
            "a plain Llama needs none; harness checkpoint fuse leaves it out",
        )
    declared = config.get("dtype") or config.get("torch_dtype")
    found = sorted({_TORCH.get(t.dtype, t.dtype) for t in stored})
    if declared is not None and found != [declared]:
        yield CheckpointIssue(
            "note", f"config.json declares {declared}, the weights are {', '.join(found)}"
        )


def _values(
    stored: Sequence[Stored], progress: Callable[[str], None] | None
) -> Iterator[CheckpointIssue]:
    from harness.checkpoint.blocks import nonfinite

    for tensor in stored:
        if tensor.dtype not in _TORCH:
            continue
        if progress is not None:
            progress(tensor.name)
        count = nonfinite(tensor)
        if count:
            yield CheckpointIssue(
                "error",
                f"{tensor.name}: {count} of {tensor.elements} weights are infinite or no number",
                "download the checkpoint again, or look at the training",
            )
