"""Arrays come back bit for bit, and malformed strings are refused."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.files.packing import pack, unpack

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9)
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def packed(code: str, data: bytes) -> str:
    return f"{code} {base64.b64encode(data).decode()}"


@settings(deadline=None)
@given(st.data(), st.sampled_from(INTEGERS))
def test_integers_of_32_bits_come_back(data: st.DataObject, dtype: str) -> None:
    limits = np.iinfo(dtype)
    low, high = data.draw(st.sampled_from([(-(2**31), 2**31 - 1), (0, 2**32 - 1)]))
    elements = st.integers(max(limits.min, low), min(limits.max, high))
    array = data.draw(hnp.arrays(dtype, SHAPES, elements=elements))
    assert same_bits(unpack(pack(array), dtype, array.shape), array)


@settings(deadline=None)
@given(st.data(), st.sampled_from(["float16", "float32", "float64"]))
def test_floats_come_back_bit_for_bit(data: st.DataObject, dtype: str) -> None:
    elements = hnp.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False)
    array = data.draw(hnp.arrays(dtype, SHAPES, elements=elements))
    wide = array.astype(np.float32) if dtype == "float16" else array
    assert same_bits(unpack(pack(wide), str(wide.dtype), wide.shape), wide)


@settings(deadline=None)
@given(hnp.arrays(np.uint16, 20))
def test_bfloat16_values_take_two_bytes(upper: np.ndarray) -> None:
    values = (upper.astype(np.uint32) << 16).view(np.float32)
    values = np.where(np.isfinite(values), values, np.float32(-0.0))
    text = pack(values)
    assert text.split(" ")[0] in ("b2", "b2z")
    assert same_bits(unpack(text, "float32", values.shape), values)


def test_every_finite_float16_comes_back() -> None:
    half = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = half[np.isfinite(half)].astype(np.float32)
    text = pack(values)
    assert text.split(" ")[0] in ("f2", "f2z")
    assert same_bits(unpack(text, "float32", values.shape), values)


@pytest.mark.parametrize(
    ("values", "dtype", "code"),
    [
        ([], np.int32, "u1"),
        ([0, 255], np.int32, "u1"),
        ([256], np.int32, "u2"),
        ([65_535], np.int64, "u2"),
        ([65_536], np.int32, "u3"),
        ([73_447], np.uint32, "u3"),
        ([2**24 - 1], np.int32, "u3"),
        ([2**24], np.int32, "u4"),
        ([2**32 - 1], np.uint64, "u4"),
        ([-1], np.int8, "i4"),
        ([-(2**31), 2**31 - 1], np.int64, "i4"),
        ([], np.float32, "b2"),
        ([1.5, -0.0, 0.0], np.float32, "b2"),
        ([3e38], np.float32, "f4"),
        ([1.0009765625], np.float32, "f2"),
        ([513 * 2.0**-24], np.float16, "f2"),
        ([65_504.0], np.float16, "f2"),
        ([1.0009765625, 65_520.0], np.float32, "f4"),
        ([0.1], np.float32, "f4"),
        ([1.0], np.float64, "f8"),
    ],
)
def test_the_narrowest_type_is_chosen(values: list[float], dtype: type, code: str) -> None:
    array: np.ndarray = np.array(values, dtype)
    text = pack(array)
    assert text.split(" ")[0] == code
    wanted = "float32" if array.dtype == np.float16 else str(array.dtype)
    back = unpack(text, wanted, array.shape)
    assert back.astype(array.dtype).tobytes() == array.tobytes()


def test_the_written_form_is_frozen() -> None:
    assert pack(np.array([1, 256, 65_536], np.int32)) == "u3 AQAAAAEAAAAB"
    assert pack(np.array([1.0, -2.0], np.float32)) == "b2 gD8AwA=="
    assert pack(np.array([0.1], np.float32)) == "f4 zczMPQ=="
    assert pack(np.array([-1], np.int32)) == "i4 /////w=="


def test_what_repeats_is_written_in_planes_and_deflated() -> None:
    logits = np.linspace(14, 15.5, 4000).astype(np.float32)
    text = pack(logits)
    assert text.startswith("f4z ")
    assert len(text) < 0.75 * len(packed("f4", logits.tobytes()))
    assert same_bits(unpack(text, "float32", (4000,)), logits)
    planes = packed("u3z", deflated(bytes([1, 4, 2, 5, 3, 6])))
    assert unpack(planes, "int32", (2,)).tolist() == [0x030201, 0x060504]


def test_byte_order_and_layout_of_the_array_do_not_matter() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4) / 3
    assert pack(array.astype(">f4")) == pack(array)
    assert pack(np.asfortranarray(array)) == pack(array)


@pytest.mark.parametrize(
    "array",
    [
        np.array([np.nan], np.float32),
        np.array([np.inf]),
        np.array([-np.inf], np.float16),
        np.array([2**32], np.int64),
        np.array([-(2**31) - 1], np.int64),
        np.array([-1, 2**31], np.int64),
        np.array([2**64 - 1], np.uint64),
        np.array([True]),
        np.array([1j]),
        np.array(["a"]),
        np.array([1.0], np.longdouble),
    ],
)
def test_what_cannot_be_written_exactly_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"cannot be written|does not fit"):
        pack(array)


@pytest.mark.parametrize(
    ("text", "dtype", "shape", "problem"),
    [
        ("", "int32", (0,), "type code"),
        ("u1", "int32", (1,), "0 values, 1 expected"),
        ("u9 AA==", "int32", (1,), "type code 'u9'"),
        ("f4AAAAAA==", "float32", (1,), "type code"),
        ("u1 A", "int32", (1,), "base64"),
        ("u1 AA=", "int32", (1,), "base64"),
        ("u1 A A=", "int32", (1,), "base64"),
        ("u1 ä===", "int32", (1,), "base64"),
        ("u1 AA==\n", "int32", (1,), "base64"),
        (packed("u2", b"123"), "int32", (1,), "middle of a value"),
        (packed("f8", b"1234"), "float64", (1,), "middle of a value"),
        (packed("u1", b"12"), "int32", (3,), "2 values, 3 expected"),
        (packed("u1", b"12"), "int32", (2, 0), "2 values, 0 expected"),
        (packed("f2", b"12"), "int32", (1,), "fractions"),
        (packed("u1", b"1"), "float32", (1,), "floating-point"),
        (packed("f4", b"\0\0\xc0\x7f"), "float32", (1,), "finite"),
        (packed("f4", b"\0\0\x80\xff"), "float32", (1,), "finite"),
        (packed("b2", b"\x80\x7f"), "float32", (1,), "finite"),
        (packed("f8", b"\0" * 8), "float32", (1,), "wider"),
        (packed("u4", b"\xff" * 4), "int32", (1,), "beyond int32"),
        (packed("z", b"1"), "int32", (1,), "type code ''"),
        (packed("q4z", b"1"), "int32", (1,), "type code 'q4'"),
        (packed("u1zz", b"1"), "int32", (1,), "type code 'u1z'"),
        (packed("u1z", b"\xff\xff"), "int32", (1,), "deflated"),
        (packed("u1z", b""), "int32", (1,), "does not hold the 1 values"),
        (packed("u1z", deflated(b"12")), "int32", (1,), "does not hold the 1 values"),
        (packed("u1z", deflated(b"12")[:-1]), "int32", (2,), "does not hold the 2 values"),
        (packed("u1z", deflated(b"12") + b"x"), "int32", (2,), "does not hold the 2 values"),
        (packed("f4z", deflated(b"\0\0\xc0\x7f")), "float32", (1,), "finite"),
        (packed("u1z", deflated(bytes(10**8))), "int32", (3,), "does not hold the 3 values"),
        (packed("u2", b"\0\x01"), "uint8", (1,), "beyond uint8"),
        (packed("i4", b"\xff" * 4), "uint8", (1,), "beyond uint8"),
    ],
)
def test_malformed_strings_are_refused(
    text: str, dtype: str, shape: tuple[int, ...], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        unpack(text, dtype, shape)


@settings(deadline=None)
@given(st.text(), st.sampled_from(["int32", "float32", "float64", "uint8"]))
def test_any_other_text_is_refused_or_read_and_nothing_else(text: str, dtype: str) -> None:
    try:
        read = unpack(text, dtype, (0,))
    except ValueError:
        return
    assert read.size == 0
