"""A message: which text, and the values that stand in it."""

from __future__ import annotations

from typing import Annotated, Union

from harness.files.strict_model import FROM_LIST, StrictModel

#: What may stand in a message. Numbers stay numbers: the tables say how many
#: digits a reader sees. A list holds texts or messages.
Value = Union[
    str,
    int,
    float,
    None,
    "Message",
    Annotated[tuple[Union[str, "Message"], ...], FROM_LIST],
]


class Message(StrictModel):
    """A text by its key in the tables, and its values by name."""

    key: str
    values: dict[str, Value]


def message(key: str, **values: Value) -> Message:
    """A message; ``message("part.flips", flips=3, positions=96)``."""
    return Message(key=key, values=values)
