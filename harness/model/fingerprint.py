"""What makes two checkpoints the same: weights, config, tokenizer, template.

Everything is described by its meaning, not by its files: containers, key
order and the releases of Transformers that wrote them make no difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.files import jsonfile
from harness.model.config_form import normal_form, normalized_config
from harness.model.model import Model, read_json
from harness.model.tokenizer import Tokenizer
from harness.model.weights import Tensor, read_tensors

__all__ = ["Fingerprint", "fingerprint", "normalized_config"]


@dataclass(frozen=True)
class Fingerprint:
    """The identity of a model.

    Attributes:
        weights: sha256 over name, dtype, shape and bytes of every tensor.
        parameters: how many numbers they hold.
        weight_bytes: their size, without containers.
        config: the fields of config.json that change numbers, in one spelling,
            without those that are the class's defaults.
        defaults: those, as the class of Transformers reads them.
        tokenizer: sha256 of the token-to-id map.
        template: sha256 of the chat template, or None without one.
    """

    weights: str
    parameters: int
    weight_bytes: int
    config: dict[str, Any] = field(hash=False)
    defaults: dict[str, Any] = field(hash=False)
    tokenizer: str
    template: str | None


def fingerprint(
    model: Model, tokenizer: Tokenizer, progress: Callable[[str], None] | None = None
) -> Fingerprint:
    """Read a checkpoint whole and describe it; about a second per gigabyte.

    Raises:
        ModelError: if a file of the checkpoint is missing or damaged.
        MissingDependency: for pytorch_model.bin without torch.
    """
    content = read_json(model, "config.json") or {}
    tensors = read_tensors(Path(model.path), progress)
    has_head = any(t.name == "lm_head.weight" for t in tensors)
    config, defaults = normal_form(content, has_head=has_head)
    tensors = _loaded(tensors, tied=bool(config["tie_word_embeddings"]))
    template = tokenizer.template
    return Fingerprint(
        weights=_sha256([[t.name, t.dtype, t.shape, t.sha256] for t in tensors]),
        parameters=sum(t.elements for t in tensors),
        weight_bytes=sum(t.bytes for t in tensors),
        config=config,
        defaults=defaults,
        tokenizer=_sha256(tokenizer.vocabulary),
        template=None if template is None else _sha256_of_text(template),
    )


def _loaded(tensors: list[Tensor], *, tied: bool) -> list[Tensor]:
    """Without what Transformers ignores, and containers differ in.

    A pickle repeats a tied embedding as lm_head.weight, safetensors does not;
    old pickles also hold RoPE's frequencies, which are computed anew.
    """
    embeddings = {t.sha256 for t in tensors if t.name.endswith("embed_tokens.weight")}
    return [
        t
        for t in tensors
        if not t.name.endswith("rotary_emb.inv_freq")
        and not (tied and t.name == "lm_head.weight" and t.sha256 in embeddings)
    ]


def _sha256_of_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _sha256(content: Any) -> str:
    return hashlib.sha256(jsonfile.canonical(content, ascii_only=False)).hexdigest()
