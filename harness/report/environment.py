"""The template environment that HTML and Markdown share."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2 import Environment

    from harness.messages.tables import Language

TEMPLATES = Path(__file__).parent / "templates"


def source(name: str) -> str:
    """A file of the templates' folder, as it is."""
    return (TEMPLATES / name).read_text("utf-8")


def environment(*, autoescape: bool) -> Environment:
    """Templates that fail on a name they do not know."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,  # noqa: S701 - off for Markdown only
        undefined=StrictUndefined,
        finalize=_final,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def in_one(language: Language, say: Callable[..., str]) -> dict[str, Any]:
    """What a template of one language calls: ``t`` for a message by its key,
    ``told`` for what a statement says."""
    from harness.messages.statement import told

    return {"language": language, "t": partial(say, language), "told": lambda s: told(s, language)}


def _final(value: Any) -> Any:
    """What a template prints: no hidden character, no None, no bare float.

    The templates' filters do this already; this holds where one was forgotten.
    """
    from markupsafe import Markup

    from harness.report.text import NONE, number, visible

    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return visible(value)
    if value is None:
        return NONE
    return number(value) if isinstance(value, float) else value
