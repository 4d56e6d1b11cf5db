"""Engine arguments that hold a secret are refused: each one is written into the recording, into
commands that are printed, and into the list of processes that every user of the host can see."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.doctor.blot import Blotter
from harness.errors import UsageError

#: Last words of a secret's name; ``token_ids`` and ``max_tokens`` end otherwise.
_LAST = frozenset(
    {
        "token",
        "password",
        "passwd",
        "passphrase",
        "secret",
        "secrets",
        "credential",
        "credentials",
        "apikey",
        "bearer",
        "authorization",
        "cookie",
    }
)
#: A key is a secret by the word before it.
_KEYS = frozenset(
    {"api", "access", "secret", "private", "auth", "account", "encryption", "signing", "hub", "hf"}
)
#: Tokens of a vocabulary.
_OF_A_TEXT = frozenset(
    {
        "bos",
        "eos",
        "pad",
        "unk",
        "sep",
        "cls",
        "mask",
        "stop",
        "start",
        "image",
        "audio",
        "video",
        "special",
    }
)
#: Names within a value: JSON's, and those of nested options.
_INNER = re.compile(r"""([A-Za-z][\w.-]*)["']?\s*[:=]\s*["']?[^\s"',}\]]""")


def refuse_secrets(engine_args: Mapping[str, str]) -> None:
    """Check that no engine argument is a secret.

    Raises:
        UsageError: naming the first; its value is not shown.
    """
    for name, value in engine_args.items():
        if what := secret_in(name, value):
            raise UsageError(
                f"--engine-arg {what[:80]}: holds a secret, which would be written into recordings "
                "and the list of processes; set it in the environment (HF_TOKEN for a Hub, "
                "HARNESS_API_KEY for a server), or log in with the tool that keeps it"
            )


def secret_in(name: str, value: str) -> str | None:
    """What of an engine argument is a secret, by its name or its looks; None for nothing."""
    if _is_secret(name) or Blotter().text(value)[1]:
        return name
    return next((f"{name} ({n})" for n in _INNER.findall(value) if _is_secret(n)), None)


def _is_secret(name: str) -> bool:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    words = [word for word in re.split(r"[^a-z0-9]+", spaced) if word]
    if not words:
        return False
    before = words[-2] if len(words) > 1 else ""
    if words[-1] == "key":
        return before in _KEYS
    if words[-1] == "token":
        return before not in _OF_A_TEXT
    return words[-1] in _LAST
