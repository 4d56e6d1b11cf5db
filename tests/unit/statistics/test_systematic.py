"""The systematic share: by hand, of real sketches, and of noise alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.statistics.rows import SKETCH_WIDTH, hashes
from harness.statistics.systematic import FEWEST_PROMPTS, systematic_share

VOCABULARY = 4096
BUCKET, SIGN = hashes(VOCABULARY)


def sketch(vectors: np.ndarray) -> np.ndarray:
    """Real count-sketches of rows, (n, VOCABULARY) to (n, 64)."""
    found = np.zeros((len(vectors), SKETCH_WIDTH))
    for k, row in enumerate(vectors):
        found[k] = np.bincount(BUCKET, weights=row * SIGN, minlength=SKETCH_WIDTH)
    return found


def sparse(random: np.random.Generator, ids: int, norm: float) -> np.ndarray:
    """A direction of a few ids of random sizes, as a lost token or a wrong head has."""
    found = np.zeros(VOCABULARY)
    found[random.choice(VOCABULARY, ids, replace=False)] = random.standard_normal(ids)
    return norm * found / np.linalg.norm(found)


def alike(direction: np.ndarray, prompts: int, rows: int) -> np.ndarray:
    """Sums over the rows of prompts that are all off by the same sketch."""
    return np.tile(rows * sketch(direction[None])[0], (prompts, 1))


def test_a_share_of_three_prompts_with_unequal_rows_by_hand() -> None:
    """Sums (2, 0), (3, 0) and (0, 4) over 1, 2 and 3 positions, errors 2, 4 and 6:
    products of different prompts 2 * 6 over 2 * (2 + 3 + 6), by a mean error of 2."""
    sums = np.zeros((3, SKETCH_WIDTH))
    sums[0, 0], sums[1, 0], sums[2, 1] = 2.0, 3.0, 4.0
    found = systematic_share(sums, np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    value = 12 / 22 / 2
    assert found.value == pytest.approx(value)
    # Left out one by one: 0 of two products, 0, and 6 / 2 by a mean error of 2.
    left_out = np.array([0.0, 0.0, 3.0 / 2])
    scatter = math.sqrt(2 / 3 * float(np.sum((left_out - left_out.mean()) ** 2)))
    sketched = math.sqrt(2 / 64) * value
    assert found.error == pytest.approx(math.hypot(scatter, sketched))
    # Welch and Satterthwaite: the sketch's own part has no bounds of freedom.
    own = (4 + 9 + 16) ** 2 / (16 + 81 + 256) - 1
    assert found.freedom == pytest.approx(own * (math.hypot(scatter, sketched) / scatter) ** 4)
    assert (found.log, found.prompts) == (False, 3)


def test_the_share_does_not_depend_on_the_scale_of_the_logits() -> None:
    random = np.random.default_rng(1)
    sums, counts = random.standard_normal((6, SKETCH_WIDTH)), np.full(6, 4.0)
    near = systematic_share(sums, counts, np.ones(6))
    far = systematic_share(1e6 * sums, counts, 1e12 * np.ones(6))
    assert far.value == pytest.approx(near.value)
    assert far.error == pytest.approx(near.error)


def test_one_direction_in_every_prompt_is_as_unsure_as_its_sketch() -> None:
    """Prompts that agree to the last bit leave the sketch's own deviation, which more
    prompts do not make smaller."""
    random = np.random.default_rng(2)
    direction = sparse(random, 8, 0.5)
    errors = []
    for prompts in (4, 400):
        sums = alike(direction, prompts, 10)
        found = systematic_share(sums, np.full(prompts, 10.0), np.full(prompts, 10.0))
        assert found.value == pytest.approx(float(np.sum(sketch(direction[None]) ** 2)))
        assert found.error == pytest.approx(math.sqrt(2 / 64) * (found.value or 0.0), rel=1e-6)
        errors.append(found.error)
    assert errors[0] == pytest.approx(errors[1])


@pytest.mark.parametrize("ids", [1, 2, 4, 16, 256])
def test_the_interval_holds_the_share_of_a_sparse_direction(ids: int) -> None:
    """200 draws: each another direction, of which the sketch keeps more or less."""
    random = np.random.default_rng(30 + ids)
    share, prompts, rows, covered, without = 0.06, 24, 8, 0, 0
    for _ in range(200):
        direction = sparse(random, ids, math.sqrt(share))
        noise = random.standard_normal((prompts, SKETCH_WIDTH)) * math.sqrt(rows / SKETCH_WIDTH)
        sums = alike(direction, prompts, rows) + noise
        found = systematic_share(sums, np.full(prompts, float(rows)), np.full(prompts, float(rows)))
        near = found.interval()
        assert near.low is not None
        assert near.high is not None
        covered += near.low <= share <= near.high
        assert found.value is not None
        assert found.error is not None
        own = math.sqrt(2 / SKETCH_WIDTH) * max(found.value, 0.0)
        without += abs(found.value - share) <= 2.07 * math.sqrt(max(found.error**2 - own**2, 0.0))
    assert covered > 0.9 * 200
    if ids > 1:
        # What the scatter over prompts alone would say: too sure of itself.
        assert without < covered


def test_noise_alone_has_no_share_on_average() -> None:
    random = np.random.default_rng(3)
    found = []
    for _ in range(500):
        sums = random.standard_normal((10, SKETCH_WIDTH)) * math.sqrt(8 / SKETCH_WIDTH)
        value = systematic_share(sums, np.full(10, 8.0), np.full(10, 8.0)).value
        assert value is not None
        found.append(value)
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(500)
    # With the products of each prompt with itself it would be 1 / 80.
    assert 4 * np.std(found) / math.sqrt(500) < 1 / 80


def test_noise_alone_is_never_surely_systematic() -> None:
    random = np.random.default_rng(5)
    surely = 0
    for _ in range(500):
        sums = random.standard_normal((4, SKETCH_WIDTH)) * math.sqrt(8 / SKETCH_WIDTH)
        low = systematic_share(sums, np.full(4, 8.0), np.full(4, 8.0)).interval(0.999).low
        assert low is not None
        surely += low > 0.0
    assert surely <= 2


@pytest.mark.parametrize("prompts", range(4))
def test_too_few_prompts_have_no_share(prompts: int) -> None:
    found = systematic_share(np.ones((prompts, SKETCH_WIDTH)), np.ones(prompts), np.ones(prompts))
    assert (found.value is None) == (prompts < FEWEST_PROMPTS)
    assert found.prompts == prompts


def test_a_reference_without_an_error_has_no_share() -> None:
    found = systematic_share(np.ones((5, SKETCH_WIDTH)), np.ones(5), np.zeros(5))
    assert found.value is None
