"""Model names and effective generation settings.

A model is the embedded default, a directory, or a name on the Hugging Face
Hub; each becomes a local directory in the Transformers layout.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ModelError
from harness.hub import DISTRIBUTION, INSTALL, download, first_line
from harness.tokenizer import Tokenizer, open_tokenizer

__all__ = [
    "DEFAULT_MODEL",
    "DISTRIBUTION",
    "INSTALL",
    "Model",
    "Tokenizer",
    "effective_settings",
    "find_model",
    "open_tokenizer",
    "read_json",
]

#: The name of the model that comes with the ``demo`` extra. A directory of
#: the same name is reached as ``./smollm2``.
DEFAULT_MODEL = "smollm2"

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)

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


@dataclass(frozen=True)
class Model:
    """A checkpoint in a local directory.

    Attributes:
        name: what the user called it.
        path: absolute path of the directory that holds config.json.
        trust_remote_code: whether code in the checkpoint may run.
    """

    name: str
    path: str
    trust_remote_code: bool = False

    @property
    def slug(self) -> str:
        """A folder name for this model's baselines: ``[A-Za-z0-9._-]`` only."""
        is_directory = _as_path(self.name) == self.path
        plain = os.path.basename(self.path) if is_directory else self.name.replace("/", "--")
        slug = re.sub(r"[^A-Za-z0-9._-]", "-", plain)
        if slug != plain or slug in ("", ".", ".."):
            # Two names that lose their difference must not share a folder.
            slug = f"{slug.strip('.') or 'model'}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"
        return slug


def _as_path(name: str) -> str:
    """Where a name leads as a directory. A NUL, which no path holds, is no separator either."""
    return os.path.abspath(os.path.expanduser(name.replace("\0", "\ufffd")))


def find_model(
    name: str,
    *,
    trust_remote_code: bool = False,
    progress: Callable[[str], None] | None = None,
    weights: bool = True,
) -> Model:
    """The model of that name, as a local directory.

    Args:
        name: ``smollm2``, a directory, or a name on the Hugging Face Hub. A
            directory wins over a Hub name, as in Transformers.
        trust_remote_code: lets code in the checkpoint run.
        progress: is given a line whenever something slow begins.
        weights: False where tokenizer and settings will do: nothing large is
            fetched from the Hub.

    Raises:
        ModelError: if there is no such model, or it cannot be converted.
        MissingDependency: if finding it takes a package that is not there.
    """
    if name == DEFAULT_MODEL:
        from harness.embedded import embedded_model

        return Model(name, embedded_model(progress), trust_remote_code=False)
    path = _as_path(name)
    if not (name and os.path.isdir(path)):
        if not _HUB_NAME.fullmatch(name):
            raise ModelError(
                f"model {name!r} is neither a directory here nor a Hugging Face Hub name; "
                f"give a directory with a config.json, org/name, or {DEFAULT_MODEL}"
            )
        path = download(
            name, trust_remote_code=trust_remote_code, progress=progress, weights=weights
        )
    if not os.path.isfile(os.path.join(path, "config.json")):
        raise ModelError(
            f"model {name!r}: no config.json in {path}, so it is no Transformers checkpoint; "
            "give the folder that holds config.json and the weights"
        )
    return Model(name, path, trust_remote_code)


def read_json(model: Model, file: str) -> dict[str, Any] | None:
    """A JSON object of the checkpoint, or None if there is no such file.

    Raises:
        ModelError: if the file is there and holds no JSON object.
    """
    path = Path(model.path, file)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds a {type(content).__name__}, not an object")
    return content


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
