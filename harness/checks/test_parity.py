"""One test per prompt: it passes where the prompt's own verdict is aligned."""

from __future__ import annotations

import pytest

from harness.alignment.outcomes import ALIGNED, FAILING
from harness.alignment.result import Alignment
from harness.report.failure import prompt_failure, prompt_unaligned
from harness.report.properties import prompt_properties
from harness.session.session import Session


def test_prompt(
    harness_prompt: str,
    harness_session: Session,
    alignment: Alignment,
    request: pytest.FixtureRequest,
) -> None:
    """EXACT, TIE and NEAR_TIE pass: equal tokens are not required. A finding beside the
    positions fails it too."""
    if not alignment.comparability.comparable:
        pytest.fail(alignment.sentence, pytrace=False)
    if harness_prompt in (alignment.candidate.suite.left_out or ()):
        pytest.skip(f"{harness_prompt}: chat messages, and the model has no chat template")
    prompt = next(p for p in alignment.prompts if p.id == harness_prompt)
    request.node.user_properties.extend(prompt_properties(prompt))
    if FAILING.intersection(c for c in prompt.positions.class_ if c is not None):
        command = harness_session.command(prompt.id)
        pytest.fail(prompt_failure(alignment, prompt, command), pytrace=False)
    if prompt.verdict not in ALIGNED:
        pytest.fail(prompt_unaligned(prompt), pytrace=False)
