"""Generation settings that take effect on a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, WrapSerializer

from harness.files.strict_model import FROM_LIST, KeyedModel
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


_Count = Annotated[int, Field(ge=0, lt=2**31)]
_Ids = Annotated[tuple[_Count, ...], FROM_LIST]


class GenerationSettings(KeyedModel):
    """The generation settings that take effect, which two recordings must share.

    Those with a default are neutral on every device of this version; a
    recording of another tool may leave them out and means the same. Another
    name is refused: a setting that this version does not know may have
    changed the tokens.
    """

    max_new_tokens: _Count
    ignore_eos: bool
    eos_token_ids: _Ids
    sampling: str = "greedy"
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: _Count = 0
    suppress_tokens: _Ids = ()
    min_new_tokens: _Count = 0

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """The ids after which a free run stops."""
        return () if self.ignore_eos else self.eos_token_ids


def _or_unknown(value: Any) -> Any:
    return None if value == {} else value


def _written(value: Any, write: SerializerFunctionWrapHandler) -> Any:
    return {} if value is None else write(value)


#: Of an arm that may be tokens alone, whose settings nobody knows: ``{}`` in the file.
SettingsIfKnown = Annotated[
    GenerationSettings | None, BeforeValidator(_or_unknown), WrapSerializer(_written)
]


def effective_settings(model: Model, max_new_tokens: int, ignore_eos: bool) -> GenerationSettings:
    """The generation settings that every device is held to.

    The checkpoint's own generation_config.json is never applied: Transformers
    would inherit a repetition penalty from it even when greedy, vLLM would
    not (see ``overridden_settings``). Only its end-of-sequence ids count.

    Raises:
        ModelError: if a JSON file of the checkpoint cannot be read.
    """
    config = read_json(model, "config.json") or {}
    generation = read_json(model, "generation_config.json") or {}
    sources = [generation, config, _text_config(config)]
    eos = next((ids for ids in map(_eos_token_ids, sources) if ids), ())
    return GenerationSettings(
        max_new_tokens=max_new_tokens, ignore_eos=ignore_eos, eos_token_ids=eos
    )


def overridden_settings(model: Model) -> dict[str, Any]:
    """What the checkpoint asks for and every device sets aside, for display.

    Raises:
        ModelError: if a JSON file of the checkpoint cannot be read.
    """
    generation = read_json(model, "generation_config.json")
    # Without the file, Transformers takes the settings out of config.json.
    inherited = (read_json(model, "config.json") or {}) if generation is None else generation
    return {
        key: inherited[key]
        for key, neutral in sorted(_NEUTRAL.items())
        if inherited.get(key) is not None and inherited[key] != neutral
    }


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else {}


def _eos_token_ids(config: Mapping[str, Any]) -> tuple[int, ...]:
    value = config.get("eos_token_id")
    ids = value if isinstance(value, list) else [value]
    return tuple(sorted({i for i in ids if type(i) is int and 0 <= i < 2**31}))
