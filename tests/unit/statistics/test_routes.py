from __future__ import annotations

import itertools

import numpy as np
import pytest

from harness.statistics.routes import Routes, joined, set_hashes


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
