"""What makes two checkpoints the same: weights, config, tokenizer, template.

Everything is described by its meaning, not by its files: containers, key
order and the releases of Transformers that wrote them make no difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.files import jsonfile
from harness.model.model import Model, read_json
from harness.model.tokenizer import Tokenizer
from harness.model.weights import Tensor, read_tensors

#: Fields of a config.json that no logit depends on.
_IRRELEVANT_WORDS = (
    "_name_or_path transformers_version torch_dtype dtype use_cache initializer_range "
    "pad_token_id bos_token_id eos_token_id sep_token_id unk_token_id decoder_start_token_id "
    "forced_bos_token_id forced_eos_token_id attention_dropout hidden_dropout dropout "
    "embd_pdrop resid_pdrop attn_pdrop hidden_dropout_prob attention_probs_dropout_prob "
    "classifier_dropout layerdrop pretraining_tp output_attentions output_hidden_states "
    "return_dict torchscript use_bfloat16 gradient_checkpointing num_labels id2label label2id "
    "problem_type chunk_size_feed_forward router_aux_loss_coef output_router_logits "
    # Settings of generation, which effective_settings accounts for.
    "max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty "
    "temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size "
    "encoder_no_repeat_ngram_size num_return_sequences return_dict_in_generate output_scores "
    "suppress_tokens begin_suppress_tokens bad_words_ids remove_invalid_values "
    "exponential_decay_length_penalty"
)
_IRRELEVANT = frozenset(_IRRELEVANT_WORDS.split())

#: Fields that are not numbers, and change numbers.
_MEANINGFUL = frozenset(
    (
        "architectures",
        "model_type",
        "hidden_act",
        "hidden_activation",
        "activation_function",
        "layer_types",
        "quantization_config",
        "mlp_only_layers",
        "scoring_func",
        "topk_method",
    )
)

#: Fields of RoPE that Transformers 4 keeps beside rope_scaling, 5 inside rope_parameters.
_ROPE_BESIDE = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")


@dataclass(frozen=True)
class Fingerprint:
    """The identity of a model.

    Attributes:
        weights: sha256 over name, dtype, shape and bytes of every tensor.
        parameters: how many numbers they hold.
        weight_bytes: their size, without containers.
        config: the fields of config.json that change numbers, in one spelling.
        tokenizer: sha256 of the token-to-id map.
        template: sha256 of the chat template, or None without one.
    """

    weights: str
    parameters: int
    weight_bytes: int
    config: dict[str, Any] = field(hash=False)
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
    config = normalized_config(content, has_head=any(t.name == "lm_head.weight" for t in tensors))
    tensors = _loaded(tensors, tied=bool(config["tie_word_embeddings"]))
    template = tokenizer.template
    return Fingerprint(
        weights=_sha256([[t.name, t.dtype, t.shape, t.sha256] for t in tensors]),
        parameters=sum(t.elements for t in tensors),
        weight_bytes=sum(t.bytes for t in tensors),
        config=config,
        tokenizer=_sha256(tokenizer.vocabulary),
        template=None if template is None else _sha256_of_text(template),
    )


def normalized_config(content: Mapping[str, Any], *, has_head: bool) -> dict[str, Any]:
    """The fields of a config.json that change numbers, with derived defaults.

    Args:
        content: the file, as Transformers 4 or 5 wrote it.
        has_head: whether the checkpoint holds ``lm_head.weight``, which says
            whether the embeddings are tied where the file does not.
    """
    nested = content.get("text_config")
    text = nested if isinstance(nested, dict) else {}
    flat = {**{k: v for k, v in content.items() if k != "text_config"}, **text}
    # The outer class is the one that is run.
    flat["architectures"] = content.get("architectures") or flat.get("architectures")
    kept = {key: _plain(value) for key, value in flat.items() if _matters(key, value)}
    kept["rope"] = _rope(flat)
    heads, hidden = flat.get("num_attention_heads"), flat.get("hidden_size")
    if isinstance(heads, int) and heads > 0:
        kept.setdefault("num_key_value_heads", heads)
        if isinstance(hidden, int):
            kept.setdefault("head_dim", hidden // heads)
    tied = flat.get("tie_word_embeddings")
    kept["tie_word_embeddings"] = not has_head if tied is None else bool(tied)
    if flat.get("use_sliding_window") is False:  # the width is written, and not used
        kept.pop("sliding_window", None)
        kept.pop("max_window_layers", None)
    if set(kept.get("layer_types", ())) == {"full_attention"}:
        del kept["layer_types"]  # what older releases leave out
    return dict(sorted(kept.items()))


def _matters(key: str, value: Any) -> bool:
    if key in _IRRELEVANT or key in _ROPE_BESIDE or value is None or value is False:
        return False  # an absent switch is off
    if key in ("rope_scaling", "rope_parameters"):
        return False  # see _rope
    return key in _MEANINGFUL or _numeric(value)


def _numeric(value: Any) -> bool:
    """A number, or a list or table of them: muP factors, expert counts, and unknown ones."""
    if isinstance(value, Mapping):
        return bool(value) and all(_numeric(v) for v in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return bool(value) and all(_numeric(v) for v in value)
    return isinstance(value, bool | int | float)


def _rope(flat: Mapping[str, Any]) -> dict[str, Any]:
    """RoPE in one spelling, from rope_theta with rope_scaling, or from rope_parameters."""
    given = flat.get("rope_parameters") or flat.get("rope_scaling") or {}
    given = given if isinstance(given, Mapping) else {}
    if given and all(isinstance(v, Mapping) for v in given.values()):
        # One set of parameters per kind of layer.
        return {k: _rope({**flat, "rope_parameters": v}) for k, v in sorted(given.items())}
    beside = {key: flat[key] for key in _ROPE_BESIDE if flat.get(key) is not None}
    merged = {**beside, **{k: v for k, v in given.items() if v is not None}}
    kind = merged.pop("rope_type", None) or merged.pop("type", None) or "default"
    merged.pop("type", None)  # older files carry both spellings
    merged["rope_type"] = "longrope" if kind == "su" else kind
    merged.setdefault("rope_theta", 10000.0)
    if merged.get("partial_rotary_factor") == 1:
        del merged["partial_rotary_factor"]
    plain: dict[str, Any] = _plain(dict(sorted(merged.items())))
    return plain


def _plain(value: Any) -> Any:
    """JSON with one spelling per value: whole floats as integers, sorted keys, no nulls."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in sorted(value.items()) if v is not None}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


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
