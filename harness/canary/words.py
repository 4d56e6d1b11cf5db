"""A fault with a name: which message, and where in the model."""

from __future__ import annotations

from dataclasses import dataclass

from harness.messages.message import Message, Value, message

#: Causes that say that something is wrong, and those that say where but hardly what.
_LEAST = frozenset({"unknown", "attention", "mlp", "heads", "tokens", "leak"})
_LESS = frozenset(
    {"rows", "requests", "border", "decode_border", "decode_rows", "chunk_at"}
    | {"slot", "block", "offset", "embedding", "output_head", "size", "read_out"}
)


def detail(cause: str) -> int:
    """How much a cause says; of several stages the one that says most is told."""
    return 0 if cause in _LEAST else 1 if cause in _LESS else 2


@dataclass(frozen=True)
class Named:
    """A cause with its message.

    Attributes:
        cause: the message's key without ``canary.``.
        layer: where it begins, None outside of the layers.
        message: what, where, how to mend it.
    """

    cause: str
    layer: int | None
    message: Message


def named(cause: str, layer: int | None = None, **values: Value) -> Named:
    """A cause; its layer is a value of the message too."""
    if layer is not None:
        values["layer"] = layer
    return Named(cause, layer, message(f"canary.{cause}", **values))


def listed(numbers: tuple[int, ...], most: int = 8) -> str:
    """``3, 4, 7`` or ``3, 4, … (12)``; runs as ``3-9``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [f"{r[0]}-{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs]
    return ", ".join(texts[:most]) + (" …" if len(texts) > most else "")
