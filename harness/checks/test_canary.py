"""The outcome of ``--canary``."""

from __future__ import annotations

import pytest

from harness.canary.result import Canary


def test_canary(canary: Canary, request: pytest.FixtureRequest) -> None:
    """Fails where a bit of the model with known logits is wrong, with the cause."""
    request.node.user_properties.append(("harness.canary", canary.outcome))
    if canary.outcome != "EXACT":
        lines = [canary.sentence, *(finding.sentence for finding in canary.findings)]
        pytest.fail("\n".join(lines), pytrace=False)
