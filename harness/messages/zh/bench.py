"""Reports of benches, in Chinese."""

from __future__ import annotations

MESSAGES: dict[str, str] = {}
