"""Sampling works: opt in with ``-m smoke``. It claims no parity."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from harness.session.smoke import Sampled, problem_of


@pytest.mark.smoke
def test_smoke(
    smoke_prompt: str, smoke: Mapping[str, Sampled], request: pytest.FixtureRequest
) -> None:
    """Generation ends, is finite, is not one token repeated, and repeats under its seed."""
    sampled = smoke[smoke_prompt]
    request.node.user_properties.append(("harness.smoke_tokens", len(sampled.first.token_ids)))
    problem = problem_of(sampled)
    if problem is not None:
        pytest.fail(f"{smoke_prompt}: {problem}", pytrace=False)
