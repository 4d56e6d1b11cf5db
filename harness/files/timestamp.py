"""The time as files state it."""

from __future__ import annotations

from datetime import datetime, timezone


def utc_now() -> str:
    """Now in ISO 8601, UTC, whole seconds: ``2025-01-31T12:00:00+00:00``."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
