"""A load on the meta device: what is said where there is none; tests/engines has the loads."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.devices.hf import skeleton
from harness.model.model import Model


def test_without_the_libraries_it_is_not_checked_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    loaded = skeleton.load_skeleton(Model("m", str(tmp_path)), quantized=False)
    assert loaded.why_not == "a load by Transformers (torch is not installed)"
    assert loaded.findings == ()


def test_packed_weights_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    loaded = skeleton.load_skeleton(Model("m", str(tmp_path)), quantized=True)
    assert "its weights are packed" in loaded.why_not


@pytest.mark.process
@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import os; os.abort()", "ended with status -6"),
        ("import time; time.sleep(60)", "did not end in 1 s"),
        ("print('noise')", "ended with status 0"),
        ("print('harness-skeleton:' + '{\"error\": \"no class\"}')", "(no class)"),
    ],
)
def test_a_child_that_fails_is_told_and_nothing_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, why: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    command = [sys.executable, "-c", program]
    monkeypatch.setattr(skeleton, "module_command", lambda *_: command)
    loaded = skeleton.load_skeleton(Model("m", str(tmp_path)), quantized=False, limit_s=1.0)
    assert why in loaded.why_not
    assert (loaded.findings, loaded.checked) == ((), None)


def test_each_kind_of_key_is_listed_with_what_follows() -> None:
    told = {
        "release": "5.19.0",
        "class": "LlamaForCausalLM",
        "missing_keys": ["a", "b", "c", "d", "e"],
        "mismatched_keys": ["f ([2] stored, [3] in the class)"],
        "unexpected_keys": ["g"],
    }
    loaded = skeleton._found(json.loads(json.dumps(told)))
    assert [f.severity for f in loaded.findings] == ["error", "error", "warning"]
    missing, mismatched, surplus = (f.what for f in loaded.findings)
    assert missing.endswith("no weight for 5 keys: a, b, c, d and 1 more")
    assert "[2] stored, [3] in the class" in mismatched
    assert surplus.endswith("no place for 1 key: g")
    assert loaded.checked == "every key against Transformers 5.19.0's LlamaForCausalLM"


def test_the_command_can_leave_the_load_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(skeleton, "module_command", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(SystemExit):
        main(["checkpoint", "inspect", "--no-load", str(tmp_path)])
