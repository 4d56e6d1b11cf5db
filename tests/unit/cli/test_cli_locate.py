from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[..., Any]
SUITE = ("--suite", "s.yaml")


def test_a_device_that_cannot_be_looked_into_is_one_line(command: Command) -> None:
    ended = command("locate", "--device", "fake", *SUITE)
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "fake cannot be traced" in ended.err
    assert "vllm-cpu" in ended.err


def test_an_unknown_device_is_one_line(command: Command) -> None:
    ended = command("locate", "--device", "abacus", *SUITE)
    assert ended.status == 2
    assert "unknown device 'abacus'" in ended.err


def test_an_alignment_that_cannot_be_read_is_said_before_the_work(
    command: Command, tmp_path: Path
) -> None:
    broken = tmp_path / "a.json"
    broken.write_text("{}", "utf-8")
    ended = command("locate", "--device", "fake", *SUITE, "--alignment", broken)
    assert ended.status == 2
    assert "a.json" in ended.err
    assert "cannot be traced" not in ended.err


def test_compare_takes_a_recording_that_magnifies(command: Command) -> None:
    def make(device: str, dtype: str, *arguments: str) -> None:
        out = ("--out", f"{dtype}.json")
        base = f"baselines/fake/s/{dtype}"
        options = ("--dtype", dtype, "--context", base, *arguments)
        ended = command("record", "--device", device, *SUITE, *out, *options)
        assert ended.status == 0, ended.err

    for dtype in ("bfloat16", "float16"):
        options = ("--device", "fake-reference", *SUITE, "--dtype", dtype)
        assert command("baseline", "make", *options).status == 0
        make("fake", dtype, "--engine-arg", "seed=4")
    arguments = ("bfloat16.json", "baselines/fake/s/bfloat16", "--magnify", "float16.json")
    ended = command("compare", *arguments)
    assert "  PASS         magnifier: In float16" in ended.out
    assert ended.status == command("compare", *arguments[:2]).status


def test_compare_refuses_what_does_not_magnify(command: Command) -> None:
    out = ("--out", "a.json")
    assert command("record", "--device", "fake", *SUITE, *out).status == 0
    assert command("baseline", "make", "--device", "fake-reference", *SUITE).status == 0
    ended = command("compare", "a.json", "baselines/fake/s/bfloat16", "--magnify", "a.json")
    assert ended.status == 2
    assert "record it with --dtype float16" in ended.err
