"""Alignments of ``harness.alignment/1``, brought into today's form.

In /1 sentences, warnings among them, had no messages, and two classes were
spelled with a dash. The models check everything else in a file.
"""

from __future__ import annotations

from typing import Any

_CLASSES = {"NEAR-TIE": "NEAR_TIE", "SILENT-DRIFT": "SILENT_DRIFT"}


def from_first(document: dict[str, Any]) -> dict[str, Any]:
    """The content of a file of /1 as one of /2."""
    upgraded = {**document, "schema": "harness.alignment/2"}
    if isinstance(upgraded.get("classes"), dict):
        upgraded["classes"] = {_CLASSES.get(k, k): v for k, v in upgraded["classes"].items()}
    if isinstance(upgraded.get("prompts"), list):
        upgraded["prompts"] = [_prompt(p) for p in upgraded["prompts"]]
    return upgraded


def _prompt(prompt: Any) -> Any:
    if not isinstance(prompt, dict):
        return prompt
    upgraded = {**prompt, "class": _class(prompt.get("class"))}
    positions = prompt.get("positions")
    if isinstance(positions, dict) and isinstance(positions.get("class"), list):
        upgraded["positions"] = {**positions, "class": [_class(c) for c in positions["class"]]}
    return upgraded


def _class(name: Any) -> Any:
    return _CLASSES.get(name, name) if isinstance(name, str) else name
