"""Engine arguments that the engine did not take as they were given.

A platform may have a mind of its own: vLLM-Ascend sets the size of a block where
a prefix cache or chunked prefill is on, and takes no size of the KV cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

#: Facts that have the name of an argument and mean something else.
_OTHERS = frozenset(("runner", "device"))
#: vLLM's names of switches begin with this, the facts' names do not.
_SWITCH = "enable_"


def not_taken(
    asked: Mapping[str, Any], in_force: Mapping[str, Any], cache_bytes: int
) -> str | None:
    """Which arguments have another value in force, in one line; None where all have theirs.

    Args:
        asked: the user's engine arguments, with the types of vLLM's own or as text.
        in_force: the facts of the engine, by name; others than these are not looked at.
        cache_bytes: of the KV cache of one worker; 0 where that is not known.
    """
    found = list(_differing(asked, in_force))
    size = _read(asked.get("kv_cache_memory_bytes"))
    # An engine takes whole blocks, so less may be in force, and never more.
    if _is_number(size) and cache_bytes and not size / 2 <= cache_bytes <= size:
        found.append(f"kv_cache_memory_bytes={size} and {cache_bytes} bytes are in force")
    return f"the engine did not take what was asked: {'; '.join(found)}" if found else None


def _differing(asked: Mapping[str, Any], in_force: Mapping[str, Any]) -> Iterator[str]:
    for key, given in asked.items():
        name = key if key in in_force else key.removeprefix(_SWITCH)
        value, wanted = in_force.get(name), _read(given)
        if name in _OTHERS or value is None or wanted is None:
            continue  # not a fact, or the engine was to choose
        alike = type(value) is type(wanted) or (_is_number(value) and _is_number(wanted))
        if alike and value != wanted:
            yield f"{key}={_shown(wanted)} and {_shown(value)} is in force"


def _read(given: Any) -> Any:
    """A value of its own type; text as JSON where it is JSON."""
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given.lower())
    except ValueError:
        return given


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
