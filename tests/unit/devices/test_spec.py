"""A device as it is asked for: its checks, and its command line read back by the real parsers."""

from __future__ import annotations

import argparse
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import typer
from _pytest.config.argparsing import Parser

from harness import plugin
from harness.cli.main import app
from harness.devices.spec import DeviceSpec, parse_engine_args
from harness.errors import UsageError

SPECS = [
    DeviceSpec("hf-cpu"),
    DeviceSpec("hf-cpu", "/models/a b", "float16", trust_remote_code=True),
    DeviceSpec("vllm-cpu", "org/name", "bfloat16", 8, {"a": "x=y z", "b": "", "c": "-1"}),
    DeviceSpec("server", "-odd", server_url="http://127.0.0.1:8000", engine_args={"timeout": "5"}),
]


def _by_harness(command: str, options: list[str]) -> DeviceSpec:
    """What ``harness COMMAND`` reads."""
    commands: Any = typer.main.get_command(app)
    found = commands.commands[command].make_context(command, [*options, "--out", "x.json"]).params
    return _spec(found)


def _by_pytest(options: list[str]) -> DeviceSpec:
    """What ``pytest`` reads."""
    parser = Parser(_ispytest=True)
    plugin.pytest_addoption(parser)
    found = parser.parse(options, namespace=argparse.Namespace())
    return _spec(vars(found))


def _spec(found: dict[str, Any]) -> DeviceSpec:
    return DeviceSpec(
        found["device"],
        found["model"],
        found["dtype"],
        found["batch_size"],
        parse_engine_args(found["engine_arg"] or ()),
        found["server_url"],
        found["trust_remote_code"],
    )


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.model)
def test_what_it_prints_for_the_command_is_read_as_itself(spec: DeviceSpec) -> None:
    assert _by_harness("record", spec.options()) == spec


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.model)
def test_what_it_prints_for_pytest_is_read_as_itself(spec: DeviceSpec) -> None:
    assert _by_pytest(spec.pytest_options()) == spec


def test_a_default_is_not_printed() -> None:
    assert DeviceSpec("fake").options() == ["--device", "fake", "--model", "smollm2"]
    assert DeviceSpec("fake").pytest_options() == ["--device=fake", "--model=smollm2"]


def test_plain_keeps_the_model_and_leaves_out_how_the_device_is_run() -> None:
    spec = DeviceSpec("vllm-cpu", "m", "float16", 8, {"a": "1"}, trust_remote_code=True)
    assert spec.plain() == DeviceSpec("vllm-cpu", "m", "float16", trust_remote_code=True)
    assert spec.plain("hf-cpu") == DeviceSpec("hf-cpu", "m", "float16", trust_remote_code=True)


def test_it_is_a_value() -> None:
    spec = DeviceSpec("fake")
    assert len({spec, DeviceSpec("fake"), DeviceSpec("fake", dtype="float32")}) == 2
    with pytest.raises(FrozenInstanceError):
        spec.device = "npu"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"device": "tpu"}, "unknown device 'tpu'; this version has hf-cpu, "),
        ({"device": "npu", "batch_size": 0}, "--batch-size must be at least 1, not 0"),
        (
            {"device": "hf-cpu", "batch_size": 8},
            "hf-cpu runs one request at a time; --batch-size 8 is for npu, vllm-cpu, vllm-gpu",
        ),
        ({"device": "fake", "batch_size": 2}, "fake runs one request at a time"),
        (
            {"device": "fake", "server_url": "http://h:1"},
            "--server-url goes with --device=server, not with fake",
        ),
        ({"device": "server", "server_url": "h:1"}, "--server-url must be http://HOST:PORT"),
    ],
)
def test_what_no_such_device_can_be_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        DeviceSpec(**fields)


def test_engine_args_are_read_as_pairs() -> None:
    assert parse_engine_args([]) == {}
    assert parse_engine_args(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (["a"], "'a' is not of the form K=V"),
        (["=1"], "is not of the form K=V"),
        (["a=1", "a=2"], "a is given twice"),
    ],
)
def test_a_wrong_pair_is_refused(pairs: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_engine_args(pairs)
