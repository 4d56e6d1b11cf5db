"""The model under test: its facts, tokenizer and settings, apart from the device that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from harness.model.facts import ModelFacts
from harness.model.fingerprint import fingerprint
from harness.model.model import Model, read_json
from harness.model.settings import (
    GenerationSettings,
    effective_settings,
    overridden_settings,
)
from harness.model.tokenizer import open_tokenizer
from harness.suite.encode import SuiteTokenizer

_Settings = Callable[[int, bool], GenerationSettings]


class SubjectTokenizer(SuiteTokenizer, Protocol):
    """A tokenizer that can also name single tokens."""

    def piece(self, token_id: int) -> str: ...


@dataclass(frozen=True)
class Subject:
    """The model under test, apart from the device that runs it.

    ``settings`` are the effective generation settings for given limits,
    ``overridden`` those of the checkpoint that were neutralized.
    """

    facts: ModelFacts
    tokenizer: SubjectTokenizer
    settings: _Settings
    overridden: Mapping[str, Any]


def unknown_subject(model: Model) -> Subject:
    """A model whose tokenizer and settings are ours, and whose weights and
    config the server does not tell."""
    tokenizer = open_tokenizer(model)
    facts = ModelFacts(
        name=model.slug,
        weights=None,
        parameters=None,
        weight_bytes=None,
        config=None,
        tokenizer=None,
        template=None,
        vocab_size=_config_number(model, "vocab_size") or tokenizer.vocab_size,
    )
    settings = partial(effective_settings, model)
    return Subject(facts, tokenizer, settings, overridden_settings(model))


def max_positions(model: Model) -> int:
    """The longest prompt and output that the config allows; huge where it does not say."""
    return _config_number(model, "max_position_embeddings") or 2**31 - 1


def _config_number(model: Model, key: str) -> int | None:
    config = read_json(model, "config.json") or {}
    nested = config.get("text_config")
    for source in (config, nested if isinstance(nested, dict) else {}):
        if type(source.get(key)) is int and source[key] > 0:
            return int(source[key])
    return None


def subject_of(model: Model, progress: Callable[[str], None]) -> Subject:
    """Fingerprint a checkpoint and open its tokenizer.

    Args:
        progress: is given a line whenever something slow begins.

    Raises:
        ModelError, MissingDependency: if weights or tokenizer cannot be read.
    """
    tokenizer = open_tokenizer(model)
    found = fingerprint(model, tokenizer, progress)
    facts = ModelFacts(
        name=model.slug,
        weights=found.weights,
        parameters=found.parameters,
        weight_bytes=found.weight_bytes,
        config=dict(found.config),
        tokenizer=found.tokenizer,
        template=found.template,
        vocab_size=int(found.config["vocab_size"]),
        config_defaults=dict(found.defaults),
    )
    settings = partial(effective_settings, model)
    return Subject(facts, tokenizer, settings, overridden_settings(model))
