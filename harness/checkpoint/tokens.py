"""The tokenizer and the ids that end a text, against the rows of the embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.checkpoint.findings import CheckpointIssue
from harness.checkpoint.vocabulary import TOKENIZERS, token_ids, tokenizer_size
from harness.errors import ModelError
from harness.model.model import Model, read_json


def check_tokens(
    model: Model, config: Mapping[str, Any], rows: int | None
) -> Iterator[CheckpointIssue]:
    """Findings about the tokenizer's size and the eos ids.

    Args:
        config: the fields of the language model.
        rows: of the embeddings; None where they are not known.
    """
    yield from _check_size(Path(model.path), rows)
    generation = read_json(model, "generation_config.json") or {}
    stops = {"config.json": _ids(config), "generation_config.json": _ids(generation)}
    for file, ids in stops.items():
        outside = [i for i in ids if rows is not None and not 0 <= i < rows]
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
    yield from _check_own_eos(model, [*mine, *theirs])


def _check_size(folder: Path, rows: int | None) -> Iterator[CheckpointIssue]:
    found = tokenizer_size(folder)
    if found is None:
        other = next((name for name in TOKENIZERS if (folder / name).is_file()), None)
        if other is None:
            yield CheckpointIssue(
                "warning", "no tokenizer.json and no tokenizer.model, nor another tokenizer's file"
            )
        else:
            yield CheckpointIssue(
                "note", f"the tokenizer is {other}, whose size is not read: it is not checked"
            )
        return
    size, file = found
    if rows is not None and size > rows:
        yield CheckpointIssue(
            "error",
            f"{file} has ids up to {size - 1}, the embeddings only {rows} rows: "
            "it is another model's",
            "take the tokenizer from the model's own release",
        )
    elif rows is not None and size < rows:
        what = f"{file} has {size} tokens, the embeddings {rows} rows"
        yield CheckpointIssue(
            "note", f"{what}: the rest is padding, or the tokenizer another model's"
        )
    if file == "tekken.json":
        yield CheckpointIssue(
            "note",
            "the tokenizer is tekken.json alone, Mistral's own format: mistral-common reads it, "
            "vLLM with tokenizer_mode mistral",
        )


def _check_own_eos(model: Model, stops: list[int]) -> Iterator[CheckpointIssue]:
    """Whether the configs know the token that the tokenizer itself ends with."""
    try:
        settings = read_json(model, "tokenizer_config.json") or {}
    except ModelError:
        return  # said by what loads it
    own = settings.get("eos_token")
    text = own.get("content") if isinstance(own, Mapping) else own
    if not isinstance(text, str) or not stops:
        return
    number = token_ids(Path(model.path), settings).get(text)
    if number is not None and number not in stops:
        yield CheckpointIssue(
            "note",
            f"the tokenizer's eos is {json.dumps(text, ensure_ascii=False)} ({number}), which "
            f"neither config.json nor generation_config.json names ({stops[0]}): a free run goes "
            "on behind it, an engine that adds the tokenizer's own stops there",
            "add it to eos_token_id of generation_config.json if it ends a turn",
        )


def _ids(content: Mapping[str, Any]) -> list[int]:
    value = content.get("eos_token_id")
    ids = value if isinstance(value, list) else [value]
    return [i for i in ids if isinstance(i, int) and not isinstance(i, bool)]
