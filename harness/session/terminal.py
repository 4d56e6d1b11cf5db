"""Progress on pytest's terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness.process.progress import Progress


class TerminalProgress(Progress):
    """Progress that bypasses pytest's capture of output."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        with self._uncaptured():
            super().__init__(sys.stderr)

    def _write(self, text: str) -> None:
        with self._uncaptured():
            sys.stderr.write(text)
            sys.stderr.flush()

    @contextmanager
    def _uncaptured(self) -> Iterator[None]:
        capture: Any = self._config.pluginmanager.getplugin("capturemanager")
        if capture is None:
            yield
        else:
            with capture.global_and_fixture_disabled():
                yield
