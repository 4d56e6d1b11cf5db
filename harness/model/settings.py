"""Generation settings that take effect on a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.model.model import Model, read_json

#: Settings of a generation_config.json that would change greedy output, with
#: the value at which each does nothing. Every device is held to that value.
_NEUTRAL: dict[str, Any] = {
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "sequence_bias": None,
    "force_words_ids": None,
    "constraints": None,
    "num_beams": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "length_penalty": 1.0,
    "exponential_decay_length_penalty": None,
    "guidance_scale": None,
    "penalty_alpha": None,
    "dola_layers": None,
    "renormalize_logits": False,
    "remove_invalid_values": False,
    "watermarking_config": None,
    "stop_strings": None,
    "max_time": None,
    "min_length": 0,
    "min_new_tokens": None,
    "max_length": 20,
    "max_new_tokens": None,
}


def effective_settings(model: Model, max_new_tokens: int, ignore_eos: bool) -> dict[str, Any]:
    """The generation settings that every device is held to.

    The checkpoint's own generation_config.json is never applied: Transformers
    would inherit a repetition penalty from it even when greedy, vLLM would
    not. ``overridden`` lists, for display, what was set aside.

    Raises:
        ModelError: if a JSON file of the checkpoint cannot be read.
    """
    config = read_json(model, "config.json") or {}
    # Without the file, Transformers takes the settings out of config.json.
    generation = read_json(model, "generation_config.json")
    inherited = config if generation is None else generation
    overridden = {
        key: inherited[key]
        for key, neutral in sorted(_NEUTRAL.items())
        if inherited.get(key) is not None and inherited[key] != neutral
    }
    sources = [generation or {}, config, _text_config(config)]
    eos = next((ids for ids in map(_eos_token_ids, sources) if ids), [])
    return {
        "max_new_tokens": max_new_tokens,
        "ignore_eos": ignore_eos,
        "eos_token_ids": eos,
        "sampling": "greedy",
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "suppress_tokens": [],
        "min_new_tokens": 0,
        "overridden": overridden,
    }


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else {}


def _eos_token_ids(config: Mapping[str, Any]) -> list[int]:
    value = config.get("eos_token_id")
    ids = value if isinstance(value, list) else [value]
    return sorted({i for i in ids if isinstance(i, int) and not isinstance(i, bool) and i >= 0})
