"""What says something: a message by key, and the same as an English sentence.

The sentence is for whoever reads the JSON; a report renders the message. Files
of ``harness.alignment/1`` have the sentence only.
"""

from __future__ import annotations

from typing import Any, Protocol

from pydantic import model_validator

from harness.files.strict_model import StrictModel
from harness.messages.message import Message
from harness.messages.render import render
from harness.messages.tables import LANGUAGES, MESSAGES, Language


class Stated(Protocol):
    """Whatever has a sentence and, unless it comes from an old file, its message."""

    @property
    def message(self) -> Message | None: ...

    @property
    def sentence(self) -> str: ...


class Statement(StrictModel):
    """Base of models with the fields ``sentence`` and ``message``, which they
    declare where they belong among their own.

    The English sentence is made from the message where it is not given. A known
    message must render in every language.
    """

    @model_validator(mode="before")
    @classmethod
    def _in_english(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or "sentence" in fields:
            return fields
        if not isinstance(fields.get("message"), Message):
            raise ValueError("has neither a message nor a sentence")
        return {**fields, "sentence": render(fields["message"], "en")}

    @model_validator(mode="after")
    def _message_fits(self) -> Statement:
        stated_message: Message | None = getattr(self, "message", None)
        if stated_message is not None:
            for language in LANGUAGES:
                _rendered(stated_message, language)
        return self


class Remark(Statement):
    """A statement by itself, such as a warning."""

    sentence: str = ""
    message: Message | None = None


def remark(stated_message: Message) -> Remark:
    """A remark of this message."""
    return Remark(message=stated_message)


def told(stated: Stated, language: Language) -> str:
    """What it says in one language; the English sentence where there is no
    message, or one that a newer version wrote."""
    stated_message = stated.message
    text = None if stated_message is None else _rendered(stated_message, language)
    return stated.sentence if text is None else text


def _rendered(stated_message: Message, language: Language) -> str | None:
    """The text; None of a message that this version does not know.

    Raises:
        ValueError: if the values are not those of the message.
    """
    if not _known(stated_message):
        return None
    try:
        return render(stated_message, language)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"the values do not fit the message {stated_message.key}") from error


def _known(stated_message: Message) -> bool:
    """Whether this version has its text, and those of the messages within it."""
    within: list[Message] = []
    for value in stated_message.values.values():
        items = value if isinstance(value, tuple) else (value,)
        within += [item for item in items if isinstance(item, Message)]
    return stated_message.key in MESSAGES["en"] and all(map(_known, within))
