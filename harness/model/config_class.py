"""What Transformers' own class of a config takes where config.json says nothing."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from harness.model.hub import quiet_transformers


@dataclass(frozen=True)
class ClassDefaults:
    """A config as its class reads it.

    Attributes:
        known: whether this Transformers knows the class.
        read: every field, written or not, by the class.
        instead: for each written field, what the class would take without it;
            fields that it does not know are left out.
    """

    known: bool = False
    read: Mapping[str, Any] = field(default_factory=dict)
    instead: Mapping[str, Any] = field(default_factory=dict)


def class_defaults(fields: Mapping[str, Any]) -> ClassDefaults:
    """The defaults of the class that ``model_type`` or ``architectures`` names.

    Defaults may follow from other fields, as a head's size does; so each is asked for
    beside all that is written. Without Transformers, or where its class refuses the
    fields, nothing is known.
    """
    made = _class_of(fields)
    if made is None:
        return ClassDefaults()
    written = {k: v for k, v in fields.items() if k != "model_type"}

    def read_without(key: str | None) -> dict[str, Any]:
        # A class changes the tables that it is given.
        given = {k: copy.deepcopy(v) for k, v in written.items() if k != key}
        with quiet_transformers():
            result: dict[str, Any] = made(**given).to_dict()
        return result

    try:
        read = read_without(None)
    except Exception:  # a class validates as it likes
        return ClassDefaults()
    instead = {}
    for key in written:
        with suppress(Exception):
            without = read_without(key)
            name = key if key in without else getattr(made, "attribute_map", {}).get(key)
            if name in without:
                instead[key] = without[name]
    return ClassDefaults(True, read, instead)


def _class_of(fields: Mapping[str, Any]) -> Any:
    try:
        auto = importlib.import_module("transformers.models.auto.configuration_auto")
    except ImportError:
        return None
    kind = fields.get("model_type")
    if not isinstance(kind, str):
        # Files from before the field, and those that leave it to the class's name.
        named = fields.get("architectures")
        first = named[0] if isinstance(named, list) and named else None
        stem = first.partition("For")[0] if isinstance(first, str) else ""
        pairs = auto.CONFIG_MAPPING_NAMES.items()
        kind = next((k for k, v in pairs if stem and v == f"{stem}Config"), None)
    try:
        return None if kind is None else auto.CONFIG_MAPPING[kind]
    except (KeyError, ImportError):
        return None
