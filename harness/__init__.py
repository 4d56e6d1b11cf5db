"""Prove that a language model ported to a new accelerator still computes the same.

    from harness import Suite, compare, load_recording, record

Lazy: importing the package imports nothing else, so that
``python3 -m harness.doctor`` and ``harness --help`` stay quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.version import __version__ as __version__

if TYPE_CHECKING:
    from harness.api import compare, load_recording, record
    from harness.suite.suite import Suite

__all__ = ["Suite", "compare", "load_recording", "record"]


def __getattr__(name: str) -> Any:
    if name == "Suite":
        from harness.suite.suite import Suite

        return Suite
    if name in __all__:
        from harness import api

        return getattr(api, name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
