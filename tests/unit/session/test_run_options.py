"""The options of pytest: as they are given, checked, and printed again."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from _pytest.config.argparsing import Parser

from harness.cli.main import app
from harness.errors import UsageError
from harness.report.outputs import Outputs
from harness.session.options import RunOptions
from harness.session.pytest_options import OPTIONS, add_options, run_options

Options = Callable[..., RunOptions]


class Config:
    """What pytest hands to a plugin, as far as it is asked here."""

    def __init__(self, command: str) -> None:
        program, *arguments = shlex.split(command)
        assert program == "pytest"
        parser = Parser(_ispytest=True)
        add_options(parser)
        self._found = parser.parse(arguments)

    def getoption(self, name: str) -> Any:
        return getattr(self._found, name)


def read(command: str) -> RunOptions:
    return run_options(Config(command))  # type: ignore[arg-type]


def every(options: Options) -> RunOptions:
    """A run with no option left at its default."""
    return options(
        device="vllm-cpu",
        model="/models/a b",
        dtype="float16",
        batch_size=4,
        engine_args={"seed": "4", "x": "a=b"},
        trust_remote_code=True,
        max_new_tokens=3,
        context=Path("a b.json"),
        baseline_dir=Path("other"),
        allow_weights=True,
        allow_dtype=True,
        matrix=True,
        magnify=True,
        diagnose=True,
        no_doctor=True,
        report_dir=Path("out"),
        require_baseline=True,
    )


def test_the_command_is_read_by_pytest_as_the_same_run(options: Options) -> None:
    assert read(options().command()) == options()
    assert read(every(options).command()) == every(options)
    never = options(diagnose=False)
    assert read(never.command()) == never
    served = options(device="server", server_url="http://127.0.0.1:8000")
    assert read(served.command()) == served


def test_the_command_of_one_prompt_looks_no_closer(options: Options) -> None:
    command = every(options).command("alpha")
    assert command.endswith(" -k 'test_prompt[alpha]'")
    closer = {"--matrix", "--magnify", "--diagnose"}
    assert not closer & set(shlex.split(command))
    assert closer < set(shlex.split(every(options).command()))


def test_the_command_repeats_every_option_that_matters(options: Options) -> None:
    made = options(
        dtype="float16",
        max_new_tokens=3,
        engine_args={"seed": "4", "fault": "none"},
        context=Path("a b.json"),
        baseline_dir=Path("other"),
        allow_weights=True,
        allow_dtype=True,
        trust_remote_code=True,
        report_dir=Path("out"),
        require_baseline=True,
        started=("python3", "-m", "pytest", "-p", "harness.plugin"),
    )
    made = replace(made, outputs=Outputs(reports=(Path("r.md"),), lang="zh"))
    assert made.command().endswith(" --report-dir=out --require-baseline --report=r.md --lang=zh")
    assert made.making_command(Path("r.json")).startswith("python3 -m harness baseline make ")
    made = replace(made, started=("pytest",))
    assert made.command("alpha") == (
        "pytest --device=fake --model=fake --dtype=float16 --engine-arg=seed=4 "
        "--engine-arg=fault=none --trust-remote-code --suite=s.yaml --max-new-tokens=3 "
        "'--context=a b.json' --baseline-dir=other --allow-weights --allow-dtype "
        "-k 'test_prompt[alpha]'"
    )


def test_the_hints_are_commands_that_the_harness_reads(options: Options) -> None:
    made, recording = every(options), Path("r.json")
    commands: Any = typer.main.get_command(app)
    program, group, name, *rest = shlex.split(made.making_command(recording))
    assert (program, group, name) == ("harness", "baseline", "make")
    found = commands.commands[group].commands[name].make_context(name, rest).params
    assert (found["device"], found["model"], found["dtype"]) == ("hf-cpu", "/models/a b", "float16")
    assert (found["suite"], found["max_new_tokens"]) == ("s.yaml", 3)
    assert (found["context"], found["baseline_dir"]) == (recording, Path("other"))
    assert found["trust_remote_code"] is True
    program, name, *rest = shlex.split(made.judging_command(recording, Path("b")))
    found = commands.commands[name].make_context(name, rest).params
    assert (found["candidate"], found["baseline"]) == (recording, Path("b"))
    assert (found["allow_weights"], found["allow_dtype"]) == (True, True)


def test_every_option_of_the_table_reaches_the_run() -> None:
    """The table and the reader are two lists: an option in one alone would do nothing."""
    given = {
        "--device": "vllm-cpu", "--model": "m", "--suite": "s", "--dtype": "float16",
        "--max-new-tokens": "3", "--batch-size": "2", "--engine-arg": "a=1",
        "--baseline-dir": "b", "--context": "c.json", "--report": "r.md", "--lang": "zh",
        "--report-dir": "elsewhere", "--shard": "2/3", "--detail": "large",
    }  # fmt: skip
    before = read("pytest --device=vllm-gpu")
    for name, settings, _ in OPTIONS:
        if name == "--server-url":
            changed = read(f"pytest --device=server {name}=http://h:1")
            assert changed.spec.server_url == "http://h:1"
            continue
        flag = settings.get("action") in ("store_true", "store_const")
        device = "" if name == "--device" else "--device=vllm-gpu "
        changed = read(f"pytest {device}{name}" if flag else f"pytest {device}{name}={given[name]}")
        assert changed != before, name


def test_update_baselines_needs_a_reference_and_the_folder_of_all(
    project_folder: Path, options: Options
) -> None:
    options(device="fake-reference", update_baselines=True).check()
    with pytest.raises(UsageError, match=r"fake is not a reference device; use it with --device="):
        options(update_baselines=True).check()
    one = Path("baselines/fake/s/bfloat16")
    with pytest.raises(UsageError, match="is one baseline; --update-baselines needs the folder"):
        replace(options(device="fake-reference", update_baselines=True), baseline_dir=one).check()
