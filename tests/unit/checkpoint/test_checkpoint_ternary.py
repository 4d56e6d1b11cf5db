"""The quantizer's arithmetic, against its formula spelled out one weight at a time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkpoint.ternary import (
    EPSILON,
    group_of,
    is_quantized_name,
    quantize,
    quantize_float32,
    to_bfloat16,
    widen,
)
from harness.errors import ModelError, UsageError

FINITE = st.integers(0, 0xFFFF).filter(lambda bits: bits & 0x7F80 != 0x7F80)


def one_by_one(bits: np.ndarray, group: int) -> np.ndarray:
    """W_q of bfloat16 bits, with an exact mean and Python's own rounding."""
    weights = widen(bits, "BF16").reshape(-1, group)
    out = np.empty_like(weights)
    for row, values in enumerate(weights):
        exact = sum(abs(Fraction(float(v))) for v in values) / group
        scale = max(np.float32(float(exact)), EPSILON)
        for column, value in enumerate(values):
            ratio = float(np.float32(value) / scale)
            level = min(1, max(-1, round(ratio)))  # Python rounds half to even
            out[row, column] = np.copysign(np.float32(abs(level)) * scale, value)
    return to_bfloat16(out.reshape(bits.shape))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.floats(-0.5, 0.5, width=32), min_size=24, max_size=24),
    st.sampled_from([2, 3, 4, 6, 8, 12, 24]),
)
def test_the_fast_path_is_the_formula(values: list[float], group: int) -> None:
    bits = to_bfloat16(np.array(values, dtype=np.float32)).reshape(1, 24)
    assert quantize(bits, "BF16", group).tolist() == one_by_one(bits, group).tolist()


@settings(max_examples=300, deadline=None)
@given(st.lists(FINITE, min_size=16, max_size=16), st.sampled_from([1, 2, 4, 16]))
def test_the_fast_path_and_the_float32_path_agree_on_any_bits(raw: list[int], group: int) -> None:
    bits = np.array(raw, dtype=np.uint16).reshape(2, 8) if group < 16 else None
    if bits is None:
        bits = np.array(raw, dtype=np.uint16).reshape(1, 16)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = to_bfloat16(quantize_float32(widen(bits, "BF16"), group))
    assert quantize(bits, "BF16", group).tolist() == exact.tolist()


def test_a_weight_at_exactly_half_the_scale_goes_to_zero_and_the_next_one_does_not() -> None:
    # mean |w| of the eight is 0.5, so 0.25 is the tie
    above = 0.25 * (1 + 2**-7)
    values = [0.25, -0.25, above, 0.5, 0.75, 0.75, 1.25, 0.0]
    values[-1] = 4.0 - sum(map(abs, values))
    got = widen(quantize(to_bfloat16(np.array([values], np.float32)), "BF16", -1), "BF16")[0]
    assert np.signbit(got[1])
    assert list(map(float, got)) == [0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0]


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_other_dtypes_take_the_float32_path(dtype: str) -> None:
    values = np.random.default_rng(1).standard_normal((5, 48)).astype(np.float32) * 0.02
    data = values.astype(np.float16) if dtype == "F16" else values
    expected = to_bfloat16(quantize_float32(data.astype(np.float32), 48))
    assert (quantize(data, dtype, -1) == expected).all()


def test_tiles_do_not_change_a_bit() -> None:
    bits = to_bfloat16(np.random.default_rng(2).standard_normal((700, 512)).astype(np.float32))
    apart = np.concatenate([quantize(row[None], "BF16", 64) for row in bits])
    assert (quantize(bits, "BF16", 64) == apart).all()


def test_a_group_of_zeros_stays_zero() -> None:
    assert not quantize(np.zeros((2, 8), np.uint16), "BF16", 4).any()


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0, 0x7F81])
def test_infinities_and_nan_are_refused(bits: int) -> None:
    data = np.full((1, 8), bits, dtype=np.uint16)
    with pytest.raises(ModelError, match="infinite or NaN"):
        quantize(data, "BF16", -1)


@pytest.mark.parametrize(("size", "said"), [(3, "does not divide"), (0, "positive"), (-2, "posi")])
def test_a_group_size_that_does_not_fit_is_refused(size: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        group_of(64, size)


def test_bfloat16_rounds_ties_to_even() -> None:
    exact = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20], np.float32)
    assert widen(to_bfloat16(exact), "BF16").tolist() == [1.0, 1.0, 1 + 2**-6, 1 + 2**-7]


def test_only_the_linears_of_layers_are_quantized() -> None:
    assert is_quantized_name("model.layers.27.mlp.down_proj.weight")
    for name in ("lm_head.weight", "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.bias"):
        assert not is_quantized_name(name)
