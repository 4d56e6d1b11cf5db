from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.devices.trace import (
    EMBEDDING,
    HEAD,
    IN_LAYER,
    NORM,
    Trace,
    digest_of,
    head_statistics,
    layer_of,
    layer_place,
    order_of,
    read_trace,
    sketch_rows,
    write_trace,
)
from harness.statistics.rows import squared_norm

RNG = np.random.default_rng


def test_places_sort_in_the_order_of_execution() -> None:
    layers = [layer_place(n, within) for n in (0, 2, 10) for within in IN_LAYER]
    places = [EMBEDDING, *layers, NORM, HEAD]
    assert sorted(set(places), key=order_of) == places


def test_a_place_knows_its_layer() -> None:
    assert layer_of("model.layers.10.self_attn.qkv_proj") == 10
    assert layer_of("model.layers.3") == 3
    assert layer_of(NORM) is None


def test_an_unknown_place_has_no_order() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        order_of("model.layers.1.self_attn.q_proj")


def test_a_sketch_estimates_the_distance_of_two_blocks() -> None:
    random = RNG(1)
    a = random.standard_normal((400, 576)).astype(np.float32)
    b = a + 0.01 * random.standard_normal(a.shape).astype(np.float32)
    estimate = squared_norm(sketch_rows(a).astype(float) - sketch_rows(b)).sum()
    assert estimate == pytest.approx(float(((a - b).astype(float) ** 2).sum()), rel=0.05)


def test_a_sketch_is_not_centred() -> None:
    ones = np.ones((3, 64), np.float32)
    assert np.abs(sketch_rows(ones)).sum() > 0


def test_a_row_that_is_not_finite_gives_nan_and_the_others_do_not() -> None:
    block = np.ones((300, 8), np.float32)
    block[1, 3], block[299, 0] = np.nan, np.inf
    bad = ~np.isfinite(sketch_rows(block)).all(axis=1)
    assert np.flatnonzero(bad).tolist() == [1, 299]


def test_a_digest_tells_bits_but_not_the_sign_of_zero() -> None:
    block = np.array([[0.0, 1.0]], np.float32)
    assert digest_of(block) == digest_of(np.array([[-0.0, 1.0]], np.float32))
    assert digest_of(block) != digest_of(np.nextafter(block, np.float32(2.0)))


def test_a_trace_survives_its_file(tmp_path: Path) -> None:
    block = RNG(2).standard_normal((5, 32)).astype(np.float32)
    rows = RNG(3).standard_normal((5, 64)).astype(np.float32)
    trace = Trace(
        "p",
        (1, 2, 3, 4, 5),
        {NORM: sketch_rows(block)},
        {NORM: digest_of(block)},
        head_statistics(rows),
    )
    write_trace(trace.sketches, trace.digests, trace.head, tmp_path / "t.npz")
    read = read_trace([tmp_path / "t.npz"], "p", trace.token_ids)
    assert np.array_equal(read.sketches[NORM], trace.sketches[NORM])
    assert dict(read.digests) == dict(trace.digests)
    for name, array in vars(trace.head).items():
        assert np.array_equal(getattr(read.head, name), array), name


def test_a_trace_of_stages_is_read_as_one(tmp_path: Path) -> None:
    """Each stage has the places of its own layers, the last one the head too."""
    random = RNG(4)
    blocks = {
        layer_place(n, ""): random.standard_normal((5, 32)).astype(np.float32) for n in (0, 1)
    }
    head = head_statistics(random.standard_normal((5, 64)).astype(np.float32))
    files = [tmp_path / f"t.npz.{stage}" for stage in (0, 1)]
    for file, (place, block), rows in zip(files, blocks.items(), (None, head), strict=True):
        write_trace({place: sketch_rows(block)}, {place: digest_of(block)}, rows, file)
    read = read_trace(files, "p", (1, 2, 3, 4, 5))
    assert dict(read.digests) == {place: digest_of(block) for place, block in blocks.items()}
    assert np.array_equal(read.head.top_ids, head.top_ids)
