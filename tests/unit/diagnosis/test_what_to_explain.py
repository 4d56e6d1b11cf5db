"""What is to be explained, from recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from factories import fake_baseline, fake_record, fake_suite

from harness.baseline.baseline import Baseline
from harness.devices.fake import FakeDevice
from harness.diagnosis.errors import (
    CONTRASTS,
    FEWEST_PROMPTS,
    PromptErrors,
    errors_of,
    spread,
)
from harness.errors import UsageError
from harness.recording.context import Context
from harness.recording.recorder import Options

SUITE = fake_suite(prompts=6, tokens=8)
BASELINE = fake_baseline(SUITE)
CANDIDATE = fake_record(FakeDevice(seed=3), SUITE, Options(context=Context.of(BASELINE.reference)))


def test_rows_tokens_and_errors_are_those_of_the_recordings() -> None:
    found = errors_of(CANDIDATE, BASELINE)
    assert [p.id for p in found.prompts] == [p.id for p in BASELINE.reference.prompts]
    assert found.rows == 48
    assert BASELINE.oracle is not None
    for mine, reference, oracle in zip(
        found.prompts, BASELINE.reference.prompts, BASELINE.oracle.prompts, strict=True
    ):
        given = (*reference.prompt_token_ids, *reference.run.token_ids[:-1])
        assert mine.token_ids == given
        assert oracle.run.rows.sketch is not None
        assert mine.truth == pytest.approx(oracle.run.rows.sketch.astype(float))
        assert mine.arms.shape == (1 + len(BASELINE.controls), 8, 64)
        assert mine.rounding == pytest.approx(mine.arms.mean(axis=0))


def test_an_arm_as_the_candidate_has_the_error_of_an_arm() -> None:
    name = next(iter(BASELINE.controls))
    found = errors_of(BASELINE.controls[name], BASELINE)
    for prompt in found.prompts:
        assert any(np.array_equal(prompt.candidate, arm) for arm in prompt.arms)
    assert found.excess() < 0.5 * found.arms()


def test_how_much_of_the_arms_rounding_a_candidate_shares_is_seen_in_its_error() -> None:
    """All of it in an arm; in a higher precision none, and then any part may be. Less than half
    in the mean is none in some directions."""
    found = errors_of(CANDIDATE, BASELINE)
    for error, least in (
        (lambda p: 1.0 * p.rounding, 0.9),
        (lambda p: 0.8 * p.rounding, 0.75),
        (lambda p: 0.3 * p.rounding, 0.0),
        (lambda p: 0.0 * p.rounding, 0.0),
    ):
        mine = tuple(replace(p, arms=p.arms + 3.0 * shared(p)) for p in found.prompts)
        mine = tuple(replace(p, candidate=error(p)) for p in mine)
        shares = replace(found, prompts=mine).shares
        assert shares[-1] == 1.0
        assert shares[0] == pytest.approx(least, abs=0.15)
        assert list(shares) == sorted(shares)


def shared(prompt: PromptErrors) -> np.ndarray:
    """An error that all arms have."""
    return np.ones_like(prompt.candidate) * float(np.abs(prompt.arms).mean())


def test_contrasts_of_arms_hold_nothing_that_all_have() -> None:
    found = errors_of(CANDIDATE, BASELINE).prompts[0]
    moved = replace(found, arms=found.arms + 5.0)
    assert found.contrasts.shape == (min(CONTRASTS, len(found.arms) - 1), 8, 64)
    assert moved.contrasts == pytest.approx(found.contrasts, abs=1e-9)


def test_the_order_of_prompts_is_the_baselines() -> None:
    turned = CANDIDATE.model_copy(update={"prompts": CANDIDATE.prompts[::-1]})
    mine, other = errors_of(CANDIDATE, BASELINE), errors_of(turned, BASELINE)
    for one, two in zip(mine.prompts, other.prompts, strict=True):
        assert one.id == two.id
        assert np.array_equal(one.candidate, two.candidate)


def test_too_few_prompts_are_one_line() -> None:
    few = CANDIDATE.model_copy(update={"prompts": CANDIDATE.prompts[: FEWEST_PROMPTS - 1]})
    with pytest.raises(UsageError, match="of 4 prompts, and 3 have them; record a suite"):
        errors_of(few, BASELINE)


def test_a_baseline_without_an_oracle_is_one_line() -> None:
    with pytest.raises(UsageError, match="an oracle and two controls"):
        errors_of(CANDIDATE, Baseline(BASELINE.reference))


def test_rows_that_are_not_finite_are_left_out() -> None:
    broken = fake_record(
        FakeDevice(seed=3, fault="nan"), SUITE, Options(context=Context.of(BASELINE.reference))
    )
    with pytest.raises(UsageError, match="whole, finite rows"):
        errors_of(broken, BASELINE)


@pytest.mark.parametrize(("most", "expected"), [(9, range(6)), (6, range(6)), (4, (0, 1, 3, 4))])
def test_of_a_large_suite_prompts_are_taken_all_over_it(most: int, expected: Sequence[int]) -> None:
    ids = [prompt.id for prompt in BASELINE.reference.prompts]
    candidate, baseline = spread(CANDIDATE, BASELINE, most)
    assert (candidate is CANDIDATE) == (most >= 6)
    found = errors_of(candidate, baseline)
    assert [p.id for p in found.prompts] == [ids[i] for i in expected]
    for arm in dict(baseline.arms()).values():
        assert [p.id for p in arm.prompts] == [ids[i] for i in expected]


def test_only_prompts_that_both_have_are_taken() -> None:
    ids = [prompt.id for prompt in BASELINE.reference.prompts]
    fewer = CANDIDATE.model_copy(update={"prompts": CANDIDATE.prompts[1:]})
    candidate, baseline = spread(fewer, BASELINE, 5)
    assert candidate is fewer
    assert [p.id for p in spread(fewer, BASELINE, 4)[1].reference.prompts] == [
        ids[i] for i in (1, 2, 3, 4)
    ]
    assert baseline is BASELINE
