"""How a suite has its chat messages written: values for the template, and its date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

#: Why the same messages become other token ids in another run.
Unsteady = Literal["date", "chance"]

#: What the harness gives to a chat template itself, and what it does not give.
RESERVED = frozenset(
    {
        *("conversation", "messages", "chat_template", "tokenize", "add_generation_prompt"),
        *("continue_final_message", "padding", "truncation", "max_length", "return_tensors"),
        *("return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "strftime_now"),
    }
)


@dataclass(frozen=True)
class ChatTemplate:
    """What a chat template is given beside the messages.

    Attributes:
        kwargs: values by name, of JSON's types, as ``chat_template_kwargs`` of servers.
        date: what the template's clock shows; None for that of the machine.
    """

    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    date: datetime | None = None

    def content(self) -> dict[str, Any]:
        """What counts in a suite's digest; nothing where nothing is given."""
        told: dict[str, Any] = {}
        if self.kwargs:
            told["chat_template_kwargs"] = dict(self.kwargs)
        if self.date is not None:
            told["date"] = self.date.isoformat()
        return told


#: Of suites that say nothing of it.
PLAIN = ChatTemplate()
