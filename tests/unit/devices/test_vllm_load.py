from __future__ import annotations

import argparse
import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.devices.vllm.cause import reason
from harness.devices.vllm.load import _typed, check_platform, import_vllm
from harness.errors import DeviceError, UsageError


@pytest.fixture(scope="module")
def options() -> dict[str, argparse.Action | None]:
    """Options of the kinds that vLLM's own have."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--enforce-eager", action=argparse.BooleanOptionalAction)
    parser.add_argument("--max-num-seqs", type=int)
    parser.add_argument("--gpu-memory-utilization", type=float)
    parser.add_argument("--quantization", type=str)
    parser.add_argument("--executor", choices=["mp", "ray"])
    parser.add_argument("--sizes", type=int, nargs="+")
    known = {action.dest: action for action in parser._actions}
    return {**known, "overrides": None}


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("enforce_eager", "true", True),
        ("enforce_eager", "False", False),
        ("max_num_seqs", "4", 4),
        ("gpu_memory_utilization", "0.5", 0.5),
        ("quantization", "8", "8"),
        ("quantization", "none", None),
        ("executor", "ray", "ray"),
        ("sizes", "1,2", [1, 2]),
        ("sizes", "[1, 2]", [1, 2]),
        ("overrides", '{"a": 1}', {"a": 1}),
        ("overrides", "plain", "plain"),
    ],
)
def test_a_value_has_the_type_of_the_engines_own_option(
    options: dict[str, argparse.Action | None], key: str, text: str, value: object
) -> None:
    typed = _typed("npu", key, text, options)
    assert (typed, type(typed)) == (value, type(value))


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        ("max_num_seq", "4", "no argument 'max_num_seq'; do you mean max_num_seqs"),
        ("batchsize", "4", "do you mean --batch-size"),
        ("qqq", "4", "no argument 'qqq'$"),
        ("enforce_eager", "maybe", "enforce_eager=maybe must be true or false"),
        ("max_num_seqs", "four", "max_num_seqs=four"),
        ("executor", "tcp", "executor=tcp is not one of mp, ray"),
        ("sizes", "1,b", "sizes=1,b"),
        ("worker_extension_cls", "a.B", "worker_extension_cls is taken by"),
        ("model", "m", "give --model instead of --engine-arg model"),
        ("dtype", "half", "give --dtype instead"),
        ("batch_size", "4", "give --batch-size instead"),
    ],
)
def test_what_the_engine_would_not_take_is_refused(
    options: dict[str, argparse.Action | None], key: str, text: str, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        _typed("npu", key, text, options)


def test_a_batch_size_has_an_option_of_its_own() -> None:
    with pytest.raises(UsageError, match="give --batch-size instead of --engine-arg batch_size"):
        open_target(DeviceSpec("npu", "/no/such/model", engine_args={"batch_size": "4"}))


class AscendPlatform:
    """A stand-in for the platform of vLLM-Ascend: nothing but its name is looked at."""

    device_type = "npu"


@pytest.fixture
def on_ascend(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A vLLM that picked the Ascend platform."""
    package, platforms = ModuleType("vllm"), ModuleType("vllm.platforms")
    platforms.current_platform = AscendPlatform()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", package)
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    monkeypatch.setenv("VLLM_PLUGINS", "ascend")
    return SimpleNamespace(__version__="0.18.0")


def test_an_npu_is_found_on_ascend(on_ascend: SimpleNamespace) -> None:
    assert isinstance(check_platform("npu", on_ascend), AscendPlatform)


def test_another_platform_is_told_with_what_picked_it(on_ascend: SimpleNamespace) -> None:
    with pytest.raises(DeviceError) as refused:
        check_platform("vllm-cpu", on_ascend)
    said = str(refused.value)
    assert "vllm-cpu needs vLLM on the platform 'cpu', but vLLM 0.18.0" in said
    assert "picked 'npu' (AscendPlatform)" in said
    assert "VLLM_PLUGINS='ascend'" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "1 validation error for ModelConfig\n  Value error, no such format "
            "[type=value_error, input_value=1]\n    For further information visit somewhere",
            "no such format",
        ),
        (
            "1 validation error for CacheConfig\nblock_size\n  Input should be a number "
            "[type=int, input_value='x']\n    For further information visit somewhere",
            "block_size: Input should be a number",
        ),
        ("one\ntwo", "one"),
        ("", "ValueError"),
    ],
)
def test_an_error_is_one_line_without_its_frame(text: str, told: str) -> None:
    assert reason(ValueError(text)) == told


@pytest.mark.parametrize(
    ("asked", "space"), [({}, "1"), ({"kv_cache_memory_bytes": "1000000"}, None)]
)
def test_a_size_of_the_cache_that_was_asked_for_meets_no_default(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, str], space: str | None
) -> None:
    monkeypatch.setattr(os, "environ", {})
    for name in ("torch", "vllm"):
        module = ModuleType(name)
        module.__file__ = f"{name}.py"
        monkeypatch.setitem(sys.modules, name, module)
    import_vllm("vllm-cpu", asked)
    assert os.environ.get("VLLM_CPU_KVCACHE_SPACE") == space
