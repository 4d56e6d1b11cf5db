"""The fields of a config.json that no logit of a text prompt depends on, each with its reason.

Every other field counts, whatever its value is: a text, a table, a switch that is off.
A field that this list does not know may change numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Reason to names.
_REASONS: Mapping[str, str] = {
    "names of files, of code and of its makers": (
        "name_or_path auto_map tokenizer_class processor_class feature_extractor_type "
        "custom_pipelines finetuning_task task_specific_params license model_max_length "
        "bos_token eos_token pad_token unk_token sep_token cls_token mask_token "
        "transformers_version transformers.js_config unsloth_version unsloth_fixed"
    ),
    "the recording's own dtype says in what is computed": "torch_dtype dtype use_bfloat16",
    "which kernel or cache computes the same formula; the engine's facts say it": (
        "attn_implementation use_flash_attn use_flash_attention flash_attn use_mamba_kernels "
        "use_mambapy use_associative_scan use_cache cache_implementation torchscript "
        "chunk_size_feed_forward pretraining_tp"
    ),
    "how weights were initialized or trained; dropout is off in inference": (
        "initializer_range initializer_factor init_std embd_pdrop resid_pdrop attn_pdrop layerdrop "
        "gradient_checkpointing router_aux_loss_coef router_z_loss_coef aux_loss_alpha seq_aux "
        "router_jitter_noise rescale_prenorm_residual use_cut_cross_entropy"
    ),
    "what a call returns beside the logits": (
        "output_attentions output_hidden_states output_router_logits return_dict "
        "return_dict_in_generate output_scores num_logits_to_keep verbose"
    ),
    "of a head for another task or token": (
        "num_labels id2label label2id problem_type num_nextn_predict_layers"
    ),
    "settings of generation, which the recording's settings account for": (
        "max_length min_length do_sample early_stopping num_beams num_beam_groups "
        "diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty "
        "no_repeat_ngram_size encoder_no_repeat_ngram_size num_return_sequences suppress_tokens "
        "begin_suppress_tokens bad_words_ids remove_invalid_values exponential_decay_length_penalty"
    ),
}
_IRRELEVANT = frozenset(name for names in _REASONS.values() for name in names.split())

#: Ids of special tokens: the settings record the stops, and the tokenizer the rest.
_TOKEN_IDS = ("_token_id", "_token_ids", "_token_index")
#: Towers, projectors and placeholders that no text prompt reaches.
_OTHER_SENSES = ("vision_", "audio_", "image_", "video_", "mm_")

#: Fields of RoPE that Transformers 4 keeps beside rope_scaling, 5 inside rope_parameters.
ROPE_BESIDE = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")
_ROPE = frozenset((*ROPE_BESIDE, "rope_scaling", "rope_parameters", "rope_local_base_freq"))

#: What an absent field means where nothing else says it: fields of every class's base, and
#: biases, which are tensors, so that weights tell them too.
ABSENT_MEANS: Mapping[str, object] = {
    "attention_bias": False,
    "mlp_bias": False,
    "is_encoder_decoder": False,
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_encoder_decoder": False,
    "pruned_heads": {},
    # Beside a width that is not used; with another value the width says all.
    "use_sliding_window": False,
}

#: What the first form of a config kept although it is not a number; see ``kept_at_first``.
_FIRST_TEXTS = frozenset(
    (
        *("architectures", "model_type", "hidden_act", "hidden_activation"),
        *("activation_function", "layer_types", "quantization_config", "mlp_only_layers"),
        *("scoring_func", "topk_method"),
    )
)


def counts(key: str) -> bool:
    """Whether a field may change numbers. RoPE's have a spelling of their own."""
    return not (
        key in _IRRELEVANT
        or key in _ROPE
        or key.startswith(("_", *_OTHER_SENSES))
        or key.endswith(_TOKEN_IDS)
        or "dropout" in key
    )


def kept_at_first(key: str, value: object) -> bool:
    """Whether recordings of version 0.1 hold this field.

    They left out texts, tables with a text in them, and switches that are off.
    """
    return value is not None and value is not False and (key in _FIRST_TEXTS or _numeric(value))


def _numeric(value: object) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(_numeric(v) for v in value.values())
    if isinstance(value, list | tuple):
        return bool(value) and all(_numeric(v) for v in value)
    return isinstance(value, bool | int | float)
