from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.statistics.routes import (
    Routes,
    joined,
    left,
    router_noise,
    set_hashes,
    tried,
    widest_flip,
)


def test_a_set_has_one_hash_in_any_order_and_others_have_others() -> None:
    sets = list(itertools.combinations(range(24), 3))
    hashes = set_hashes(np.array(sets))
    assert hashes.dtype == np.uint16
    # 2,024 sets: by chance 31 pairs of 65,536 hashes are equal.
    assert len(set(hashes.tolist())) > 1960
    for ids in sets[::97]:
        for order in itertools.permutations(ids):
            assert set_hashes(np.array(order, np.int32)) == set_hashes(np.array(ids))


def test_the_shape_is_that_of_the_routers() -> None:
    ids = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert set_hashes(ids).shape == (2, 3)
    assert set_hashes(ids)[1, 2] == set_hashes(ids[1, 2])


def test_parts_are_joined_and_margins_only_where_all_tell_them() -> None:
    told = Routes(np.ones((2, 3), np.uint16), np.ones((2, 3), np.float32))
    bare = Routes(np.zeros((1, 3), np.uint16))
    both = joined([told, told])
    assert both is not None
    assert (len(both), both.layers) == (4, 3)
    assert both.margin is not None
    mixed = joined([told, bare])
    assert mixed is not None
    assert mixed.margin is None
    assert joined([]) is None
    assert joined([told, Routes(np.zeros((1, 2), np.uint16))]) is None
    assert len(told[:1]) == 1


def test_shapes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="not \\(rows, layers\\)"):
        Routes(np.zeros(3, np.uint16))
    with pytest.raises(ValueError, match="not \\(rows, layers\\)"):
        Routes(np.zeros((3, 0), np.uint16))
    with pytest.raises(ValueError, match="margins"):
        Routes(np.zeros((3, 2), np.uint16), np.zeros((2, 2), np.float32))


def test_those_of_the_prompt_are_kept_where_all_of_them_are_known() -> None:
    found = Routes(np.arange(6, dtype=np.uint16)[:, None])
    rows, whole = found.of(2, 3), found.of(2, 5)
    assert rows is not None
    assert rows.chosen[:, 0].tolist() == [4, 5]
    assert whole is not None
    assert whole.chosen[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.of(7, 1) is None


def two_layers(chosen: list[list[int]], margin: list[list[float]] | None = None) -> Routes:
    told = None if margin is None else np.array(margin, np.float32)
    return Routes(np.array(chosen, np.uint16), told)


TRUTH = two_layers([[7, 7]] * 4, [[0.9, 0.8], [0.7, 0.6], [0.5, 0.4], [0.3, 0.2]])


def test_the_first_layer_that_moved_has_the_margin() -> None:
    arm = two_layers([[7, 7], [7, 8], [8, 8], [7, 7]])
    moved, margin = left(arm, TRUTH)
    assert moved.tolist() == [False, True, True, False]
    np.testing.assert_allclose(margin, [np.nan, 0.6, 0.5, np.nan])
    bare = two_layers([[7, 7]] * 4)
    assert np.isnan(left(arm, bare)[1]).all()


def test_choices_are_counted_up_to_the_first_other_one() -> None:
    arm = two_layers([[7, 7], [7, 8], [8, 8], [7, 7]])
    np.testing.assert_allclose(tried(arm, TRUTH), [0.9, 0.8, 0.7, 0.6])
    np.testing.assert_allclose(
        tried(TRUTH, TRUTH), [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], rtol=1e-6
    )
    assert not len(tried(arm, two_layers([[7, 7]] * 4)))


def drawn(seed: int, noise: float, choices: int) -> tuple[NDArray[np.float64], int]:
    """Margins of exponential length, and how many normal noise turns."""
    random = np.random.default_rng(seed)
    margins = random.exponential(1.0, choices)
    return margins, int((noise * random.standard_normal(choices) < -margins).sum())


def test_the_noise_is_a_bound_and_not_a_wide_one() -> None:
    """With s small, ``s / sqrt(2 pi)`` of the choices flip: 4 of 1,000, 40 of 10,000."""
    for choices, widest in ((1_000, 4.0), (10_000, 1.6), (20_000, 1.4)):
        found = [router_noise(*drawn(seed, 0.01, choices)) / 0.01 for seed in range(40)]
        assert sum(x >= 1.0 for x in found) >= 38, choices
        assert np.median(found) < widest, choices


def test_no_flip_does_not_mean_no_noise() -> None:
    """None seen: four are allowed. With one margin m for all, ``n Phi(-m / s) = 4``."""
    found = router_noise(np.full(1000, 0.5), 0)
    assert 1000 * 0.5 * math.erfc(0.5 / found / math.sqrt(2.0)) == pytest.approx(4.0)
    assert router_noise(np.full(8, 0.5), 0) == math.inf
    assert router_noise(np.zeros(0), 0) == math.inf


def test_the_widest_flip_is_where_few_are_expected_beyond() -> None:
    margins = np.linspace(0.0, 10.0, 100_001)
    found = widest_flip(margins, 1.0, 1e-3)
    expected = sum(0.5 * math.erfc(m / math.sqrt(2.0)) for m in margins[margins > found].tolist())
    assert expected == pytest.approx(1e-3, rel=0.01)
    assert widest_flip(margins, 2.0, 1e-3) == pytest.approx(2.0 * found, rel=0.1)
    assert widest_flip(np.zeros(0), 1.0, 1e-3) == math.inf
    assert widest_flip(margins, math.inf, 1e-3) == math.inf


@pytest.mark.parametrize("seed", range(20))
def test_a_correct_device_flips_at_no_wider_margin(seed: int) -> None:
    margins, flips = drawn(seed, 0.01, 2_000)
    widest = widest_flip(margins, router_noise(margins, flips), 1e-3)
    random = np.random.default_rng(100 + seed)
    turned = margins[0.01 * random.standard_normal(len(margins)) < -margins]
    assert turned.max(initial=0.0) <= widest < 0.2
