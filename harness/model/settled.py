"""Makes a conversion the same, whichever release of Transformers wrote it.

Transformers 4.57 writes a tokenizer of SmolLM2 that puts a token first and ends at
another one; 5.5 takes it for a CodeLlama and adds five tokens; 5.19 leaves the RoPE base
out of the place where 4.57 looks for it. So the files of one release are another model to
the next. The weights are the same bytes from all (``PackagedModel.weights_sha256``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.files import jsonfile
from harness.model.packaged import PackagedModel

#: Files that some releases write, and that no reader of a checkpoint in this form needs.
_NEEDLESS = ("tokenizer.model", "special_tokens_map.json", "added_tokens.json")


def settle(model: PackagedModel, folder: Path) -> None:
    """Bring config and tokenizer of a fresh conversion into their one form.

    Raises:
        LookupError: if the tokenizer lacks a token that it should put first.
    """
    config = folder / "config.json"
    spell_both(config)
    if model.tokenizer is not None:
        for name in _NEEDLESS:
            (folder / name).unlink(missing_ok=True)
        width = json.loads(config.read_text(encoding="utf-8")).get("vocab_size")
        lay_over(folder / "tokenizer.json", model.tokenizer, width)
        written = jsonfile.indented(dict(model.tokenizer_config))
        (folder / "tokenizer_config.json").write_bytes(written)
    else:
        make_portable(folder / "tokenizer_config.json")
    if model.begins_with is not None:
        begin_with(folder / "tokenizer.json", model.begins_with)


def make_portable(tokenizer_config: Path) -> None:
    """Name a tokenizer class that Transformers 4 and 5 both know."""
    content = json.loads(tokenizer_config.read_text(encoding="utf-8"))
    content["tokenizer_class"] = "PreTrainedTokenizerFast"
    for key in ("backend", "is_local", "local_files_only"):
        content.pop(key, None)
    tokenizer_config.write_bytes(jsonfile.indented(content))


def spell_both(config: Path) -> None:
    """Write the RoPE base where Transformers 4 looks for it, and where 5 does.

    Without it 4 takes a base of 10,000 and says nothing.
    """
    content = json.loads(config.read_text(encoding="utf-8"))
    parameters = content.get("rope_parameters") or {}
    base = parameters.get("rope_theta") or content.get("rope_theta")
    if base is None:
        return
    content["rope_theta"] = base
    if not content.get("rope_scaling"):
        content.pop("rope_scaling", None)
        content["rope_parameters"] = {"rope_type": "default", **parameters, "rope_theta": base}
    config.write_bytes(jsonfile.indented(content))


def lay_over(tokenizer: Path, form: Mapping[str, Any], width: int | None) -> None:
    """Replace the settings of a tokenizer, not its vocabulary and merges.

    Args:
        form: settings by their names in tokenizer.json; those under ``model`` are laid
            over the model's own.
        width: of the model's vocabulary; an added token beyond it is dropped.
    """
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    own = {**content["model"], **form.get("model", {})}
    content.update(form)
    content["model"] = own
    if width is not None:
        content["added_tokens"] = [t for t in content["added_tokens"] if t["id"] < width]
    tokenizer.write_bytes(jsonfile.indented(content))


def begin_with(tokenizer: Path, token: str) -> None:
    """Let a tokenizer put a token first: Transformers 5 drops GGUF's add_bos_token.

    Raises:
        LookupError: if the tokenizer has no such token.
    """
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    [number] = [added["id"] for added in content["added_tokens"] if added["content"] == token]
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    one, two = ({"Sequence": {"id": i, "type_id": n}} for n, i in enumerate("AB"))
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [first, one],
        "pair": [first, one, two],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }
    tokenizer.write_bytes(jsonfile.indented(content))
