"""The fake keeps the protocol of a device, and its faults are what they say."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest

from harness.devices.base import Completion, Device, Replay, Request
from harness.devices.fake import VOCABULARY, FakeDevice, FakeTokenizer, fake_subject
from harness.errors import DeviceError, UsageError


def complete(device: FakeDevice, **changes: Any) -> Completion:
    fields: dict[str, Any] = {
        "prompt_id": "p",
        "prompt_token_ids": (5, 6),
        "replay": "free",
        "max_new_tokens": 8,
        "keep": "full",
    }
    device.open()
    (done,) = device.generate([Request(**(fields | changes))])
    return done


def logits(device: FakeDevice, **changes: Any) -> np.ndarray:
    done = complete(device, **changes)
    assert done.logits is not None
    return done.logits


def test_it_is_a_device() -> None:
    device = FakeDevice()
    assert isinstance(device, Device)
    facts = device.open()
    assert facts.vocab_size == VOCABULARY
    assert facts.declared_dtype == "bfloat16"
    device.close()
    device.close()


def test_it_does_not_generate_before_it_is_open() -> None:
    with pytest.raises(DeviceError, match="before open"):
        next(FakeDevice().generate([]))


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    a, b, c = (logits(FakeDevice(seed=s)) for s in (0, 0, 1))
    assert a.tobytes() == b.tobytes() != c.tobytes()


def test_replays_have_one_row_per_token_of_the_same_bits() -> None:
    free = complete(FakeDevice())
    replays: tuple[Replay, ...] = ("forced-decode", "forced-prefill")
    for replay in replays:
        bar = Counter[str]()
        device = FakeDevice()
        device.open()
        request = Request("p", (5, 6), replay, 99, (), free.token_ids, "full")
        (done,) = device.generate([request], partial(bar.update, ["tick"]))
        assert done.token_ids == free.token_ids
        assert done.logits is not None
        assert free.logits is not None
        assert done.logits.tobytes() == free.logits.tobytes()
        assert done.stop == "forced"
        assert bar["tick"] == (8 if replay == "forced-decode" else 1)
        assert len(done.timings.itl_s) == (7 if replay == "forced-decode" else 0)


def test_sixteen_bits_are_sixteen_bits_and_float32_is_the_truth() -> None:
    narrow, wide = logits(FakeDevice()), logits(FakeDevice("float32"))
    assert not (narrow.view(np.uint32) & 0xFFFF).any()
    assert (wide.view(np.uint32) & 0xFFFF).any()
    error = narrow[0] - wide[0]
    assert 0.04 < error.std() < 0.07


def test_faults() -> None:
    truth = logits(FakeDevice("float32"))[0]
    assert (logits(FakeDevice(fault="scale"))[0] - truth).std() > 0.15
    assert np.isnan(logits(FakeDevice(fault="nan"))).sum() == 1
    device = FakeDevice(fault="unsteady")
    assert logits(device).tobytes() != logits(device).tobytes()


def test_what_is_kept() -> None:
    assert complete(FakeDevice(), keep="nothing").rows is None
    assert complete(FakeDevice(), keep="statistics").logits is None
    rows = complete(FakeDevice(), keep="statistics").rows
    assert rows is not None
    assert len(rows) == 8


def test_a_stop_token_ends_the_run() -> None:
    free = complete(FakeDevice())
    done = complete(FakeDevice(), stop_token_ids=(free.token_ids[2],))
    assert done.token_ids == free.token_ids[:3]
    assert done.stop == "eos"


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({"fault": "fire"}, "fault 'fire'"),
        ({"speed": "1"}, "--engine-arg speed"),
        ({"seed": "x"}, "invalid literal"),
        ({"delay": "x"}, "could not convert"),
    ],
)
def test_wrong_arguments_are_wrong_usage(args: dict[str, str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        FakeDevice.from_args("fake", "bfloat16", args)


def test_arguments_reach_the_device() -> None:
    device = FakeDevice.from_args("fake", "float32", {"seed": "3", "fault": "nan", "delay": "0.5"})
    assert (device.dtype, device.seed, device.fault, device.delay) == ("float32", 3, "nan", 0.5)


def test_the_tokenizer_is_one_token_per_byte() -> None:
    tokenizer = FakeTokenizer()
    assert tokenizer.encode("aé") == (97, 195, 169)
    assert tokenizer.decode((97, 195)) == "a<195>"
    assert tokenizer.encode_chat([{"role": "user", "content": "x"}]) == tokenizer.encode("user: x")
    assert fake_subject().facts.vocab_size == tokenizer.vocab_size
