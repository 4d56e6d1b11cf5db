"""``harness serve`` and ``--server-url``, as far as no server is needed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from factories import prompt, recording, text_run

from harness.recording.format import save_recording

Command = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--engine-arg", "port=1"], "give --port of harness serve instead"),
        (["--engine-arg", "model=x"], "give --model instead"),
        (["--engine-arg", "start_timeout=soon"], "start_timeout=soon must be a number of seconds"),
        (["--engine-arg", "x"], "is not of the form K=V"),
    ],
)
def test_serve_refuses_what_makes_no_sense(
    command: Command, tmp_path: Path, arguments: list[str], told: str
) -> None:
    (tmp_path / "config.json").write_text("{}")
    ended = command("serve", "--model", tmp_path, *arguments)
    assert ended.status == 2
    assert told in ended.error


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_serve_without_vllm_says_what_to_install(command: Command, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    ended = command("serve", "--model", tmp_path)
    assert ended.status == 2
    assert "starting a server needs vllm" in ended.error


def test_a_server_url_goes_with_the_server_alone(command: Command) -> None:
    ended = command(
        *("record", "--device", "fake", "--suite", "s.yaml", "--out", "a.json"),
        *("--server-url", "http://127.0.0.1:1"),
    )
    assert ended.status == 2
    assert "--server-url goes with --device=server, not with fake" in ended.error


def test_credentials_in_a_url_are_refused_and_not_shown(command: Command) -> None:
    ended = command(
        *("record", "--device", "server", "--suite", "s.yaml", "--out", "a.json"),
        *("--server-url", "http://user:secret@127.0.0.1:1"),
    )
    assert ended.status == 2
    assert "secret" not in ended.error


def test_a_server_is_no_arm(command: Command) -> None:
    ended = command("baseline", "make", "--device", "server", "--suite", "s.yaml")
    assert ended.status == 2
    assert "an arm needs whole rows" in ended.error


def test_verify_refuses_a_recording_of_texts(command: Command, project_folder: Path) -> None:
    texts = recording([prompt("a", text_run("some text"))])
    save_recording(texts, project_folder / "texts.json")
    ended = command("verify", "texts.json", "--device", "fake-reference")
    assert ended.status == 2
    assert "holds text only" in ended.error
